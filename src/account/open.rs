//! From an account's options to the account: the one place where its source of tokens is chosen.

use std::sync::Arc;

use tokio::time::Duration;

use super::{Account, Options, Source, Worked};
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
    /// For token requests.
    pub client: Client,
    /// The way of all accounts that have none of their own.
    pub route: Arc<Route>,
    /// How long a call waits for a token when there is none.
    pub token_wait: Duration,
}

impl Options {
    /// Where its tokens come from. The error is a sentence for the operator.
    pub fn issuer(&self, means: &Means) -> Result<Issuer, String> {
        match (&self.source, self.kind) {
            (Source::Wechat, Kind::Wechat) => {
                let secret = self.secret.clone().ok_or("it has no AppSecret")?;
                Ok(Issuer::Wechat(Wechat::new(
                    means.client.clone(),
                    means.route.clone(),
                    self.token_api,
                    self.appid.clone(),
                    secret,
                )))
            }
            (Source::Wechat, Kind::Wecom) => {
                let secret = self.secret.clone().ok_or("it has no secret")?;
                Ok(Issuer::Wecom(Wecom::new(
                    means.client.clone(),
                    means.route.clone(),
                    self.appid.clone(),
                    secret,
                )))
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
        let keeper = Keeper::new(self.issuer(means)?, keeping, metrics.clone());
        Ok(Account {
            appid: self.appid.clone(),
            options: self.clone(),
            kind: self.kind,
            secret: self.secret.clone(),
            keeper,
            metrics,
            worked: Worked::default(),
        })
    }
}
