//! One worker's connection pools: one for the common upstream, and one for each upstream of accounts' own.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use http::Response;
use tokio::time::{Duration, interval, sleep};

use super::{Options, ResponseBody, SendError, Upstream, UpstreamRequest, Waited};
use crate::{
    metrics::Metrics,
    net::{connector::Connector, origin::Origin},
};

/// Identifies an upstream that accounts have of their own. Workers keep its connections as long as somebody
/// holds the key.
#[derive(Debug)]
pub struct UpstreamKey {
    connector: Arc<Connector>,
    is_private: bool,
}

impl UpstreamKey {
    /// A key for the upstream of `connector`. Several accounts may share it.
    pub fn new(connector: Arc<Connector>) -> Self {
        let is_private = !connector
            .origins()
            .iter()
            .any(|origin| origin.is_tencents());
        Self {
            connector,
            is_private,
        }
    }

    /// The connector of the upstream.
    pub fn connector(&self) -> &Arc<Connector> {
        &self.connector
    }

    /// Whether it is a private deployment: none of its hosts is Tencent's.
    pub fn is_private(&self) -> bool {
        self.is_private
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

/// How often idle connections are checked.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How often they are checked if some are kept warm. The task that last used a connection is woken when it
/// is closed, and not this one.
const WARM_INTERVAL: Duration = Duration::from_secs(1);

/// How long to wait before a warm connection that WeChat closed is opened again.
const REOPEN_AFTER: Duration = Duration::from_millis(250);

impl Pools {
    /// `connector` is that of the common upstream.
    pub fn new(connector: Arc<Connector>, options: Options, metrics: Arc<Metrics>) -> Self {
        Self {
            common: Upstream::new(connector, options, metrics.clone()),
            options,
            metrics,
            own: Mutex::default(),
        }
    }

    /// [Sends](Upstream::send) `call` to the upstream of `key`, or to the common one.
    pub async fn send(
        &self,
        key: Option<&Arc<UpstreamKey>>,
        call: UpstreamRequest,
        fresh: bool,
        observe: impl FnOnce(Waited),
    ) -> Result<Response<ResponseBody>, SendError> {
        let own = key.map(|key| self.pool_of(key));
        let upstream = own.as_deref().unwrap_or(&self.common);
        // A future that is pinned where it is made is not moved again, which would copy it.
        pin!(upstream.send(call, fresh, observe)).await
    }

    /// Where calls to the upstream of `key`, or to the common one, go now.
    pub fn origin(&self, key: Option<&Arc<UpstreamKey>>) -> Option<Origin> {
        let connector = key.map_or(&self.common.connector, |key| &key.connector);
        connector.origins().first().map(|origin| (*origin).clone())
    }

    /// Closes connections that were idle for too long, drops upstreams that no account uses any more, and
    /// keeps connections warm; for ever.
    pub async fn sweep(&self) {
        let pause = match self.options.keep_warm {
            0 => SWEEP_INTERVAL,
            _ => WARM_INTERVAL,
        };
        let mut tick = interval(pause);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                // WeChat has closed one. The pause keeps this from reopening each one as WeChat closes it.
                () = self.common.below_min_idle() => sleep(REOPEN_AFTER).await,
            }
            self.common.maintain(pause).await;
            for upstream in self.still_used() {
                upstream.maintain(pause).await;
            }
        }
    }

    /// The upstreams that some account still has of its own.
    fn still_used(&self) -> Vec<Arc<Upstream>> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.retain(|(key, _)| key.strong_count() > 0);
        own.iter().map(|(_, upstream)| upstream.clone()).collect()
    }

    fn pool_of(&self, key: &Arc<UpstreamKey>) -> Arc<Upstream> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let known = own
            .iter()
            .find(|(known, _)| known.as_ptr() == Arc::as_ptr(key));
        if let Some((_, upstream)) = known {
            return upstream.clone();
        }
        let upstream = Upstream::new(key.connector.clone(), self.options, self.metrics.clone());
        let upstream = Arc::new(upstream);
        own.push((Arc::downgrade(key), upstream.clone()));
        upstream
    }
}
