//! A running sidecar: its configuration is reloaded, its secrets rotate, and at last it drains.

use std::{collections::HashSet, sync::Arc};

use futures_util::{StreamExt, future, stream};
use tokio::{
    task::JoinSet,
    time::{Duration, sleep},
};

use super::{
    Ended,
    accounts::{Change, ServedAccounts},
    local_ca,
    open_listeners::{Listeners, OpenListener},
    reload::ConfigSource,
};
use crate::{
    account::{Accounts, Directory},
    admin::Reloads,
    ca::Authority,
    config::{Config, ConfigError},
    metrics::{Metrics, Reload},
    rt::suspension::Suspensions,
    secret::SecretSource,
    server::{Drain, Workers},
    token::{rotation::reread, ticket},
    traces::TraceExport,
};

/// How often secret files are read.
const SECRETS_INTERVAL: Duration = Duration::from_secs(5);

/// How long such a read may take. The file may be on a network that hangs.
const SECRET_TIMEOUT: Duration = Duration::from_secs(5);

/// How many secret files are waited for at once: more than can hang.
const SECRETS_AT_ONCE: usize = 64;

/// A sidecar that accepts calls.
pub(super) struct Running {
    pub(super) config: Config,
    pub(super) accounts: ServedAccounts,
    pub(super) listeners: Listeners,
    pub(super) source: ConfigSource,
    pub(super) workers: Arc<Workers>,
    pub(super) drain: Drain,
    pub(super) metrics: Arc<Metrics>,
    pub(super) reloads: Arc<Reloads>,
    /// Sends the spans of calls, if they are wanted.
    pub(super) traces: Option<TraceExport>,
    /// The local CA, if there is one.
    pub(super) authority: Option<Arc<Authority>>,
    /// The listeners of all accounts. They are open until this is dropped.
    pub(super) _common: Vec<OpenListener>,
    /// Tasks that end when this is dropped.
    pub(super) _tasks: JoinSet<()>,
}

impl Running {
    /// Applies a new configuration, and records the result.
    pub(super) async fn apply(&mut self, read: Result<Config, ConfigError>) {
        let local_ca = read.as_ref().ok().map(|config| config.local_ca.clone());
        let outcome = apply(read, &self.config, &mut self.accounts, &mut self.listeners).await;
        if let (Some(local_ca), Ok(_)) = (&local_ca, &outcome) {
            local_ca::follow(self.authority.as_deref(), local_ca);
        }
        self.metrics.reload(match outcome {
            Ok(_) => Reload::Applied,
            Err(_) => Reload::Rejected,
        });
        self.reloads.note(outcome);
    }

    /// Closes the listeners, and finishes the calls in flight within the grace period.
    pub(super) async fn drained(self) -> Ended {
        self.drain.drain();
        self.listeners.closed().await;
        let finished = self.workers.finish(self.config.server.shutdown_grace).await;
        if let Some(traces) = self.traces {
            traces.finish().await;
        }
        match finished {
            true => Ended::Drained,
            false => Ended::CutShort,
        }
    }
}

/// Applies a new configuration, except for what needs a restart. Returns the keys that need one, or the reason why
/// nothing was changed.
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
            let changed = changed.map_err(|error| error.to_string());
            changed.map(|change| (change, keys, config.warnings))
        }
        Err(error) => Err(error.to_string()),
    };
    match changed {
        Ok((change, keys, warnings)) => {
            let known: HashSet<&String> = running.warnings.iter().collect();
            for warning in warnings.iter().filter(|warning| !known.contains(warning)) {
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
pub(super) async fn watch_suspensions(directory: Directory, metrics: Arc<Metrics>) {
    let mut suspensions = Suspensions::default();
    loop {
        let time = suspensions.next().await;
        let seconds = time.as_secs_f64();
        tracing::info!(seconds, "the machine was suspended");
        metrics.suspended(time);
        let accounts = directory.now();
        for account in accounts.iter() {
            account.keeper.suspended(time);
        }
        ticket::suspended(accounts.iter().map(|account| &*account.tickets), time);
    }
}

/// Notices rotated secrets: those of accounts, and those in `common`. A keeper that has failed then tries again at once.
pub(super) async fn watch_secrets(directory: Directory, common: Vec<Arc<SecretSource>>) {
    loop {
        sleep(SECRETS_INTERVAL).await;
        let accounts = directory.all();
        // Some are read at a time, so one that hangs delays no other.
        let changed: HashSet<usize> = stream::iter(in_files(&accounts, &common))
            .map(|secret| async move {
                let changed = reread(&secret, SECRET_TIMEOUT).await;
                changed.then(|| {
                    tracing::info!(from = secret.place(), "a secret file changed");
                    Arc::as_ptr(&secret).addr()
                })
            })
            .buffer_unordered(SECRETS_AT_ONCE)
            .filter_map(future::ready)
            .collect()
            .await;
        for account in accounts.iter().filter(|_| !changed.is_empty()) {
            let secret = account.secret.as_ref();
            if secret.is_some_and(|secret| changed.contains(&Arc::as_ptr(secret).addr())) {
                account.keeper.try_again();
            }
        }
    }
}

/// Those secrets of `accounts`, and of `common`, that are read from files.
fn in_files(accounts: &Accounts, common: &[Arc<SecretSource>]) -> Vec<Arc<SecretSource>> {
    let secrets = accounts
        .iter()
        .filter_map(|account| account.secret.as_ref());
    let secrets = secrets.chain(common);
    let in_files = secrets.filter(|secret| secret.file_path().is_some());
    in_files.cloned().collect()
}
