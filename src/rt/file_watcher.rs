//! Watches files by reading them every few seconds, off the runtime and for a limited time.
//!
//! Network file systems tell nobody of a change that another machine makes, and times are too coarse for two changes in
//! a row; so the content is compared. A read that hangs holds up neither the runtime nor another file.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    task::spawn_blocking,
    time::{Duration, sleep, timeout},
};

/// How long a changed file must stay as it is: somebody may be writing it.
const SETTLED: Duration = Duration::from_millis(300);

/// How long a read may take: the file may be on a network that hangs.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// What files hold, without keeping it: they may hold secrets. `None` if they could not be read in time.
type Fingerprint = Option<u64>;

/// Watches a few files as one.
#[derive(Debug)]
pub struct FileWatcher {
    files: Arc<[PathBuf]>,
    interval: Duration,
    /// As they were when last reported.
    seen: Fingerprint,
    /// Whether a read has not ended: while one hangs there is no other.
    busy: Arc<AtomicBool>,
}

impl FileWatcher {
    /// Watches `files`, none of which need exist, with a look at them in every `interval`. What they hold now is no
    /// change.
    pub async fn new(files: impl IntoIterator<Item = PathBuf>, interval: Duration) -> Self {
        let mut watcher = Self {
            files: files.into_iter().collect(),
            interval,
            seen: None,
            busy: Arc::default(),
        };
        watcher.seen = watcher.poll().await;
        watcher
    }

    /// Returns when the files hold something else than before, and go on holding that. What was not returned
    /// when this is dropped, the next call returns.
    pub async fn changed(&mut self) {
        let mut last = self.seen;
        loop {
            let rests = last == self.seen;
            sleep(if rests { self.interval } else { SETTLED }).await;
            let Some(now) = self.poll().await else {
                continue;
            };
            if Some(now) != self.seen && Some(now) == last {
                self.seen = last;
                return;
            }
            last = Some(now);
        }
    }

    /// Takes what the files hold now for seen: whoever calls this reads them next.
    pub async fn mark_seen(&mut self) {
        if let Some(now) = self.poll().await {
            self.seen = Some(now);
        }
    }

    /// What `read` returns, which reads the files; `None` if it takes too long, or if another read still does.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if self.busy.swap(true, Ordering::Relaxed) {
            return None;
        }
        let busy = self.busy.clone();
        off_runtime(move || {
            let read = read();
            busy.store(false, Ordering::Relaxed);
            read
        })
        .await
    }

    async fn poll(&self) -> Fingerprint {
        let files = self.files.clone();
        let print = move || {
            let mut hash = DefaultHasher::new();
            for file in &*files {
                fs::read(file).ok().hash(&mut hash);
            }
            hash.finish()
        };
        self.read(print).await
    }
}

/// What `read` returns, which may block; `None` if it takes too long.
pub async fn off_runtime<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    timeout(TIME_LIMIT, spawn_blocking(read)).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(2);

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("file-watcher-{name}-{}", std::process::id()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_one_of_the_files_is_reported_once() {
        let files = ["one", "two"].map(path);
        fs::write(&files[0], "1").unwrap();
        let mut watcher = FileWatcher::new(files.clone(), INTERVAL).await;
        let a_minute = Duration::from_secs(60);
        assert!(timeout(a_minute, watcher.changed()).await.is_err());
        // The same content, written again, is no change.
        fs::write(&files[0], "1").unwrap();
        assert!(timeout(a_minute, watcher.changed()).await.is_err());
        for (file, content) in [(0, "3"), (1, "1"), (1, "4")] {
            fs::write(&files[file], content).unwrap();
            timeout(a_minute, watcher.changed()).await.unwrap();
            assert!(timeout(a_minute, watcher.changed()).await.is_err());
        }
        fs::remove_file(&files[0]).unwrap();
        timeout(a_minute, watcher.changed()).await.unwrap();
        fs::write(&files[1], "5").unwrap();
        watcher.mark_seen().await;
        assert!(timeout(a_minute, watcher.changed()).await.is_err());
        fs::remove_file(&files[1]).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_hangs_is_given_up_and_not_read_again_until_it_answers() {
        let pipe = path("pipe");
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        let mut opening = Box::pin(FileWatcher::new([pipe.clone()], INTERVAL));
        // Nobody writes to the pipe.
        assert!(opening.as_mut().now_or_never().is_none());
        advance(TIME_LIMIT + Duration::from_millis(1)).await;
        let watcher = opening.await;
        assert!(watcher.seen.is_none() && watcher.read(|| ()).await.is_none());
        drop(fs::File::options().write(true).open(&pipe).unwrap());
        while watcher.read(|| ()).await.is_none() {
            tokio::task::yield_now().await;
        }
        fs::remove_file(&pipe).unwrap();
    }
}
