//! Threads for reads that may block. A few are enough for any number of files.

use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{Duration, timeout},
};

/// How many reads go on at once. Each takes a thread, and usually far less than a millisecond.
const MOST_READS: usize = 4;

/// When a read takes longer, its file hangs. It then counts no more, so that it delays no other for long.
const HANGS_AFTER: Duration = Duration::from_millis(100);

static READS: Semaphore = Semaphore::const_new(MOST_READS);

/// Calls `read` on a thread that may block. Returns `None` if it panics. If this is dropped, a read that has begun
/// goes on.
pub async fn blocking<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    limited(&READS, read).await
}

async fn limited<T: Send + 'static>(
    reads: &Semaphore,
    read: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let permit = reads.acquire().await.ok()?;
    let mut reading = spawn_blocking(read);
    let read = match timeout(HANGS_AFTER, &mut reading).await {
        Ok(read) => read,
        Err(_) => {
            drop(permit);
            reading.await
        }
    };
    read.ok()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        thread,
    };

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn a_thousand_reads_take_few_threads_and_those_that_hang_delay_no_other() {
        let limit: &_ = Box::leak(Box::new(Semaphore::new(MOST_READS)));
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let reads = (0..1000).map(|at| {
            let (running, most) = (running.clone(), most.clone());
            limited(limit, move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                at
            })
        });
        let read: Vec<_> = join_all(reads).await.into_iter().flatten().collect();
        assert_eq!(read, (0..1000).collect::<Vec<_>>());
        assert!(most.load(Ordering::SeqCst) <= MOST_READS, "{most:?}");

        let (end, ended) = mpsc::channel::<()>();
        let ended = Arc::new(std::sync::Mutex::new(ended));
        let hanging = (0..2 * MOST_READS).map(|_| {
            let ended = ended.clone();
            tokio::spawn(limited(limit, move || ended.lock().unwrap().recv()))
        });
        let hanging: Vec<_> = hanging.collect();
        tokio::task::yield_now().await;
        assert_eq!(limited(limit, || 7).await, Some(7));
        assert!(hanging.iter().all(|hanging| !hanging.is_finished()));
        drop(end);
        join_all(hanging).await;
        assert_eq!(limited(limit, || panic!("as one does")).await, None::<()>);
    }
}
