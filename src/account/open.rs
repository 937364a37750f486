//! From an account's options to the account: the one place where its source of tokens is chosen.

use std::sync::Arc;

use tokio::time::Duration;

use super::{
    Account, Options, Source,
    ways::{OwnWays, Path},
};
use crate::{
    issuer::{
        Issuer,
        file::TokenFile,
        http::TokenServer,
        redis::Redis,
        request::{Client, Reach},
        shared::Shared,
        wechat::{TokenApi, Wechat},
        wecom::Wecom,
    },
    keeper::{self, Keeper, schedule::Renewal},
    kind::Kind,
    metrics::AccountMetrics,
    ticket::{Asker, Corps, Tickets},
    token::fingerprints::{Fingerprints, TokenHistory},
    upstream::route::Route,
};

/// What accounts are opened with.
#[derive(Clone, Debug)]
pub struct Means {
    /// The way of all accounts that have none of their own.
    common: Path,
    own: Arc<OwnWays>,
    corps: Arc<Corps>,
    fingerprints: Fingerprints,
    token_wait: Duration,
    store: Option<Arc<Redis>>,
}

impl Means {
    /// By `route`, and `client` for token requests, go all accounts that have no way of their own; a
    /// call waits for `token_wait` when there is no token.
    pub fn new(client: Client, route: Arc<Route>, token_wait: Duration) -> Self {
        let way = None;
        Self {
            common: Path { client, route, way },
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
    fn path(&self, means: &Means) -> Result<Path, String> {
        match &self.upstream {
            None => Ok(means.common.clone()),
            Some(own) => means.own.path(own),
        }
    }

    /// How its calls and token requests go. The error is a sentence for the operator.
    pub fn route(&self, means: &Means) -> Result<Arc<Route>, String> {
        Ok(self.path(means)?.route)
    }

    /// Where its tokens come from in the end, whoever else shares them. The error is a sentence for
    /// the operator.
    pub fn issuer(&self, means: &Means) -> Result<Issuer, String> {
        self.issuer_by(self.path(means)?)
    }

    /// The same, shared with other replicas where there is a store, and where each fetch would end
    /// the token of the others, or all would ask for the same: WeChat's stable token needs no store.
    fn shared(&self, issuer: Issuer, means: &Means, metrics: &Arc<AccountMetrics>) -> Issuer {
        let Some(redis) = &means.store else {
            return issuer;
        };
        let place = redis.place(self.kind, &self.appid, self.id());
        let (daily, metrics) = (self.daily_fetches, metrics.clone());
        match issuer {
            Issuer::Wechat(wechat) if self.token_api == TokenApi::Classic => {
                Issuer::SharedWechat(Shared::new(wechat, place, daily, metrics))
            }
            Issuer::Wecom(wecom) => Issuer::SharedWecom(Shared::new(wecom, place, daily, metrics)),
            issuer => issuer,
        }
    }

    fn issuer_by(&self, path: Path) -> Result<Issuer, String> {
        let Path { client, route, .. } = path;
        let (secret, appid) = (self.secret.clone(), self.appid.clone());
        match (&self.source, self.kind) {
            (Source::Wechat, Kind::Wechat) => {
                let secret = secret.ok_or("it has no AppSecret")?;
                let api = self.token_api;
                Ok(Issuer::Wechat(Wechat::new(
                    client, route, api, appid, secret,
                )))
            }
            (Source::Wechat, Kind::Wecom) => {
                let secret = secret.ok_or("it has no secret")?;
                Ok(Issuer::Wecom(Wecom::new(client, route, appid, secret)))
            }
            (Source::File(path), _) => Ok(Issuer::File(TokenFile::new(path))),
            (Source::Http(options), _) => TokenServer::new(options.clone()).map(Issuer::Http),
        }
    }

    /// The account, without a token yet. Its fetches run on the current runtime.
    pub fn open(&self, means: &Means) -> Result<Account, String> {
        self.open_with(means, Arc::default(), self.history(means))
    }

    /// Where its tokens are to be known. WeCom's need not be: there a call may bring a token that is not the account's.
    fn history(&self, means: &Means) -> Option<Arc<TokenHistory>> {
        let history = || Arc::new(means.fingerprints.history());
        (self.kind == Kind::Wechat).then(history)
    }

    /// The account that `before` becomes. It goes on with the token in hand if that is one of its
    /// own, and reads the secret where `before` does.
    pub fn open_after(&self, before: &Account, means: &Means) -> Result<Account, String> {
        let metrics = before.metrics.clone();
        if !self.has_tokens_of(&before.options) {
            return self.open_with(means, metrics, self.history(means));
        }
        let secret = before.secret.clone().filter(|_| self.secret.is_some());
        let options = Self {
            secret: secret.or_else(|| self.secret.clone()),
            ..self.clone()
        };
        if self.has_way_of(&before.options) && self.daily_fetches == before.options.daily_fetches {
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
            worked: before.worked.clone(),
            remembered: before.remembered.clone(),
            ..account
        })
    }

    fn open_with(
        &self,
        means: &Means,
        metrics: Arc<AccountMetrics>,
        history: Option<Arc<TokenHistory>>,
    ) -> Result<Account, String> {
        let keeping = keeper::Options {
            renewal: match (&self.source, self.kind, self.token_api) {
                // Asking costs nothing.
                (Source::File(_) | Source::Http(_), ..) => Renewal::Inside,
                (Source::Wechat, Kind::Wechat, TokenApi::Stable) => Renewal::Inside,
                (Source::Wechat, Kind::Wechat, TokenApi::Classic) => Renewal::Ahead,
                (Source::Wechat, Kind::Wecom, _) => Renewal::Late,
            },
            second_thoughts: self.kind == Kind::Wechat,
            daily_fetches: self.daily_fetches,
            patience: means.token_wait,
        };
        let path = self.path(means)?;
        let way = path.way.clone();
        let reach = Reach::new(path.client.clone(), path.route.clone());
        let issuer = self.shared(self.issuer_by(path)?, means, &metrics);
        let keeper = Keeper::with_history(issuer, keeping, metrics.clone(), history);
        let asker = Asker {
            appid: self.appid.clone(),
            kind: self.kind,
            keeper: keeper.clone(),
            reach,
            metrics: metrics.clone(),
        };
        Ok(Account {
            appid: self.appid.clone(),
            options: self.clone(),
            kind: self.kind,
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
            worked: Arc::default(),
            remembered: Arc::default(),
            unlisted: Arc::default(),
            way,
        })
    }
}
