//! The ways that accounts have of their own: those that lead to the same place are one.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::{
    client::pools::UpstreamKey,
    net::connector::{ConnectOptions, Connector},
    token::source::api::{self, Client},
};

/// How one account's calls and token requests go.
#[derive(Clone, Debug)]
pub(super) struct AccountUpstream {
    /// For token requests.
    pub(super) client: Client,
    /// For both.
    pub(super) route: Arc<Connector>,
    /// For calls; `None` where it is the way of all.
    pub(super) way: Option<Arc<UpstreamKey>>,
}

/// All ways that some account has.
#[derive(Debug, Default)]
pub(super) struct Upstreams(Mutex<Vec<KnownUpstream>>);

#[derive(Debug)]
struct KnownUpstream {
    options: ConnectOptions,
    way: Weak<UpstreamKey>,
    client: Client,
}

impl Upstreams {
    /// The path by `options`, for as long as somebody holds its way. The error is a sentence.
    pub(super) fn path(&self, options: &ConnectOptions) -> Result<AccountUpstream, String> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|known| known.way.strong_count() > 0);
        let same = known
            .iter()
            .find(|known| known.options.same_target(options));
        if let Some(known) = same
            && let Some(way) = known.way.upgrade()
        {
            return Ok(AccountUpstream {
                client: known.client.clone(),
                route: way.connector().clone(),
                way: Some(way),
            });
        }
        let client = api::client(options)?;
        let route = Connector::new(options.clone()).map_err(|error| error.to_string())?;
        let route = Arc::new(route);
        let way = Arc::new(UpstreamKey::new(route.clone()));
        known.push(KnownUpstream {
            options: options.clone(),
            way: Arc::downgrade(&way),
            client: client.clone(),
        });
        Ok(AccountUpstream {
            client,
            route,
            way: Some(way),
        })
    }
}
