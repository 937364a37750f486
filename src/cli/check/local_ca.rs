//! Whether the folders of the local CA can be written. This is for when no sidecar runs, which would have done it.

use std::path::Path;

use super::report::{Check, Finding};
use crate::{
    ca::{self, CaError, trust_dir},
    config::{Config, LocalCa},
};

/// The folders that a sidecar could not write to.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let LocalCa { ca, trust } = &config.local_ca;
    let kept = ca
        .dir
        .as_deref()
        .map(|dir| ("ca-dir", dir, ca::try_to_keep(dir)));
    let shown = trust
        .as_ref()
        .map(|trust| ("trust-dir", &*trust.dir, trust_dir::try_to_write(trust)));
    let tried = kept.into_iter().chain(shown);
    tried
        .map(|(key, dir, tried)| finding(key, dir, tried))
        .collect()
}

fn finding(key: &str, dir: &Path, tried: Result<(), CaError>) -> Finding {
    let subject = dir.display().to_string();
    match tried {
        Ok(()) => Finding::ok(Check::File, &subject, format!("{key}: it can be used")),
        Err(error) => Finding::failed(Check::File, &subject, format!("{key}: {error}")),
    }
}
