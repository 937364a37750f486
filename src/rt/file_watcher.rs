//! Watches files by reading them every few seconds, off the runtime and with a time limit.
//!
//! Network file systems report no change that another machine makes, and timestamps are too coarse for two changes in
//! a row. So the content is compared. A read that hangs delays neither the runtime nor another file.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::time::{Duration, sleep, timeout};

use super::blocking::blocking;

/// How long a changed file must stay unchanged, because it may be half written.
const SETTLED: Duration = Duration::from_millis(300);

/// How long a read may take. The file may be on a network that hangs.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// How often, and after which pauses, the content is read to be marked as seen.
const MARK_TRIES: usize = 10;
const MARK_PAUSE: Duration = Duration::from_millis(20);

/// A hash of the content of the files, which may be secret. `None` if they could not be read in time.
type Fingerprint = Option<u64>;

/// Watches several files together.
#[derive(Debug)]
pub struct FileWatcher {
    files: Arc<[PathBuf]>,
    interval: Duration,
    /// The fingerprint that was reported last.
    seen: Fingerprint,
    /// Whether a read has not ended. While one hangs, no other begins.
    busy: Arc<AtomicBool>,
}

impl FileWatcher {
    /// Watches `files`, which need not exist yet, and reads them in every `interval`. Their present content counts as
    /// seen.
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

    /// Returns when the content of the files has changed and settled. A change that was not returned before this is
    /// dropped is returned by the next call.
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

    /// Marks the present content as seen. The caller reads the files after this.
    pub async fn mark_seen(&mut self) {
        for _ in 0..MARK_TRIES {
            if let Some(now) = self.poll().await {
                self.seen = Some(now);
                return;
            }
            // A read that nobody waits for any more may just be ending.
            sleep(MARK_PAUSE).await;
        }
    }

    /// Calls `read`, which reads the files. Returns `None` if it takes too long, or if another read has not ended.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if self.busy.swap(true, Ordering::Relaxed) {
            return None;
        }
        let busy = BusyGuard(self.busy.clone());
        off_runtime(move || {
            let read = read();
            drop(busy);
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

/// Says that a read goes on, until this is dropped with it.
struct BusyGuard(Arc<AtomicBool>);

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Calls `read`, which may block. Returns `None` if it takes too long.
pub async fn off_runtime<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    timeout(TIME_LIMIT, blocking(read)).await.ok()?
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::{super::blocking::waiting, *};

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
        // The pipe has no writer.
        assert!(opening.as_mut().now_or_never().is_none());
        while waiting() > 0 {
            std::thread::yield_now();
        }
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
