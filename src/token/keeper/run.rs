//! Fetches that no call waits for: renewals, and the first token. With many accounts each of them waits for its turn.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
};

use tokio::time::{Instant, sleep_until};

use super::{
    Keeper,
    state::{Flight, State},
};
use crate::token::{source::TokenSource, turns::FetchTurn};

impl<S: TokenSource> Keeper<S> {
    /// Renews the token before it expires, for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            let (flight, wake, in_turn) = {
                let state = self.lock();
                (state.flight(), state.due(), self.is_in_turn(&state))
            };
            if let Some(flight) = flight {
                let _ = flight.await;
                continue;
            }
            if wake > Instant::now() {
                tokio::select! {
                    // A fixed order makes simulations repeatable.
                    biased;
                    () = sleep_until(wake) => {}
                    () = self.changed.notified() => {}
                    () = self.poll_source() => {}
                }
                continue;
            }
            // Without one it goes as if a call waited for it.
            let mut turn = None;
            if in_turn {
                turn = self.turn().await;
                if turn.is_none() {
                    continue;
                }
            }
            if let Some(flight) = self.launch_if_due(turn) {
                let _ = flight.await;
            }
        }
    }

    /// Joins the fetch in flight, or starts one in this `turn` if one is due.
    fn launch_if_due(self: &Arc<Self>, turn: Option<FetchTurn>) -> Option<Flight> {
        let mut state = self.lock();
        match state.flight() {
            Some(flight) => Some(flight),
            None if state.due() > Instant::now() => None,
            None => Some(self.launch_by_itself(&mut state, turn)),
        }
    }

    /// Waits for the turn of a fetch that no call waits for. This comes before the fetch is made, because a fetch takes
    /// much more memory than a wait. `None` if a call has begun one meanwhile, or if none is due any more.
    async fn turn(&self) -> Option<FetchTurn> {
        let turns = self.turns.as_ref()?;
        let mut turn = pin!(turns.background(self.source.asks()));
        loop {
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                // What something else has put in place meanwhile is as good.
                () = self.poll_source() => {}
                turn = &mut turn => return Some(turn),
            }
            let state = self.lock();
            let is_due = state.flight.is_none() && state.due() <= Instant::now();
            if !is_due || !self.is_in_turn(&state) {
                return None;
            }
        }
    }

    /// Whether a fetch by itself waits behind those of other accounts. One that follows a refusal does not, because
    /// calls need it.
    fn is_in_turn(&self, state: &State) -> bool {
        self.turns.is_some() && self.in_turn.load(Ordering::Relaxed) && !state.token.is_refused()
    }

    /// Says whether fetches that no call waits for go in turn with those of other accounts. Otherwise they begin when
    /// they are due.
    pub fn set_in_turn(&self, in_turn: bool) {
        if self.in_turn.swap(in_turn, Ordering::Relaxed) != in_turn {
            self.changed.notify_one();
        }
    }

    /// Starts a renewal if one is due, without waiting for it. This is for a keeper that does not
    /// [`run`](Self::run), so that it renews its token only as long as it is used.
    pub fn renew_if_due(self: &Arc<Self>) {
        drop(self.launch_if_due(None));
    }

    /// Starts a fetch if there is no token, as a call would that does not wait for it.
    pub fn want(self: &Arc<Self>) {
        let mut state = self.lock();
        let has_token = self.in_hand().is_some_and(|token| token.is_alive());
        if !has_token && state.flight.is_none() && state.back_off().is_none() {
            drop(self.launch_by_itself(&mut state, None));
        }
    }
}
