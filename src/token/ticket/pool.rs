//! Makes the tickets of all accounts, bounds their number, and lets the accounts of a corp share theirs.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use arc_swap::ArcSwap;
use tokio::time::Duration;

use super::source::{AccountTicketSource, TicketClient, TicketSource};
use crate::{
    metrics::Ticket,
    shared_limit::SharedLimit,
    token::{
        keeper::{self, Keeper, schedule::Renewal},
        source::{
            redis::{KeyParts, Redis},
            shared::Shared,
        },
    },
};

/// How many tickets are kept. One that is asked for after it was forgotten is fetched again.
const MOST: usize = 32_768;

/// Fetches of a ticket by all replicas in a day. Above this, it is renewed only shortly before it expires.
const DAILY_FETCHES: u32 = 50;

/// The host of the public WeCom.
const PUBLIC_WECOM: &str = "https://qyapi.weixin.qq.com:443";

/// What the tickets of all accounts have in common.
#[derive(Debug)]
pub struct TicketPool {
    store: Option<Arc<Redis>>,
    patience: Duration,
    /// The corp tickets. All accounts of a corp share one.
    corps: Mutex<HashMap<CorpKey, Weak<CachedTicket>>>,
    pub(super) limit: SharedLimit,
}

/// The corp, and the prefix of its keys in the store.
type CorpKey = (String, Option<String>);

/// A ticket, and the account whose token fetches it.
pub(super) struct CachedTicket {
    pub(super) keeper: Arc<Keeper<TicketSource>>,
    pub(super) client: Arc<ArcSwap<TicketClient>>,
}

impl TicketPool {
    /// Tickets that replicas share in `store`, if there is one. A call waits up to `patience` for one.
    pub fn new(store: Option<Arc<Redis>>, patience: Duration) -> Self {
        Self {
            store,
            patience,
            corps: Mutex::default(),
            limit: SharedLimit::new(MOST),
        }
    }

    /// The `ticket` of the account `id`: a new one, or that of its corp.
    pub(super) fn make(
        &self,
        ticket: Ticket,
        id: &str,
        client: &Arc<TicketClient>,
    ) -> Arc<CachedTicket> {
        match ticket {
            Ticket::Corp => self.of_corp(client),
            Ticket::Jsapi | Ticket::Card | Ticket::Sdk | Ticket::Agent => {
                Arc::new(self.cached(ticket, id, client))
            }
        }
    }

    fn of_corp(&self, client: &Arc<TicketClient>) -> Arc<CachedTicket> {
        let mut corps = self.corps.lock().unwrap_or_else(PoisonError::into_inner);
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
        if corps.len() == corps.capacity() {
            corps.retain(|_, cached| cached.strong_count() > 0);
        }
        let cached = Arc::new(self.cached(Ticket::Corp, &id, client));
        corps.insert(key, Arc::downgrade(&cached));
        cached
    }

    /// `id` is the id of the account, or of the corp.
    fn cached(&self, ticket: Ticket, id: &str, client: &Arc<TicketClient>) -> CachedTicket {
        let options = keeper::Options {
            renewal: Renewal::Ticket,
            retry_same_token: false,
            // No refusal causes a fetch of a ticket.
            daily_fetches: u32::MAX,
            patience: self.patience,
        };
        let metrics = client.metrics.clone();
        let latest = Arc::new(ArcSwap::new(client.clone()));
        let source = AccountTicketSource {
            ticket,
            client: latest.clone(),
        };
        let source = match &self.store {
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
        CachedTicket {
            keeper: Keeper::new(source, options, metrics),
            client: latest,
        }
    }
}

impl fmt::Debug for CachedTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedTicket").finish_non_exhaustive()
    }
}
