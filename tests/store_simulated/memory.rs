//! A store in memory that can be emptied, partitioned and broken at any step, and a WeChat to fetch from.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use tokio::time::{Duration, Instant, sleep};

use wechat_sidecar::{
    secret::Secret,
    token::{
        Expiry, Token,
        source::{
            FetchRequest, FetchedToken, TokenError, TokenSource,
            revocation::{NotRevocable, RevocationMethod},
            store::{
                FetchGrant, HEARTBEAT_TTL, LeaseId, Note, SetOutcome, Store, StoreError,
                StoreState, StoredToken,
            },
        },
    },
};

/// The store that all replicas share.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Contents>>);

#[derive(Default)]
pub struct Contents {
    pub token: Option<(Secret, Instant)>,
    expiry: Expiry,
    note: Option<(Note, Instant)>,
    pub lease: Option<(LeaseId, Instant)>,
    present: HashMap<LeaseId, Instant>,
    pub fetches: u32,
}

fn living<T: Clone>(entry: &Option<(T, Instant)>) -> Option<(T, Duration)> {
    let (value, until) = entry.as_ref()?;
    let left = until.saturating_duration_since(Instant::now());
    (!left.is_zero()).then(|| (value.clone(), left))
}

impl Memory {
    pub fn with<T>(&self, change: impl FnOnce(&mut Contents) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    /// The stored token.
    pub fn token(&self) -> Option<String> {
        let token = self.with(|contents| living(&contents.token));
        token.map(|(value, _)| value.expose().to_owned())
    }

    /// Stores a token, as another program would.
    pub fn set(&self, value: &str, lives: Duration) {
        let until = Instant::now() + lives;
        self.with(|contents| contents.token = Some((Secret::new(value), until)));
    }

    pub fn empty(&self) {
        self.with(|contents| *contents = Contents::default());
    }

    pub fn view(&self) -> View {
        View(Arc::new(Way {
            memory: self.clone(),
            away: AtomicBool::new(false),
            step: AtomicU64::new(0),
            breaks: Mutex::default(),
        }))
    }
}

/// The store as one replica sees it.
#[derive(Clone)]
pub struct View(Arc<Way>);

pub struct Way {
    memory: Memory,
    away: AtomicBool,
    /// How many steps were made.
    step: AtomicU64,
    breaks: Mutex<Option<Break>>,
}

/// An error at one step, or from this step on.
#[derive(Clone, Copy)]
pub struct Break {
    pub at: u64,
    pub for_good: bool,
    /// Whether the step takes effect in spite of the error.
    pub taken: bool,
}

impl View {
    pub fn away(&self, away: bool) {
        self.0.away.store(away, Ordering::SeqCst);
    }

    pub fn breaks(&self, at: Break) {
        *self.0.breaks.lock().unwrap() = Some(at);
    }

    pub fn steps(&self) -> u64 {
        self.0.step.load(Ordering::SeqCst)
    }

    async fn step<T>(&self, take: impl FnOnce(&mut Contents) -> T) -> Result<T, StoreError> {
        sleep(Duration::from_millis(1)).await;
        let away = || StoreError::Other("away".to_owned());
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
    async fn read(&self) -> Result<StoreState, StoreError> {
        self.step(|contents| StoreState {
            token: living(&contents.token).map(|(value, remaining)| StoredToken {
                value,
                remaining,
                expiry: contents.expiry,
            }),
            note: living(&contents.note).map(|(note, _)| note),
            leased: living(&contents.lease).is_some(),
        })
        .await
    }

    async fn acquire(&self, owner: &LeaseId, length: Duration) -> Result<bool, StoreError> {
        self.step(|contents| {
            let free = living(&contents.lease).is_none_or(|(its, _)| its == *owner);
            if free {
                contents.lease = Some((owner.clone(), Instant::now() + length));
            }
            free
        })
        .await
    }

    async fn begin_fetch(&self, owner: &LeaseId) -> Result<Option<FetchGrant>, StoreError> {
        self.step(|contents| {
            let (_, left) = living(&contents.lease).filter(|(its, _)| its == owner)?;
            contents.fetches += 1;
            let fetches = contents.fetches;
            Some(FetchGrant { left, fetches })
        })
        .await
    }

    async fn refund(&self, _: &LeaseId) -> Result<(), StoreError> {
        self.step(|contents| contents.fetches -= 1).await
    }

    async fn compare_and_set(
        &self,
        owner: Option<&LeaseId>,
        seen: Option<&Secret>,
        token: &StoredToken,
    ) -> Result<SetOutcome, StoreError> {
        self.step(|contents| {
            let lease = living(&contents.lease).map(|(its, _)| its);
            if lease.as_ref() != owner {
                return SetOutcome::NotLeased;
            }
            let there = living(&contents.token).map(|(value, _)| value);
            if there.as_ref() != seen {
                return SetOutcome::Changed;
            }
            contents.token = Some((token.value.clone(), Instant::now() + token.remaining));
            contents.expiry = token.expiry;
            contents.lease = None;
            contents.note = None;
            SetOutcome::Done
        })
        .await
    }

    async fn publish(&self, note: &Note, length: Duration) -> Result<(), StoreError> {
        let until = Instant::now() + length;
        self.step(|contents| contents.note = Some((note.clone(), until)))
            .await
    }

    async fn release(&self, owner: &LeaseId) -> Result<(), StoreError> {
        self.step(|contents| {
            if living(&contents.lease).is_some_and(|(its, _)| its == *owner) {
                contents.lease = None;
            }
        })
        .await
    }

    async fn heartbeat(&self, replica: &LeaseId) -> Result<u32, StoreError> {
        self.step(|contents| {
            contents.present.insert(replica.clone(), Instant::now());
            contents
                .present
                .retain(|_, at| at.elapsed() < HEARTBEAT_TTL);
            contents.present.len() as u32
        })
        .await
    }
}

/// WeChat's classic token endpoint.
#[derive(Clone)]
pub struct Mint(Arc<Press>);

pub struct Press {
    /// How many tokens were minted. The last one works.
    tokens: AtomicU32,
    /// How many requests there were.
    requests: AtomicU32,
    /// Whether it returns the same token again, as WeCom does.
    stubborn: AtomicBool,
    takes: Mutex<Duration>,
    fails: Mutex<Option<TokenError>>,
}

pub const LIFE: Duration = Duration::from_secs(7200);

impl Mint {
    pub fn new() -> Self {
        Self(Arc::new(Press {
            tokens: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            stubborn: AtomicBool::new(false),
            takes: Mutex::new(Duration::from_millis(300)),
            fails: Mutex::default(),
        }))
    }

    pub fn requests(&self) -> u32 {
        self.0.requests.load(Ordering::SeqCst)
    }

    /// Mints a token, as if somebody else had fetched it.
    pub fn kick(&self) -> String {
        format!("t{}", self.0.tokens.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// The token that works.
    pub fn newest(&self) -> String {
        format!("t{}", self.0.tokens.load(Ordering::SeqCst))
    }

    pub fn is_stubborn(&self) {
        self.0.stubborn.store(true, Ordering::SeqCst);
    }

    pub fn takes(&self, time: Duration) {
        *self.0.takes.lock().unwrap() = time;
    }

    pub fn fails(&self, error: Option<TokenError>) {
        *self.0.fails.lock().unwrap() = error;
    }
}

/// The connection of one replica to WeChat.
pub struct Asks {
    pub mint: Mint,
    pub cut: Arc<AtomicBool>,
    pub circumstances: u16,
}

impl TokenSource for Asks {
    async fn fetch(&self, _: FetchRequest) -> Result<FetchedToken, TokenError> {
        if self.cut.load(Ordering::SeqCst) {
            sleep(Duration::from_secs(3)).await;
            return Err(TokenError::Unreachable("no route to host".to_owned()));
        }
        self.mint.0.requests.fetch_add(1, Ordering::SeqCst);
        let fails = self.mint.0.fails.lock().unwrap().clone();
        if let Some(error) = fails {
            sleep(Duration::from_millis(300)).await;
            return Err(error);
        }
        let takes = *self.mint.0.takes.lock().unwrap();
        let known = self.mint.newest();
        let value = if self.mint.0.stubborn.load(Ordering::SeqCst) && known != "t0" {
            known
        } else {
            self.mint.kick()
        };
        sleep(takes).await;
        Ok(FetchedToken {
            token: Token::new(Secret::new(value), LIFE),
            fetched: true,
        })
    }

    fn credential_fingerprint(&self) -> u16 {
        self.circumstances
    }

    fn revocation(&self) -> Result<RevocationMethod, NotRevocable> {
        Ok(RevocationMethod::OneRequest)
    }
}
