//! The connection to Redis: opened on demand with the current credentials, and dropped when the server at its other
//! end is gone or no longer the primary.

use std::{net::SocketAddr, sync::Arc};

use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisResult, aio::MultiplexedConnection};
use rustls::pki_types::ServerName;
use tokio::{
    sync::Mutex,
    time::{Duration, Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::{
    Options,
    reply_error::{Fate, fate, store_error},
};
use crate::{
    net::{dns::Resolver, race, tls},
    secret::{Secret, SecretSource},
    token::{rotation::reread, source::store::StoreError},
};

/// The time limit of a reply.
const REPLY_TIMEOUT: Duration = Duration::from_millis(500);

/// The time limit for connecting, including TLS and log-in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait for new addresses where old ones are known. The name of a primary moves with it, so old ones may
/// lead to another server.
const LOOKUP_TIMEOUT: Duration = Duration::from_millis(750);

/// The time limit of a command or a script, including the wait for a connection that another task opens.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(1500);

/// The pause before connecting again to a name that led to a server that is not the primary. It is shorter than the
/// shortest wait for an unavailable store.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// How to log in.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// `user:password`, or a password alone.
    UserAndPassword(Arc<SecretSource>),
    /// All of it is the password, though it has a colon: AUTH gets one argument. ApsaraDB takes
    /// `account:password` like this.
    OneArgument(Arc<SecretSource>),
}

impl Credentials {
    fn source(&self) -> &Arc<SecretSource> {
        match self {
            Self::UserAndPassword(source) | Self::OneArgument(source) => source,
        }
    }

    /// The user, if there is one, and the password in `held`.
    fn split<'a>(&self, held: &'a Secret) -> (Option<&'a str>, &'a str) {
        let text = held.expose();
        match self {
            Self::OneArgument(_) => (None, text),
            Self::UserAndPassword(_) => match text.split_once(':') {
                Some((user, password)) => (Some(user), password),
                None => (None, text),
            },
        }
    }
}

/// The one connection that carries the commands of all accounts.
pub(super) struct RedisConnection {
    /// Resolves the server's name.
    dns: Resolver,
    link: Mutex<Link>,
}

#[derive(Default)]
struct Link {
    state: LinkState,
    /// How many connections there have been.
    number: u64,
}

#[derive(Default)]
enum LinkState {
    /// There is none, and nothing is known against connecting.
    #[default]
    Closed,
    Open(MultiplexedConnection),
    /// Connecting failed, or led to a server that is not the primary.
    Failed {
        at: Instant,
        retry_at: Instant,
        error: StoreError,
    },
}

impl LinkState {
    fn failed(error: StoreError, pause: Duration) -> Self {
        let at = Instant::now();
        Self::Failed {
            at,
            retry_at: at + pause,
            error,
        }
    }

    /// What a task gets that has waited for the state since `since`; `None` if it may connect.
    fn settled(&self, since: Instant) -> Option<Result<MultiplexedConnection, StoreError>> {
        match self {
            Self::Closed => None,
            Self::Open(open) => Some(Ok(open.clone())),
            Self::Failed {
                at,
                retry_at,
                error,
            } => (*at > since || *retry_at > Instant::now()).then(|| Err(error.clone())),
        }
    }
}

impl RedisConnection {
    /// There is none yet. The server's name is resolved by `dns`.
    pub(super) fn new(dns: Resolver) -> Self {
        let link = Mutex::default();
        Self { dns, link }
    }

    /// Runs `step` on the connection. `script` is what it runs, for errors.
    pub(super) async fn run<T, F>(
        &self,
        options: &Options,
        script: &str,
        step: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let step = async {
            let (number, connection) = self.connected(options, Instant::now()).await?;
            let reply = step(connection).await;
            let (fate, reply) = match reply {
                Ok(reply) => return Ok(reply),
                Err(error) => (fate(&error), store_error(&error, script)),
            };
            match fate {
                Fate::Kept => {}
                Fate::Lost => self.drop_connection(number, LinkState::Closed).await,
                Fate::Demoted => {
                    let state = LinkState::failed(reply.clone(), RECONNECT_PAUSE);
                    self.drop_connection(number, state).await;
                }
            }
            Err(reply)
        };
        let outcome = timeout(COMMAND_TIMEOUT, step).await;
        outcome.unwrap_or(Err(StoreError::NoReply))
    }

    /// Returns the connection, and opens one if there is none. If connecting failed after `since`, while
    /// this task waited, it returns that error instead of trying again.
    async fn connected(
        &self,
        options: &Options,
        since: Instant,
    ) -> Result<(u64, MultiplexedConnection), StoreError> {
        let mut link = self.link.lock().await;
        if let Some(settled) = link.state.settled(since) {
            return Ok((link.number, settled?));
        }
        let opened = timeout(CONNECT_TIMEOUT, connect(options, &self.dns)).await;
        match opened.unwrap_or(Err(StoreError::ConnectTimedOut)) {
            Ok(opened) => {
                link.number += 1;
                link.state = LinkState::Open(opened.clone());
                Ok((link.number, opened))
            }
            Err(error) => {
                link.state = LinkState::failed(error.clone(), Duration::ZERO);
                Err(error)
            }
        }
    }

    async fn drop_connection(&self, number: u64, state: LinkState) {
        let mut link = self.link.lock().await;
        if link.number == number {
            link.state = state;
        }
    }
}

async fn connect(options: &Options, dns: &Resolver) -> Result<MultiplexedConnection, StoreError> {
    let Options { host, port, .. } = options;
    let addresses = dns.resolve_fresh(host, LOOKUP_TIMEOUT).await;
    let addresses = addresses.map_err(|error| StoreError::Resolve(error.to_string()))?;
    let addresses = addresses.iter().map(|ip| SocketAddr::new(*ip, *port));
    let stream = race::connect(dns, addresses.collect()).await;
    let stream = stream.map_err(|error| StoreError::Connect(error.kind()))?;
    // Commands are small packets, which Nagle's algorithm would delay.
    let _ = stream.set_nodelay(true);
    match &options.tls {
        None => log_in(options, stream).await,
        Some(roots) => {
            let name = ServerName::try_from(host.clone()).map_err(|_| StoreError::ServerName)?;
            let connector = TlsConnector::from(roots.config());
            let stream = connector.connect(name, stream).await;
            let stream = stream.map_err(|error| StoreError::Tls(tls::reason(&error)))?;
            log_in(options, stream).await
        }
    }
}

async fn log_in<S>(options: &Options, stream: S) -> Result<MultiplexedConnection, StoreError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut info = RedisConnectionInfo::default()
        .set_db(options.database)
        .set_skip_set_lib_name();
    if let Some(credentials) = &options.credentials {
        // A file on a network may take its time.
        reread(credentials.source(), CONNECT_TIMEOUT / 4).await;
        let held = credentials.source().held();
        let (user, password) = credentials.split(&held);
        info = info.set_password(password);
        if let Some(user) = user {
            info = info.set_username(user);
        }
    }
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(REPLY_TIMEOUT));
    let opened = MultiplexedConnection::new_with_config(&info, stream, config).await;
    let (connection, driver) = opened.map_err(|error| store_error(&error, ""))?;
    tokio::spawn(driver);
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_of_two_forms_of_credentials_has_a_user() {
        let source = |text: &str| Arc::new(SecretSource::fixed(Secret::new(text)));
        let split = |credentials: Credentials| {
            let held = credentials.source().held();
            let (user, password) = credentials.split(&held);
            (user.map(str::to_owned), password.to_owned())
        };
        let pair = split(Credentials::UserAndPassword(source("u:p:q")));
        assert_eq!(pair, (Some("u".to_owned()), "p:q".to_owned()));
        let alone = split(Credentials::UserAndPassword(source("p")));
        assert_eq!(alone, (None, "p".to_owned()));
        let one = split(Credentials::OneArgument(source("u:p:q")));
        assert_eq!(one, (None, "u:p:q".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_demotion_nobody_connects_for_a_moment() {
        let began = Instant::now();
        let demoted = LinkState::failed(StoreError::NoReply, RECONNECT_PAUSE);
        tokio::time::advance(RECONNECT_PAUSE / 2).await;
        assert!(demoted.settled(Instant::now()).is_some());
        tokio::time::advance(RECONNECT_PAUSE).await;
        assert!(demoted.settled(Instant::now()).is_none());
        let failed = LinkState::failed(StoreError::NoReply, Duration::ZERO);
        assert!(failed.settled(began).is_some(), "who waited tries again");
        assert!(failed.settled(Instant::now()).is_none());
    }
}
