//! The upstreams that accounts have of their own. Accounts with the same target share one.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::AccountError;
use crate::{
    client::pools::UpstreamKey,
    metrics::Metrics,
    net::connector::{ConnectOptions, Connector},
    token::source::api::{self, Client},
};

/// The upstream of one account's calls and token requests.
#[derive(Clone, Debug)]
pub(super) struct AccountUpstream {
    /// For token requests.
    pub(super) client: Client,
    /// For calls and token requests.
    pub(super) connector: Arc<Connector>,
    /// Selects the connection pool of calls; `None` for the common upstream.
    pub(super) key: Option<Arc<UpstreamKey>>,
}

/// All upstreams that accounts have of their own.
#[derive(Debug)]
pub(super) struct Upstreams {
    known: Mutex<Vec<KnownUpstream>>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct KnownUpstream {
    options: ConnectOptions,
    key: Weak<UpstreamKey>,
    client: Client,
}

impl Upstreams {
    /// None yet. The connections of their token requests are counted in `metrics`.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let known = Mutex::default();
        Self { known, metrics }
    }

    /// Returns the upstream with this target, or creates it. It is shared for as long as somebody holds
    /// its key.
    pub(super) fn get_or_create(
        &self,
        options: &ConnectOptions,
    ) -> Result<AccountUpstream, AccountError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|known| known.key.strong_count() > 0);
        let same = known
            .iter()
            .find(|known| known.options.same_target(options));
        if let Some(known) = same
            && let Some(key) = known.key.upgrade()
        {
            return Ok(AccountUpstream {
                client: known.client.clone(),
                connector: key.connector().clone(),
                key: Some(key),
            });
        }
        let client = api::client(options, self.metrics.clone())?;
        let connector = Arc::new(Connector::new(options.clone())?);
        let key = Arc::new(UpstreamKey::new(connector.clone()));
        known.push(KnownUpstream {
            options: options.clone(),
            key: Arc::downgrade(&key),
            client: client.clone(),
        });
        Ok(AccountUpstream {
            client,
            connector,
            key: Some(key),
        })
    }
}
