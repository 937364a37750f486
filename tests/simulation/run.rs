//! Runs a scenario with a seed, and reports what happened.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, available_parallelism},
};

use tokio::{
    runtime::Builder,
    time::{Duration, sleep},
};

use super::{
    chaos::{every, rage},
    sidecar::Incarnation,
    wechat::{Asked, LIFE},
    world::{Calls, Scenario, World, between},
};

/// The result of a run.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub scenario: Scenario,
    pub asked: Asked,
    /// All tokens that were minted, also by others.
    pub tokens: u32,
    /// How many times a sidecar was started.
    pub starts: u64,
    pub calls: Calls,
    pub events: BTreeMap<&'static str, u64>,
    /// A hash of all events. It is equal for equal runs.
    pub hash: u64,
}

/// Runs `scenario` with `seed`, on a clock that jumps from one event to the next.
pub fn run(scenario: Scenario, seed: u64) -> Report {
    fastrand::seed(seed);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let world = runtime.block_on(async {
        let world = Arc::new(World::new(scenario));
        for index in 0..scenario.sidecars {
            tokio::spawn(begin(world.clone(), index));
        }
        if scenario.chaos {
            tokio::spawn(rage(world.clone()));
        }
        sleep(scenario.lasts).await;
        world
    });
    let asked = world.wechat().asked;
    let tokens = world.wechat().serial();
    let calls = world.calls().clone();
    Report {
        seed,
        scenario,
        asked,
        tokens,
        starts: world.starts.load(Ordering::Relaxed),
        calls,
        events: world.events(),
        hash: world.hash(),
    }
}

/// Starts a sidecar within the first minute.
async fn begin(world: Arc<World>, index: usize) {
    sleep(between(0.0, 60.0)).await;
    Incarnation::start(&world, index, every(index)).call().await;
}

impl Report {
    /// How many events of these kinds there were.
    pub fn happened(&self, kinds: &[&str]) -> u64 {
        kinds.iter().filter_map(|kind| self.events.get(kind)).sum()
    }

    /// The number of injected events. Each may cause a fetch.
    pub fn injected(&self) -> u64 {
        self.events.values().sum()
    }

    /// The least number of tokens for the whole run, if each is replaced this long before it expires.
    pub fn fewest(&self, ahead: Duration) -> u64 {
        let usable = LIFE - ahead;
        self.scenario.lasts.as_secs().div_ceil(usable.as_secs())
    }

    /// The checks that hold for every run.
    pub fn check(&self) {
        let Calls { made, failed, .. } = &self.calls;
        assert!(*made > 10_000, "hardly any calls");
        assert_eq!(self.asked.beyond, 0, "a quota was passed");
        assert!(failed.is_empty(), "calls failed that need not");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Calls {
            made,
            accepted,
            healed,
            unreachable,
            excused,
            overtaken,
            failed,
        } = &self.calls;
        writeln!(
            f,
            "seed {}: {:?} chaos={} {:016x}",
            self.seed, self.scenario.api, self.scenario.chaos, self.hash
        )?;
        writeln!(
            f,
            "  {:?}, tokens {}, starts {}",
            self.asked, self.tokens, self.starts
        )?;
        writeln!(
            f,
            "  calls {made}: accepted {accepted}, of them healed {healed}; unreachable {unreachable}, excused {excused:?}, \
             overtaken {overtaken}, failed {}",
            failed.len()
        )?;
        writeln!(f, "  events {}: {:?}", self.injected(), self.events)?;
        for failed in failed.iter().take(10) {
            writeln!(f, "  FAILED: {failed}")?;
        }
        Ok(())
    }
}

/// Runs `scenario` with many seeds, on all processors, and checks each. `SEEDS=100` runs a hundred seeds, counted
/// from `SEED=0`, and `SEED=7` alone only this one. A failure names its seed, which fails again in the same way.
pub fn runs(scenario: Scenario, usual: u64, check: impl Fn(&Report) + Sync) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let first: u64 = number("SEED").unwrap_or(0);
    let alone = number("SEED").map(|_| 1);
    let seeds = number("SEEDS").or(alone).unwrap_or(usual);
    let next = AtomicU64::new(first);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return;
            }
            let report = run(scenario, seed);
            println!("{report}");
            if catch_unwind(AssertUnwindSafe(|| check(&report))).is_err() {
                panic!("SEED={seed} fails: {report}");
            }
        }
    };
    let threads = available_parallelism().map_or(1, |many| many.get() as u64);
    thread::scope(|scope| {
        let started: Vec<_> = (0..threads.min(seeds)).map(|_| scope.spawn(work)).collect();
        for thread in started {
            if let Err(panic) = thread.join() {
                resume_unwind(panic);
            }
        }
    });
}
