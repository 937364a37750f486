//! A store in memory that can be emptied, partitioned and broken at any step, and a WeChat to ask.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use tokio::time::{Duration, Instant, sleep};

use wechat_sidecar::{
    issuer::{
        Issue, IssueError, Issued, Wanted,
        store::{Found, Held, Note, Owner, PRESENT, Put, Ready, Store, StoreError},
    },
    secret::Secret,
    token::Token,
};

/// What all replicas see.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Contents>>);

#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) token: Option<(Secret, Instant)>,
    note: Option<(Note, Instant)>,
    pub(crate) lease: Option<(Owner, Instant)>,
    present: HashMap<Owner, Instant>,
    pub(crate) fetches: u32,
}

fn living<T: Clone>(entry: &Option<(T, Instant)>) -> Option<(T, Duration)> {
    let (value, until) = entry.as_ref()?;
    let left = until.saturating_duration_since(Instant::now());
    (!left.is_zero()).then(|| (value.clone(), left))
}

impl Memory {
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut Contents) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    /// The token in place.
    pub(crate) fn token(&self) -> Option<String> {
        let token = self.with(|contents| living(&contents.token));
        token.map(|(value, _)| value.expose().to_owned())
    }

    /// What another program would write.
    pub(crate) fn set(&self, value: &str, lives: Duration) {
        let until = Instant::now() + lives;
        self.with(|contents| contents.token = Some((Secret::new(value), until)));
    }

    pub(crate) fn empty(&self) {
        self.with(|contents| *contents = Contents::default());
    }

    pub(crate) fn view(&self) -> View {
        View(Arc::new(Way {
            memory: self.clone(),
            away: AtomicBool::new(false),
            step: AtomicU64::new(0),
            breaks: Mutex::default(),
        }))
    }
}

/// What one replica sees.
#[derive(Clone)]
pub(crate) struct View(Arc<Way>);

pub(crate) struct Way {
    memory: Memory,
    away: AtomicBool,
    /// How many steps were made.
    step: AtomicU64,
    breaks: Mutex<Option<Break>>,
}

/// An error at one step, or from it on.
#[derive(Clone, Copy)]
pub(crate) struct Break {
    pub(crate) at: u64,
    pub(crate) for_good: bool,
    /// Whether the step is taken all the same.
    pub(crate) taken: bool,
}

impl View {
    pub(crate) fn away(&self, away: bool) {
        self.0.away.store(away, Ordering::SeqCst);
    }

    pub(crate) fn breaks(&self, at: Break) {
        *self.0.breaks.lock().unwrap() = Some(at);
    }

    pub(crate) fn steps(&self) -> u64 {
        self.0.step.load(Ordering::SeqCst)
    }

    async fn step<T>(&self, take: impl FnOnce(&mut Contents) -> T) -> Result<T, StoreError> {
        sleep(Duration::from_millis(1)).await;
        let away = || StoreError("away".to_owned());
        if self.0.away.load(Ordering::SeqCst) {
            return Err(away());
        }
        let step = self.0.step.fetch_add(1, Ordering::SeqCst);
        let broken = *self.0.breaks.lock().unwrap();
        let broken =
            broken.filter(|broken| step == broken.at || (broken.for_good && step > broken.at));
        match broken {
            Some(broken) => {
                if broken.taken {
                    self.0.memory.with(take);
                }
                Err(away())
            }
            None => Ok(self.0.memory.with(take)),
        }
    }
}

impl Store for View {
    async fn read(&self) -> Result<Found, StoreError> {
        self.step(|contents| Found {
            token: living(&contents.token).map(|(value, lives)| Held { value, lives }),
            note: living(&contents.note).map(|(note, _)| note),
            leased: living(&contents.lease).is_some(),
        })
        .await
    }

    async fn take(&self, owner: &Owner, length: Duration) -> Result<bool, StoreError> {
        self.step(|contents| {
            let free = living(&contents.lease).is_none_or(|(its, _)| its == *owner);
            if free {
                contents.lease = Some((owner.clone(), Instant::now() + length));
            }
            free
        })
        .await
    }

    async fn ready(&self, owner: &Owner) -> Result<Option<Ready>, StoreError> {
        self.step(|contents| {
            let (_, left) = living(&contents.lease).filter(|(its, _)| its == owner)?;
            contents.fetches += 1;
            let fetches = contents.fetches;
            Some(Ready { left, fetches })
        })
        .await
    }

    async fn put(
        &self,
        owner: Option<&Owner>,
        seen: Option<&Secret>,
        token: &Held,
    ) -> Result<Put, StoreError> {
        self.step(|contents| {
            let lease = living(&contents.lease).map(|(its, _)| its);
            if lease.as_ref() != owner {
                return Put::NotLeased;
            }
            let there = living(&contents.token).map(|(value, _)| value);
            if there.as_ref() != seen {
                return Put::Changed;
            }
            contents.token = Some((token.value.clone(), Instant::now() + token.lives));
            contents.lease = None;
            contents.note = None;
            Put::Done
        })
        .await
    }

    async fn leave(&self, note: &Note, length: Duration) -> Result<(), StoreError> {
        let until = Instant::now() + length;
        self.step(|contents| contents.note = Some((note.clone(), until)))
            .await
    }

    async fn release(&self, owner: &Owner) -> Result<(), StoreError> {
        self.step(|contents| {
            if living(&contents.lease).is_some_and(|(its, _)| its == *owner) {
                contents.lease = None;
            }
        })
        .await
    }

    async fn attend(&self, replica: &Owner) -> Result<u32, StoreError> {
        self.step(|contents| {
            contents.present.insert(replica.clone(), Instant::now());
            contents.present.retain(|_, at| at.elapsed() < PRESENT);
            contents.present.len() as u32
        })
        .await
    }
}

/// WeChat's classic token endpoint.
#[derive(Clone)]
pub(crate) struct Mint(Arc<Press>);

pub(crate) struct Press {
    /// How many tokens there have been; the last is the one that works.
    tokens: AtomicU32,
    /// How many requests there have been.
    requests: AtomicU32,
    takes: Mutex<Duration>,
    fails: Mutex<Option<IssueError>>,
}

pub(crate) const LIFE: Duration = Duration::from_secs(7200);

impl Mint {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Press {
            tokens: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            takes: Mutex::new(Duration::from_millis(300)),
            fails: Mutex::default(),
        }))
    }

    pub(crate) fn requests(&self) -> u32 {
        self.0.requests.load(Ordering::SeqCst)
    }

    /// A new token, as if a stranger had asked.
    pub(crate) fn kick(&self) -> String {
        format!("t{}", self.0.tokens.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// The one that works.
    pub(crate) fn newest(&self) -> String {
        format!("t{}", self.0.tokens.load(Ordering::SeqCst))
    }

    pub(crate) fn takes(&self, time: Duration) {
        *self.0.takes.lock().unwrap() = time;
    }

    pub(crate) fn fails(&self, error: Option<IssueError>) {
        *self.0.fails.lock().unwrap() = error;
    }
}

/// One replica's way to WeChat.
pub(crate) struct Asks {
    pub(crate) mint: Mint,
    pub(crate) cut: Arc<AtomicBool>,
    pub(crate) circumstances: u16,
}

impl Issue for Asks {
    async fn issue(&self, _: Wanted) -> Result<Issued, IssueError> {
        if self.cut.load(Ordering::SeqCst) {
            sleep(Duration::from_secs(3)).await;
            return Err(IssueError::Unreachable("no route to host".to_owned()));
        }
        self.mint.0.requests.fetch_add(1, Ordering::SeqCst);
        let fails = self.mint.0.fails.lock().unwrap().clone();
        if let Some(error) = fails {
            sleep(Duration::from_millis(300)).await;
            return Err(error);
        }
        let value = self.mint.kick();
        let takes = *self.mint.0.takes.lock().unwrap();
        sleep(takes).await;
        Ok(Issued {
            token: Token::new(Secret::new(value), LIFE),
            fetched: true,
        })
    }

    fn circumstances(&self) -> u16 {
        self.circumstances
    }
}
