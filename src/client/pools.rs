//! One worker's connections by the way of all, and by those that accounts have of their own.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use http::Response;
use tokio::time::{Duration, interval, sleep};

use super::{Options, ResponseBody, SendError, Upstream, UpstreamRequest};
use crate::{metrics::Metrics, net::connector::Connector};

/// A way of an account's own. As long as somebody holds it, workers keep their connections by it.
#[derive(Debug)]
pub struct UpstreamKey(Arc<Connector>);

impl UpstreamKey {
    /// By `route`, which accounts may share.
    pub fn new(route: Arc<Connector>) -> Self {
        Self(route)
    }

    /// The route itself.
    pub fn connector(&self) -> &Arc<Connector> {
        &self.0
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Pools {
    common: Upstream,
    options: Options,
    metrics: Arc<Metrics>,
    /// Never held across an await, and only by one worker's thread.
    own: Mutex<Vec<(Weak<UpstreamKey>, Arc<Upstream>)>>,
}

/// How often connections are looked at that nobody uses.
const SWEEP: Duration = Duration::from_secs(5);

/// How often it is looked whether those that are kept warm still are: whoever used one has heard of its
/// end in our place.
const LOOK: Duration = Duration::from_secs(1);

/// How long after WeChat closed a connection that is kept warm it is opened again.
const REOPEN_AFTER: Duration = Duration::from_millis(250);

impl Pools {
    /// `route` is the way of all.
    pub fn new(route: Arc<Connector>, options: Options, metrics: Arc<Metrics>) -> Self {
        Self {
            common: Upstream::new(route, options, metrics.clone()),
            options,
            metrics,
            own: Mutex::default(),
        }
    }

    /// [Sends](Upstream::send) `call` by `way`, or by the way of all.
    pub async fn send(
        &self,
        way: Option<&Arc<UpstreamKey>>,
        call: UpstreamRequest,
        fresh: bool,
    ) -> Result<Response<ResponseBody>, SendError> {
        let own = way.map(|way| self.pool_of(way));
        let upstream = own.as_deref().unwrap_or(&self.common);
        pin!(upstream.send(call, fresh)).await
    }

    /// Closes connections that have waited too long, and those of ways that nobody has any more, and
    /// keeps some warm; for ever.
    pub async fn sweep(&self) {
        let pause = match self.options.keep_warm {
            0 => SWEEP,
            _ => LOOK,
        };
        let mut tick = interval(pause);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                // WeChat has closed one; not sooner, lest it closes all of them at once.
                () = self.common.below_min_idle() => sleep(REOPEN_AFTER).await,
            }
            self.common.maintain(pause).await;
            for upstream in self.still_used() {
                upstream.maintain(pause).await;
            }
        }
    }

    /// What goes by ways of accounts' own, less those that nobody has any more.
    fn still_used(&self) -> Vec<Arc<Upstream>> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.retain(|(way, _)| way.strong_count() > 0);
        own.iter().map(|(_, upstream)| upstream.clone()).collect()
    }

    fn pool_of(&self, way: &Arc<UpstreamKey>) -> Arc<Upstream> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let known = own
            .iter()
            .find(|(known, _)| known.as_ptr() == Arc::as_ptr(way));
        if let Some((_, upstream)) = known {
            return upstream.clone();
        }
        let upstream = Upstream::new(way.0.clone(), self.options, self.metrics.clone());
        let upstream = Arc::new(upstream);
        own.push((Arc::downgrade(way), upstream.clone()));
        upstream
    }
}
