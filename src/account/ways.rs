//! The ways that accounts have of their own: those that lead to the same place are one.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::{
    issuer::request::{self, Client},
    upstream::{
        route::{Route, RouteOptions},
        ways::Way,
    },
};

/// How one account's calls and token requests go.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// For token requests.
    pub(super) client: Client,
    /// For both.
    pub(super) route: Arc<Route>,
    /// For calls; `None` where it is the way of all.
    pub(super) way: Option<Arc<Way>>,
}

/// All ways that some account has.
#[derive(Debug, Default)]
pub(super) struct OwnWays(Mutex<Vec<Known>>);

#[derive(Debug)]
struct Known {
    options: RouteOptions,
    way: Weak<Way>,
    client: Client,
}

impl OwnWays {
    /// The path by `options`, for as long as somebody holds its way. The error is a sentence.
    pub(super) fn path(&self, options: &RouteOptions) -> Result<Path, String> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|known| known.way.strong_count() > 0);
        let same = known
            .iter()
            .find(|known| known.options.leads_where(options));
        if let Some(known) = same
            && let Some(way) = known.way.upgrade()
        {
            return Ok(Path {
                client: known.client.clone(),
                route: way.route().clone(),
                way: Some(way),
            });
        }
        let client = request::client(options)?;
        let route = Route::new(options.clone()).map_err(|error| error.to_string())?;
        let route = Arc::new(route);
        let way = Arc::new(Way::new(route.clone()));
        known.push(Known {
            options: options.clone(),
            way: Arc::downgrade(&way),
            client: client.clone(),
        });
        Ok(Path {
            client,
            route,
            way: Some(way),
        })
    }
}
