//! Room for the connections of apps: how many there may be, and which one makes way for the next.
//!
//! A connection that waits for its next call keeps its place, unless all places are taken and another one waits. Then
//! the one that was parked first is closed. An app may send a call on it at this moment, which fails. So nobody makes
//! way who was parked only just now.

use std::sync::Arc;

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Duration, Instant, interval},
};

/// How long a connection that is parked keeps its place in any case.
const SPARED: Duration = Duration::from_secs(1);

/// How often a connection is asked to make way while another one waits.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Room {
    places: Arc<Semaphore>,
    /// Where parked connections wait, in their order.
    parked: Notify,
}

impl Room {
    /// Room for so many connections.
    pub(super) fn new(places: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            parked: Notify::new(),
        }
    }

    /// Takes a place, if there is one.
    pub(super) fn try_enter(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Takes a place, as soon as there is one. `None` never comes, because nobody closes the semaphore.
    pub(super) async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        let place = self.places.clone().acquire_owned();
        let ask = async {
            let mut ask = interval(ASK_INTERVAL);
            loop {
                ask.tick().await;
                self.ask_one_to_leave();
            }
        };
        tokio::select! {
            biased;
            place = place => place.ok(),
            () = ask => None,
        }
    }

    /// Asks the connection that was parked first to make way.
    pub(super) fn ask_one_to_leave(&self) {
        self.parked.notify_one();
    }

    /// Returns when a connection that is parked from now on is to make way.
    pub(super) async fn asked_to_leave(&self) {
        let since = Instant::now();
        loop {
            self.parked.notified().await;
            if since.elapsed() >= SPARED {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_one_that_was_parked_first_makes_way_and_none_that_was_parked_just_now() {
        let room = Room::new(1);
        let place = room.try_enter().unwrap();
        assert!(room.try_enter().is_none());
        let mut first = Box::pin(room.asked_to_leave());
        let mut second = Box::pin(room.asked_to_leave());
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        // What was asked before does not count, nor does what is asked too soon.
        room.ask_one_to_leave();
        assert!((&mut first).now_or_never().is_none());
        advance(SPARED / 2).await;
        assert!(timeout(SPARED / 4, room.enter()).await.is_err());
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        advance(SPARED).await;
        let mut next = Box::pin(room.enter());
        assert!((&mut next).now_or_never().is_none());
        let left = (
            (&mut first).now_or_never().is_some(),
            (&mut second).now_or_never().is_some(),
        );
        assert!(left.0 != left.1, "one makes way: {left:?}");
        drop(place);
        assert!(next.await.is_some());
    }
}
