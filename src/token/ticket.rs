//! Tickets, which sign pages and cards. They are cached like tokens, but with lifetimes of our own.
//!
//! WeChat claims a lifetime of 7200 s even for an old ticket, returns the same one until it expires, and does not revoke
//! it with the token. So the age of the first ticket after a start is unknown. Apps are told a short lifetime, and WeChat
//! is asked every few minutes, until another ticket comes. The age of that one is known: it was created between two
//! requests. All of this happens only as long as somebody asks for the ticket.
//!
//! <https://developers.weixin.qq.com/doc/service/guide/h5/jssdk.html> and, for WeCom,
//! <https://developer.work.weixin.qq.com/document/path/90506>.

mod source;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use arc_swap::ArcSwap;
use tokio::time::Duration;

use source::{AccountTicketSource, TicketSource, without_token};
pub use source::{TicketClient, fetched};

use super::{
    Expiry, Token,
    keeper::{
        self, Keeper, NoToken,
        schedule::{LOW, Renewal},
    },
    source::{
        TokenError,
        redis::{KeyParts, Redis},
        shared::Shared,
    },
};
use crate::{metrics::Ticket, wechat::api::Api};

/// Fetches of a ticket by all replicas in a day. Above this, it is renewed only shortly before it expires.
const DAILY_FETCHES: u32 = 50;

/// How long a call waits for a renewal in flight if little is left of the ticket's lifetime.
const RENEWAL_WAIT: Duration = Duration::from_millis(1500);

/// The tickets of one account. Each is fetched when it is first asked for.
pub struct Tickets {
    client: Arc<TicketClient>,
    cached: Vec<(Ticket, Arc<CachedTicket>)>,
}

/// A ticket, and the account whose token fetches it.
struct CachedTicket {
    keeper: Arc<Keeper<TicketSource>>,
    client: Arc<ArcSwap<TicketClient>>,
}

/// The host of the public WeCom.
const PUBLIC_WECOM: &str = "https://qyapi.weixin.qq.com:443";

/// The corp tickets. All accounts of a corp share one.
#[derive(Debug, Default)]
pub struct Corps(Mutex<HashMap<CorpKey, Weak<CachedTicket>>>);

/// The corp, and the prefix of its keys in the store.
type CorpKey = (String, Option<String>);

impl Tickets {
    /// The tickets of the account `id`. A call waits up to `patience` for one. Replicas share them in
    /// `store`. Fetches run on the current runtime.
    pub fn new(
        client: TicketClient,
        id: &str,
        corps: &Corps,
        store: Option<&Arc<Redis>>,
        patience: Duration,
    ) -> Self {
        let client = Arc::new(client);
        let tickets: &[Ticket] = match client.api {
            Api::Wechat => &[Ticket::Jsapi, Ticket::Card, Ticket::Sdk],
            Api::Wecom => &[Ticket::Corp, Ticket::Agent],
        };
        let cached = |ticket: &Ticket| match ticket {
            Ticket::Corp => corps.get_or_create(&client, store, patience),
            Ticket::Jsapi | Ticket::Card | Ticket::Sdk | Ticket::Agent => {
                Arc::new(CachedTicket::new(*ticket, id, &client, store, patience))
            }
        };
        let cached = tickets
            .iter()
            .map(|ticket| (*ticket, cached(ticket)))
            .collect();
        Self { client, cached }
    }

    /// The ticket that a call to `path` asks for, if it is cached here. `types` are the values of the
    /// call's parameter `type`.
    pub fn requested(&self, path: &[u8], types: impl Iterator<Item = String>) -> Option<Ticket> {
        requested(self.client.api, path, types)
    }

    /// Whether `ticket` is cached and fresh, so that a call need not wait for it.
    pub fn holds(&self, ticket: Ticket) -> bool {
        let current = self.find(ticket).and_then(|cached| cached.keeper.in_hand());
        current.is_some_and(|current| current.is_fresh())
    }

    /// Returns the ticket. Waits if there is none, and for a moment if it expires soon and is being renewed.
    pub async fn get(&self, ticket: Ticket) -> Result<Arc<Token>, NoToken> {
        let cached = self.find(ticket).ok_or(NoToken {
            error: TokenError::Panicked,
            retry_after: Duration::ZERO,
        })?;
        let current = cached.keeper.in_hand().filter(|ticket| ticket.is_alive());
        if current.is_none() {
            // Get the token before taking a lease, for which other replicas would wait.
            self.client.keeper.token().await.map_err(without_token)?;
        }
        // Of several accounts of a corp, the one in use has a working token.
        cached.client.store(self.client.clone());
        cached.keeper.renew_if_due();
        let result = cached.keeper.token().await;
        let result = match result {
            Ok(ticket) if expires_soon(&ticket) => {
                cached.keeper.wait_for_fetch(RENEWAL_WAIT).await;
                let newest = cached.keeper.in_hand().filter(|newest| newest.is_alive());
                Ok(newest.unwrap_or(ticket))
            }
            result => result,
        };
        let has_token = || {
            let token = self.client.keeper.in_hand();
            token.is_some_and(|token| token.is_alive())
        };
        match &result {
            // There was no token for the request, but now there is one.
            Err(none) if matches!(none.error, TokenError::WithoutToken(_)) && has_token() => {
                cached.keeper.try_again();
                cached.keeper.token().await
            }
            _ => result,
        }
    }

    /// The status of each ticket that was ever asked for.
    pub fn status(&self) -> impl Iterator<Item = (Ticket, keeper::Status)> {
        let status =
            |(ticket, cached): &(Ticket, Arc<CachedTicket>)| (*ticket, cached.keeper.status());
        self.cached
            .iter()
            .map(status)
            .filter(|(_, status)| status.tried)
    }

    fn find(&self, ticket: Ticket) -> Option<&Arc<CachedTicket>> {
        let found = self.cached.iter().find(|(other, _)| *other == ticket);
        found.map(|(_, cached)| cached)
    }
}

fn requested(api: Api, path: &[u8], mut types: impl Iterator<Item = String>) -> Option<Ticket> {
    let mut only = || types.next().filter(|_| types.next().is_none());
    let ticket = match (api, path) {
        (Api::Wechat, b"/cgi-bin/ticket/getticket") => match only()?.as_str() {
            "jsapi" => Ticket::Jsapi,
            "wx_card" => Ticket::Card,
            "2" => Ticket::Sdk,
            _ => return None,
        },
        (Api::Wecom, b"/cgi-bin/get_jsapi_ticket") => Ticket::Corp,
        (Api::Wecom, b"/cgi-bin/ticket/get") if only()? == "agent_config" => Ticket::Agent,
        _ => return None,
    };
    Some(ticket)
}

/// The `expires_in` that an app is told, in seconds: the remaining lifetime, but at most a quarter of the lifetime if the
/// ticket may expire at any time.
pub fn expires_in(ticket: &Token) -> u64 {
    let remaining = ticket.remaining();
    let told = match ticket.expiry() {
        Expiry::Known => remaining,
        Expiry::Unknown => remaining.min(ticket.lifetime() / 4).min(LOW),
    };
    told.as_secs().max(1)
}

/// Whether a renewal would help an app: SDKs subtract a margin from what they are told, and fail if nothing is left.
fn expires_soon(ticket: &Token) -> bool {
    ticket.expiry() == Expiry::Known && ticket.remaining() < LOW
}

/// Counts that the machine was suspended for `time`, for all tickets of some accounts.
pub fn suspended<'a>(all: impl Iterator<Item = &'a Tickets>, time: Duration) {
    // A corp's ticket is in several accounts.
    let mut counted = HashSet::new();
    for (_, cached) in all.flat_map(|tickets| &tickets.cached) {
        if counted.insert(Arc::as_ptr(cached)) {
            cached.keeper.suspended(time);
        }
    }
}

impl Corps {
    fn get_or_create(
        &self,
        client: &Arc<TicketClient>,
        store: Option<&Arc<Redis>>,
        patience: Duration,
    ) -> Arc<CachedTicket> {
        let mut corps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        corps.retain(|_, cached| cached.strong_count() > 0);
        // The same corpid at another deployment is another corp.
        let (corpid, hosts) = (&client.appid, client.client.hosts());
        let id = match &*hosts {
            PUBLIC_WECOM => corpid.clone(),
            hosts => format!("{corpid}@{hosts}"),
        };
        // Replicas share it under the key that each of the accounts says.
        let key = (id.clone(), client.store_prefix.clone());
        if let Some(cached) = corps.get(&key).and_then(Weak::upgrade) {
            return cached;
        }
        let cached = Arc::new(CachedTicket::new(
            Ticket::Corp,
            &id,
            client,
            store,
            patience,
        ));
        corps.insert(key, Arc::downgrade(&cached));
        cached
    }
}

impl CachedTicket {
    /// `id` is the id of the account, or of the corp.
    fn new(
        ticket: Ticket,
        id: &str,
        client: &Arc<TicketClient>,
        store: Option<&Arc<Redis>>,
        patience: Duration,
    ) -> Self {
        let options = keeper::Options {
            renewal: Renewal::Ticket,
            retry_same_token: false,
            // No refusal causes a fetch of a ticket.
            daily_fetches: u32::MAX,
            patience,
        };
        let metrics = client.metrics.clone();
        let latest = Arc::new(ArcSwap::new(client.clone()));
        let source = AccountTicketSource {
            ticket,
            client: latest.clone(),
        };
        let source = match store {
            None => TicketSource::Unshared(source),
            Some(redis) => {
                let what = format!("ticket:{}", ticket.label());
                let parts = KeyParts {
                    api: client.api,
                    appid: &client.appid,
                    id,
                    prefix: client.store_prefix.as_deref(),
                };
                let slot = redis.ticket_slot(parts, &what);
                TicketSource::Shared(Box::new(Shared::new(
                    source,
                    slot,
                    DAILY_FETCHES,
                    metrics.clone(),
                )))
            }
        };
        Self {
            keeper: Keeper::new(source, options, metrics),
            client: latest,
        }
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl fmt::Debug for CachedTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedTicket").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
