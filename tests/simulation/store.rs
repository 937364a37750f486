//! The shared store, which may be slow, unavailable, emptied or read-only, and whose clock may jump.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::{Duration, Instant, sleep};
use wechat_sidecar::{
    secret::Secret,
    token::source::store::{
        FetchGrant, HEARTBEAT_TTL, LeaseId, Note, SetOutcome, Store, StoreError, StoreState,
        StoredToken,
    },
};

use super::{
    sidecar::{Life, POLL_FACTOR},
    world::{World, between},
};

const DAY: Duration = Duration::from_secs(86_400);

/// How long a sidecar waits for the store.
const TIME_OUT: Duration = Duration::from_secs(1);

/// The contents of the store, and its faults.
#[derive(Debug)]
pub struct Contents {
    token: Option<(StoredToken, Instant)>,
    note: Option<(Note, Instant)>,
    lease: Option<(Lease, Instant)>,
    fetches: Option<(u32, Instant)>,
    present: BTreeMap<String, Instant>,
    present_counted: Instant,
    pub away_until: Instant,
    pub read_only_until: Instant,
    pub slow_until: Instant,
}

#[derive(Clone, Debug)]
struct Lease {
    owner: LeaseId,
    index: usize,
}

impl Contents {
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            token: None,
            note: None,
            lease: None,
            fetches: None,
            present: BTreeMap::new(),
            present_counted: now,
            away_until: now,
            read_only_until: now,
            slow_until: now,
        }
    }

    /// Removes all contents.
    pub fn empty(&mut self) {
        *self = Self {
            away_until: self.away_until,
            read_only_until: self.read_only_until,
            slow_until: self.slow_until,
            ..Self::new()
        };
    }

    /// The clock of the store jumps: everything expires so much later, or earlier.
    pub fn jump(&mut self, by: Duration, later: bool) {
        let jump = |at: &mut Instant| {
            *at = if later { *at + by } else { *at - by };
        };
        self.token.iter_mut().for_each(|(_, until)| jump(until));
        self.note.iter_mut().for_each(|(_, until)| jump(until));
        self.lease.iter_mut().for_each(|(_, until)| jump(until));
        self.fetches.iter_mut().for_each(|(_, until)| jump(until));
    }

    /// The sidecar that has the lease.
    pub fn leased_to(&self) -> Option<usize> {
        Some(living(&self.lease)?.0.index)
    }
}

fn living<T: Clone>(entry: &Option<(T, Instant)>) -> Option<(T, Duration)> {
    let (value, until) = entry.as_ref()?;
    let left = until.saturating_duration_since(Instant::now());
    (!left.is_zero()).then(|| (value.clone(), left))
}

/// The store as one sidecar sees it.
pub struct View {
    pub world: Arc<World>,
    pub index: usize,
    pub life: Arc<Life>,
}

impl View {
    async fn step<T>(
        &self,
        writes: bool,
        take: impl FnOnce(&mut Contents) -> T,
    ) -> Result<T, StoreError> {
        self.life.goes_on().await;
        let outcome = self.try_step(writes, take).await;
        self.life.goes_on().await;
        if outcome.is_err() {
            let line = &self.world.lines[self.index];
            line.set(|line| line.failed_at = Some(Instant::now()));
        }
        outcome
    }

    async fn try_step<T>(
        &self,
        writes: bool,
        take: impl FnOnce(&mut Contents) -> T,
    ) -> Result<T, StoreError> {
        let failed = |why: &str| Err(StoreError::Other(why.to_owned()));
        let now = Instant::now();
        if !self.is_there() {
            // The connection is refused at once, or there is no answer.
            let refused = fastrand::bool();
            sleep(if refused {
                between(0.001, 0.01)
            } else {
                TIME_OUT
            })
            .await;
            return failed("away");
        }
        let slow = now < self.world.store().slow_until;
        let takes = if slow {
            between(0.05, 2.0)
        } else {
            between(0.001, 0.004)
        };
        if takes > TIME_OUT {
            sleep(TIME_OUT).await;
            // The step may have reached the store.
            if fastrand::bool() && self.world.store().read_only_until <= now {
                take(&mut self.world.store());
            }
            return failed("slow");
        }
        // A read usually takes no time, because timers are the main cost of a run.
        if writes || slow || fastrand::u8(..4) == 0 {
            sleep(takes).await;
        }
        if !self.is_there() {
            sleep(TIME_OUT).await;
            return failed("away");
        }
        let mut contents = self.world.store();
        if writes && Instant::now() < contents.read_only_until {
            return failed("read only");
        }
        Ok(take(&mut contents))
    }

    fn is_there(&self) -> bool {
        let line = self.world.lines[self.index].get();
        line.reaches_store() && self.world.store().away_until <= Instant::now()
    }
}

impl Store for View {
    async fn read(&self) -> Result<StoreState, StoreError> {
        self.step(false, |contents| StoreState {
            token: living(&contents.token)
                .map(|(held, remaining)| StoredToken { remaining, ..held }),
            note: living(&contents.note).map(|(note, _)| note),
            leased: living(&contents.lease).is_some(),
        })
        .await
    }

    async fn acquire(&self, owner: &LeaseId, length: Duration) -> Result<bool, StoreError> {
        let index = self.index;
        self.step(true, |contents| {
            let free = living(&contents.lease).is_none_or(|(its, _)| its.owner == *owner);
            if free {
                let owner = owner.clone();
                contents.lease = Some((Lease { owner, index }, Instant::now() + length));
                self.world.note(format_args!("{index} has the lease"));
            }
            free
        })
        .await
    }

    async fn begin_fetch(&self, owner: &LeaseId) -> Result<Option<FetchGrant>, StoreError> {
        self.step(true, |contents| {
            let (_, left) = living(&contents.lease).filter(|(its, _)| its.owner == *owner)?;
            let before = living(&contents.fetches);
            let (before, lives) = before.unwrap_or((0, DAY));
            let fetches = before + 1;
            contents.fetches = Some((fetches, Instant::now() + lives));
            Some(FetchGrant { left, fetches })
        })
        .await
    }

    async fn refund(&self, _: &LeaseId) -> Result<(), StoreError> {
        self.step(true, |contents| {
            if let Some((fetches, _)) = &mut contents.fetches {
                *fetches = fetches.saturating_sub(1);
            }
        })
        .await
    }

    async fn compare_and_set(
        &self,
        owner: Option<&LeaseId>,
        seen: Option<&Secret>,
        token: &StoredToken,
    ) -> Result<SetOutcome, StoreError> {
        self.step(true, |contents| {
            let lease = living(&contents.lease).map(|(its, _)| its.owner);
            if lease.as_ref() != owner {
                return SetOutcome::NotLeased;
            }
            let there = living(&contents.token).map(|(held, _)| held.value);
            if there.as_ref() != seen {
                return SetOutcome::Changed;
            }
            contents.token = Some((token.clone(), Instant::now() + token.remaining));
            contents.lease = None;
            if seen != Some(&token.value) {
                contents.note = None;
            }
            SetOutcome::Done
        })
        .await
    }

    async fn publish(&self, note: &Note, length: Duration) -> Result<(), StoreError> {
        let until = Instant::now() + length;
        self.step(true, |contents| contents.note = Some((note.clone(), until)))
            .await
    }

    async fn release(&self, owner: &LeaseId) -> Result<(), StoreError> {
        self.step(true, |contents| {
            let released = contents.lease.take_if(|(its, _)| its.owner == *owner);
            if released.is_some() {
                self.world
                    .note(format_args!("{} gives the lease back", self.index));
            }
        })
        .await
    }

    async fn heartbeat(&self, replica: &LeaseId) -> Result<u32, StoreError> {
        // Sidecars poll less often than real ones, so they are counted as present for longer.
        let present = HEARTBEAT_TTL * POLL_FACTOR;
        let writes = Instant::now() < self.world.store().read_only_until;
        self.step(writes, |contents| {
            let now = Instant::now();
            contents.present.insert(replica.as_str().to_owned(), now);
            if now >= contents.present_counted + HEARTBEAT_TTL {
                contents.present.retain(|_, at| now < *at + present);
                contents.present_counted = now;
            }
            contents.present.len() as u32
        })
        .await
    }
}
