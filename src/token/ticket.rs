//! Tickets, which pages and cards are signed with: kept like tokens, but by our own clock.
//!
//! WeChat says 7200 s even of a ticket that is old (and forgets to say how old), allows few requests
//! for them, and ends none of them when it ends a token. So a ticket is taken to be as old as we have
//! known it, is renewed after half of what is left, and only as long as somebody asks for it.
//!
//! <https://developers.weixin.qq.com/doc/service/guide/h5/jssdk.html> and, of WeCom,
//! <https://developer.work.weixin.qq.com/document/path/90506>.

mod source;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use arc_swap::ArcSwap;
use tokio::time::Duration;

pub use source::TicketClient;
use source::{AccountTicketSource, TicketSource, without_token};

use super::{
    Token,
    keeper::{self, Keeper, NoToken, schedule::Renewal},
    source::{TokenError, redis::Redis, shared::Shared},
};
use crate::{metrics::Ticket, wechat::api::Api};

/// Renewals of a ticket by all replicas in a day, above which it is renewed only when it ends soon.
const DAILY: u32 = 500;

/// The tickets of one account, none of which is fetched before it is asked for.
pub struct Tickets {
    asker: Arc<TicketClient>,
    kept: Vec<(Ticket, Arc<CachedTicket>)>,
}

/// A ticket, and who lends the token to fetch it.
struct CachedTicket {
    keeper: Arc<Keeper<TicketSource>>,
    asker: Arc<ArcSwap<TicketClient>>,
}

/// Where the public WeCom is.
const PUBLIC: &str = "https://qyapi.weixin.qq.com:443";

/// The corp tickets, which are a corp's and not an account's.
#[derive(Debug, Default)]
pub struct Corps(Mutex<HashMap<String, Weak<CachedTicket>>>);

impl Tickets {
    /// The tickets of the account `id`, where a call waits up to `patience` for one; replicas share
    /// them by `store`. Their fetches run on the current runtime.
    pub fn new(
        asker: TicketClient,
        id: &str,
        corps: &Corps,
        store: Option<&Arc<Redis>>,
        patience: Duration,
    ) -> Self {
        let asker = Arc::new(asker);
        let kinds: &[Ticket] = match asker.kind {
            Api::Wechat => &[Ticket::Jsapi, Ticket::Card, Ticket::Sdk],
            Api::Wecom => &[Ticket::Corp, Ticket::Agent],
        };
        let of = |ticket: &Ticket| match ticket {
            Ticket::Corp => corps.of(&asker, store, patience),
            Ticket::Jsapi | Ticket::Card | Ticket::Sdk | Ticket::Agent => {
                Arc::new(CachedTicket::new(*ticket, id, &asker, store, patience))
            }
        };
        let kept = kinds.iter().map(|ticket| (*ticket, of(ticket))).collect();
        Self { asker, kept }
    }

    /// The ticket that a call to `path` asks for, if that is kept here. `types` are the values of the
    /// call's parameter `type`.
    pub fn wanted(&self, path: &[u8], types: impl Iterator<Item = String>) -> Option<Ticket> {
        wanted(self.asker.kind, path, types)
    }

    /// Whether `ticket` is in hand, so that nobody has to wait for it.
    pub fn holds(&self, ticket: Ticket) -> bool {
        let held = self.of(ticket).and_then(|of| of.keeper.in_hand());
        held.is_some_and(|held| held.is_fresh())
    }

    /// The ticket itself. Waits only when there is none.
    pub async fn get(&self, ticket: Ticket) -> Result<Arc<Token>, NoToken> {
        let of = self.of(ticket).ok_or(NoToken {
            error: TokenError::Broken,
            retry_after: Duration::ZERO,
        })?;
        let held = of.keeper.in_hand().filter(|ticket| ticket.is_alive());
        if held.is_none() {
            // Before a lease is taken, and other replicas wait.
            self.asker.keeper.token().await.map_err(without_token)?;
        }
        // Of several accounts of a corp, the one that is called is alive.
        of.asker.store(self.asker.clone());
        of.keeper.renew_if_due();
        let got = of.keeper.token().await;
        let has_token = || {
            let token = self.asker.keeper.in_hand();
            token.is_some_and(|token| token.is_alive())
        };
        match &got {
            // There was no token to ask with, but now there is.
            Err(none) if matches!(none.error, TokenError::WithoutToken(_)) && has_token() => {
                of.keeper.try_again();
                of.keeper.token().await
            }
            _ => got,
        }
    }

    /// What each ticket's keeper shows, of those that were ever asked for.
    pub fn status(&self) -> impl Iterator<Item = (Ticket, keeper::Status)> {
        let status = |(ticket, of): &(Ticket, Arc<CachedTicket>)| (*ticket, of.keeper.status());
        self.kept
            .iter()
            .map(status)
            .filter(|(_, status)| status.tried)
    }

    fn of(&self, ticket: Ticket) -> Option<&Arc<CachedTicket>> {
        let of = self.kept.iter().find(|(kept, _)| *kept == ticket);
        of.map(|(_, of)| of)
    }
}

fn wanted(kind: Api, path: &[u8], mut types: impl Iterator<Item = String>) -> Option<Ticket> {
    let mut only = || types.next().filter(|_| types.next().is_none());
    let wanted = match (kind, path) {
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
    Some(wanted)
}

/// How many seconds an app is told that `ticket` is good for: three quarters of what is left as far as
/// we know, for it may be older than we know.
pub fn expires_in(ticket: &Token) -> u64 {
    (ticket.remaining().as_secs() * 3 / 4).max(1)
}

impl Corps {
    fn of(
        &self,
        asker: &Arc<TicketClient>,
        store: Option<&Arc<Redis>>,
        patience: Duration,
    ) -> Arc<CachedTicket> {
        let mut corps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        corps.retain(|_, of| of.strong_count() > 0);
        // One that has the same corpid elsewhere is another.
        let (corpid, hosts) = (&asker.appid, asker.reach.hosts());
        let key = match &*hosts {
            PUBLIC => corpid.clone(),
            hosts => format!("{corpid}@{hosts}"),
        };
        if let Some(of) = corps.get(&key).and_then(Weak::upgrade) {
            return of;
        }
        let of = Arc::new(CachedTicket::new(
            Ticket::Corp,
            &key,
            asker,
            store,
            patience,
        ));
        corps.insert(key, Arc::downgrade(&of));
        of
    }
}

impl CachedTicket {
    /// `id` says whose it is.
    fn new(
        ticket: Ticket,
        id: &str,
        asker: &Arc<TicketClient>,
        store: Option<&Arc<Redis>>,
        patience: Duration,
    ) -> Self {
        let options = keeper::Options {
            renewal: Renewal::Halfway,
            retry_same_token: false,
            // No refusal causes a fetch of a ticket.
            daily_fetches: u32::MAX,
            patience,
        };
        let metrics = asker.metrics.clone();
        let last = Arc::new(ArcSwap::new(asker.clone()));
        let issuer = AccountTicketSource {
            ticket,
            asker: last.clone(),
        };
        let source = match store {
            None => TicketSource::Alone(issuer),
            Some(redis) => {
                let what = format!("ticket:{}", ticket.label());
                let place = redis.place_of(asker.kind, &asker.appid, id, &what);
                TicketSource::Shared(Box::new(Shared::new(issuer, place, DAILY, metrics.clone())))
            }
        };
        Self {
            keeper: Keeper::new(source, options, metrics),
            asker: last,
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
        f.debug_struct("Of").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
