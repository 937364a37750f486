//! A question to WeChat whose answer is read here. It goes the way of a call.

use serde_json::Value;

use super::{
    command::CallOptions,
    engine::EngineError,
    request,
    route::{Route, RouteError},
    target::CallTarget,
};
use crate::config::{ConfigError, Sources};

/// The longest answer that is read.
const LONGEST: usize = 1 << 20;

/// Asks questions at one path, for one account.
pub(in crate::cli) struct Questions {
    route: Route,
    target: CallTarget,
    account: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum QuestionError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nothing was asked, for this reason.
    #[error("{0}")]
    NotAsked(String),
    /// The exchange broke off, or did not begin.
    #[error("{0}")]
    Failed(String),
    /// A classic token would have to be requested.
    #[error(
        "no sidecar runs, and a token of the classic API, which only a request to WeChat can give, ends that of everybody else: start the sidecar"
    )]
    Classic,
}

impl Questions {
    /// Finds the way to WeChat's API at `path`.
    pub(in crate::cli) async fn at(
        path: &'static str,
        account: Option<String>,
        sources: Sources,
    ) -> Result<Self, QuestionError> {
        let target = CallTarget::new(path, [].iter());
        let target = target.map_err(|error| QuestionError::NotAsked(error.to_string()))?;
        let probe = CallOptions::question(target.clone(), String::new(), account.clone());
        let route = Route::find(&probe, sources)
            .await
            .map_err(|error| match error {
                RouteError::Config(error) => QuestionError::Config(error),
                RouteError::Engine(EngineError::Classic) => QuestionError::Classic,
                error => QuestionError::NotAsked(error.to_string()),
            })?;
        Ok(Self {
            route,
            target,
            account,
        })
    }

    /// The body of the reply to a POST of `body`.
    pub(in crate::cli) async fn ask(&self, body: &Value) -> Result<Vec<u8>, QuestionError> {
        let (target, account) = (self.target.clone(), self.account.clone());
        let call = CallOptions::question(target, body.to_string(), account);
        let reply = request::send(call, &self.route).await;
        let reply = reply.map_err(|error| QuestionError::Failed(error.to_string()))?;
        let body = reply.body(LONGEST).await;
        body.map_err(|error| QuestionError::Failed(format!("the reply broke off: {error}")))
    }
}
