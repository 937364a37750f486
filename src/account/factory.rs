//! From an account's options to the account: the one place where its source of tokens is chosen.

use std::sync::Arc;

use tokio::time::Duration;

use super::{
    Account, Options, SourceOptions,
    upstreams::{AccountUpstream, Upstreams},
};
use crate::{
    metrics::AccountMetrics,
    net::connector::Connector,
    token::{
        fingerprints::{Fingerprints, TokenHistory},
        keeper::{self, Keeper, schedule::Renewal},
        source::{
            AccountSource,
            api::{ApiClient, Client},
            file::TokenFile,
            redis::Redis,
            shared::Shared,
            token_server::TokenServer,
            wechat::{TokenApi, Wechat},
            wecom::Wecom,
        },
        ticket::{Corps, TicketClient, Tickets},
    },
    wechat::api::Api,
};

/// What accounts are opened with.
#[derive(Clone, Debug)]
pub struct AccountFactory {
    /// The way of all accounts that have none of their own.
    common: AccountUpstream,
    own: Arc<Upstreams>,
    corps: Arc<Corps>,
    fingerprints: Fingerprints,
    token_wait: Duration,
    store: Option<Arc<Redis>>,
}

impl AccountFactory {
    /// By `route`, and `client` for token requests, go all accounts that have no way of their own; a
    /// call waits for `token_wait` when there is no token.
    pub fn new(client: Client, route: Arc<Connector>, token_wait: Duration) -> Self {
        let way = None;
        Self {
            common: AccountUpstream { client, route, way },
            own: Arc::default(),
            corps: Arc::default(),
            fingerprints: Fingerprints::default(),
            token_wait,
            store: None,
        }
    }

    /// The same, with a store in which replicas share what they must not all fetch.
    pub fn with_store(mut self, store: Option<Arc<Redis>>) -> Self {
        self.store = store;
        self
    }

    /// Where the accounts' tokens are known.
    pub fn fingerprints(&self) -> &Fingerprints {
        &self.fingerprints
    }
}

impl Options {
    fn path(&self, means: &AccountFactory) -> Result<AccountUpstream, String> {
        match &self.upstream {
            None => Ok(means.common.clone()),
            Some(own) => means.own.path(own),
        }
    }

    /// How its calls and token requests go. The error is a sentence for the operator.
    pub fn route(&self, means: &AccountFactory) -> Result<Arc<Connector>, String> {
        Ok(self.path(means)?.route)
    }

    /// Where its tokens come from in the end, whoever else shares them. The error is a sentence for
    /// the operator.
    pub fn issuer(&self, means: &AccountFactory) -> Result<AccountSource, String> {
        self.issuer_by(self.path(means)?)
    }

    /// The same, shared with other replicas where there is a store, and where each fetch would end
    /// the token of the others, or all would ask for the same: WeChat's stable token needs no store.
    fn shared(
        &self,
        issuer: AccountSource,
        means: &AccountFactory,
        metrics: &Arc<AccountMetrics>,
    ) -> AccountSource {
        let Some(redis) = &means.store else {
            return issuer;
        };
        let place = redis.slot(self.api, &self.appid, self.id());
        let (daily, metrics) = (self.daily_fetches, metrics.clone());
        match issuer {
            AccountSource::Wechat(wechat) if self.token_api == TokenApi::Classic => {
                AccountSource::SharedWechat(Shared::new(wechat, place, daily, metrics))
            }
            AccountSource::Wecom(wecom) => {
                AccountSource::SharedWecom(Shared::new(wecom, place, daily, metrics))
            }
            issuer => issuer,
        }
    }

    fn issuer_by(&self, path: AccountUpstream) -> Result<AccountSource, String> {
        let AccountUpstream { client, route, .. } = path;
        let (secret, appid) = (self.secret.clone(), self.appid.clone());
        match (&self.source, self.api) {
            (SourceOptions::Wechat, Api::Wechat) => {
                let secret = secret.ok_or("it has no AppSecret")?;
                let api = self.token_api;
                Ok(AccountSource::Wechat(Wechat::new(
                    client, route, api, appid, secret,
                )))
            }
            (SourceOptions::Wechat, Api::Wecom) => {
                let secret = secret.ok_or("it has no secret")?;
                Ok(AccountSource::Wecom(Wecom::new(
                    client, route, appid, secret,
                )))
            }
            (SourceOptions::File(path), _) => Ok(AccountSource::File(TokenFile::new(path))),
            (SourceOptions::Http(options), _) => {
                TokenServer::new(options.clone()).map(AccountSource::Http)
            }
        }
    }

    /// The account, without a token yet. Its fetches run on the current runtime.
    pub fn open(&self, means: &AccountFactory) -> Result<Account, String> {
        self.open_with(means, Arc::default(), self.history(means))
    }

    /// Where its tokens are to be known. WeCom's need not be: there a call may bring a token that is not the account's.
    fn history(&self, means: &AccountFactory) -> Option<Arc<TokenHistory>> {
        let history = || Arc::new(means.fingerprints.history());
        (self.api == Api::Wechat).then(history)
    }

    /// The account that `before` becomes. It goes on with the token in hand if that is one of its
    /// own, and reads the secret where `before` does.
    pub fn open_after(&self, before: &Account, means: &AccountFactory) -> Result<Account, String> {
        let metrics = before.metrics.clone();
        if !self.same_tokens(&before.options) {
            return self.open_with(means, metrics, self.history(means));
        }
        let secret = before.secret.clone().filter(|_| self.secret.is_some());
        let options = Self {
            secret: secret.or_else(|| self.secret.clone()),
            ..self.clone()
        };
        if self.same_upstream(&before.options) && self.daily_fetches == before.options.daily_fetches
        {
            return Ok(Account {
                secret: options.secret.clone(),
                options,
                ..before.clone()
            });
        }
        let history = before.keeper.history().cloned();
        let account = options.open_with(means, metrics, history)?;
        account.keeper.go_on_from(&before.keeper);
        Ok(Account {
            accepted_endpoints: before.accepted_endpoints.clone(),
            refused_endpoints: before.refused_endpoints.clone(),
            ..account
        })
    }

    fn open_with(
        &self,
        means: &AccountFactory,
        metrics: Arc<AccountMetrics>,
        history: Option<Arc<TokenHistory>>,
    ) -> Result<Account, String> {
        let keeping = keeper::Options {
            renewal: match (&self.source, self.api, self.token_api) {
                // Asking costs nothing.
                (SourceOptions::File(_) | SourceOptions::Http(_), ..) => Renewal::Inside,
                (SourceOptions::Wechat, Api::Wechat, TokenApi::Stable) => Renewal::Inside,
                (SourceOptions::Wechat, Api::Wechat, TokenApi::Classic) => Renewal::Ahead,
                (SourceOptions::Wechat, Api::Wecom, _) => Renewal::Late,
            },
            retry_same_token: self.api == Api::Wechat,
            daily_fetches: self.daily_fetches,
            patience: means.token_wait,
        };
        let path = self.path(means)?;
        let way = path.way.clone();
        let reach = ApiClient::new(path.client.clone(), path.route.clone());
        let issuer = self.shared(self.issuer_by(path)?, means, &metrics);
        let keeper = Keeper::with_history(issuer, keeping, metrics.clone(), history);
        let asker = TicketClient {
            appid: self.appid.clone(),
            kind: self.api,
            keeper: keeper.clone(),
            reach,
            metrics: metrics.clone(),
        };
        Ok(Account {
            appid: self.appid.clone(),
            options: self.clone(),
            api: self.api,
            secret: self.secret.clone(),
            keeper,
            tickets: Arc::new(Tickets::new(
                asker,
                self.id(),
                &means.corps,
                means.store.as_ref(),
                means.token_wait,
            )),
            metrics,
            accepted_endpoints: Arc::default(),
            refused_endpoints: Arc::default(),
            ip_rejected: Arc::default(),
            upstream: way,
        })
    }
}
