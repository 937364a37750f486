//! Tickets, which sign pages and cards. They are cached like tokens, but with lifetimes of our own.
//!
//! WeChat claims a lifetime of 7200 s even for an old ticket, returns the same one until it expires, and does not revoke
//! it with the token. So the age of the first ticket after a start is unknown. Apps are told a short lifetime, and WeChat
//! is asked every few minutes, until another ticket comes. The age of that one is known: it was created between two
//! requests. All of this happens only as long as somebody asks for the ticket.
//!
//! <https://developers.weixin.qq.com/doc/service/guide/h5/jssdk.html> and, for WeCom,
//! <https://developer.work.weixin.qq.com/document/path/90506>.

mod pool;
mod source;

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::time::Duration;

use pool::CachedTicket;
pub use pool::TicketPool;
use source::without_token;
pub use source::{TicketClient, fetched};

use super::{
    Expiry, Token,
    keeper::{self, NoToken, schedule::LOW},
    source::TokenError,
};
use crate::{metrics::Ticket, shared_limit::Forgets, wechat::api::Api};

/// How long a call waits for a renewal in flight if little is left of the ticket's lifetime.
const RENEWAL_WAIT: Duration = Duration::from_millis(1500);

/// The tickets of one account. Each is made when it is first asked for.
pub struct Tickets {
    client: Arc<TicketClient>,
    id: Box<str>,
    pool: Arc<TicketPool>,
    /// Those that were asked for, the oldest first.
    cached: Mutex<Vec<(Ticket, Arc<CachedTicket>)>>,
    this: Weak<Self>,
}

impl Tickets {
    /// The tickets of the account `id`. Fetches run on the current runtime.
    pub fn new(client: TicketClient, id: &str, pool: Arc<TicketPool>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            client: Arc::new(client),
            id: id.into(),
            pool,
            cached: Mutex::default(),
            this: this.clone(),
        })
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
        let cached = self.find_or_make(ticket);
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
        let mut cached = self.lock().clone();
        cached.sort_by_key(|(ticket, _)| *ticket as usize);
        let status = cached
            .into_iter()
            .map(|(ticket, cached)| (ticket, cached.keeper.status()));
        status.filter(|(_, status)| status.tried)
    }

    fn find(&self, ticket: Ticket) -> Option<Arc<CachedTicket>> {
        let cached = self.lock();
        let found = cached.iter().find(|(other, _)| *other == ticket);
        found.map(|(_, cached)| cached.clone())
    }

    fn find_or_make(&self, ticket: Ticket) -> Arc<CachedTicket> {
        let mut cached = self.lock();
        if let Some((_, found)) = cached.iter().find(|(other, _)| *other == ticket) {
            return found.clone();
        }
        let made = self.pool.make(ticket, &self.id, &self.client);
        cached.push((ticket, made.clone()));
        drop(cached);
        self.pool.limit.remembered(self.this.clone());
        made
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Ticket, Arc<CachedTicket>)>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Forgets for Tickets {
    fn forget_oldest(&self) {
        let mut cached = self.lock();
        if !cached.is_empty() {
            cached.remove(0);
        }
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
    for (_, cached) in all.flat_map(|tickets| tickets.lock().clone()) {
        if counted.insert(Arc::as_ptr(&cached)) {
            cached.keeper.suspended(time);
        }
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
