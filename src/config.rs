//! Flags, environment and file are checked, and become the options of all modules above.
//!
//! First, all layers are gathered, each value with its place. Then the options of each module are read from them. The
//! first mistake ends this with a sentence for the operator.

mod account_table;
mod account_upstreams;
mod accounts;
mod admin;
mod app_ports;
pub(crate) mod error;
mod file;
#[cfg(fuzzing)]
pub mod fuzz;
pub mod keys;
mod layers;
mod local_ca;
mod neighbours;
mod network;
mod secrets;
mod settings;
mod store;
mod token_source;
mod traces;

use std::{
    ffi::OsString,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
    thread,
};

use tokio::time::Duration;

pub use account_table::keys as account_keys;
pub use admin::AdminPort;
pub use app_ports::{AppPorts, listen_address};
pub use error::{ConfigError, Provenance};
use keys::Id;
use layers::{Gathered, Reading};
pub use local_ca::{LocalCa, RootPlaces};
pub use secrets::is_about_an_open_file;
use settings::Settings;

use crate::{
    account, client, log,
    net::{connector::ConnectOptions, tls::TrustFiles},
    proxy::{self, PRIVATE_HEADERS, PrivateHeaders, TokenEndpoint},
    rt::control_group::memory_limit,
    server,
    settings::parse,
    token::source::redis,
    traces::Options as TraceOptions,
};

/// The command line and the environment, before anything is checked.
#[derive(Clone, Default)]
pub struct Sources {
    /// The keys that were given as flags, with their values.
    pub flags: Vec<(Id, Vec<String>)>,
    /// The environment variables. Variables of other programs are ignored.
    pub env: Vec<(String, String)>,
    /// The files of trusted certificates, which a reload uses again.
    pub trust: TrustFiles,
}

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The accounts that are served.
    pub accounts: Vec<Arc<account::Options>>,
    /// The addresses that apps connect to.
    pub listen: Vec<server::ListenAddr>,
    /// The addresses that apps connect to by https.
    pub tls_listen: Vec<server::ListenAddr>,
    /// The address of the admin port.
    pub admin: SocketAddr,
    /// Whether `POST /shutdown` works.
    pub enable_shutdown: bool,
    /// Whether `POST /revoke` works.
    pub enable_revoke: bool,
    /// The store in which replicas share tokens.
    pub store: Option<redis::Options>,
    /// How WeChat is connected.
    pub connect: ConnectOptions,
    /// The connections to WeChat. `max_connections` is the limit for all workers together.
    pub upstream: client::Options,
    /// The options of the proxy.
    pub proxy: proxy::Options,
    /// The memory for all buffered bodies together, in bytes.
    pub replay_memory: usize,
    /// The options of the server for apps.
    pub server: server::Options,
    /// How long to go on accepting calls after the signal to stop.
    pub shutdown_delay: Duration,
    /// How long a call waits for a token when there is none.
    pub token_wait: Duration,
    /// How many accounts have series of their own.
    pub metrics_accounts: usize,
    /// The collector of traces, if there is one.
    pub traces: Option<TraceOptions>,
    /// The local CA.
    pub local_ca: LocalCa,
    /// The format and the levels of the log.
    pub log: log::Options,
    /// Warnings about settings that are allowed but unwise.
    pub warnings: Vec<String>,
    /// The sources, for a reload.
    sources: Sources,
    reading: Reading,
}

const TOKEN_WAIT: Duration = Duration::from_secs(15);
const MOST_CONNECTIONS: u32 = 1_000_000;
const MOST_ACCOUNTS: u32 = 1_000_000;

/// The most memory for held bodies by default.
const MOST_REPLAY_MEMORY: usize = 64 << 20;

/// What the process takes beside it: at its start, and for connections.
const OTHER_MEMORY: usize = 24 << 20;

/// The most connections that may be kept warm.
const MOST_WARM: u32 = 64;
const MOST_WORKERS: u32 = 256;

impl Sources {
    /// Takes `flags` and the environment of this process. A variable of ours that is not Unicode is an error.
    pub fn of_process(flags: Vec<(Id, Vec<String>)>) -> Result<Self, ConfigError> {
        let env = our_variables().map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(ConfigError::new(
                Provenance::Variable(name),
                "its value is not Unicode",
            )),
        });
        let env = env.collect::<Result<_, _>>()?;
        let trust = TrustFiles::default();
        Ok(Self { flags, env, trust })
    }

    /// The same for a command that needs only a few keys: mistakes in other variables are ignored.
    pub fn of_process_lossy(flags: Vec<(Id, Vec<String>)>) -> Self {
        let env = our_variables()
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
            .collect();
        let trust = TrustFiles::default();
        Self { flags, env, trust }
    }
}

fn our_variables() -> impl Iterator<Item = (String, OsString)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        name.starts_with("WECHAT_").then_some((name, value))
    })
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Config {
    /// Reads and checks everything.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let Gathered {
            settings,
            accounts: tables,
            mut warnings,
        } = layers::gather(sources)?;
        let idle_timeout = settings.value(Id::IdleTimeout, parse::duration)?;
        let connect = network::connect(&settings, &sources.trust, &mut warnings)?;
        let store = store::store(&settings, &sources.trust, &mut warnings)?;
        let accounts = accounts::accounts(&settings, &tables, sources, &connect, &mut warnings)?;
        let traces = traces::traces(&settings, &connect.tls, &mut warnings)?;
        warnings.extend(store::advise(store.as_ref(), &accounts).map(str::to_owned));
        Ok(Self {
            listen: network::listen(&settings)?,
            tls_listen: network::tls_listen(&settings)?,
            admin: network::admin(&settings)?,
            enable_shutdown: settings.switch(Id::EnableShutdown)?,
            enable_revoke: settings.switch(Id::EnableRevoke)?,
            proxy: proxy(&settings, &mut warnings)?,
            replay_memory: replay_memory(&settings, memory_limit(), &mut warnings)?,
            server: server(&settings, idle_timeout)?,
            upstream: upstream(&settings, idle_timeout)?,
            shutdown_delay: settings.value(Id::ShutdownDelay, parse::pause)?,
            token_wait: TOKEN_WAIT,
            metrics_accounts: settings
                .value(Id::MetricsAccounts, parse::count_or_none(MOST_ACCOUNTS))?
                as usize,
            traces,
            local_ca: local_ca::local_ca(&settings, &accounts, &connect)?,
            log: log(&settings)?,
            accounts,
            store,
            connect,
            warnings,
            sources: sources.clone(),
            reading: Reading::of(&settings),
        })
    }

    /// Reads all sources again, and checks everything.
    pub fn reload(&self) -> Result<Self, ConfigError> {
        Self::load(&self.sources)
    }

    /// The files of trusted certificates that are in use.
    pub fn trust(&self) -> &TrustFiles {
        &self.sources.trust
    }

    /// The names of the keys that are not as they are by default.
    pub fn unusual(&self) -> Vec<&'static str> {
        self.reading.unusual()
    }

    /// The file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.path(Id::Config)
    }

    /// The file that the key `id` names, if it is set.
    pub fn path(&self, id: Id) -> Option<&Path> {
        self.reading.path(id)
    }

    /// The keys that differ in `other`, except for those of accounts. A change of these needs a restart.
    pub fn fixed_differences(&self, other: &Self) -> Vec<&'static str> {
        self.reading.fixed_differences(&other.reading)
    }

    /// The options of the log, for a command that needs nothing else of the configuration.
    pub fn log(sources: &Sources) -> Result<log::Options, ConfigError> {
        log(&layers::gather(sources)?.settings)
    }
}

/// Replaces an address that stands for all interfaces by the loopback address.
pub fn from_here(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn proxy(settings: &Settings, warnings: &mut Vec<String>) -> Result<proxy::Options, ConfigError> {
    let endpoints = [
        ("placeholder", TokenEndpoint::Placeholder),
        ("real", TokenEndpoint::Real),
        ("off", TokenEndpoint::Off),
    ];
    Ok(proxy::Options {
        token_endpoint: settings.choice(Id::TokenEndpoint, &endpoints)?,
        replay_limit: settings.value(Id::ReplayLimit, parse::size)?,
        errors_as_200: settings.choice(Id::ErrorStatus, &[("http", false), ("200", true)])?,
        keep_tickets: !settings.switch(Id::NoTicketCache)?,
        allow_clear_quota: settings.switch(Id::AllowClearQuota)?,
        private_headers: PrivateHeaders::forwarding(
            settings.list(Id::ForwardHeader, private_header)?,
        ),
        guard: network::guard(settings, warnings)?,
        recorder: None,
    })
}

/// The place in [`PRIVATE_HEADERS`] of the header called `name`.
fn private_header(name: &str) -> Result<usize, String> {
    let mut all = PRIVATE_HEADERS.iter();
    let place = all.position(|known| known.eq_ignore_ascii_case(name));
    place.ok_or_else(|| {
        let all = PRIVATE_HEADERS.join(", ");
        format!("is none of the headers that stay here ({all}); all others are sent anyway")
    })
}

/// The memory for held bodies, with warnings if it does not fit. `limit` is that of the process.
fn replay_memory(
    settings: &Settings,
    limit: Option<u64>,
    warnings: &mut Vec<String>,
) -> Result<usize, ConfigError> {
    let limit = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    let given = settings.optional(Id::ReplayMemory, parse::size)?;
    warnings.extend(
        [Id::ReplayLimit, Id::ReplayMemory]
            .into_iter()
            .filter_map(|id| bare_size(settings, id)),
    );
    let memory = given.unwrap_or_else(|| MOST_REPLAY_MEMORY.min(limit / 4));
    if settings.value(Id::ReplayLimit, parse::size)? > memory {
        let warning =
            "--replay-limit is larger than --replay-memory: no body that large can be held";
        warnings.push(warning.to_owned());
    }
    if memory.saturating_add(OTHER_MEMORY) > limit {
        warnings.push(format!(
            "the memory limit of this process is {} MiB, and --replay-memory {} MiB: when many bodies are held, the \
             system may end the process; a quarter of the limit is enough, and the default",
            limit >> 20,
            memory >> 20
        ));
    }
    Ok(memory)
}

/// A warning about a size that is a number alone.
fn bare_size(settings: &Settings, id: Id) -> Option<String> {
    let (given, text) = settings.text(id).filter(|(_, text)| *text != "0")?;
    let place = &given.place;
    parse::has_no_unit(text).then(|| {
        format!("{place}: {text} has no unit, and counts as bytes; write one, as KiB or MiB")
    })
}

fn server(settings: &Settings, idle_timeout: Duration) -> Result<server::Options, ConfigError> {
    let workers = settings.optional(Id::Workers, parse::count(MOST_WORKERS))?;
    let cpus = || thread::available_parallelism().map_or(1, |cpus| cpus.get().min(2));
    Ok(server::Options {
        workers: workers.map_or_else(cpus, |workers| workers as usize),
        max_connections: settings.value(Id::MaxConnections, parse::count(MOST_CONNECTIONS))?
            as usize,
        idle_timeout,
        shutdown_grace: settings.value(Id::ShutdownGrace, parse::duration)?,
    })
}

fn upstream(settings: &Settings, idle_timeout: Duration) -> Result<client::Options, ConfigError> {
    Ok(client::Options {
        reply_timeout: settings.value(Id::UpstreamTimeout, parse::duration)?,
        idle_timeout,
        max_connections: settings.value(Id::MaxUpstream, parse::count(MOST_CONNECTIONS))? as usize,
        keep_warm: settings.value(Id::KeepWarm, parse::count_or_none(MOST_WARM))? as usize,
    })
}

fn log(settings: &Settings) -> Result<log::Options, ConfigError> {
    let access = settings.switch(Id::AccessLog)?;
    let part = settings.value(Id::AccessLogSample, parse::part)?;
    Ok(log::Options {
        json: settings.choice(Id::LogFormat, &[("plain", false), ("json", true)])?,
        levels: settings.value(Id::LogLevel, |text| {
            log::parse(text).map_err(|error| error.to_string())
        })?,
        access: access.then_some(part),
    })
}

#[cfg(test)]
mod tests;
