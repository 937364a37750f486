//! A thousand sidecars run for two simulated days against WeChat's token rules, in seconds and reproducibly.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations
)]

#[path = "simulation/chaos.rs"]
mod chaos;
#[path = "simulation/run.rs"]
mod run;
#[path = "simulation/sidecar.rs"]
mod sidecar;
#[path = "simulation/store.rs"]
mod store;
#[path = "simulation/wechat.rs"]
mod wechat;
#[path = "simulation/world.rs"]
mod world;

use std::time::Duration;

use wechat_sidecar::token::source::wechat::TokenApi;

use run::{Report, run, runs};
use wechat::WINDOW;
use world::Scenario;

const STABLE: Scenario = Scenario {
    api: TokenApi::Stable,
    store: false,
    sidecars: 1000,
    lasts: Duration::from_secs(48 * 3600),
    chaos: false,
};

const CLASSIC: Scenario = Scenario {
    api: TokenApi::Classic,
    store: true,
    ..STABLE
};

/// The number of sidecars in chaos. A debug build has fewer, because it runs ten times slower.
const IN_CHAOS: usize = if cfg!(debug_assertions) { 300 } else { 1000 };

/// The earliest that one of many sidecars requests the next stable token: 285 s before the current one expires.
const FIRST_ASKED: Duration = Duration::from_secs(285);

#[test]
fn stable_without_a_store_costs_a_thousand_sidecars_one_request_each_a_lifetime() {
    runs(STABLE, 1, |report| {
        report.check();
        assert_eq!(report.asked.minted, report.fewest(FIRST_ASKED));
        assert_eq!(report.asked.requests, report.asked.minted * 1000);
        assert_eq!(report.calls.accepted, report.calls.made);
        assert_eq!(report.calls.healed, 0);
    });
}

#[test]
fn stable_without_a_store_heals_whatever_can_be_healed() {
    let scenario = Scenario {
        chaos: true,
        sidecars: IN_CHAOS,
        ..STABLE
    };
    runs(scenario, 1, |report| {
        report.check();
        let ended_early = report.happened(&["a kick", "a secret reset"]);
        assert!(report.asked.minted <= report.fewest(WINDOW) + ended_early);
        assert!(report.asked.requests <= requests_with_a_reason(report));
    });
}

/// The requests that have a reason: one for each start, one for each token and sidecar, and one more after each
/// failure.
fn requests_with_a_reason(report: &Report) -> u64 {
    let told_nothing = report.asked.wrong_secret + report.injected();
    report.starts + u64::from(report.tokens) * report.scenario.sidecars as u64 + told_nothing
}

#[test]
fn classic_with_a_store_costs_a_thousand_sidecars_together_one_request_a_lifetime() {
    runs(CLASSIC, 1, |report| {
        report.check();
        assert_eq!(report.asked.requests, report.fewest(WINDOW));
        assert_eq!(report.calls.accepted, report.calls.made);
        assert_eq!(report.calls.healed, 0);
    });
}

#[test]
fn classic_with_a_store_heals_whatever_can_be_healed() {
    let scenario = Scenario {
        chaos: true,
        sidecars: IN_CHAOS,
        ..CLASSIC
    };
    runs(scenario, 1, |report| {
        report.check();
        let wrong = report.asked.wrong_secret;
        let others = report.asked.requests - wrong;
        assert!(others <= report.fewest(WINDOW) + report.injected());
        let alone = report.happened(&["a start without the store"]);
        assert!(wrong <= 100 * report.happened(&["a secret reset"]) + 3 * alone);
    });
}

#[test]
fn two_runs_of_one_seed_are_alike() {
    let scenario = Scenario {
        chaos: true,
        sidecars: 200,
        lasts: Duration::from_secs(24 * 3600),
        ..STABLE
    };
    let hashes = [run(scenario, 1).hash, run(scenario, 1).hash];
    assert_eq!(hashes[0], hashes[1]);
    assert_ne!(hashes[0], run(scenario, 2).hash);
}
