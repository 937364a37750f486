//! From an account's options to the account: the one place where its source of tokens is chosen.

use std::sync::Arc;

use tokio::time::Duration;

use super::{
    Account, Options, Source, Worked,
    ways::{OwnWays, Path},
};
use crate::{
    issuer::{
        Issuer,
        request::Client,
        wechat::{TokenApi, Wechat},
        wecom::Wecom,
    },
    keeper::{self, Keeper, schedule::Renewal},
    kind::Kind,
    metrics::AccountMetrics,
    upstream::route::Route,
};

/// What accounts are opened with.
#[derive(Clone, Debug)]
pub struct Means {
    /// The way of all accounts that have none of their own.
    common: Path,
    own: Arc<OwnWays>,
    token_wait: Duration,
}

impl Means {
    /// By `route`, and `client` for token requests, go all accounts that have no way of their own; a
    /// call waits for `token_wait` when there is no token.
    pub fn new(client: Client, route: Arc<Route>, token_wait: Duration) -> Self {
        let way = None;
        Self {
            common: Path { client, route, way },
            own: Arc::default(),
            token_wait,
        }
    }
}

impl Options {
    fn path(&self, means: &Means) -> Result<Path, String> {
        match &self.upstream {
            None => Ok(means.common.clone()),
            Some(own) => means.own.path(own),
        }
    }

    /// Where its tokens come from. The error is a sentence for the operator.
    pub fn issuer(&self, means: &Means) -> Result<Issuer, String> {
        self.issuer_by(self.path(means)?)
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
        }
    }

    /// The account, without a token yet. Its fetches run on the current runtime.
    pub fn open(&self, means: &Means) -> Result<Account, String> {
        let metrics = Arc::new(AccountMetrics::default());
        let keeping = keeper::Options {
            renewal: match (self.kind, self.token_api) {
                (Kind::Wechat, TokenApi::Stable) => Renewal::Inside,
                (Kind::Wechat, TokenApi::Classic) => Renewal::Ahead,
                (Kind::Wecom, _) => Renewal::Late,
            },
            second_thoughts: self.kind == Kind::Wechat,
            daily_fetches: self.daily_fetches,
            patience: means.token_wait,
        };
        let path = self.path(means)?;
        let way = path.way.clone();
        let keeper = Keeper::new(self.issuer_by(path)?, keeping, metrics.clone());
        Ok(Account {
            appid: self.appid.clone(),
            options: self.clone(),
            kind: self.kind,
            secret: self.secret.clone(),
            keeper,
            metrics,
            worked: Worked::default(),
            way,
        })
    }
}
