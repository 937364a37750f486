//! The webhook's connections: bounded, and the one that idles longest makes room for the next.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::Instant,
};

/// Connections at once; an API server keeps a few.
const MOST: usize = 512;

/// What the bodies of all reviews in flight may take together, in KiB.
const BODIES: usize = 32 * 1024;

/// All connections.
#[derive(Debug)]
pub(super) struct Connections {
    made: Instant,
    open: Mutex<OpenConnections>,
    left: Notify,
    bodies: Semaphore,
}

#[derive(Debug, Default)]
struct OpenConnections {
    next: u64,
    peers: BTreeMap<u64, Arc<ConnectionEntry>>,
}

/// What is known of a connection.
#[derive(Debug, Default)]
struct ConnectionEntry {
    busy: AtomicBool,
    /// It has asked something.
    used: AtomicBool,
    /// When that changed, in milliseconds.
    turned: AtomicU64,
    leave: Notify,
}

/// A connection's place, until dropped.
#[derive(Debug)]
pub(super) struct Slot {
    id: u64,
    peer: Arc<ConnectionEntry>,
    peers: Arc<Connections>,
}

/// A request being answered, until dropped.
#[derive(Debug)]
pub(super) struct BusyGuard<'a>(&'a Slot);

impl Connections {
    /// Nobody yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            made: Instant::now(),
            open: Mutex::default(),
            left: Notify::new(),
            bodies: Semaphore::new(BODIES),
        })
    }

    /// A place for a new connection. Where there is none, the connection that has been idle for
    /// longest is told to leave; if none is idle, the one that has been busy for longest.
    pub(super) fn seat(self: &Arc<Self>) -> Slot {
        let peer = Arc::new(ConnectionEntry::default());
        peer.turned.store(self.now(), Relaxed);
        let mut open = self.lock();
        if open.peers.len() >= MOST {
            let rank =
                |peer: &ConnectionEntry| (peer.busy.load(Relaxed), peer.turned.load(Relaxed));
            let first = open.peers.iter().min_by_key(|(_, peer)| rank(peer));
            if let Some(id) = first.map(|(id, _)| *id)
                && let Some(peer) = open.peers.remove(&id)
            {
                peer.leave.notify_one();
            }
        }
        let id = open.next;
        open.next += 1;
        open.peers.insert(id, peer.clone());
        drop(open);
        Slot {
            id,
            peer,
            peers: self.clone(),
        }
    }

    /// Returns when all have left.
    pub(super) async fn all_left(&self) {
        loop {
            let left = self.left.notified();
            if self.lock().peers.is_empty() {
                return;
            }
            left.await;
        }
    }

    /// Room for some more of a body, if there is any.
    pub(super) fn room(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let kib = u32::try_from(bytes.div_ceil(1024)).ok()?;
        self.bodies.try_acquire_many(kib).ok()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// A request has come.
    pub(super) fn busy(&self) -> BusyGuard<'_> {
        self.peer.used.store(true, Relaxed);
        self.turn(true);
        BusyGuard(self)
    }

    /// Whether a request ever came.
    pub(super) fn is_used(&self) -> bool {
        self.peer.used.load(Relaxed)
    }

    /// Returns when another connection needs the place.
    pub(super) async fn is_needed(&self) {
        self.peer.leave.notified().await;
    }

    fn turn(&self, busy: bool) {
        self.peer.busy.store(busy, Relaxed);
        self.peer.turned.store(self.peers.now(), Relaxed);
    }
}

impl Drop for BusyGuard<'_> {
    fn drop(&mut self) {
        self.0.turn(false);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.peers.lock().peers.remove(&self.id);
        self.peers.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::{Duration, advance};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_idles_longest_makes_room() {
        let peers = Connections::new();
        let mut seats = Vec::new();
        for _ in 0..MOST {
            seats.push(peers.seat());
            advance(Duration::from_millis(1)).await;
        }
        // The first is busy, the second has just been.
        let _busy = seats[0].busy();
        drop(seats[1].busy());
        let _new = peers.seat();
        let told: Vec<bool> = seats
            .iter()
            .map(|seat| seat.is_needed().now_or_never().is_some())
            .collect();
        assert_eq!(told.iter().position(|told| *told), Some(2));
        assert_eq!(told.iter().filter(|told| **told).count(), 1);
        assert_eq!(peers.lock().peers.len(), MOST);
    }
}
