//! The whole: a configuration becomes bound ports, which serve until told to stop, and drain.

mod accounts;
mod reload;

use std::{io, net::SocketAddr, process::ExitCode, sync::Arc};

use futures_util::future::join_all;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{Notify, Semaphore},
    task::{JoinSet, spawn_blocking},
    time::{Duration, sleep, timeout},
};

use crate::{
    account::{Account, AccountFactory, Directory},
    admin::{Admin, Reloads},
    body::budget::ByteBudget,
    client::pools::Pools,
    config::{Config, ConfigError},
    log::Log,
    metrics::{Metrics, Reread},
    net::connector::Connector,
    proxy::Proxy,
    secret::SecretSource,
    server::{Drain, ListenAddr, Listener, Workers},
    token::source::{api, redis::Redis},
};

use accounts::{Change, Listeners, ServedAccounts};
use reload::ConfigSource;

/// A sidecar with its ports bound.
#[derive(Debug)]
pub struct App {
    config: Config,
    log: Option<Log>,
    listeners: Vec<Bound>,
    admin: TcpListener,
    route: Arc<Connector>,
    client: api::Client,
}

/// A listener that nobody is let in at yet.
#[derive(Debug)]
struct Bound {
    /// As it was configured.
    address: ListenAddr,
    listener: Listener,
    /// Whose calls come in there; `None` for all.
    account: Option<String>,
}

/// Why it cannot start: a sentence that names the key.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every call in flight was finished.
    Drained,
    /// The grace was over before that.
    CutShort,
}

/// How often secret files are looked at.
const LOOK: Duration = Duration::from_secs(5);

impl App {
    /// Binds all ports.
    pub async fn bind(config: Config, log: Option<Log>) -> Result<Self, StartError> {
        let mut listeners = Vec::new();
        let common = config.listen.iter().map(|address| (address, None));
        let own = config.accounts.iter().flat_map(|account| {
            let id = Some(account.id().to_owned());
            let addresses = account.listen.iter();
            addresses.map(move |address| (address, id.clone()))
        });
        for (address, account) in common.chain(own) {
            let bound = Listener::bind(address).await;
            listeners.push(Bound {
                listener: bound.map_err(|error| cannot("listen", &address.to_string(), &error))?,
                address: address.clone(),
                account,
            });
        }
        let admin = TcpListener::bind(config.admin).await;
        let admin = admin.map_err(|error| cannot("admin", &config.admin.to_string(), &error))?;
        let wrong = |reason: &dyn std::error::Error| StartError(format!("upstream: {reason}"));
        let client = api::client(&config.route).map_err(|error| wrong(&error))?;
        let route = Connector::new(config.route.clone()).map_err(|error| wrong(&error))?;
        Ok(Self {
            route: Arc::new(route),
            config,
            log,
            listeners,
            admin,
            client,
        })
    }

    /// Where apps connect to, with the ports that the system chose.
    /// And the account whose calls come in there, if it is one's.
    pub fn addresses(&self) -> impl Iterator<Item = (&ListenAddr, Option<&str>)> {
        let bound = self.listeners.iter();
        bound.map(|bound| (bound.listener.address(), bound.account.as_deref()))
    }

    /// Where the admin port is.
    pub fn admin(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Serves until `stop` ends or somebody asks over HTTP, then drains. Token requests, the admin
    /// port and the acceptors run on the current runtime, calls on threads of their own.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<Ended, StartError> {
        let Self {
            config,
            log,
            listeners,
            admin,
            route,
            client,
        } = self;
        let metrics = Arc::new(Metrics::default());
        let memory = ByteBudget::new(config.replay_memory);
        let farewell = Drain::default();
        let mut tasks = JoinSet::new();

        let means = AccountFactory::new(client, route.clone(), config.token_wait)
            .with_store(config.store.clone().map(Redis::new));
        let served = ServedAccounts::new(&config.accounts, means, config.server.max_connections);
        let mut served = served.map_err(StartError)?;
        let directory = served.directory().clone();
        let caller_key = config.proxy.guard.caller_key.clone();
        tasks.spawn(watch_secrets(directory.clone(), caller_key));
        let signals = |error| StartError(format!("SIGHUP cannot be handled: {error}"));
        let mut origin = ConfigSource::new(&config).await.map_err(signals)?;

        let mut upstream = config.upstream;
        upstream.max_connections = upstream.max_connections.div_ceil(config.server.workers);
        let workers = Workers::start(config.server, &farewell, &metrics, || {
            let ways = Pools::new(route.clone(), upstream, metrics.clone());
            Proxy::new(
                config.proxy.clone(),
                directory.clone(),
                ways,
                memory,
                metrics.clone(),
            )
        });
        let workers = workers.map_err(|error| StartError(format!("workers: {error}")))?;
        let workers = Arc::new(workers);

        let shutdown = Arc::new(Notify::new());
        let readings = Arc::new(Reloads::default());
        let admin_port = Admin {
            directory,
            metrics: metrics.clone(),
            memory,
            workers: workers.clone(),
            farewell: farewell.clone(),
            log,
            shutdown: config.enable_shutdown.then(|| shutdown.clone()),
            allow_hosts: config.proxy.guard.allow_hosts.clone(),
            readings: readings.clone(),
        };
        tasks.spawn(Arc::new(admin_port).serve(admin));
        let room = Arc::new(Semaphore::new(config.server.max_connections));
        let mut doors = Listeners::new(workers.clone(), room, farewell.clone());
        let mut open = Vec::new();
        for bound in listeners {
            let id = bound.account.as_deref();
            let door = doors.open(bound.address, bound.listener, id);
            match id {
                Some(id) => served.keep(id, door),
                None => open.push(door),
            }
        }

        // Who asks over HTTP has no more calls to make, and so does not wait for the delay.
        let asked = shutdown.notified();
        tokio::pin!(asked, stop);
        let delay = loop {
            tokio::select! {
                () = stop.as_mut() => break config.shutdown_delay,
                () = asked.as_mut() => break Duration::ZERO,
                read = origin.reload() => {
                    let outcome = apply(read, &config, &mut served, &mut doors).await;
                    metrics.reread(match outcome {
                        Ok(_) => Reread::Applied,
                        Err(_) => Reread::Rejected,
                    });
                    readings.note(outcome);
                }
            }
        };
        tracing::info!(?delay, grace = ?config.server.shutdown_grace, "stopping");
        farewell.leave();
        if !delay.is_zero() {
            // The second of both may ask while the first waits.
            let _ = timeout(delay, asked).await;
        }
        farewell.drain();
        doors.closed().await;
        let drained = workers.finish(config.server.shutdown_grace).await;
        Ok(if drained {
            Ended::Drained
        } else {
            Ended::CutShort
        })
    }
}

/// Serves until a signal: the first drains, a second one ends at once.
pub async fn serve(config: Config, log: Log) -> ExitCode {
    raise_file_limit();
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        tracing::error!("signals cannot be handled");
        return ExitCode::FAILURE;
    };
    let app = match App::bind(config, Some(log)).await {
        Ok(app) => app,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    for (address, account) in app.addresses() {
        match account {
            None => tracing::info!(%address, "listening"),
            Some(account) => tracing::info!(account, %address, "listening"),
        }
    }
    if let Ok(address) = app.admin() {
        tracing::info!(%address, "admin");
    }
    let stop = Arc::new(Notify::new());
    let first = stop.clone();
    let second_signal = async move {
        for _ in 0..2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            first.notify_one();
        }
    };
    tokio::select! {
        biased;
        () = second_signal => {
            tracing::warn!("a second signal: ending at once");
            ExitCode::FAILURE
        }
        ended = app.run(stop.notified()) => match ended {
            Ok(Ended::Drained) => ExitCode::SUCCESS,
            Ok(Ended::CutShort) => {
                tracing::warn!("some calls did not finish in time; see --shutdown-grace");
                ExitCode::FAILURE
            }
            Err(error) => {
                tracing::error!(%error, "cannot start");
                ExitCode::FAILURE
            }
        },
    }
}

/// Puts a new reading in force, as far as that goes without a restart. Returns the keys that need one,
/// or why nothing was changed.
async fn apply(
    read: Result<Config, ConfigError>,
    running: &Config,
    served: &mut ServedAccounts,
    doors: &mut Listeners,
) -> Result<Vec<&'static str>, String> {
    let changed = match read {
        Ok(config) => {
            let keys = running.fixed_differences(&config);
            let changed = served.change(config.accounts, doors).await;
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

/// Notices rotated secrets; a keeper that had failed tries again at once.
async fn watch_secrets(directory: Directory, caller_key: Option<Arc<SecretSource>>) {
    loop {
        sleep(LOOK).await;
        let accounts: Vec<Arc<Account>> = directory.now().iter().cloned().collect();
        let secrets = accounts
            .iter()
            .filter_map(|account| account.secret.as_ref());
        // Side by side: one on a network that hangs holds up no other.
        let looks = secrets.chain(&caller_key).map(|secret| {
            let source = secret.clone();
            let reread = timeout(LOOK, spawn_blocking(move || source.reread()));
            async move { matches!(reread.await, Ok(Ok(true))).then_some(secret) }
        });
        for changed in join_all(looks).await.into_iter().flatten() {
            tracing::info!("a secret file changed");
            for account in &accounts {
                let its = account.secret.as_ref();
                if its.is_some_and(|its| Arc::ptr_eq(its, changed)) {
                    account.keeper.try_again();
                }
            }
        }
    }
}

/// Each connection is a file; the usual limit is 1,024.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
    }
}

fn cannot(key: &str, address: &str, error: &io::Error) -> StartError {
    StartError(format!("{key}: {address} cannot be listened on: {error}"))
}
