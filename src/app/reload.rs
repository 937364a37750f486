//! The configuration, read again when somebody says so or when its file changed.

use std::{io, path::Path};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::spawn_blocking,
    time::{Duration, sleep},
};

use crate::{
    config::{Config, ConfigError},
    rt::file_watcher::FileWatcher,
};

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// Where the configuration comes from.
pub(super) struct ConfigSource {
    config: Config,
    file: FileWatcher,
    hangups: Signal,
}

impl ConfigSource {
    /// Of `config`, as it was read when the process started. From now on SIGHUP ends it no more.
    pub(super) async fn new(config: &Config) -> io::Result<Self> {
        let hangups = signal(SignalKind::hangup())?;
        let file = config.file().map(Path::to_owned);
        Ok(Self {
            hangups,
            file: FileWatcher::new(file, INTERVAL).await,
            config: config.clone(),
        })
    }

    /// Returns with a new reading when there is reason to read again.
    pub(super) async fn reload(&mut self) -> Result<Config, ConfigError> {
        tokio::select! {
            _ = self.hangups.recv() => tracing::info!("SIGHUP: reading the configuration again"),
            () = self.file.changed() => {
                tracing::info!("the configuration file changed: reading it again");
            }
        }
        loop {
            // Before it is read: what comes later is another change.
            self.file.mark_seen().await;
            let config = self.config.clone();
            match spawn_blocking(move || config.reload()).await {
                Ok(read) => return read,
                Err(_) => sleep(INTERVAL).await,
            }
        }
    }
}
