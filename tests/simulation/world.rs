//! The world around the sidecars: WeChat, the ways to it, what is injected, and what came of it all.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicU64},
};

use tokio::time::{Duration, Instant, sleep};
use wechat_sidecar::{issuer::wechat::TokenApi, metrics::AccountMetrics};

use super::{sidecar::Incarnation, store::Contents, wechat::Wechat};

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub api: TokenApi,
    /// Whether the sidecars share a store.
    pub store: bool,
    pub sidecars: usize,
    pub lasts: Duration,
    pub chaos: bool,
}

/// Everything there is. One thread runs it; the locks are there because a keeper asks for `Send`.
pub struct World {
    pub scenario: Scenario,
    pub began: Instant,
    pub wechat: Mutex<Wechat>,
    pub weather: Mutex<Weather>,
    store: Mutex<Contents>,
    pub lines: Vec<Line>,
    pub running: Mutex<Vec<Option<Arc<Incarnation>>>>,
    log: Mutex<Log>,
    events: Mutex<BTreeMap<&'static str, u64>>,
    pub calls: Mutex<Calls>,
    /// How many times a sidecar was started.
    pub starts: AtomicU64,
    /// Of all sidecars together; nobody reads them.
    pub metrics: Arc<AccountMetrics>,
}

/// How WeChat is today.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Until when replies take seconds, some longer than anybody waits.
    pub slow_until: Instant,
    /// Until when half of all token requests are answered with -1.
    pub busy_until: Instant,
    /// How many of the next calls are refused though their token is good.
    pub whims: u32,
}

/// What lies between one sidecar and the others, whichever incarnation it is in.
pub struct Line(Mutex<LineState>);

#[derive(Clone, Copy, Debug)]
pub struct LineState {
    pub wechat_cut_until: Instant,
    pub store_cut_until: Instant,
    /// The AppSecret in its file.
    pub secret: u32,
    /// Until when nobody may expect that a refusal is healed, because of what this sidecar met.
    pub excused_until: Instant,
}

/// How calls ended.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    pub made: u64,
    pub accepted: u64,
    /// Accepted at the second send.
    pub healed: u64,
    /// Not answered: WeChat could not be reached.
    pub unreachable: u64,
    /// Refused, or without a token, when nothing could have been done about it.
    pub excused: u64,
    /// Refused because the token died between the fetch and the second send.
    pub overtaken: u64,
    /// Refused, or without a token, when something could have been.
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
                whims: 0,
            }),
            store: Mutex::new(Contents::new()),
            lines: (0..scenario.sidecars).map(line).collect(),
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

    /// Writes down that something happened now.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        let mut log = self.log.lock().unwrap();
        let at = self.began.elapsed();
        let line = what.to_string();
        (at.as_millis(), &line).hash(&mut log.hash);
        if log.printed {
            eprintln!("{:>10.3} {line}", at.as_secs_f64());
        }
    }

    /// Writes down that something was injected, which a fetch may be spent on.
    pub fn event(&self, kind: &'static str, what: fmt::Arguments<'_>) {
        *self.events.lock().unwrap().entry(kind).or_default() += 1;
        self.note(format_args!("EVENT {kind}: {what}"));
    }

    pub fn events(&self) -> BTreeMap<&'static str, u64> {
        self.events.lock().unwrap().clone()
    }

    /// What happened, in a number: equal runs have equal ones.
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

    /// The sidecar as it runs now, if it does.
    pub fn sidecar(&self, index: usize) -> Option<Arc<Incarnation>> {
        self.running.lock().unwrap()[index].clone()
    }

    pub fn is_slow(&self) -> bool {
        Instant::now() < self.weather.lock().unwrap().slow_until
    }

    /// The time a message takes to or from WeChat.
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
            excused_until: now,
        }))
    }

    pub fn get(&self) -> LineState {
        *self.0.lock().unwrap()
    }

    pub fn set(&self, change: impl FnOnce(&mut LineState)) {
        change(&mut self.0.lock().unwrap());
    }

    /// Whatever is refused in the next `time` was not to be healed.
    pub fn excuse(&self, time: Duration) {
        let until = Instant::now() + time;
        self.set(|line| line.excused_until = line.excused_until.max(until));
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

/// A time between two numbers of seconds.
pub fn between(least: f64, most: f64) -> Duration {
    Duration::from_secs_f64(least + (most - least) * fastrand::f64())
}

/// A time that is `mean` on average, as the gaps between calls are.
pub fn about(mean: Duration) -> Duration {
    mean.mul_f64(-(1.0 - fastrand::f64()).ln())
}
