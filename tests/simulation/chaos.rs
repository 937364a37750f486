//! The faults: about a hundred in two days, by chance, often just when a token is due.

use std::sync::Arc;

use tokio::time::{Duration, Instant, sleep, sleep_until};
use wechat_sidecar::token::source::wechat::TokenApi;

use super::{
    sidecar::Incarnation,
    wechat::WINDOW,
    world::{World, about, between},
};

/// The first sidecars get a call every two minutes. The others get one in two hours, and some of them more around
/// each fault.
pub const BUSY: usize = 10;

/// The average time between the calls of a sidecar's app.
pub fn every(index: usize) -> Duration {
    Duration::from_secs(if index < BUSY { 120 } else { 7200 })
}

/// How many of the sidecars that a fault hits get more calls.
const STIRRED: usize = 50;

/// Injects faults until the simulation ends.
pub async fn rage(world: Arc<World>) {
    loop {
        sleep(about(Duration::from_secs(1700))).await;
        if fastrand::u8(..3) == 0 {
            when_due(&world).await;
        }
        happen(&world).await;
    }
}

/// Waits until about the time when the token is due to be renewed.
async fn when_due(world: &World) {
    let Some(ends) = world.wechat().ends_at() else {
        return;
    };
    let due = ends - WINDOW;
    let about_then = due - Duration::from_secs(10) + between(0.0, 12.0);
    if about_then > Instant::now() {
        sleep_until(about_then).await;
    }
}

async fn happen(world: &Arc<World>) {
    if world.scenario.store && fastrand::bool() {
        return happen_to_store(world);
    }
    match fastrand::u8(..11) {
        0 | 1 => kick(world).await,
        2 => reset(world),
        3 => restart(world, some(world, 5)).await,
        4 => {
            let everybody = (0..world.scenario.sidecars).collect();
            if fastrand::bool() {
                restart(world, everybody).await;
            } else {
                tokio::spawn(roll(world.clone()));
            }
        }
        5 => {
            let most = if fastrand::u8(..3) == 0 {
                10_000.0
            } else {
                600.0
            };
            cut_from_wechat(world, some(world, 50), between(5.0, most));
        }
        6 => {
            let everybody = (0..world.scenario.sidecars).collect();
            cut_from_wechat(world, everybody, between(5.0, 1800.0));
        }
        7 => {
            let time = between(60.0, 1200.0);
            world.note(format_args!("WeChat is slow for {time:?}"));
            world.weather.lock().unwrap().slow_until = Instant::now() + time;
            stir(world, some(world, 50));
        }
        8 => {
            let time = between(60.0, 1200.0);
            world.note(format_args!("WeChat is busy for {time:?}"));
            world.weather.lock().unwrap().busy_until = Instant::now() + time;
            stir(world, some(world, 50));
        }
        9 => {
            let chosen = some(world, 3);
            for index in &chosen {
                let time = between(1.0, 600.0);
                world.event("a freeze", format_args!("of {index} for {time:?}"));
                if let Some(sidecar) = world.sidecar(*index) {
                    sidecar.freeze(time);
                }
            }
            stir(world, chosen);
        }
        _ => {
            world.weather.lock().unwrap().spurious_refusals += fastrand::u32(1..4);
            stir(world, some(world, 5));
        }
    }
}

fn happen_to_store(world: &Arc<World>) {
    let now = Instant::now();
    match fastrand::u8(..7) {
        0 => cut_from_store(world, some(world, 50), between(5.0, 10_000.0)),
        1 => {
            let everybody = (0..world.scenario.sidecars).collect();
            cut_from_store(world, everybody, between(5.0, 1800.0));
        }
        2 => {
            let (time, empty) = (between(0.5, 60.0), fastrand::bool());
            world.event(
                "the store restarts",
                format_args!("in {time:?}; empty: {empty}"),
            );
            let mut store = world.store();
            store.away_until = store.away_until.max(now + time);
            if empty {
                store.empty();
            }
        }
        3 => {
            world.event("the store is emptied", format_args!(""));
            world.store().empty();
        }
        4 => {
            let time = between(5.0, 600.0);
            world.event("the store is read-only", format_args!("for {time:?}"));
            world.event("the store can be written", format_args!("in {time:?}"));
            world.store().read_only_until = now + time;
        }
        5 => {
            let time = between(30.0, 600.0);
            world.event("the store is slow", format_args!("for {time:?}"));
            world.event("the store is fast", format_args!("in {time:?}"));
            world.store().slow_until = now + time;
        }
        _ => {
            let most = if fastrand::bool() { 3600.0 } else { 10.0 };
            let (by, later) = (between(0.0, most), fastrand::bool());
            world.event("the store's clock jumps", format_args!("by {by:?} {later}"));
            world.store().jump(by, later);
        }
    }
    stir(world, some(world, 50));
}

fn cut_from_store(world: &Arc<World>, chosen: Vec<usize>, time: Duration) {
    let until = Instant::now() + time;
    let count = chosen.len();
    world.event(
        "a cut from the store",
        format_args!("of {count} for {time:?}"),
    );
    world.event("a way to the store", format_args!("in {time:?}"));
    for index in &chosen {
        let line = &world.lines[*index];
        line.set(|line| line.store_cut_until = line.store_cut_until.max(until));
        world.is_hampered(*index);
    }
    stir(world, chosen.clone());
    let world = world.clone();
    tokio::spawn(async move {
        sleep_until(until).await;
        stir(&world, chosen);
    });
}

/// One or a few of the sidecars. The busy ones are preferred.
fn some(world: &World, most: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..world.scenario.sidecars).collect();
    if fastrand::bool() {
        all.truncate(BUSY);
    }
    fastrand::shuffle(&mut all);
    all.truncate(fastrand::usize(1..=most));
    all
}

/// Somebody else who knows the secret fetches a token, or two.
async fn kick(world: &Arc<World>) {
    let forced = world.scenario.api == TokenApi::Stable;
    let times = if fastrand::u8(..4) == 0 { 2 } else { 1 };
    for time in 0..times {
        if time > 0 {
            // WeChat forces a refresh only half a minute after the last one.
            sleep(between(if forced { 30.0 } else { 0.0 }, 40.0)).await;
        }
        let at_once = fastrand::bool();
        world.wechat().kick(at_once);
        world.event("a kick", format_args!("{at_once}"));
        stir(world, some(world, 50));
    }
    let (world, later) = (world.clone(), WINDOW);
    tokio::spawn(async move {
        sleep(later).await;
        stir(&world, some(&world, 50));
    });
}

/// The operator resets the AppSecret, and writes it to the files within half an hour.
fn reset(world: &Arc<World>) {
    let tokens_end = fastrand::bool();
    let until_written = between(1.0, 1800.0);
    let secret = {
        let mut wechat = world.wechat();
        wechat.reset_secret(tokens_end);
        wechat.secret()
    };
    world.event(
        "a secret reset",
        format_args!("tokens end: {tokens_end}; written in {until_written:?}"),
    );
    stir(world, some(world, 50));
    let world = world.clone();
    tokio::spawn(async move {
        sleep(until_written).await;
        for index in 0..world.scenario.sidecars {
            tokio::spawn(write_secret(world.clone(), index, secret));
        }
        stir(&world, some(&world, 50));
    });
}

/// Kubernetes takes up to a minute to update a secret, and the sidecar 5 s to notice it.
async fn write_secret(world: Arc<World>, index: usize, secret: u32) {
    sleep(between(0.0, 60.0)).await;
    let line = &world.lines[index];
    line.set(|line| {
        line.secret = line.secret.max(secret);
        line.told_at = Instant::now() + Duration::from_secs(5);
    });
    sleep(between(0.0, 5.0)).await;
    line.set(|line| line.told_at = Instant::now());
    if let Some(sidecar) = world.sidecar(index) {
        sidecar.keeper.try_again();
    }
}

/// All of `chosen` are killed at once, and restart.
async fn restart(world: &Arc<World>, chosen: Vec<usize>) {
    world.note(format_args!("{} restart", chosen.len()));
    for index in &chosen {
        if let Some(sidecar) = world.sidecar(*index) {
            sidecar.kill();
        }
    }
    for index in &chosen {
        tokio::spawn(start(world.clone(), *index));
    }
    stir(world, chosen);
}

/// They restart one after the other, as in a rollout.
async fn roll(world: Arc<World>) {
    world.note(format_args!("a rollout"));
    for index in 0..world.scenario.sidecars {
        sleep(between(0.0, 3.0)).await;
        if let Some(sidecar) = world.sidecar(index) {
            sidecar.kill();
        }
        tokio::spawn(start(world.clone(), index));
    }
}

/// Starts a sidecar after a while. Its app makes a call at once.
async fn start(world: Arc<World>, index: usize) {
    sleep(between(0.5, 5.0)).await;
    if world.sidecar(index).is_none() {
        Incarnation::start(&world, index, every(index)).call().await;
    }
}

fn cut_from_wechat(world: &Arc<World>, chosen: Vec<usize>, time: Duration) {
    let until = Instant::now() + time;
    world.note(format_args!(
        "{} are cut from WeChat for {time:?}",
        chosen.len()
    ));
    for index in &chosen {
        let line = &world.lines[*index];
        line.set(|line| line.wechat_cut_until = line.wechat_cut_until.max(until));
        world.is_hampered(*index);
    }
    stir(world, chosen.clone());
    let world = world.clone();
    tokio::spawn(async move {
        sleep_until(until).await;
        stir(&world, chosen);
    });
}

/// Some of `chosen`, and some others, get calls at once, in the next minute and in the next ten.
fn stir(world: &Arc<World>, mut chosen: Vec<usize>) {
    fastrand::shuffle(&mut chosen);
    chosen.truncate(STIRRED);
    chosen.extend((0..STIRRED / 3).map(|_| fastrand::usize(..world.scenario.sidecars)));
    for index in chosen {
        for within in [2.0, 60.0, 600.0] {
            let world = world.clone();
            tokio::spawn(async move {
                sleep(between(0.0, within)).await;
                let calls = if fastrand::u8(..10) == 0 { 4 } else { 0 };
                let Some(sidecar) = world.sidecar(index) else {
                    return;
                };
                for _ in 0..calls {
                    let sidecar = sidecar.clone();
                    tokio::spawn(async move { sidecar.call().await });
                }
                sidecar.call().await;
            });
        }
    }
}
