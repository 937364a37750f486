//! A Redis server as the store in which replicas share tokens. Only this folder uses the redis crate.

mod connection;
mod format;
mod keys;
mod reply_error;
mod script;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use redis::{FromRedisValue, aio::MultiplexedConnection};
use tokio::time::{Duration, Instant};

use super::store::{
    FetchGrant, ForeignValue, HEARTBEAT_TTL, LeaseId, Note, SetOutcome, Store, StoreError,
    StoreState, StoredToken, ValueForm,
};
use crate::{
    net::{dns::Resolver, tls::TlsRoots},
    secret::Secret,
    token::Expiry,
};
pub use connection::Credentials;
use connection::RedisConnection;
use format::Decoded;
pub use format::Format;
pub use keys::{KeyParts, Keys};
pub use script::COMMANDS;
use script::StoreScript;

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
    /// How to log in, if it asks for that.
    pub credentials: Option<Credentials>,
    /// The format of tokens and keys.
    pub format: Format,
    /// The prefix of keys, instead of the format's own.
    pub prefix: Option<String>,
}

/// A Redis server, which all accounts use.
pub struct Redis {
    options: Options,
    connection: RedisConnection,
}

impl Redis {
    /// The server of `options`, whose name is resolved by `dns`. It is not connected yet.
    pub fn new(options: Options, dns: Resolver) -> Arc<Self> {
        Arc::new(Self {
            options,
            connection: RedisConnection::new(dns),
        })
    }

    /// The slot of the token of the account that `parts` describe.
    pub fn slot(self: &Arc<Self>, parts: KeyParts<'_>) -> TokenSlot {
        let parts = self.with_prefix(parts);
        self.with_keys(Keys::of_token(self.options.format, parts))
    }

    /// The slot of something else that an account has, such as a ticket. It always has this program's own
    /// format.
    pub fn ticket_slot(self: &Arc<Self>, parts: KeyParts<'_>, what: &str) -> TokenSlot {
        let mut parts = self.with_prefix(parts);
        if self.options.format != Format::Own {
            // That prefix is for the keys of another program.
            parts.prefix = None;
        }
        self.with_keys(Keys::own(parts, what))
    }

    /// `parts` with the common prefix, unless they have their own.
    fn with_prefix<'a>(&'a self, parts: KeyParts<'a>) -> KeyParts<'a> {
        let prefix = parts.prefix.or(self.options.prefix.as_deref());
        KeyParts { prefix, ..parts }
    }

    fn with_keys(self: &Arc<Self>, keys: Keys) -> TokenSlot {
        TokenSlot {
            redis: self.clone(),
            keys,
            has_placeholder: Arc::default(),
        }
    }
}

/// The keys of one token in a Redis server.
#[derive(Clone)]
pub struct TokenSlot {
    redis: Arc<Redis>,
    keys: Keys,
    /// Whether the last look found a placeholder in the token's place.
    has_placeholder: Arc<AtomicBool>,
}

impl TokenSlot {
    async fn run<T: FromRedisValue>(
        &self,
        script: &'static StoreScript,
        arguments: &[&[u8]],
    ) -> Result<T, StoreError> {
        let redis = &self.redis;
        let step = async |mut connection: MultiplexedConnection| {
            let mut call = script.get().prepare_invoke();
            for key in self.keys.all() {
                call.key(key);
            }
            for argument in arguments {
                call.arg(*argument);
            }
            call.invoke_async(&mut connection).await
        };
        let run = redis.connection.run(&redis.options, script.text, step);
        run.await
    }

    /// Counts a forced refresh, of which there are at most `most` in 24 hours. If there is no room, it counts none, and
    /// returns in how long there is some.
    pub(super) async fn count_forced(&self, most: u32) -> Result<Option<Duration>, StoreError> {
        let most = most.to_string();
        let wait: u64 = self.run(&script::COUNT_FORCED, &[most.as_bytes()]).await?;
        Ok((wait > 0).then(|| Duration::from_millis(wait)))
    }

    /// Reads what is under the token's key.
    fn decode(
        &self,
        kind: String,
        written: Option<Vec<u8>>,
    ) -> Result<Option<(Secret, Expiry)>, StoreError> {
        let mut expiry = Expiry::Known;
        let decoded = match (kind.as_str(), written) {
            ("none", _) | ("string", None) => None,
            ("string", Some(written)) => {
                let (bytes, is_known) = self.keys.expiry_of(&written);
                expiry = is_known;
                Some(self.keys.format().decode(bytes))
            }
            (_, _) => Some(Decoded::Foreign(ValueForm::OtherType(kind))),
        };
        let is_placeholder = matches!(decoded, Some(Decoded::Placeholder));
        if is_placeholder && !self.has_placeholder.swap(is_placeholder, Ordering::Relaxed) {
            tracing::warn!(
                key = self.keys.token(),
                "the store held a placeholder of the sidecar's in the token's place, and the next token \
                 replaces it: an app's SDK cached it there. Give that SDK another prefix or key, or \
                 set --token-endpoint real"
            );
        }
        self.has_placeholder
            .store(is_placeholder, Ordering::Relaxed);
        match decoded {
            None | Some(Decoded::Placeholder) => Ok(None),
            Some(Decoded::Token(token)) => Ok(Some((token, expiry))),
            Some(Decoded::Foreign(form)) => Err(StoreError::ForeignValue(ForeignValue {
                key: self.keys.token().to_owned(),
                form,
            })),
        }
    }
}

/// The reply of `read.lua`: the type of the token's key, the token, its lifetime in milliseconds, a note, and
/// whether there is a lease.
type ReadReply = (String, Option<Vec<u8>>, i64, Option<Vec<u8>>, bool);

impl Store for TokenSlot {
    async fn read(&self) -> Result<StoreState, StoreError> {
        let started = Instant::now();
        let (kind, written, remaining, note, leased): ReadReply =
            self.run(&script::READ, &[]).await?;
        let remaining = Duration::from_millis(u64::try_from(remaining).unwrap_or(0));
        // Redis read the lifetime at some time since the request was sent.
        let remaining = remaining.saturating_sub(started.elapsed());
        let token = self.decode(kind, written)?;
        let token = token.map(|(value, expiry)| StoredToken {
            value,
            remaining,
            expiry,
        });
        let note = note.and_then(|text| keys::decode_note(&text));
        Ok(StoreState {
            token,
            note,
            leased,
        })
    }

    async fn acquire(&self, owner: &LeaseId, length: Duration) -> Result<bool, StoreError> {
        let arguments = [owner.as_str().as_bytes(), &millis(length)];
        self.run(&script::ACQUIRE, &arguments).await
    }

    async fn begin_fetch(&self, owner: &LeaseId) -> Result<Option<FetchGrant>, StoreError> {
        let started = Instant::now();
        let arguments = [owner.as_str().as_bytes()];
        let (left, fetches): (i64, u32) = self.run(&script::BEGIN_FETCH, &arguments).await?;
        let left = u64::try_from(left).ok().map(Duration::from_millis);
        Ok(left.map(|left| FetchGrant {
            left: left.saturating_sub(started.elapsed()),
            fetches,
        }))
    }

    async fn refund(&self, owner: &LeaseId) -> Result<(), StoreError> {
        let arguments = [owner.as_str().as_bytes()];
        self.run(&script::REFUND, &arguments).await
    }

    async fn compare_and_set(
        &self,
        owner: Option<&LeaseId>,
        seen: Option<&Secret>,
        token: &StoredToken,
    ) -> Result<SetOutcome, StoreError> {
        let format = self.keys.format();
        let (seen, written) = (
            seen.map(|seen| format.encode(seen)),
            self.keys.encode(token),
        );
        let placeholder = format.placeholder();
        let arguments = [
            owner.map_or("", LeaseId::as_str).as_bytes(),
            seen.as_ref().map_or("", |seen| seen.expose()).as_bytes(),
            written.expose().as_bytes(),
            &millis(token.remaining),
            placeholder.as_bytes(),
        ];
        let done: u8 = self.run(&script::COMPARE_AND_SET, &arguments).await?;
        Ok(match done {
            0 => SetOutcome::Done,
            1 => SetOutcome::Changed,
            _ => SetOutcome::NotLeased,
        })
    }

    async fn publish(&self, note: &Note, length: Duration) -> Result<(), StoreError> {
        let note = keys::encode_note(note);
        let arguments = [note.as_bytes(), &millis(length)];
        self.run(&script::PUBLISH, &arguments).await
    }

    async fn release(&self, owner: &LeaseId) -> Result<(), StoreError> {
        let arguments = [owner.as_str().as_bytes()];
        self.run(&script::RELEASE, &arguments).await
    }

    async fn is_locked_elsewhere(&self) -> Result<bool, StoreError> {
        let Some(lock) = self.keys.foreign_lock() else {
            return Ok(false);
        };
        let redis = &self.redis;
        let step = async |mut connection: MultiplexedConnection| {
            let mut command = redis::cmd("EXISTS");
            command.arg(lock).query_async(&mut connection).await
        };
        redis.connection.run(&redis.options, "", step).await
    }

    async fn heartbeat(&self, replica: &LeaseId) -> Result<u32, StoreError> {
        let arguments = [replica.as_str().as_bytes(), &millis(HEARTBEAT_TTL)];
        self.run(&script::HEARTBEAT, &arguments).await
    }

    fn ttl_skew(&self) -> Duration {
        self.keys.format().ttl_skew()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wechat::api::Api;

    #[test]
    fn an_accounts_own_prefix_comes_before_the_common_one() {
        let redis = |format, prefix: Option<&str>| {
            let options = Options {
                host: String::new(),
                port: 0,
                database: 0,
                tls: None,
                credentials: None,
                format,
                prefix: prefix.map(str::to_owned),
            };
            Redis::new(options, Resolver::new(None))
        };
        let parts = |prefix| KeyParts {
            api: Api::Wechat,
            appid: "wx1",
            id: "wx1",
            prefix,
        };
        let wxjava = redis(Format::Wxjava, Some("p"));
        let key = |slot: TokenSlot| slot.keys.token().to_owned();
        assert_eq!(key(wxjava.slot(parts(None))), "p:access_token:wx1");
        assert_eq!(key(wxjava.slot(parts(Some("wa")))), "wa:access_token:wx1");
        // These are beside the keys of the other program.
        let ticket = key(wxjava.ticket_slot(parts(Some("wa")), "ticket:jsapi"));
        assert_eq!(ticket, "wechat-sidecar:{wechat:wx1}:ticket:jsapi");
        let own = redis(Format::Own, None);
        let ticket = key(own.ticket_slot(parts(Some("a")), "ticket:jsapi"));
        assert_eq!(ticket, "a:{wechat:wx1}:ticket:jsapi");
    }
}
