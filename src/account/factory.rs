//! Builds accounts from their options. This is the only place where an account's token source is chosen.

use std::sync::Arc;

use tokio::time::Duration;

use super::{
    Account, AccountError, Options, SourceOptions,
    pacing::Pacing,
    refused_endpoints::{self, RefusedEndpoints},
    upstreams::{AccountUpstream, Upstreams},
};
use crate::{
    metrics::{AccountMetrics, Metrics},
    net::connector::{ConnectOptions, Connector},
    problems::Notices,
    shared_limit::SharedLimit,
    token::{
        fingerprints::{Fingerprints, TokenHistory},
        keeper::{self, Keeper, schedule::Renewal},
        source::{
            AccountSource,
            api::{ApiClient, Client},
            file::TokenFile,
            redis::Redis,
            revocation::ForcedRefreshes,
            shared::Shared,
            token_server::TokenServer,
            wechat::{TokenApi, WechatSource},
            wecom::WecomSource,
        },
        ticket::{TicketClient, TicketPool, Tickets},
        turns::FetchTurns,
    },
    wechat::api::Api,
};

/// Everything that is needed to open accounts.
#[derive(Clone, Debug)]
pub struct AccountFactory {
    /// The upstream of all accounts that have none of their own.
    common: AccountUpstream,
    own: Arc<Upstreams>,
    tickets: Arc<TicketPool>,
    /// Bounds the endpoints that refuse calls.
    refused: Arc<SharedLimit>,
    fingerprints: Fingerprints,
    turns: Arc<FetchTurns>,
    token_wait: Duration,
    store: Option<Arc<Redis>>,
    metrics: Arc<Metrics>,
}

impl AccountFactory {
    /// Accounts without an upstream of their own use `connector` for calls, and `client` for token
    /// requests. A call waits for up to `token_wait` when there is no token. Connections of token requests to other
    /// upstreams are counted in `metrics`, which also place the accounts, and tell the log of their problems.
    pub fn new(
        client: Client,
        connector: Arc<Connector>,
        token_wait: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        let key = None;
        Self {
            common: AccountUpstream {
                client,
                connector,
                key,
            },
            own: Arc::new(Upstreams::new(metrics.clone())),
            tickets: Arc::new(TicketPool::new(None, token_wait)),
            refused: refused_endpoints::limit(),
            fingerprints: Fingerprints::default(),
            turns: Arc::default(),
            token_wait,
            store: None,
            metrics,
        }
    }

    /// Adds a store in which replicas share the tokens that they must not all fetch.
    pub fn with_store(mut self, store: Option<Arc<Redis>>) -> Self {
        self.tickets = Arc::new(TicketPool::new(store.clone(), self.token_wait));
        self.store = store;
        self
    }

    /// Tells the log of the accounts' problems.
    pub fn notices(&self) -> &Notices {
        &self.metrics.notices
    }

    /// Decides which of `accounts`, in the order of the configuration, have series of their own. To be called before
    /// they are served.
    pub fn place_series(&self, accounts: &[Arc<Account>]) {
        let metrics = accounts.iter().map(|account| &account.metrics);
        self.metrics.series.place(metrics);
    }

    /// The fingerprints of all accounts' tokens.
    pub fn fingerprints(&self) -> &Fingerprints {
        &self.fingerprints
    }
}

impl Options {
    fn resolve_upstream(&self, factory: &AccountFactory) -> Result<AccountUpstream, AccountError> {
        match &self.upstream {
            None => Ok(factory.common.clone()),
            Some(own) => {
                let mut own = ConnectOptions::clone(own);
                // That of a reloaded configuration would know nothing yet.
                own.dns = factory.common.connector.dns().clone().without_address();
                factory.own.get_or_create(&own)
            }
        }
    }

    /// The connector of its calls and token requests.
    pub fn connector(&self, factory: &AccountFactory) -> Result<Arc<Connector>, AccountError> {
        Ok(self.resolve_upstream(factory)?.connector)
    }

    /// The source of its tokens, not shared with other replicas.
    pub fn token_source(&self, factory: &AccountFactory) -> Result<AccountSource, AccountError> {
        self.source_over(self.resolve_upstream(factory)?)
    }

    /// Wraps `source` so that replicas share its tokens, if there is a store. WeChat's classic token is
    /// shared because each fetch revokes the tokens of the others, and WeCom's because all replicas
    /// would fetch the same one. WeChat's stable token needs no store, except to count forced refreshes.
    fn shared(
        &self,
        source: AccountSource,
        factory: &AccountFactory,
        metrics: &Arc<AccountMetrics>,
    ) -> AccountSource {
        let Some(redis) = &factory.store else {
            return source;
        };
        let slot = redis.slot(self.key_parts());
        let (daily, metrics) = (self.daily_fetches, metrics.clone());
        match source {
            AccountSource::Wechat(wechat) if self.token_api == TokenApi::Classic => {
                AccountSource::SharedWechat(Box::new(Shared::new(wechat, slot, daily, metrics)))
            }
            AccountSource::Wecom(wecom) => {
                AccountSource::SharedWecom(Box::new(Shared::new(wecom, slot, daily, metrics)))
            }
            AccountSource::Wechat(wechat) => {
                let slot = redis.ticket_slot(self.key_parts(), "revoke");
                AccountSource::Wechat(wechat.with_forced(ForcedRefreshes::new(Some(slot))))
            }
            source => source,
        }
    }

    fn source_over(&self, upstream: AccountUpstream) -> Result<AccountSource, AccountError> {
        let AccountUpstream {
            client, connector, ..
        } = upstream;
        let (secret, appid) = (self.secret.clone(), self.appid.clone());
        match (&self.source, self.api) {
            (SourceOptions::Wechat, Api::Wechat) => {
                let secret = secret.ok_or(AccountError::NoAppSecret)?;
                let api = self.token_api;
                Ok(AccountSource::Wechat(WechatSource::new(
                    client, connector, api, appid, secret,
                )))
            }
            (SourceOptions::Wechat, Api::Wecom) => {
                let secret = secret.ok_or(AccountError::NoCorpSecret)?;
                Ok(AccountSource::Wecom(WecomSource::new(
                    client, connector, appid, secret,
                )))
            }
            (SourceOptions::File(path), _) => {
                Ok(AccountSource::File(Box::new(TokenFile::new(path))))
            }
            (SourceOptions::Http(options), _) => {
                let dns = connector.dns().nearby();
                let server = TokenServer::new(options.clone(), dns)?;
                Ok(AccountSource::Http(Box::new(server)))
            }
        }
    }

    /// Opens the account, without a token yet. Its fetches run on the current runtime.
    pub fn open(self: &Arc<Self>, factory: &AccountFactory) -> Result<Account, AccountError> {
        let metrics = AccountMetrics::of(self.id(), factory.metrics.notices.clone());
        let metrics = Arc::new(metrics);
        self.open_with(factory, metrics, self.history(factory))
    }

    /// The history for fingerprints of its tokens. WeCom accounts need none: there a call may carry a token
    /// that is not the account's.
    fn history(&self, factory: &AccountFactory) -> Option<Arc<TokenHistory>> {
        let history = || Arc::new(factory.fingerprints.history());
        (self.api == Api::Wechat).then(history)
    }

    /// Opens the account that replaces `before`. It keeps the current token if that is valid under these
    /// options, and keeps using the secret source of `before`.
    pub fn open_after(
        self: &Arc<Self>,
        before: &Account,
        factory: &AccountFactory,
    ) -> Result<Account, AccountError> {
        let metrics = before.metrics.clone();
        if !self.same_tokens(&before.options) {
            return self.open_with(factory, metrics, self.history(factory));
        }
        let options = match (&self.secret, &before.secret) {
            (Some(_), Some(kept)) => Arc::new(Self {
                secret: Some(kept.clone()),
                ..Self::clone(self)
            }),
            _ => self.clone(),
        };
        let same_fetches = self.same_upstream(&before.options)
            && self.daily_fetches == before.options.daily_fetches
            && self.store_prefix == before.options.store_prefix;
        if same_fetches {
            metrics.problems.set_places(options.credential_places());
            return Ok(Account {
                secret: options.secret.clone(),
                pacing: Pacing::new(&options.pacing, before.pacing.as_deref()),
                options,
                ..before.clone()
            });
        }
        let history = before.keeper.history().cloned();
        let account = options.open_with(factory, metrics, history)?;
        account.keeper.go_on_from(&before.keeper);
        Ok(Account {
            endpoint_use: before.endpoint_use.clone(),
            refused_endpoints: before.refused_endpoints.clone(),
            pacing: Pacing::new(&account.options.pacing, before.pacing.as_deref()),
            ..account
        })
    }

    fn open_with(
        self: &Arc<Self>,
        factory: &AccountFactory,
        metrics: Arc<AccountMetrics>,
        history: Option<Arc<TokenHistory>>,
    ) -> Result<Account, AccountError> {
        let options = keeper::Options {
            renewal: match (&self.source, self.api, self.token_api) {
                // A request costs nothing.
                (SourceOptions::File(_) | SourceOptions::Http(_), ..) => Renewal::Inside,
                (SourceOptions::Wechat, Api::Wechat, TokenApi::Stable) => Renewal::Inside,
                (SourceOptions::Wechat, Api::Wechat, TokenApi::Classic) => Renewal::Ahead,
                (SourceOptions::Wechat, Api::Wecom, _) => Renewal::Late,
            },
            retry_same_token: self.api == Api::Wechat,
            daily_fetches: self.daily_fetches,
            patience: factory.token_wait,
        };
        let upstream = self.resolve_upstream(factory)?;
        let key = upstream.key.clone();
        let client = ApiClient::new(upstream.client.clone(), upstream.connector.clone());
        let source = self.shared(self.source_over(upstream)?, factory, &metrics);
        let turns = Some(factory.turns.clone());
        let keeper = Keeper::of_many(source, options, metrics.clone(), history, turns);
        metrics.problems.set_places(self.credential_places());
        let tickets = TicketClient {
            appid: self.appid.clone(),
            api: self.api,
            store_prefix: self.store_prefix.clone(),
            keeper: keeper.clone(),
            client,
            metrics: metrics.clone(),
        };
        Ok(Account {
            appid: self.appid.clone(),
            options: self.clone(),
            api: self.api,
            secret: self.secret.clone(),
            keeper,
            tickets: Tickets::new(tickets, self.id(), factory.tickets.clone()),
            metrics,
            endpoint_use: Arc::default(),
            refused_endpoints: RefusedEndpoints::new(factory.refused.clone()),
            pacing: Pacing::new(&self.pacing, None),
            upstream: key,
        })
    }
}
