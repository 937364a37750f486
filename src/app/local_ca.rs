//! The local CA of a running sidecar.

use std::sync::Arc;

use tokio::time::{Duration, sleep};

use crate::{
    ca::{Authority, CaError, trust_dir},
    config::{Config, LocalCa},
    metrics::Metrics,
    problems::{Kind, Problems, Standing},
    rt::file_watcher::off_runtime,
};

/// How often it is looked whether the files are there.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Opens the local CA if something of the configuration is about it, and writes the files that apps trust.
pub(super) fn open(config: &Config) -> Result<Option<Arc<Authority>>, CaError> {
    let LocalCa { ca, trust } = &config.local_ca;
    if ca.dir.is_none() && trust.is_none() && config.tls_listen.is_empty() {
        return Ok(None);
    }
    let authority = Authority::open(ca)?;
    if ca.dir.is_none() {
        tracing::warn!(
            "the local CA is kept in memory alone: restart the apps that trust it whenever this sidecar restarts, or set --ca-dir"
        );
    }
    if let Some(options) = trust {
        trust_dir::write(options, authority.root())?;
        let dir = options.dir.display();
        tracing::info!(%dir, "the files by which apps trust the local CA are written");
    }
    Ok(Some(Arc::new(authority)))
}

/// Makes certificates for the hosts of a new configuration, as far as the CA is allowed to.
pub(super) fn follow(authority: Option<&Authority>, config: &LocalCa) {
    if let Some(authority) = authority
        && let Err(error) = authority.set_hosts(&config.ca.hosts)
    {
        tracing::error!(%error, "the certificate in use stays");
    }
}

/// Writes the files again when they are gone, for ever.
pub(super) async fn keep_files(
    authority: Arc<Authority>,
    options: trust_dir::Options,
    metrics: Arc<Metrics>,
) {
    loop {
        sleep(LOOK_INTERVAL).await;
        let (authority, options) = (authority.clone(), options.clone());
        let kept = off_runtime(move || trust_dir::restore(&options, authority.root())).await;
        let problems = &metrics.nobody.problems;
        match kept {
            Some(Ok(restored)) => {
                if restored {
                    tracing::warn!(
                        "files by which apps trust the local CA were gone, and were written again"
                    );
                }
                problems.observe(Kind::TrustFiles, Standing::Gone);
            }
            Some(Err(error)) => {
                problems.observe(Kind::TrustFiles, Standing::There(&error.to_string()));
            }
            // Nobody knows.
            None => problems.observe(Kind::TrustFiles, Standing::Stays),
        }
    }
}

/// Tells the problems of the process whether there are hosts that the CA may not speak for.
pub(super) fn observe(authority: Option<&Authority>, problems: &Problems) {
    let uncovered = authority.map(Authority::uncovered).unwrap_or_default();
    let hosts = uncovered.join(", ");
    let standing = match uncovered.is_empty() {
        true => Standing::Gone,
        false => Standing::There(&hosts),
    };
    problems.observe(Kind::CaHost, standing);
}
