//! The context in which a connection serves calls: its worker, its listener and its state.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::Uri;
use tokio::time::Duration;

use super::{Drain, Options, room::Room, state::ConnState};
use crate::{
    metrics::Metrics,
    net::tls::ServerCertificates,
    proxy::{ListenerInfo, Proxy, guard::AppTls},
    rt::count_guard::CountGuard,
};

/// How long a connection waits for its next call before it is parked. A parked connection has no hyper, whose
/// buffers take ten times the memory of all the rest.
const PARK_AFTER: Duration = Duration::from_millis(500);

/// The most connections of a worker that may wait that long. If there are more, each is parked sooner, so that the
/// memory of hyper's buffers grows no further.
const MAX_UNHURRIED: usize = 64;

/// The state that the connections of a worker share.
pub(super) struct WorkerState {
    pub(super) proxy: Proxy,
    pub(super) options: Options,
    pub(super) drain: Drain,
    pub(super) metrics: Arc<Metrics>,
    pub(super) room: Arc<Room>,
    /// What apps are shown that speak TLS; `None` if none may.
    pub(super) certificates: Option<Arc<dyn ServerCertificates>>,
    /// How many connections are not parked now.
    pub(super) active: AtomicUsize,
}

impl WorkerState {
    /// Counts a connection as active until this is dropped.
    pub(super) fn activate(&self) -> CountGuard<'_> {
        CountGuard::on(&self.active)
    }

    /// How long a connection waits for its next call before it is parked.
    pub(super) fn park_after(&self) -> Duration {
        park_after(self.active.load(Ordering::Relaxed))
    }
}

/// The context of one connection.
pub(super) struct ConnContext {
    pub(super) worker: Arc<WorkerState>,
    pub(super) listener: ListenerInfo,
    pub(super) state: Arc<ConnState>,
}

impl ConnContext {
    /// Whether a CONNECT to `target` is accepted: TLS follows, which ends here.
    pub(super) fn accepts_tunnel(&self, target: &Uri) -> bool {
        let Some(certificates) = self.worker.certificates.as_ref() else {
            return false;
        };
        let host = https_host(target);
        self.listener.tls == AppTls::Offered && host.is_some_and(|host| certificates.has(&host))
    }
}

/// The host of a CONNECT to port 443, in lower case; `None` if it is to another port, or its target is more than host and
/// port.
fn https_host(target: &Uri) -> Option<String> {
    let authority = target.authority().filter(|_| target.scheme().is_none())?;
    // A port that is no number below 65,536 is none for the parser.
    let (all, host) = (authority.as_str(), authority.host());
    let is_443 = matches!(all.strip_prefix(host)?, "" | ":") || authority.port_u16() == Some(443);
    let host = host.strip_suffix('.').unwrap_or(host);
    (is_443 && !all.contains('@')).then(|| host.to_ascii_lowercase())
}

fn park_after(active: usize) -> Duration {
    let share = u32::try_from(active.div_ceil(MAX_UNHURRIED)).unwrap_or(u32::MAX);
    PARK_AFTER / share.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_is_for_port_443_of_a_host_and_for_nothing_else() {
        for (target, host) in [
            ("api.weixin.qq.com:443", Some("api.weixin.qq.com")),
            ("API.weixin.qq.com.:0443", Some("api.weixin.qq.com")),
            ("api.weixin.qq.com", Some("api.weixin.qq.com")),
            ("api.weixin.qq.com:", Some("api.weixin.qq.com")),
            ("api.weixin.qq.com:80", None),
            // 443, if it were counted in 16 bits.
            ("api.weixin.qq.com:65979", None),
            ("api.weixin.qq.com:x", None),
            ("user:443@api.weixin.qq.com:443", None),
            ("user@api.weixin.qq.com", None),
            ("https://api.weixin.qq.com/", None),
            ("[::1]:443", Some("[::1]")),
            ("/", None),
        ] {
            let found = target.parse().ok().and_then(|target| https_host(&target));
            assert_eq!(found.as_deref(), host, "{target}");
        }
    }

    #[test]
    fn a_few_connections_are_parked_late_and_many_hold_no_more_than_a_few_in_all() {
        for few in [0, 1, MAX_UNHURRIED] {
            assert_eq!(park_after(few), PARK_AFTER);
        }
        // Twice the connections are parked twice as soon, so about as many are active.
        for many in [MAX_UNHURRIED + 1, 1_000, 9_000] {
            assert!(park_after(many) * u32::try_from(many / MAX_UNHURRIED).unwrap() <= PARK_AFTER);
        }
        assert!(park_after(usize::MAX) < Duration::from_millis(1));
    }
}
