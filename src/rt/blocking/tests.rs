//! Tests of reads that hang, and of how many threads they take.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::{
    queue::{MOST_HANGING, MOST_READS},
    *,
};

/// A read that hangs until the sender is dropped.
fn hanging(ended: &Arc<Mutex<mpsc::Receiver<()>>>) -> impl FnOnce() + Send + 'static {
    let ended = ended.clone();
    // The first one holds the lock, and the others wait for it.
    move || drop(ended.lock().map(|ended| ended.recv()))
}

#[tokio::test]
async fn ten_thousand_reads_take_few_threads() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let reads = (0..10_000).map(|at| {
        let (running, most) = (running.clone(), most.clone());
        blocking(move || {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::yield_now();
            running.fetch_sub(1, Ordering::SeqCst);
            at
        })
    });
    let read: Vec<_> = join_all(reads).await.into_iter().flatten().collect();
    assert_eq!(read, (0..10_000).collect::<Vec<_>>());
    assert!(most.load(Ordering::SeqCst) <= MOST_READS, "{most:?}");
    assert_eq!(blocking(|| panic!("as one does")).await, None::<()>);
    assert_eq!(blocking(|| 7).await, Some(7));
}

#[tokio::test]
async fn reads_that_hang_delay_no_other() {
    let (end, ended) = mpsc::channel::<()>();
    let ended = Arc::new(Mutex::new(ended));
    let mut all = Vec::new();
    for at in 0..MOST_HANGING {
        let (folder, read) = (format!("/{at}/file"), hanging(&ended));
        all.push(tokio::spawn(async move {
            blocking_at(Path::new(&folder), read).await
        }));
        tokio::task::yield_now().await;
        assert_eq!(blocking(move || at).await, Some(at));
    }
    assert!(all.iter().all(|hanging| !hanging.is_finished()));
    drop(end);
    join_all(all).await;
}

#[tokio::test]
async fn a_folder_in_which_many_reads_hang_delays_no_other_and_is_read_on_when_they_end() {
    let (end, ended) = mpsc::channel::<()>();
    let ended = Arc::new(Mutex::new(ended));
    let begun = Arc::new(AtomicUsize::new(0));
    let file = Path::new("/nfs/file");
    // All wait before it is known that the first ones hang.
    let read = || {
        let (read, begun) = (hanging(&ended), begun.clone());
        tokio::spawn(blocking_at(file, move || {
            begun.fetch_add(1, Ordering::SeqCst);
            read();
        }))
    };
    let all: Vec<_> = (0..30).map(|_| read()).collect();
    for _ in 0..20 {
        let other = blocking_at(Path::new("/disk/file"), || 7);
        assert_eq!(timeout(30 * HANGS_AFTER, other).await, Ok(Some(7)));
        tokio::time::sleep(HANGS_AFTER / 4).await;
    }
    assert!(begun.load(Ordering::SeqCst) <= MOST_READS);
    // One that nobody wants any more is left out.
    all[29].abort();
    assert!(all[..29].iter().all(|hanging| !hanging.is_finished()));
    drop(end);
    let ended = join_all(all).await;
    assert_eq!(ended.iter().filter(|read| read.is_ok()).count(), 29);
    assert_eq!(blocking_at(file, || 7).await, Some(7));
    assert_eq!(begun.load(Ordering::SeqCst), 29);
}

#[tokio::test]
async fn however_many_hang_the_threads_are_bounded_and_what_waits_is_given_up() {
    let queue: Arc<ReadQueue> = Arc::default();
    let (end, ended) = mpsc::channel::<()>();
    let ended = Arc::new(Mutex::new(ended));
    let (begun, all) = (Arc::new(AtomicUsize::new(0)), 4 * MOST_THREADS);
    let reads: Vec<_> = (0..all)
        .map(|_| {
            let (read, begun) = (hanging(&ended), begun.clone());
            let count = move || {
                begun.fetch_add(1, Ordering::SeqCst);
                read();
            };
            tokio::spawn(timeout(20 * HANGS_AFTER, queue.clone().read(None, count)))
        })
        .collect();
    for read in reads {
        assert!(read.await.unwrap().is_err());
    }
    assert_eq!(begun.load(Ordering::SeqCst), MOST_THREADS);
    drop(end);
    assert_eq!(queue.read(None, || 7).await, Some(7));
    assert_eq!(begun.load(Ordering::SeqCst), MOST_THREADS);
}
