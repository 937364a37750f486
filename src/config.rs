//! Flags, environment and file, checked, as the options of everyone above.
//!
//! The layers are gathered first, each value with its place; then each module's options are read
//! from them. The first mistake ends the reading, as a sentence for the operator.

mod account_table;
mod account_upstreams;
mod accounts;
mod admin;
pub(crate) mod error;
mod file;
pub mod keys;
mod layers;
mod network;
mod secrets;
mod settings;
mod store;
mod token_source;

use std::{
    ffi::OsString,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    thread,
};

use tokio::time::Duration;

pub use account_table::keys as account_keys;
pub use admin::AdminPort;
pub use error::{ConfigError, Provenance};
use keys::Id;
use layers::{Gathered, Reading};
use settings::Settings;

use crate::{
    account, client, log,
    net::connector::ConnectOptions,
    proxy::{self, TokenEndpoint},
    server,
    settings::parse,
    token::source::redis,
};

/// What was said before anything is read: the command line and the environment.
#[derive(Clone, Default)]
pub struct Sources {
    /// Keys given as flags, with their values.
    pub flags: Vec<(Id, Vec<String>)>,
    /// The environment's names and values. Those that are not of this program are ignored.
    pub env: Vec<(String, String)>,
}

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose calls are served.
    pub accounts: Vec<account::Options>,
    /// Where apps connect to.
    pub listen: Vec<server::ListenAddr>,
    /// Where health, metrics and status are.
    pub admin: SocketAddr,
    /// Whether `POST /shutdown` works.
    pub enable_shutdown: bool,
    /// Where replicas share tokens.
    pub store: Option<redis::Options>,
    /// How WeChat is connected.
    pub connect: ConnectOptions,
    /// Connections to WeChat; `max_connections` is that of all workers together.
    pub upstream: client::Options,
    /// The life of a call.
    pub proxy: proxy::Options,
    /// What all held bodies together may take, in bytes.
    pub replay_memory: usize,
    /// Connections of apps.
    pub server: server::Options,
    /// How long to go on accepting calls when told to stop.
    pub shutdown_delay: Duration,
    /// How long a call waits for a token when there is none.
    pub token_wait: Duration,
    /// How log lines look, and which are written.
    pub log: log::Options,
    /// Sentences about what is allowed but unwise.
    pub warnings: Vec<String>,
    /// What was read, to be read again.
    sources: Sources,
    reading: Reading,
}

const TOKEN_WAIT: Duration = Duration::from_secs(15);
const MOST_CONNECTIONS: u32 = 1_000_000;

/// More connections than these are not kept open for nobody.
const MOST_WARM: u32 = 64;
const MOST_WORKERS: u32 = 256;

impl Sources {
    /// `flags` and this process's environment, of which a variable of ours that is not Unicode is
    /// an error.
    pub fn of_process(flags: Vec<(Id, Vec<String>)>) -> Result<Self, ConfigError> {
        let env = our_variables().map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(ConfigError::new(
                Provenance::Variable(name),
                "its value is not Unicode",
            )),
        });
        let env = env.collect::<Result<_, _>>()?;
        Ok(Self { flags, env })
    }

    /// The same for who needs a few keys alone: what is wrong with other variables is not looked at.
    pub fn of_process_lossy(flags: Vec<(Id, Vec<String>)>) -> Self {
        let env = our_variables()
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
            .collect();
        Self { flags, env }
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
        let connect = network::connect(&settings, &mut warnings)?;
        let store = store::store(&settings, &mut warnings)?;
        let accounts = accounts::accounts(&settings, &tables, sources, &connect, &mut warnings)?;
        warnings.extend(store::advise(store.as_ref(), &accounts).map(str::to_owned));
        Ok(Self {
            listen: network::listen(&settings)?,
            admin: network::admin(&settings)?,
            enable_shutdown: settings.switch(Id::EnableShutdown)?,
            proxy: proxy(&settings, &mut warnings)?,
            replay_memory: replay_memory(&settings, &mut warnings)?,
            server: server(&settings, idle_timeout)?,
            upstream: upstream(&settings, idle_timeout)?,
            shutdown_delay: settings.value(Id::ShutdownDelay, parse::pause)?,
            token_wait: TOKEN_WAIT,
            log: log(&settings)?,
            accounts,
            store,
            connect,
            warnings,
            sources: sources.clone(),
            reading: Reading::of(&settings),
        })
    }

    /// Reads and checks everything again, from where it came from.
    pub fn reload(&self) -> Result<Self, ConfigError> {
        Self::load(&self.sources)
    }

    /// The file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.reading.file()
    }

    /// The keys that say something else in `other`, and that are not about accounts: these take
    /// effect when the process starts.
    pub fn fixed_differences(&self, other: &Self) -> Vec<&'static str> {
        self.reading.fixed_differences(&other.reading)
    }

    /// How log lines look, where nothing else of the configuration is of interest.
    pub fn log(sources: &Sources) -> Result<log::Options, ConfigError> {
        log(&layers::gather(sources)?.settings)
    }
}

/// The loopback address in place of one that stands for all.
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
        guard: network::guard(settings, warnings)?,
    })
}

fn replay_memory(settings: &Settings, warnings: &mut Vec<String>) -> Result<usize, ConfigError> {
    let memory = settings.value(Id::ReplayMemory, parse::size)?;
    if settings.value(Id::ReplayLimit, parse::size)? > memory {
        let warning =
            "--replay-limit is larger than --replay-memory: no body that large can be held";
        warnings.push(warning.to_owned());
    }
    Ok(memory)
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
    Ok(log::Options {
        json: settings.choice(Id::LogFormat, &[("plain", false), ("json", true)])?,
        levels: settings.value(Id::LogLevel, |text| {
            log::parse(text).map_err(|error| error.to_string())
        })?,
    })
}

#[cfg(test)]
mod tests;
