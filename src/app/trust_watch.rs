//! Reads files of trusted certificates again when they change.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    task::JoinSet,
    time::{Duration, timeout},
};

use crate::{
    net::tls::{TrustFiles, WatchedRoots},
    problems::{Kind, Problems, Standing},
    rt::file_watcher::FileWatcher,
};

/// How often each file is read.
const INTERVAL: Duration = Duration::from_secs(2);

/// How often it is compared with what is trusted even if it did not change. A read may have failed.
const RECHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The files that could not be used when they were read last, each with the reason. Clones share them.
#[derive(Clone, Default)]
pub(super) struct UnusableFiles(Arc<Mutex<BTreeMap<PathBuf, String>>>);

impl UnusableFiles {
    /// Tells the problems of the process whether there are any.
    pub(super) fn observe(&self, problems: &Problems) {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reasons = files
            .iter()
            .map(|(file, reason)| format!("{}: {reason}", file.display()));
        let reasons = reasons.collect::<Vec<_>>().join("; ");
        let standing = match files.is_empty() {
            true => Standing::Gone,
            false => Standing::There(&reasons),
        };
        problems.observe(Kind::FileUnusable, standing);
    }

    fn note(&self, file: &Path, reason: Option<String>) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match reason {
            Some(reason) => files.insert(file.to_owned(), reason),
            None => files.remove(file),
        };
    }
}

/// Watches each of `files` as long as it is in use, for ever.
pub(super) async fn watch_trust(files: TrustFiles, unusable: UnusableFiles) {
    let mut tasks = JoinSet::new();
    loop {
        for file in files.added().await {
            tasks.spawn(watch(file, unusable.clone()));
        }
        while tasks.try_join_next().is_some() {}
    }
}

async fn watch(watched: WatchedRoots, unusable: UnusableFiles) {
    let file = watched.file();
    let mut watcher = FileWatcher::new([file.to_owned()], INTERVAL).await;
    while let Some(roots) = watched.roots() {
        // This also comes before the first wait: the file may have changed since the roots were loaded.
        match watcher.read(move || roots.reload()).await {
            Some(Ok(changed)) => {
                unusable.note(file, None);
                if changed {
                    let file = file.display();
                    tracing::info!(%file, "a file of trusted certificates changed");
                }
            }
            Some(Err(error)) => unusable.note(file, Some(error.to_string())),
            None => {}
        }
        let _ = timeout(RECHECK_INTERVAL, watcher.changed()).await;
    }
    unusable.note(file, None);
}
