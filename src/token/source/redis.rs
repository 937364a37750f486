//! A Redis as the store that replicas share tokens in. The only file that knows the redis crate.
//!
//! A connection carries the commands of all accounts at once. It is made when it is needed, with the
//! credentials as they then are, and given up at the first sign of trouble.

mod answer;
mod keys;

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
use answer::{is_lost, said};
pub use keys::{Format, Keys};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_millis(500);

/// How long it may take to connect, TLS and log-in included.
const CONNECT: Duration = Duration::from_secs(1);

/// How long a step may take in all, the wait for others' connecting included.
const STEP: Duration = Duration::from_millis(1500);

/// Where a Redis is, and how to speak to it.
#[derive(Clone)]
pub struct Options {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The number of its database.
    pub database: i64,
    /// Whom to trust, where it speaks TLS.
    pub tls: Option<TlsRoots>,
    /// `user:password`, or a password alone.
    pub credentials: Option<Arc<SecretSource>>,
    /// How tokens are written.
    pub format: Format,
    /// What keys begin with, instead of what the format says.
    pub prefix: Option<String>,
}

/// A Redis, for all accounts.
pub struct Redis {
    options: Options,
    connection: Mutex<RedisConnection>,
}

#[derive(Default)]
struct RedisConnection {
    /// The one in use, and its number.
    made: Option<MultiplexedConnection>,
    number: u64,
    /// When connecting failed the last time, and how.
    failed: Option<(Instant, StoreError)>,
}

impl Redis {
    /// Not connected yet.
    pub fn new(options: Options) -> Arc<Self> {
        Arc::new(Self {
            options,
            connection: Mutex::default(),
        })
    }

    /// The place of an account's token; `id` tells it from others of its kind and AppID.
    pub fn slot(self: &Arc<Self>, kind: Api, appid: &str, id: &str) -> TokenSlot {
        let keys = Keys::of_token(self.options.format, self.prefix(), kind, appid, id);
        self.at(keys)
    }

    /// The place of something else that an account has one of, such as a ticket: always in this
    /// program's own format.
    pub fn place_of(self: &Arc<Self>, kind: Api, appid: &str, id: &str, what: &str) -> TokenSlot {
        let prefix = self.prefix().filter(|_| self.options.format == Format::Own);
        self.at(Keys::own(prefix, kind, appid, id, what))
    }

    fn prefix(&self) -> Option<&str> {
        self.options.prefix.as_deref()
    }

    fn at(self: &Arc<Self>, keys: Keys) -> TokenSlot {
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
            let answer = call.invoke_async(&mut connection).await;
            if let Err(error) = &answer
                && is_lost(error)
            {
                self.drop_connection(number).await;
            }
            answer.map_err(|error| said(&error))
        };
        let slow = || StoreError("it does not answer in time".to_owned());
        timeout(STEP, step).await.unwrap_or_else(|_| Err(slow()))
    }

    /// The connection, made if there is none. `since`: who waited while it could not be made is told
    /// so, and does not try again.
    async fn connected(&self, since: Instant) -> Result<(u64, MultiplexedConnection), StoreError> {
        let mut connection = self.connection.lock().await;
        if let Some(made) = &connection.made {
            return Ok((connection.number, made.clone()));
        }
        if let Some((at, error)) = &connection.failed
            && *at > since
        {
            return Err(error.clone());
        }
        let slow = || StoreError("it cannot be connected to in time".to_owned());
        let made = timeout(CONNECT, self.connect()).await;
        match made.unwrap_or_else(|_| Err(slow())) {
            Ok(made) => {
                connection.number += 1;
                connection.made = Some(made.clone());
                Ok((connection.number, made))
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
            connection.made = None;
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, StoreError> {
        let Options {
            host, port, tls, ..
        } = &self.options;
        let refused = |error: std::io::Error| {
            StoreError(format!("it cannot be connected to: {}", error.kind()))
        };
        let stream = TcpStream::connect((host.as_str(), *port)).await;
        let stream = stream.map_err(refused)?;
        // A command is one small packet.
        let _ = stream.set_nodelay(true);
        match tls {
            None => self.log_in(stream).await,
            Some(trust) => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| StoreError("its name is none that TLS can check".to_owned()))?;
                let connector = TlsConnector::from(trust.config().clone());
                let failed = |error| StoreError(format!("TLS with it failed: {error}"));
                let stream = connector.connect(name, stream).await.map_err(failed)?;
                self.log_in(stream).await
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
            let _ = timeout(CONNECT / 4, spawn_blocking(move || reread.reread())).await;
            let held = source.held();
            info = match held.expose().split_once(':') {
                Some((user, password)) => info.set_username(user).set_password(password),
                None => info.set_password(held.expose()),
            };
        }
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER));
        let made = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (connection, driver) = made.map_err(|error| said(&error))?;
        tokio::spawn(driver);
        Ok(connection)
    }
}

/// Where one token is.
#[derive(Clone)]
pub struct TokenSlot {
    redis: Arc<Redis>,
    keys: Keys,
}

/// A script, made once.
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

/// What `read.lua` answers: the token, its life in milliseconds, a note, and whether there is a lease.
type ReadReply = (Option<Vec<u8>>, i64, Option<Vec<u8>>, bool);

impl Store for TokenSlot {
    async fn read(&self) -> Result<StoreState, StoreError> {
        let asked = Instant::now();
        let (token, lives, note, leased): ReadReply =
            self.run(script!("redis/read.lua"), &[]).await?;
        let lives = Duration::from_millis(u64::try_from(lives).unwrap_or(0));
        // It was read some time between then and now.
        let lives = lives.saturating_sub(asked.elapsed());
        let token = match token {
            Some(written) => Some(StoredToken {
                value: self.keys.format.read(&written)?,
                lives,
            }),
            None => None,
        };
        let note = note.and_then(|text| keys::read_note(&text));
        Ok(StoreState {
            token,
            note,
            leased,
        })
    }

    async fn acquire(&self, owner: &LeaseId, length: Duration) -> Result<bool, StoreError> {
        let arguments = [owner.as_str().as_bytes(), &millis(length)];
        self.run(script!("redis/take.lua"), &arguments).await
    }

    async fn begin_fetch(&self, owner: &LeaseId) -> Result<Option<FetchGrant>, StoreError> {
        let asked = Instant::now();
        let arguments = [owner.as_str().as_bytes()];
        let (left, fetches): (i64, u32) = self.run(script!("redis/ready.lua"), &arguments).await?;
        let left = u64::try_from(left).ok().map(Duration::from_millis);
        Ok(left.map(|left| FetchGrant {
            left: left.saturating_sub(asked.elapsed()),
            fetches,
        }))
    }

    async fn refund(&self, owner: &LeaseId) -> Result<(), StoreError> {
        let arguments = [owner.as_str().as_bytes()];
        self.run(script!("redis/uncount.lua"), &arguments).await
    }

    async fn compare_and_set(
        &self,
        owner: Option<&LeaseId>,
        seen: Option<&Secret>,
        token: &StoredToken,
    ) -> Result<SetOutcome, StoreError> {
        let format = self.keys.format;
        let (seen, written) = (
            seen.map(|seen| format.written(seen)),
            format.written(&token.value),
        );
        let arguments = [
            owner.map_or("", LeaseId::as_str).as_bytes(),
            seen.as_ref().map_or("", |seen| seen.expose()).as_bytes(),
            written.expose().as_bytes(),
            &millis(token.lives),
        ];
        let done: u8 = self.run(script!("redis/put.lua"), &arguments).await?;
        Ok(match done {
            0 => SetOutcome::Done,
            1 => SetOutcome::Changed,
            _ => SetOutcome::NotLeased,
        })
    }

    async fn publish(&self, note: &Note, length: Duration) -> Result<(), StoreError> {
        let note = keys::written_note(note);
        let arguments = [note.as_bytes(), &millis(length)];
        self.run(script!("redis/leave.lua"), &arguments).await
    }

    async fn release(&self, owner: &LeaseId) -> Result<(), StoreError> {
        let arguments = [owner.as_str().as_bytes()];
        self.run(script!("redis/release.lua"), &arguments).await
    }

    async fn heartbeat(&self, replica: &LeaseId) -> Result<u32, StoreError> {
        let arguments = [replica.as_str().as_bytes(), &millis(HEARTBEAT_TTL)];
        self.run(script!("redis/attend.lua"), &arguments).await
    }

    fn ttl_skew(&self) -> Duration {
        self.keys.format.ttl_skew()
    }
}

/// Redis takes no life of 0 ms.
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
        f.debug_struct("Place").finish_non_exhaustive()
    }
}
