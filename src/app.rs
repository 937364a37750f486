//! The whole: a configuration becomes bound ports, which serve until told to stop, and drain.

use std::{io, net::SocketAddr, process::ExitCode, sync::Arc};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{Notify, Semaphore},
    task::{JoinSet, spawn_blocking},
    time::{Duration, sleep, timeout},
};

use crate::{
    account::{self, Account, Directory, Means},
    admin::Admin,
    config::Config,
    issuer::request,
    log::LogLevels,
    memory::Memory,
    metrics::Metrics,
    proxy::Proxy,
    secret::SecretSource,
    server::{Address, Farewell, Listener, Workers},
    upstream::{route::Route, ways::Ways},
};

/// A sidecar with its ports bound.
#[derive(Debug)]
pub struct App {
    config: Config,
    levels: Option<LogLevels>,
    listeners: Vec<Listener>,
    admin: TcpListener,
    route: Arc<Route>,
    client: request::Client,
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
    pub async fn bind(config: Config, levels: Option<LogLevels>) -> Result<Self, StartError> {
        let mut listeners = Vec::new();
        for address in &config.listen {
            let bound = Listener::bind(address).await;
            listeners.push(bound.map_err(|error| cannot("listen", &address.to_string(), &error))?);
        }
        let admin = TcpListener::bind(config.admin).await;
        let admin = admin.map_err(|error| cannot("admin", &config.admin.to_string(), &error))?;
        let wrong = |reason: String| StartError(format!("upstream: {reason}"));
        let client = request::client(&config.route).map_err(wrong)?;
        let route = Route::new(config.route.clone()).map_err(|error| wrong(error.to_string()))?;
        Ok(Self {
            route: Arc::new(route),
            config,
            levels,
            listeners,
            admin,
            client,
        })
    }

    /// Where apps connect to, with the ports that the system chose.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.listeners.iter().map(Listener::address)
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
            levels,
            listeners,
            admin,
            route,
            client,
        } = self;
        let metrics = Arc::new(Metrics::default());
        let memory = Memory::new(config.replay_memory);
        let farewell = Farewell::default();
        let mut tasks = JoinSet::new();

        let mut accounts = Vec::new();
        let means = Means::new(client, route.clone(), config.token_wait);
        for options in &config.accounts {
            let account = options
                .open(&means)
                .map_err(|problem| wrong_account(options, &problem))?;
            tasks.spawn(account.keeper.clone().run());
            accounts.push(Arc::new(account));
        }
        let directory = Directory::new(accounts);
        let secrets = config.accounts.iter();
        let secrets = secrets.filter_map(|account| account.secret.clone());
        tasks.spawn(watch_secrets(
            directory.clone(),
            secrets
                .chain(config.proxy.guard.caller_key.clone())
                .collect(),
        ));

        let mut upstream = config.upstream;
        upstream.max_connections = upstream.max_connections.div_ceil(config.server.workers);
        let workers = Workers::start(config.server, &farewell, &metrics, || {
            let ways = Ways::new(route.clone(), upstream, metrics.clone());
            Proxy::new(
                config.proxy.clone(),
                directory.clone(),
                ways,
                memory.clone(),
                metrics.clone(),
            )
        });
        let workers = workers.map_err(|error| StartError(format!("workers: {error}")))?;
        let workers = Arc::new(workers);

        let shutdown = Arc::new(Notify::new());
        let admin_port = Admin {
            directory,
            metrics,
            memory,
            workers: workers.clone(),
            farewell: farewell.clone(),
            levels,
            shutdown: config.enable_shutdown.then(|| shutdown.clone()),
            allow_hosts: config.proxy.guard.allow_hosts.clone(),
        };
        tasks.spawn(Arc::new(admin_port).serve(admin));
        let room = Arc::new(Semaphore::new(config.server.max_connections));
        let mut doors = JoinSet::new();
        for listener in listeners {
            doors.spawn(listener.serve(workers.clone(), room.clone(), farewell.clone()));
        }

        // Who asks over HTTP has no more calls to make, and so does not wait for the delay.
        let asked = shutdown.notified();
        tokio::pin!(asked);
        let delay = tokio::select! {
            () = stop => config.shutdown_delay,
            () = asked.as_mut() => Duration::ZERO,
        };
        tracing::info!(?delay, grace = ?config.server.shutdown_grace, "stopping");
        farewell.leave();
        if !delay.is_zero() {
            // The second of both may ask while the first waits.
            let _ = timeout(delay, asked).await;
        }
        farewell.drain();
        while doors.join_next().await.is_some() {}
        let drained = workers.finish(config.server.shutdown_grace).await;
        Ok(if drained {
            Ended::Drained
        } else {
            Ended::CutShort
        })
    }
}

/// Serves until a signal: the first drains, a second one ends at once.
pub async fn serve(config: Config, levels: LogLevels) -> ExitCode {
    raise_file_limit();
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        tracing::error!("signals cannot be handled");
        return ExitCode::FAILURE;
    };
    let app = match App::bind(config, Some(levels)).await {
        Ok(app) => app,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    for address in app.addresses() {
        tracing::info!(%address, "listening");
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

/// Notices rotated secrets; a keeper that had failed tries again at once.
async fn watch_secrets(directory: Directory, secrets: Vec<Arc<SecretSource>>) {
    loop {
        sleep(LOOK).await;
        for secret in &secrets {
            let source = secret.clone();
            // Files on a network may take their time.
            let reread = spawn_blocking(move || source.reread());
            if matches!(timeout(LOOK, reread).await, Ok(Ok(true))) {
                tracing::info!("a secret file changed");
                let its = |account: &&Arc<Account>| {
                    let its = account.secret.as_ref();
                    its.is_some_and(|its| Arc::ptr_eq(its, secret))
                };
                directory
                    .now()
                    .iter()
                    .filter(its)
                    .for_each(|account| account.keeper.try_again());
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

fn wrong_account(account: &account::Options, problem: &str) -> StartError {
    StartError(format!("account {}: {problem}", account.id()))
}

fn cannot(key: &str, address: &str, error: &io::Error) -> StartError {
    StartError(format!("{key}: {address} cannot be listened on: {error}"))
}
