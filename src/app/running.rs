//! A sidecar that serves: its configuration changes, its secrets rotate, and in the end it drains.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::{
    task::JoinSet,
    time::{Duration, sleep},
};

use super::{
    Ended,
    accounts::{Change, Listeners, OpenListener, ServedAccounts},
    reload::ConfigSource,
};
use crate::{
    account::{Account, Directory},
    admin::Reloads,
    config::{Config, ConfigError},
    metrics::{Metrics, Reread},
    rt::{file_watcher::off_runtime, suspension::Suspensions},
    secret::SecretSource,
    server::{Drain, Workers},
    token::ticket,
};

/// How often secret files are read again.
const SECRETS_INTERVAL: Duration = Duration::from_secs(5);

/// A sidecar that lets calls in.
pub(super) struct Running {
    pub(super) config: Config,
    pub(super) accounts: ServedAccounts,
    pub(super) listeners: Listeners,
    pub(super) source: ConfigSource,
    pub(super) workers: Arc<Workers>,
    pub(super) drain: Drain,
    pub(super) metrics: Arc<Metrics>,
    pub(super) reloads: Arc<Reloads>,
    /// The listeners of all accounts, open as long as this is held.
    pub(super) _common: Vec<OpenListener>,
    /// Ended when this is dropped.
    pub(super) _tasks: JoinSet<()>,
}

impl Running {
    /// Puts a new reading in force, and notes what came of it.
    pub(super) async fn apply(&mut self, read: Result<Config, ConfigError>) {
        let outcome = apply(read, &self.config, &mut self.accounts, &mut self.listeners).await;
        self.metrics.reread(match outcome {
            Ok(_) => Reread::Applied,
            Err(_) => Reread::Rejected,
        });
        self.reloads.note(outcome);
    }

    /// Lets nobody in any more, and finishes the calls in flight within the grace.
    pub(super) async fn drained(self) -> Ended {
        self.drain.drain();
        self.listeners.closed().await;
        match self.workers.finish(self.config.server.shutdown_grace).await {
            true => Ended::Drained,
            false => Ended::CutShort,
        }
    }
}

/// Puts a new reading in force, as far as that goes without a restart. Returns the keys that need one,
/// or why nothing was changed.
async fn apply(
    read: Result<Config, ConfigError>,
    running: &Config,
    accounts: &mut ServedAccounts,
    listeners: &mut Listeners,
) -> Result<Vec<&'static str>, String> {
    let changed = match read {
        Ok(config) => {
            let keys = running.fixed_differences(&config);
            let changed = accounts.change(config.accounts, listeners).await;
            changed.map(|change| (change, keys, config.warnings))
        }
        Err(error) => Err(error.to_string()),
    };
    match changed {
        Ok((change, keys, warnings)) => {
            for warning in warnings
                .iter()
                .filter(|known| !running.warnings.contains(known))
            {
                tracing::warn!("{warning}");
            }
            if !keys.is_empty() {
                let keys = keys.join(", ");
                tracing::warn!(keys, "these keys changed, which takes a restart");
            }
            let Change {
                added,
                changed,
                removed,
            } = change;
            tracing::info!(added, changed, removed, "the configuration was read again");
            Ok(keys)
        }
        Err(error) => {
            tracing::error!(
                error,
                "the configuration was read again and is wrong: nothing was changed"
            );
            Err(error)
        }
    }
}

/// Has tokens and tickets expire in time though the machine was suspended.
pub(super) async fn watch_suspensions(directory: Directory) {
    let mut suspensions = Suspensions::default();
    loop {
        let time = suspensions.next().await;
        tracing::info!(?time, "the machine was suspended");
        let accounts = directory.now();
        for account in accounts.iter() {
            account.keeper.suspended(time);
        }
        ticket::suspended(accounts.iter().map(|account| &*account.tickets), time);
    }
}

/// Notices rotated secrets; a keeper that had failed tries again at once.
pub(super) async fn watch_secrets(directory: Directory, caller_key: Option<Arc<SecretSource>>) {
    loop {
        sleep(SECRETS_INTERVAL).await;
        let accounts: Vec<Arc<Account>> = directory.now().iter().cloned().collect();
        let secrets = accounts
            .iter()
            .filter_map(|account| account.secret.as_ref());
        // Side by side: one on a network that hangs holds up no other.
        let reads = secrets.chain(&caller_key).map(async |secret| {
            let source = secret.clone();
            let changed = off_runtime(move || source.reread()).await;
            (changed == Some(true)).then_some(secret)
        });
        for changed in join_all(reads).await.into_iter().flatten() {
            tracing::info!("a secret file changed");
            for account in &accounts {
                let secret = account.secret.as_ref();
                if secret.is_some_and(|secret| Arc::ptr_eq(secret, changed)) {
                    account.keeper.try_again();
                }
            }
        }
    }
}
