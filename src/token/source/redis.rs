//! A Redis server as the store in which replicas share tokens. Only this folder uses the redis crate.
//!
//! One connection carries the commands of all accounts. It is opened on demand with the current
//! credentials, and dropped at the first error.

mod keys;
mod reply_error;

use std::{fmt, sync::Arc};

use redis::{
    AsyncConnectionConfig, FromRedisValue, RedisConnectionInfo, Script, aio::MultiplexedConnection,
};
use rustls::pki_types::ServerName;
use tokio::{
    net::TcpStream,
    sync::Mutex,
    task::spawn_blocking,
    time::{Duration, Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::store::{
    FetchGrant, HEARTBEAT_TTL, LeaseId, Note, SetOutcome, Store, StoreError, StoreState,
    StoredToken,
};
use crate::{
    net::tls::TlsRoots,
    secret::{Secret, SecretSource},
    wechat::api::Api,
};
pub use keys::{Format, Keys};
use reply_error::{is_lost, store_error};

/// The time limit of a reply.
const REPLY_TIMEOUT: Duration = Duration::from_millis(500);

/// The time limit for connecting, including TLS and log-in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The time limit of a script, including the wait for a connection that another task opens.
const SCRIPT_TIMEOUT: Duration = Duration::from_millis(1500);

/// The address of a Redis server, and how to use it.
#[derive(Clone)]
pub struct Options {
    /// Its host name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The number of its database.
    pub database: i64,
    /// The trusted roots, if it uses TLS.
    pub tls: Option<TlsRoots>,
    /// `user:password`, or a password alone.
    pub credentials: Option<Arc<SecretSource>>,
    /// The format of tokens and keys.
    pub format: Format,
    /// The prefix of keys, instead of the format's own.
    pub prefix: Option<String>,
}

/// A Redis server, which all accounts use.
pub struct Redis {
    options: Options,
    connection: Mutex<RedisConnection>,
}

#[derive(Default)]
struct RedisConnection {
    /// The open connection, and its number.
    open: Option<MultiplexedConnection>,
    number: u64,
    /// When connecting failed the last time, and why.
    failed: Option<(Instant, StoreError)>,
}

impl Redis {
    /// The server of `options`. It is not connected yet.
    pub fn new(options: Options) -> Arc<Self> {
        Arc::new(Self {
            options,
            connection: Mutex::default(),
        })
    }

    /// The slot of an account's token. `id` tells it from other accounts with the same API and AppID.
    pub fn slot(self: &Arc<Self>, api: Api, appid: &str, id: &str) -> TokenSlot {
        let keys = Keys::of_token(self.options.format, self.prefix(), api, appid, id);
        self.with_keys(keys)
    }

    /// The slot of something else that an account has, such as a ticket. It always has this program's own
    /// format.
    pub fn ticket_slot(self: &Arc<Self>, api: Api, appid: &str, id: &str, what: &str) -> TokenSlot {
        let prefix = self.prefix().filter(|_| self.options.format == Format::Own);
        self.with_keys(Keys::own(prefix, api, appid, id, what))
    }

    fn prefix(&self) -> Option<&str> {
        self.options.prefix.as_deref()
    }

    fn with_keys(self: &Arc<Self>, keys: Keys) -> TokenSlot {
        let redis = self.clone();
        TokenSlot { redis, keys }
    }

    async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &Keys,
        arguments: &[&[u8]],
    ) -> Result<T, StoreError> {
        let step = async {
            let (number, mut connection) = self.connected(Instant::now()).await?;
            let mut call = script.prepare_invoke();
            for key in keys.all() {
                call.key(key);
            }
            for argument in arguments {
                call.arg(*argument);
            }
            let reply = call.invoke_async(&mut connection).await;
            if let Err(error) = &reply
                && is_lost(error)
            {
                self.drop_connection(number).await;
            }
            reply.map_err(|error| store_error(&error))
        };
        let outcome = timeout(SCRIPT_TIMEOUT, step).await;
        outcome.unwrap_or(Err(StoreError::NoReply))
    }

    /// Returns the connection, and opens one if there is none. If connecting failed after `since`, while
    /// this task waited, it returns that error instead of trying again.
    async fn connected(&self, since: Instant) -> Result<(u64, MultiplexedConnection), StoreError> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = &connection.open {
            return Ok((connection.number, open.clone()));
        }
        if let Some((at, error)) = &connection.failed
            && *at > since
        {
            return Err(error.clone());
        }
        let opened = timeout(CONNECT_TIMEOUT, self.connect()).await;
        match opened.unwrap_or(Err(StoreError::ConnectTimedOut)) {
            Ok(opened) => {
                connection.number += 1;
                connection.open = Some(opened.clone());
                Ok((connection.number, opened))
            }
            Err(error) => {
                connection.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn drop_connection(&self, number: u64) {
        let mut connection = self.connection.lock().await;
        if connection.number == number {
            connection.open = None;
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, StoreError> {
        let Options {
            host, port, tls, ..
        } = &self.options;
        let stream = TcpStream::connect((host.as_str(), *port)).await;
        let stream = stream.map_err(|error| StoreError::Connect(error.kind()))?;
        // Commands are small packets, which Nagle's algorithm would delay.
        let _ = stream.set_nodelay(true);
        match tls {
            None => self.log_in(stream).await,
            Some(roots) => {
                let name =
                    ServerName::try_from(host.clone()).map_err(|_| StoreError::ServerName)?;
                let connector = TlsConnector::from(roots.config().clone());
                let stream = connector.connect(name, stream).await;
                self.log_in(stream.map_err(|error| StoreError::Tls(error.to_string()))?)
                    .await
            }
        }
    }

    async fn log_in<S>(&self, stream: S) -> Result<MultiplexedConnection, StoreError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let mut info = RedisConnectionInfo::default()
            .set_db(self.options.database)
            .set_skip_set_lib_name();
        if let Some(source) = &self.options.credentials {
            let reread = source.clone();
            // A file on a network may take its time.
            let _ = timeout(CONNECT_TIMEOUT / 4, spawn_blocking(move || reread.reread())).await;
            let held = source.held();
            info = match held.expose().split_once(':') {
                Some((user, password)) => info.set_username(user).set_password(password),
                None => info.set_password(held.expose()),
            };
        }
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(REPLY_TIMEOUT));
        let opened = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (connection, driver) = opened.map_err(|error| store_error(&error))?;
        tokio::spawn(driver);
        Ok(connection)
    }
}

/// The keys of one token in a Redis server.
#[derive(Clone)]
pub struct TokenSlot {
    redis: Arc<Redis>,
    keys: Keys,
}

/// A script from a file. Its hash is computed once.
macro_rules! script {
    ($text:literal) => {{
        static SCRIPT: std::sync::LazyLock<Script> =
            std::sync::LazyLock::new(|| Script::new(include_str!($text)));
        &*SCRIPT
    }};
}

impl TokenSlot {
    async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        arguments: &[&[u8]],
    ) -> Result<T, StoreError> {
        self.redis.run(script, &self.keys, arguments).await
    }
}

/// The reply of `read.lua`: the token, its lifetime in milliseconds, a note, and whether there is a lease.
type ReadReply = (Option<Vec<u8>>, i64, Option<Vec<u8>>, bool);

impl Store for TokenSlot {
    async fn read(&self) -> Result<StoreState, StoreError> {
        let started = Instant::now();
        let (token, remaining, note, leased): ReadReply =
            self.run(script!("redis/read.lua"), &[]).await?;
        let remaining = Duration::from_millis(u64::try_from(remaining).unwrap_or(0));
        // Redis read the lifetime at some time since the request was sent.
        let remaining = remaining.saturating_sub(started.elapsed());
        let token = match token {
            Some(written) => {
                let (value, expiry) = self.keys.decode(&written)?;
                Some(StoredToken {
                    value,
                    remaining,
                    expiry,
                })
            }
            None => None,
        };
        let note = note.and_then(|text| keys::decode_note(&text));
        Ok(StoreState {
            token,
            note,
            leased,
        })
    }

    async fn acquire(&self, owner: &LeaseId, length: Duration) -> Result<bool, StoreError> {
        let arguments = [owner.as_str().as_bytes(), &millis(length)];
        self.run(script!("redis/acquire.lua"), &arguments).await
    }

    async fn begin_fetch(&self, owner: &LeaseId) -> Result<Option<FetchGrant>, StoreError> {
        let started = Instant::now();
        let arguments = [owner.as_str().as_bytes()];
        let (left, fetches): (i64, u32) = self
            .run(script!("redis/begin_fetch.lua"), &arguments)
            .await?;
        let left = u64::try_from(left).ok().map(Duration::from_millis);
        Ok(left.map(|left| FetchGrant {
            left: left.saturating_sub(started.elapsed()),
            fetches,
        }))
    }

    async fn refund(&self, owner: &LeaseId) -> Result<(), StoreError> {
        let arguments = [owner.as_str().as_bytes()];
        self.run(script!("redis/refund.lua"), &arguments).await
    }

    async fn compare_and_set(
        &self,
        owner: Option<&LeaseId>,
        seen: Option<&Secret>,
        token: &StoredToken,
    ) -> Result<SetOutcome, StoreError> {
        let format = self.keys.format;
        let (seen, written) = (
            seen.map(|seen| format.encode(seen)),
            self.keys.encode(token),
        );
        let arguments = [
            owner.map_or("", LeaseId::as_str).as_bytes(),
            seen.as_ref().map_or("", |seen| seen.expose()).as_bytes(),
            written.expose().as_bytes(),
            &millis(token.remaining),
        ];
        let done: u8 = self
            .run(script!("redis/compare_and_set.lua"), &arguments)
            .await?;
        Ok(match done {
            0 => SetOutcome::Done,
            1 => SetOutcome::Changed,
            _ => SetOutcome::NotLeased,
        })
    }

    async fn publish(&self, note: &Note, length: Duration) -> Result<(), StoreError> {
        let note = keys::encode_note(note);
        let arguments = [note.as_bytes(), &millis(length)];
        self.run(script!("redis/publish.lua"), &arguments).await
    }

    async fn release(&self, owner: &LeaseId) -> Result<(), StoreError> {
        let arguments = [owner.as_str().as_bytes()];
        self.run(script!("redis/release.lua"), &arguments).await
    }

    async fn heartbeat(&self, replica: &LeaseId) -> Result<u32, StoreError> {
        let arguments = [replica.as_str().as_bytes(), &millis(HEARTBEAT_TTL)];
        self.run(script!("redis/heartbeat.lua"), &arguments).await
    }

    fn ttl_skew(&self) -> Duration {
        self.keys.format.ttl_skew()
    }
}

/// Redis accepts no lifetime of 0 ms.
fn millis(length: Duration) -> Vec<u8> {
    length.as_millis().max(1).to_string().into_bytes()
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

impl fmt::Debug for TokenSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSlot").finish_non_exhaustive()
    }
}
