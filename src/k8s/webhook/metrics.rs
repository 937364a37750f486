//! The webhook's own metrics.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::time::Duration;

use crate::metrics::{Encoder, Family, process};

const REVIEWS: Family = Family {
    name: "wechat_sidecar_webhook_reviews_total",
    kind: "counter",
    help: "Reviews, by outcome.",
};
const REVIEW_SECONDS: Family = Family {
    name: "wechat_sidecar_webhook_review_seconds",
    kind: "histogram",
    help: "Time that a review took, its body's arrival included.",
};
const LOG_DROPPED: Family = Family {
    name: "wechat_sidecar_webhook_log_lines_dropped_total",
    kind: "counter",
    help: "Log lines that were dropped, since nobody read them in time, or could not be written.",
};
const CERTIFICATE: Family = Family {
    name: "wechat_sidecar_webhook_certificate_expires_seconds",
    kind: "gauge",
    help: "Time until the certificate expires.",
};

const CERTIFICATE_AT: Family = Family {
    name: "wechat_sidecar_webhook_certificate_expires_timestamp_seconds",
    kind: "gauge",
    help: "When the certificate expires, as seconds since 1970.",
};

/// The result of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reviewed {
    /// The pod got a sidecar.
    Injected,
    /// There was nothing to do.
    Unchanged,
    /// The pod cannot have a sidecar.
    Skipped,
    /// The pod has a wrong setting, and was rejected.
    Refused,
    /// The review could not be parsed, so failurePolicy decided.
    Malformed,
    /// Data for the answer was not available, so failurePolicy decided.
    Failed,
}

impl Reviewed {
    const ALL: [Self; 6] = [
        Self::Injected,
        Self::Unchanged,
        Self::Skipped,
        Self::Refused,
        Self::Malformed,
        Self::Failed,
    ];

    /// The text in the label and in the log.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Unchanged => "unchanged",
            Self::Skipped => "skipped",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::Failed => "failed",
        }
    }
}

/// The upper bounds in seconds. The API server gives up after five.
const BOUNDS: [f64; 8] = [0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0];

/// All counters.
#[derive(Debug, Default)]
pub(super) struct WebhookMetrics {
    reviews: [AtomicU64; Reviewed::ALL.len()],
    /// The last cell counts the values above all bounds.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl WebhookMetrics {
    /// Counts a review.
    pub(super) fn count(&self, reviewed: Reviewed, took: Duration) {
        self.reviews[reviewed as usize].fetch_add(1, Relaxed);
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound);
        self.buckets[bucket.unwrap_or(BOUNDS.len())].fetch_add(1, Relaxed);
        self.micros
            .fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The page in Prometheus' format. It includes the seconds until the certificate expires, if that is known, and
    /// the number of dropped log lines.
    pub(super) fn page(&self, certificate: Option<f64>, log_lines_dropped: u64) -> String {
        let mut page = Encoder::default();
        page.family(&REVIEWS);
        for reviewed in Reviewed::ALL {
            let count = self.reviews[reviewed as usize].load(Relaxed);
            page.sample(REVIEWS.name, &[("outcome", reviewed.word())], count as f64);
        }
        let counts = self.buckets.iter().map(|bucket| bucket.load(Relaxed));
        let seconds = Duration::from_micros(self.micros.load(Relaxed)).as_secs_f64();
        page.histogram(&REVIEW_SECONDS, &BOUNDS, counts, seconds);
        page.single(&LOG_DROPPED, log_lines_dropped as f64);
        if let Some(seconds) = certificate {
            page.single(&CERTIFICATE, seconds.round());
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = now.unwrap_or_default().as_secs_f64();
            page.single(&CERTIFICATE_AT, (now + seconds).round());
        }
        process::write(&mut page);
        page.finish()
    }
}
