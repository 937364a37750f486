//! The tasks that watch what changes by itself: secrets, problems, certificates, suspensions.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{
    local_ca,
    problem_watch::watch_problems,
    running::{watch_secrets, watch_suspensions},
    trust_watch::{UnusableFiles, watch_trust},
};
use crate::{account::Directory, ca::Authority, config::Config, log::Log, metrics::Metrics};

/// Starts them. They end when the set is dropped.
pub(super) fn watches(
    config: &Config,
    directory: &Directory,
    metrics: &Arc<Metrics>,
    log: Option<Log>,
    authority: Option<Arc<Authority>>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let caller_key = config.proxy.guard.caller_key.clone();
    let headers = config.traces.as_ref();
    let headers = headers.and_then(|traces| traces.headers.clone());
    let common = caller_key.into_iter().chain(headers).collect();
    tasks.spawn(watch_secrets(directory.clone(), common));
    if let (Some(authority), Some(trust)) = (&authority, &config.local_ca.trust) {
        let (authority, trust) = (authority.clone(), trust.clone());
        tasks.spawn(local_ca::keep_files(authority, trust, metrics.clone()));
    }
    let files = UnusableFiles::default();
    tasks.spawn(watch_problems(
        directory.clone(),
        metrics.clone(),
        log,
        files.clone(),
        authority,
    ));
    tasks.spawn(watch_trust(config.trust().clone(), files));
    tasks.spawn(watch_suspensions(directory.clone(), metrics.clone()));
    tasks
}
