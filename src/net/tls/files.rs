//! The files of trusted roots that are in use, each loaded once, so that each can be watched once.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::Notify;

use super::roots::{RootsState, TlsError, TlsRoots};

/// The files of trusted certificates, each read once for all who use it. Clones share the files.
#[derive(Clone, Default)]
pub struct TrustFiles(Arc<Files>);

#[derive(Default)]
struct Files {
    known: Mutex<Vec<KnownFile>>,
    added: Notify,
}

struct KnownFile {
    file: Option<PathBuf>,
    setting: &'static str,
    roots: Weak<RootsState>,
    is_taken: bool,
}

impl TrustFiles {
    /// The roots of the system and those in the file `extra`. A file that is in use already is read again. Errors
    /// of certificates advise to set `setting`.
    pub fn load(&self, extra: Option<&Path>, setting: &'static str) -> Result<TlsRoots, TlsError> {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|known| known.roots.strong_count() > 0);
        let same = known
            .iter()
            .find(|known| known.file.as_deref() == extra && known.setting == setting);
        if let Some(state) = same.and_then(|same| same.roots.upgrade()) {
            let roots = TlsRoots::of(state);
            roots.reload()?;
            return Ok(roots);
        }
        let roots = TlsRoots::load(extra, setting)?;
        known.push(KnownFile {
            file: extra.map(Path::to_owned),
            setting,
            roots: Arc::downgrade(roots.state()),
            is_taken: false,
        });
        self.0.added.notify_one();
        Ok(roots)
    }

    /// Waits until there are files that were not returned before, and returns them for somebody to watch.
    pub async fn added(&self) -> Vec<WatchedRoots> {
        loop {
            let added = self.take_added();
            if !added.is_empty() {
                return added;
            }
            self.0.added.notified().await;
        }
    }

    fn take_added(&self) -> Vec<WatchedRoots> {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        let added = known.iter_mut().filter(|known| !known.is_taken);
        let added = added.filter_map(|known| {
            known.is_taken = true;
            let file = known.file.clone()?;
            let roots = known.roots.clone();
            Some(WatchedRoots { file, roots })
        });
        added.collect()
    }
}

/// A file of trusted roots, for who watches it.
#[derive(Clone)]
pub struct WatchedRoots {
    file: PathBuf,
    roots: Weak<RootsState>,
}

impl WatchedRoots {
    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The roots; `None` if nobody uses them any more.
    pub fn roots(&self) -> Option<TlsRoots> {
        self.roots.upgrade().map(TlsRoots::of)
    }
}

impl fmt::Debug for WatchedRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedRoots")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TrustFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustFiles").finish_non_exhaustive()
    }
}
