//! The webhook's own metrics.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::time::Duration;

/// What became of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reviewed {
    /// It got a sidecar.
    Injected,
    /// There was nothing to do.
    Unchanged,
    /// It cannot have a sidecar.
    Skipped,
    /// It says something wrong about the sidecar, and was not created.
    Refused,
    /// It was no review that could be read: failurePolicy decided.
    Malformed,
    /// What it takes to answer could not be had: failurePolicy decided.
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

    /// As the label and the log have it.
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

/// Upper bounds in seconds; the API server gives up after five.
const BOUNDS: [f64; 8] = [0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0];

/// All counters.
#[derive(Debug, Default)]
pub(super) struct WebhookMetrics {
    reviews: [AtomicU64; Reviewed::ALL.len()],
    /// The last one counts what is above all bounds.
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

    /// Prometheus' text, with the time until the certificate expires, in seconds, where it is known, and how
    /// many lines of the log were dropped.
    pub(super) fn page(&self, certificate: Option<f64>, log_lines_dropped: u64) -> String {
        let mut page = String::new();
        let mut line = |text: &str| {
            page.push_str(text);
            page.push('\n');
        };
        let family = |name: &str, kind: &str, help: &str| {
            format!(
                "# HELP wechat_sidecar_webhook_{name} {help}\n# TYPE wechat_sidecar_webhook_{name} {kind}"
            )
        };
        line(&family("reviews_total", "counter", "Reviews, by outcome."));
        for reviewed in Reviewed::ALL {
            let count = self.reviews[reviewed as usize].load(Relaxed);
            let outcome = reviewed.word();
            line(&format!(
                "wechat_sidecar_webhook_reviews_total{{outcome=\"{outcome}\"}} {count}"
            ));
        }
        line(&family(
            "review_seconds",
            "histogram",
            "Time that a review took, its body's arrival included.",
        ));
        let mut sum = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            sum += bucket.load(Relaxed);
            let mut bound = String::from("+Inf");
            if let Some(known) = BOUNDS.get(at) {
                bound.clear();
                let _ = write!(bound, "{known}");
            }
            line(&format!(
                "wechat_sidecar_webhook_review_seconds_bucket{{le=\"{bound}\"}} {sum}"
            ));
        }
        let seconds = Duration::from_micros(self.micros.load(Relaxed)).as_secs_f64();
        line(&format!(
            "wechat_sidecar_webhook_review_seconds_sum {seconds}"
        ));
        line(&format!(
            "wechat_sidecar_webhook_review_seconds_count {sum}"
        ));
        line(&family(
            "log_lines_dropped_total",
            "counter",
            "Log lines that were dropped, since nobody read them in time, or could not be written.",
        ));
        line(&format!(
            "wechat_sidecar_webhook_log_lines_dropped_total {log_lines_dropped}"
        ));
        if let Some(seconds) = certificate {
            line(&family(
                "certificate_expires_seconds",
                "gauge",
                "Time until the certificate expires.",
            ));
            line(&format!(
                "wechat_sidecar_webhook_certificate_expires_seconds {seconds:.0}"
            ));
        }
        page
    }
}
