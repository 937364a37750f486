//! The world around the sidecars: WeChat, the network, the injected faults, and the results.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicU64},
};

use tokio::time::{Duration, Instant, sleep};
use wechat_sidecar::{metrics::AccountMetrics, token::source::wechat::TokenApi};

use super::{sidecar::Incarnation, store::Contents, wechat::Wechat};

/// The parameters of a simulation.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub api: TokenApi,
    /// Whether the sidecars share a store.
    pub store: bool,
    pub sidecars: usize,
    pub lasts: Duration,
    pub chaos: bool,
}

/// The state of the whole simulation. One thread runs it. There are locks only because a keeper requires `Send`.
pub struct World {
    pub scenario: Scenario,
    pub began: Instant,
    pub wechat: Mutex<Wechat>,
    pub weather: Mutex<Weather>,
    store: Mutex<Contents>,
    pub lines: Vec<Line>,
    /// Dead tokens with which a call was refused, and the time of the first such call.
    dead: Mutex<BTreeMap<String, Instant>>,
    stuck_until: Mutex<Instant>,
    pub running: Mutex<Vec<Option<Arc<Incarnation>>>>,
    log: Mutex<Log>,
    events: Mutex<BTreeMap<&'static str, u64>>,
    pub calls: Mutex<Calls>,
    /// How many times a sidecar was started.
    pub starts: AtomicU64,
    /// The metrics of all sidecars together, which are not read.
    pub metrics: Arc<AccountMetrics>,
}

/// The current faults of WeChat.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Until then, replies take seconds, and some more than the timeout.
    pub slow_until: Instant,
    /// Until then, half of all token requests are answered with -1.
    pub busy_until: Instant,
    /// How many of the next calls are refused although their token is valid.
    pub spurious_refusals: u32,
}

/// The connection of one sidecar to the others, across its restarts.
pub struct Line(Mutex<LineState>);

#[derive(Clone, Copy, Debug)]
pub struct LineState {
    pub wechat_cut_until: Instant,
    pub store_cut_until: Instant,
    /// The AppSecret in its file, and when its keeper learned of it.
    pub secret: u32,
    pub told_at: Instant,
    /// When a token request or a store step failed last: its own, or one that it heard of.
    pub failed_at: Option<Instant>,
    /// Until then, it is suspended.
    pub frozen_until: Instant,
}

/// The longest pause of a keeper or of a token source after a failure without a known cause, which is 75 s, and a
/// fetch.
const BACK_OFF: Duration = Duration::from_secs(90);

/// The longest time of a fetch, including a lease that was left behind.
const FETCH: Duration = Duration::from_secs(35);

/// How calls ended.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    pub made: u64,
    pub accepted: u64,
    /// Calls accepted at the second send.
    pub healed: u64,
    /// Calls without a reply, because WeChat could not be reached.
    pub unreachable: u64,
    /// Calls refused, or without a token, that could not have been healed.
    pub excused: BTreeMap<&'static str, u64>,
    /// Calls refused because the second token ended on the way, or shortly before and its replacement was not due
    /// yet.
    pub overtaken: u64,
    /// Calls refused, or without a token, that could have been healed.
    pub failed: Vec<String>,
}

struct Log {
    hash: DefaultHasher,
    printed: bool,
}

impl World {
    pub fn new(scenario: Scenario) -> Self {
        let now = Instant::now();
        let line = |_| Line::new(now);
        Self {
            scenario,
            began: now,
            wechat: Mutex::new(Wechat::new(scenario.api)),
            weather: Mutex::new(Weather {
                slow_until: now,
                busy_until: now,
                spurious_refusals: 0,
            }),
            store: Mutex::new(Contents::new()),
            lines: (0..scenario.sidecars).map(line).collect(),
            dead: Mutex::default(),
            stuck_until: Mutex::new(now),
            running: Mutex::new(vec![None; scenario.sidecars]),
            log: Mutex::new(Log {
                hash: DefaultHasher::new(),
                printed: std::env::var_os("PRINT").is_some(),
            }),
            events: Mutex::default(),
            calls: Mutex::default(),
            starts: AtomicU64::new(0),
            metrics: Arc::default(),
        }
    }

    /// Records an event.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        let mut log = self.log.lock().unwrap();
        let at = self.began.elapsed();
        let line = what.to_string();
        (at.as_millis(), &line).hash(&mut log.hash);
        if log.printed {
            eprintln!("{:>10.3} {line}", at.as_secs_f64());
        }
    }

    /// Records an injected event, which may cause a fetch.
    pub fn event(&self, kind: &'static str, what: fmt::Arguments<'_>) {
        *self.events.lock().unwrap().entry(kind).or_default() += 1;
        self.note(format_args!("EVENT {kind}: {what}"));
    }

    pub fn events(&self) -> BTreeMap<&'static str, u64> {
        self.events.lock().unwrap().clone()
    }

    /// A hash of all events. It is equal for equal runs.
    pub fn hash(&self) -> u64 {
        self.log.lock().unwrap().hash.finish()
    }

    pub fn wechat(&self) -> MutexGuard<'_, Wechat> {
        self.wechat.lock().unwrap()
    }

    pub fn store(&self) -> MutexGuard<'_, Contents> {
        self.store.lock().unwrap()
    }

    pub fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap()
    }

    /// The running sidecar at `index`, if there is one.
    pub fn sidecar(&self, index: usize) -> Option<Arc<Incarnation>> {
        self.running.lock().unwrap()[index].clone()
    }

    pub fn is_slow(&self) -> bool {
        Instant::now() < self.weather.lock().unwrap().slow_until
    }

    /// Whether the sidecar at `index` can use the store.
    pub fn has_store(&self, index: usize) -> bool {
        let store = self.store();
        let worst = store
            .away_until
            .max(store.read_only_until)
            .max(store.slow_until);
        worst.max(self.lines[index].get().store_cut_until) <= Instant::now()
    }

    /// Records that a call was refused with `token` at its first send. From then on, the keeper is replacing it.
    pub fn noticed_dead(&self, token: &str) {
        if !self.wechat().accepts(token) {
            let mut dead = self.dead.lock().unwrap();
            dead.entry(token.to_owned()).or_insert_with(Instant::now);
        }
    }

    /// Whether there was time to replace `token` since a call was first refused with it.
    pub fn is_known_dead(&self, token: &str) -> bool {
        let dead = self.dead.lock().unwrap();
        dead.get(token).is_some_and(|at| at.elapsed() > FETCH)
    }

    /// The reason why the sidecar at `index` need not have a valid token, if there is one.
    pub fn excuse(&self, index: usize) -> Option<&'static str> {
        let line = self.lines[index].get();
        let now = Instant::now();
        let weather = *self.weather.lock().unwrap();
        let store = self.store();
        let alone = line
            .store_cut_until
            .max(store.away_until)
            .max(store.read_only_until);
        let failed = |at: Instant| now < at + BACK_OFF;
        if now < line.wechat_cut_until + BACK_OFF {
            Some("cut from WeChat")
        } else if line.secret != self.wechat().secret() || now < line.told_at + FETCH {
            Some("the wrong secret")
        } else if self.scenario.store && now < alone + BACK_OFF {
            Some("cut from the store")
        } else if now < weather.slow_until + BACK_OFF || now < weather.busy_until + BACK_OFF {
            Some("WeChat is slow or busy")
        } else if self.scenario.store && now < store.slow_until + BACK_OFF {
            Some("the store is slow")
        } else if line.failed_at.is_some_and(failed) {
            Some("a failure")
        } else if now < line.frozen_until + FETCH {
            Some("it stood still")
        } else if now < *self.stuck_until.lock().unwrap() {
            Some("a lease left behind")
        } else {
            None
        }
    }

    /// A fault hits the sidecar at `index`. If it has the lease, the others have to wait for it.
    pub fn is_hampered(&self, index: usize) {
        if self.store().leased_to() == Some(index) {
            *self.stuck_until.lock().unwrap() = Instant::now() + FETCH;
        }
    }

    /// The time that a message to or from WeChat takes.
    pub async fn travel(&self) {
        sleep(if self.is_slow() {
            between(1.0, 7.0)
        } else {
            between(0.01, 0.1)
        })
        .await;
    }
}

impl Line {
    fn new(now: Instant) -> Self {
        Self(Mutex::new(LineState {
            wechat_cut_until: now,
            store_cut_until: now,
            secret: 0,
            told_at: now,
            failed_at: None,
            frozen_until: now,
        }))
    }

    pub fn get(&self) -> LineState {
        *self.0.lock().unwrap()
    }

    pub fn set(&self, change: impl FnOnce(&mut LineState)) {
        change(&mut self.0.lock().unwrap());
    }
}

impl LineState {
    pub fn reaches_wechat(&self) -> bool {
        self.wechat_cut_until <= Instant::now()
    }

    pub fn reaches_store(&self) -> bool {
        self.store_cut_until <= Instant::now()
    }
}

/// A random time between two numbers of seconds.
pub fn between(least: f64, most: f64) -> Duration {
    Duration::from_secs_f64(least + (most - least) * fastrand::f64())
}

/// A random time that is `mean` on average, distributed as the gaps between calls are.
pub fn about(mean: Duration) -> Duration {
    mean.mul_f64(-(1.0 - fastrand::f64()).ln())
}
