//! The configuration, read again when somebody says so or when its file changed.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::spawn_blocking,
    time::{Duration, sleep, timeout},
};

use crate::config::{Config, ConfigError};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// How long a changed file must stay as it is: somebody may be writing it.
const SETTLED: Duration = Duration::from_millis(300);

/// How long a look may take: the file may be on a network that hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a file has in it, without keeping it: it may hold secrets. `None` if it cannot be read.
type Fingerprint = Option<u64>;

/// Where the configuration comes from.
pub(super) struct ConfigSource {
    config: Config,
    file: FileWatcher,
    hangups: Signal,
    print: Fingerprint,
}

/// Looks at a file.
struct FileWatcher {
    file: Option<PathBuf>,
    /// Whether a look has not ended: one that hangs is the last.
    busy: Arc<AtomicBool>,
}

impl ConfigSource {
    /// Of `config`, as it was read when the process started. From now on SIGHUP ends it no more.
    pub(super) async fn new(config: &Config) -> io::Result<Self> {
        let file = FileWatcher {
            file: config.file().map(Path::to_owned),
            busy: Arc::default(),
        };
        Ok(Self {
            hangups: signal(SignalKind::hangup())?,
            print: file.poll().await.unwrap_or_default(),
            file,
            config: config.clone(),
        })
    }

    /// Returns with a new reading when there is reason to read again.
    pub(super) async fn reload(&mut self) -> Result<Config, ConfigError> {
        tokio::select! {
            _ = self.hangups.recv() => tracing::info!("SIGHUP: reading the configuration again"),
            () = self.file.changes(self.print) => {
                tracing::info!("the configuration file changed: reading it again");
            }
        }
        loop {
            // Before it is read: what comes later is another change.
            if let Some(print) = self.file.poll().await {
                self.print = print;
            }
            let config = self.config.clone();
            match spawn_blocking(move || config.reread()).await {
                Ok(read) => return read,
                Err(_) => sleep(LOOK).await,
            }
        }
    }
}

impl FileWatcher {
    /// Returns when the file has something else in it than `before`, and goes on having that.
    async fn changes(&self, before: Fingerprint) {
        let mut seen = before;
        loop {
            sleep(if seen == before { LOOK } else { SETTLED }).await;
            let Some(now) = self.poll().await else {
                continue;
            };
            if now != before && now == seen {
                return;
            }
            seen = now;
        }
    }

    /// What the file has in it now; `None` if that takes too long.
    async fn poll(&self) -> Option<Fingerprint> {
        let Some(file) = self.file.clone() else {
            return Some(None);
        };
        if self.busy.swap(true, Ordering::Relaxed) {
            return None;
        }
        let busy = self.busy.clone();
        let print = spawn_blocking(move || {
            let bytes = fs::read(file);
            busy.store(false, Ordering::Relaxed);
            let mut hash = DefaultHasher::new();
            bytes.ok()?.hash(&mut hash);
            Some(hash.finish())
        });
        timeout(PATIENCE, print).await.ok()?.ok()
    }
}
