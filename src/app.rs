//! The whole sidecar: a configuration becomes bound ports, which serve until they are told to stop, and drain.

mod accounts;
mod first_line;
mod local_ca;
pub(crate) mod open_files;
mod open_listeners;
mod problem_watch;
mod reload;
mod running;
mod start_error;
mod trust_watch;
mod watches;

use std::{collections::HashMap, io, net::SocketAddr, process::ExitCode, sync::Arc};

use tokio::{
    net::TcpListener,
    sync::Notify,
    time::{Duration, timeout},
};

use crate::{
    account::{AccountFactory, FIRST_ACCOUNTS},
    admin::{Admin, Limits, Reloads},
    body::budget::ByteBudget,
    ca::Authority,
    client::{self, pools::Pools},
    config::Config,
    log::Log,
    metrics::Metrics,
    net::{connector::Connector, tls::ServerCertificates},
    proxy::Proxy,
    record::Recorder,
    rt::signals::{Signal, Signals, hangup},
    server::{Drain, ListenAddr, Listener, Speaks, Workers},
    token::source::{api, redis::Redis},
    traces::TraceExport,
};

use accounts::ServedAccounts;
use open_listeners::{Listeners, OpenListener};
use reload::ConfigSource;
use running::Running;
use watches::watches;

pub use first_line::say_start;
pub use start_error::StartError;
use start_error::cannot_listen;

/// A sidecar with its ports bound.
#[derive(Debug)]
pub struct App {
    config: Config,
    log: Option<Log>,
    listeners: Vec<Bound>,
    admin: TcpListener,
    connector: Arc<Connector>,
    client: api::Client,
    metrics: Arc<Metrics>,
    /// The local CA, if there is one.
    authority: Option<Arc<Authority>>,
    /// SIGHUP, if it was taken over already.
    hangup: Option<Signal>,
}

/// A bound listener that accepts no connections yet.
#[derive(Debug)]
struct Bound {
    /// Its address as it was configured.
    address: ListenAddr,
    listener: Listener,
    /// The account whose calls come in there; `None` for all accounts.
    account: Option<String>,
}

/// How the sidecar ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All calls in flight were finished.
    Drained,
    /// The grace period ended before that.
    CutShort,
}

impl App {
    /// Binds all ports. Names are resolved on the current runtime.
    pub async fn bind(config: Config, log: Option<Log>) -> Result<Self, StartError> {
        config.connect.dns.start();
        let mut listeners = Vec::new();
        let http = config.listen.iter();
        let http = http.map(|address| (address, Speaks::Http, None));
        let https = config.tls_listen.iter();
        let https = https.map(|address| (address, Speaks::Https, None));
        let own = config.accounts.iter().flat_map(|account| {
            let id = Some(account.id().to_owned());
            let addresses = account.listen.iter();
            addresses.map(move |address| (address, Speaks::Http, id.clone()))
        });
        for (address, speaks, account) in http.chain(https).chain(own) {
            let bound = Listener::bind(address, speaks).await;
            listeners.push(Bound {
                listener: bound.map_err(|error| cannot_listen(speaks.key(), address, error))?,
                address: address.clone(),
                account,
            });
        }
        let admin = TcpListener::bind(config.admin).await;
        let admin = admin.map_err(|error| cannot_listen("admin", config.admin, error))?;
        let authority = local_ca::open(&config)?;
        let metrics = Arc::new(Metrics::of_first(config.metrics_accounts));
        let client = api::client(&config.connect, metrics.clone()).map_err(StartError::Client)?;
        let connector = Connector::new(config.connect.clone()).map_err(StartError::Connector)?;
        Ok(Self {
            connector: Arc::new(connector),
            config,
            log,
            listeners,
            admin,
            client,
            metrics,
            authority,
            hangup: None,
        })
    }

    /// The listeners of apps, with the ports that the system chose, and the account whose calls come in there, if it is only
    /// one.
    pub fn listeners(&self) -> impl Iterator<Item = (&Listener, Option<&str>)> {
        let bound = self.listeners.iter();
        bound.map(|bound| (&bound.listener, bound.account.as_deref()))
    }

    /// The addresses of all accounts, for plain HTTP.
    fn common_addresses(&self) -> Vec<ListenAddr> {
        let common = self
            .listeners()
            .filter(|(listener, account)| account.is_none() && listener.speaks() == Speaks::Http);
        common
            .map(|(listener, _)| listener.address().clone())
            .collect()
    }

    /// The address of the admin port.
    pub fn admin(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Serves until `stop` ends or a shutdown is requested over HTTP, and then drains. Token requests, the admin port
    /// and the listeners run on the current runtime, and calls on threads of their own.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<Ended, StartError> {
        let shutdown = Arc::new(Notify::new());
        let mut running = self.start(&shutdown).await?;
        // An app that requests the shutdown has no more calls to make, so there is no delay.
        let asked = shutdown.notified();
        tokio::pin!(asked, stop);
        let delay = loop {
            tokio::select! {
                () = stop.as_mut() => break running.config.shutdown_delay,
                () = asked.as_mut() => break Duration::ZERO,
                read = running.source.reload() => running.apply(read).await,
            }
        };
        let grace = running.config.server.shutdown_grace;
        let (delay_seconds, grace_seconds) = (delay.as_secs_f64(), grace.as_secs_f64());
        tracing::info!(delay_seconds, grace_seconds, "stopping");
        running.drain.leave();
        if !delay.is_zero() {
            // A shutdown may be requested during the delay after a signal.
            let _ = timeout(delay, asked).await;
        }
        let notices = running.metrics.notices.clone();
        let ended = running.drained().await;
        notices.flush();
        Ok(ended)
    }

    /// Starts workers that serve the accounts, opens the listeners, and accepts shutdown requests at the admin port.
    async fn start(self, shutdown: &Arc<Notify>) -> Result<Running, StartError> {
        let (listen, mut config, metrics) = (self.common_addresses(), self.config, self.metrics);
        let (budget, drain) = (ByteBudget::new(config.replay_memory), Drain::default());
        let factory = factory(self.client, self.connector.clone(), &config, &metrics);
        let most = config.server.max_connections;
        // They would take their memory twice.
        let options = std::mem::take(&mut config.accounts);
        let mut accounts = ServedAccounts::new(options, factory, most)?;
        let directory = accounts.directory().clone();
        let authority = self.authority;
        let log = self.log.clone();
        let mut tasks = watches(&config, &directory, &metrics, log, authority.clone());
        let hangup = self.hangup.map_or_else(hangup, Ok);
        let source = ConfigSource::new(&config, hangup.map_err(StartError::Signals)?).await;
        let traces = trace_export(&config, &metrics)?;
        let recorder = recorder(self.log.as_ref(), traces.as_ref());
        let certificates = authority
            .clone()
            .map(|ca| ca as Arc<dyn ServerCertificates>);
        let workers = Workers::start(config.server, &drain, &metrics, certificates, || {
            let upstream = each_workers(config.upstream, config.server.workers);
            let pools = Pools::new(self.connector.clone(), upstream, metrics.clone());
            let mut options = config.proxy.clone();
            options.recorder = recorder.clone();
            Proxy::new(options, directory.clone(), pools, budget, metrics.clone())
        });
        let workers = Arc::new(workers.map_err(StartError::Workers)?);
        let reloads = Arc::new(Reloads::default());
        let admin = Admin {
            directory,
            metrics: metrics.clone(),
            budget,
            workers: workers.clone(),
            drain: drain.clone(),
            log: self.log,
            shutdown: config.enable_shutdown.then(|| shutdown.clone()),
            enable_revoke: config.enable_revoke,
            allow_hosts: config.proxy.guard.allow_hosts.clone(),
            readings: reloads.clone(),
            limits: limits(&config),
            listen,
        };
        tasks.spawn(admin.serve(self.admin));
        let mut listeners = Listeners::new(workers.clone(), drain.clone());
        let common = open(self.listeners, &mut accounts, &mut listeners);
        Ok(Running {
            config,
            accounts,
            listeners,
            source,
            workers,
            drain,
            metrics,
            reloads,
            traces,
            authority,
            _common: common,
            _tasks: tasks,
        })
    }
}

/// The exporter of traces, if they are wanted.
fn trace_export(
    config: &Config,
    metrics: &Arc<Metrics>,
) -> Result<Option<TraceExport>, StartError> {
    let dns = config.connect.dns.nearby();
    let options = config.traces.clone();
    let export = options.map(|options| TraceExport::start(options, dns, metrics.clone()));
    export.transpose().map_err(StartError::Traces)
}

/// Tells of each call those who want to know.
fn recorder(log: Option<&Log>, traces: Option<&TraceExport>) -> Option<Recorder> {
    let access = log.and_then(|log| log.access.clone());
    Recorder::new(access, traces.map(|export| export.tracer.clone()))
}

/// Opens accounts.
fn factory(
    client: api::Client,
    connector: Arc<Connector>,
    config: &Config,
    metrics: &Arc<Metrics>,
) -> AccountFactory {
    let factory = AccountFactory::new(client, connector, config.token_wait, metrics.clone());
    factory.with_store(store(config))
}

/// The store in which replicas share tokens, if there is one.
fn store(config: &Config) -> Option<Arc<Redis>> {
    let dns = config.connect.dns.nearby();
    let options = config.store.clone()?;
    Some(Redis::new(options, dns))
}

/// The limits that the status page shows.
fn limits(config: &Config) -> Limits {
    Limits {
        app_connections: config.server.max_connections,
        upstream_connections: config.upstream.max_connections,
        workers: config.server.workers,
    }
}

/// Opens the bound listeners. Returns those of all accounts. A listener of one account belongs to it.
fn open(
    bound: Vec<Bound>,
    accounts: &mut ServedAccounts,
    listeners: &mut Listeners,
) -> Vec<OpenListener> {
    let (mut common, mut own) = (Vec::new(), HashMap::<_, Vec<_>>::new());
    for bound in bound {
        let open = listeners.open(bound.address, bound.listener, bound.account.as_deref());
        match bound.account {
            Some(id) => own.entry(id).or_default().push(open),
            None => common.push(open),
        }
    }
    accounts.keep(own);
    common
}

/// Each worker's part of `upstream`.
fn each_workers(upstream: client::Options, workers: usize) -> client::Options {
    client::Options {
        max_connections: upstream.max_connections.div_ceil(workers),
        ..upstream
    }
}

/// Tells the log of all addresses. Those of many accounts are counted.
fn say_listening(app: &App) {
    let are_many = app.config.accounts.len() > FIRST_ACCOUNTS;
    let mut counted = 0;
    for (listener, account) in app.listeners() {
        let address = listener.address();
        let tls = (listener.speaks() == Speaks::Https).then_some(true);
        if are_many && account.is_some() {
            counted += 1;
            tracing::debug!(account, %address, tls, "listening");
        } else {
            tracing::info!(account, %address, tls, "listening");
        }
    }
    if counted > 0 {
        tracing::info!("listening at {counted} addresses of single accounts");
    }
    if let Ok(address) = app.admin() {
        tracing::info!(%address, "admin");
    }
}

/// Serves until a signal. The first one drains, and a second one ends the process at once.
pub async fn serve(mut config: Config, log: Log, signals: Signals) -> ExitCode {
    open_files::raise_limit();
    if let Some(warning) = open_files::fit(&mut config) {
        tracing::warn!("{warning}");
    }
    let Signals { mut stop, hangup } = signals;
    let app = match App::bind(config, Some(log)).await {
        Ok(app) => App {
            hangup: Some(hangup),
            ..app
        },
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    say_listening(&app);
    let notices = app.metrics.notices.clone();
    let stopped = Arc::new(Notify::new());
    let first = stopped.clone();
    let second_signal = async move {
        for _ in 0..2 {
            stop.recv().await;
            first.notify_one();
        }
    };
    tokio::select! {
        biased;
        () = second_signal => {
            notices.flush();
            tracing::warn!("a second signal: ending at once");
            ExitCode::FAILURE
        }
        ended = app.run(stopped.notified()) => match ended {
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
