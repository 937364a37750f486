//! Which way the call goes: through the sidecar that runs, or through an engine in this process.

use std::{fmt, sync::Arc};

use http::Method;
use serde_json::Value;

use super::{
    command::CallOptions,
    engine::{Engine, EngineError},
};
use crate::{
    cli::{
        admin_client::{AskError, request},
        output::eprint,
    },
    config::{AdminPort, AppPorts, Config, ConfigError, Sources, listen_address},
    net::listen_addr::ListenAddr,
    secret::Secret,
};

/// A way.
pub(super) enum Route {
    /// A sidecar runs. Apps connect there, and send this key.
    Running {
        address: ListenAddr,
        key: Option<Arc<Secret>>,
    },
    /// None does.
    Alone(Engine),
}

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
pub(super) enum RouteError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Admin(AskError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the sidecar does not say where apps connect, and --listen names no address")]
    NoAddress,
}

impl Route {
    /// Finds it as `health` finds a sidecar.
    pub(super) async fn find(options: &CallOptions, sources: Sources) -> Result<Self, RouteError> {
        let AdminPort { address, doubt } = AdminPort::find(&sources)?;
        if let Some(doubt) = doubt {
            eprint(&doubt);
        }
        let said = match request(address, Method::GET, "/accounts?per=1").await {
            Ok(reply) => listened(&reply.body),
            Err(problem @ AskError::Unreachable(..)) => {
                let config = Config::load(&sources).inspect_err(|_| {
                    eprint(&format!("call: {problem}, and without one this is wrong:"));
                })?;
                return Ok(Self::Alone(Engine::start(config, options).await?));
            }
            Err(problem) => return Err(RouteError::Admin(problem)),
        };
        let AppPorts { listen, caller_key } = AppPorts::find(&sources)?;
        let addresses = if said.is_empty() { listen } else { said };
        let near = addresses.iter().find(|address| address.is_local());
        let address = near.or(addresses.first()).cloned();
        Ok(Self::Running {
            address: address.ok_or(RouteError::NoAddress)?,
            key: caller_key.map(|key| key.held()),
        })
    }

    /// The address to connect to.
    pub(super) fn address(&self) -> &ListenAddr {
        match self {
            Self::Running { address, .. } => address,
            Self::Alone(engine) => engine.address(),
        }
    }

    /// The key to send.
    pub(super) fn key(&self) -> Option<&Secret> {
        match self {
            Self::Running { key, .. } => key.as_deref(),
            Self::Alone(engine) => Some(engine.key()),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running { address, .. } => write!(f, "through the sidecar at {address}"),
            Self::Alone(_) => f.write_str("no sidecar runs, so this process makes the call"),
        }
    }
}

/// The addresses that the page `/accounts` names. It is not for everybody, and then there are none.
fn listened(page: &str) -> Vec<ListenAddr> {
    let page: Value = serde_json::from_str(page).unwrap_or_default();
    let said = page.get("listen").and_then(Value::as_array);
    let said = said.into_iter().flatten().filter_map(Value::as_str);
    said.filter_map(listen_address).collect()
}
