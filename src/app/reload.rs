//! Reloads the configuration on SIGHUP, or when its file has changed.

use std::path::Path;

use tokio::{
    task::spawn_blocking,
    time::{Duration, sleep},
};

use crate::{
    config::{Config, ConfigError},
    rt::{file_watcher::FileWatcher, signals::Signal},
};

/// How often the file is read.
const INTERVAL: Duration = Duration::from_secs(2);

/// The source of the configuration.
pub(super) struct ConfigSource {
    config: Config,
    file: FileWatcher,
    hangups: Signal,
}

impl ConfigSource {
    /// The source of `config`, which was read when the process started.
    pub(super) async fn new(config: &Config, hangups: Signal) -> Self {
        let file = config.file().map(Path::to_owned);
        Self {
            hangups,
            file: FileWatcher::new(file, INTERVAL).await,
            config: config.clone(),
        }
    }

    /// Waits for a reason to reload, and returns the new configuration.
    pub(super) async fn reload(&mut self) -> Result<Config, ConfigError> {
        tokio::select! {
            _ = self.hangups.recv() => tracing::info!("SIGHUP: reading the configuration again"),
            () = self.file.changed() => {
                tracing::info!("the configuration file changed: reading it again");
            }
        }
        loop {
            // This comes before the read, so a later change is noticed.
            self.file.mark_seen().await;
            let config = self.config.clone();
            match spawn_blocking(move || config.reload()).await {
                Ok(read) => return read,
                Err(_) => sleep(INTERVAL).await,
            }
        }
    }
}
