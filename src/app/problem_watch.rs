//! Asks for problems once a second, and lets the log be told of them. Records the history once a minute.

use std::sync::Arc;

use tokio::time::{Duration, MissedTickBehavior, interval};

use super::{local_ca, trust_watch::UnusableFiles};
use crate::{
    account::Directory,
    ca::Authority,
    log::Log,
    metrics::Metrics,
    problems::{Kind, Occurrence},
    rt::pieces,
};

const INTERVAL: Duration = Duration::from_secs(1);

/// Watches the accounts, and what is counted of none of them, for ever.
pub(super) async fn watch_problems(
    directory: Directory,
    metrics: Arc<Metrics>,
    log: Option<Log>,
    files: UnusableFiles,
    authority: Option<Arc<Authority>>,
) {
    let process = &metrics.nobody.problems;
    let (mut dropped, mut minute) = (0, metrics.minute());
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for (at, account) in directory.all().iter().enumerate() {
            account.observe();
            account.metrics.problems.tick();
            pieces::step(at).await;
        }
        if metrics.minute() > minute {
            for (at, account) in directory.all().iter().enumerate() {
                account.metrics.record(minute);
                pieces::step(at).await;
            }
            metrics.nobody.record(minute);
            minute = metrics.minute();
        }
        let before = dropped;
        dropped = log.as_ref().map_or(0, Log::dropped_lines);
        if dropped > before {
            process.occurred_times(Kind::LogDropped, dropped - before, Occurrence::default());
        }
        files.observe(process);
        local_ca::observe(authority.as_deref(), process);
        process.tick();
        metrics.notices.tick();
    }
}
