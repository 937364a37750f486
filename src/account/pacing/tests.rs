//! Who waits, in which order and for how long, by a clock that stands still.

use std::{
    pin::Pin,
    task::{Context, Waker},
};

use tokio::{task::JoinSet, time::advance};

use super::*;

fn options(rules: &[&str], wait: u64) -> PacingOptions {
    let rule = |text: &&str| PaceRule::parse(text).unwrap();
    PacingOptions {
        rules: rules.iter().map(rule).collect(),
        wait: Duration::from_secs(wait),
    }
}

fn pacing(rules: &[&str], wait: u64) -> Arc<Pacing> {
    Pacing::new(&options(rules, wait), None).unwrap()
}

/// Lets every task that can go on do so, without any time.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Lets `turn` go on, once.
fn is_ready(turn: &mut Pin<Box<impl Future>>) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    turn.as_mut().poll(&mut cx).is_ready()
}

fn waiting(pacing: &Pacing) -> u32 {
    pacing.queues[0].state().waiting
}

#[tokio::test(start_paused = true)]
async fn calls_above_the_rate_wait_in_their_order_and_those_who_would_wait_too_long_do_not() {
    let pacing = pacing(&["/x=2/s"], 3);
    let began = Instant::now();
    let mut calls = JoinSet::new();
    for number in 0..10 {
        let pacing = pacing.clone();
        calls.spawn(async move { (number, pacing.turn(b"/x").await, began.elapsed()) });
        settle().await;
    }
    let mut ended = Vec::new();
    while let Some(call) = calls.join_next().await {
        ended.push(call.unwrap());
    }
    let served = ended.iter().filter(|(_, turn, _)| turn.is_ok());
    let served: Vec<_> = served
        .map(|(number, _, at)| (*number, at.as_millis()))
        .collect();
    let expected: Vec<_> = (0..7)
        .map(|number| (number, number as u128 * 500))
        .collect();
    assert_eq!(served.len(), 7);
    for ((number, at), (expected, millis)) in served.iter().zip(expected) {
        assert!(
            *number == expected && at.abs_diff(millis) <= 5,
            "{served:?}"
        );
    }
    let turned_down = ended.iter().filter(|(_, turn, _)| turn.is_err());
    for (_, turn, at) in turned_down {
        assert_eq!(*at, Duration::ZERO);
        let error = turn.clone().unwrap_err();
        assert_eq!(error.retry_after(), Duration::from_millis(3500));
        let sentence = error.to_string();
        assert!(
            sentence.contains("\"/x=2/s\"") && sentence.contains("in 4 s"),
            "{sentence}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_frees_the_place_and_the_turn() {
    let pacing = pacing(&["/x=1/s"], 2);
    pacing.turn(b"/x").await.unwrap();
    let call = || {
        let pacing = pacing.clone();
        tokio::spawn(async move { pacing.turn(b"/x").await })
    };
    let (first, second) = (call(), call());
    settle().await;
    assert_eq!(waiting(&pacing), 2);
    assert!(pacing.turn(b"/x").await.is_err());
    // The first one holds the turn, and takes it along.
    first.abort();
    let third = call();
    settle().await;
    assert_eq!(waiting(&pacing), 2);
    let took = |turn: Result<Result<Duration, TooFast>, _>| turn.unwrap().unwrap().as_secs_f64();
    assert!((0.99..1.01).contains(&took(second.await)));
    assert!((1.99..2.01).contains(&took(third.await)));
    assert_eq!(waiting(&pacing), 0);
}

#[tokio::test(start_paused = true)]
async fn who_comes_just_when_a_turn_is_due_does_not_take_it() {
    let pacing = pacing(&["/x=1/s"], 5);
    pacing.turn(b"/x").await.unwrap();
    let mut first = Box::pin(pacing.turn(b"/x"));
    assert!(!is_ready(&mut first));
    advance(Duration::from_secs(1)).await;
    let mut second = Box::pin(pacing.turn(b"/x"));
    assert!(!is_ready(&mut second));
    assert!(is_ready(&mut first));
    let took = second.await.unwrap();
    assert!((0.99..1.01).contains(&took.as_secs_f64()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replay_goes_at_once_and_pushes_back_those_who_wait() {
    let pacing = pacing(&["/x=1/s"], 2);
    pacing.turn(b"/x").await.unwrap();
    let waiter = tokio::spawn({
        let pacing = pacing.clone();
        async move { pacing.turn(b"/x").await }
    });
    settle().await;
    pacing.debit(b"/x");
    let took = waiter.await.unwrap().unwrap();
    assert!((1.99..2.01).contains(&took.as_secs_f64()), "{took:?}");
    // Nobody waits longer than is said, even so.
    let waiter = tokio::spawn({
        let pacing = pacing.clone();
        async move { pacing.turn(b"/x").await }
    });
    settle().await;
    (0..5).for_each(|_| pacing.debit(b"/x"));
    let began = Instant::now();
    assert!(waiter.await.unwrap().is_err());
    assert!(began.elapsed() <= Duration::from_secs(2) + SLACK + SLACK);
}

#[tokio::test(start_paused = true)]
async fn the_first_rule_that_matches_counts_and_other_paths_are_free() {
    let pacing = pacing(&["/a/x=1/day", "/a/*=2/day"], 0);
    for path in [b"/a/x", b"/a/y", b"/a/z", b"/a/z", b"/b/z", b"/b/z"] {
        let _ = pacing.turn(path).await;
    }
    assert!(pacing.turn(b"/a/x").await.is_err());
    assert!(pacing.turn(b"/a/y").await.is_err());
    assert_eq!(pacing.turn(b"/b/z").await, Ok(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_stays_goes_on_as_it_was() {
    let before = pacing(&["/x=1/day", "/y=1/day"], 0);
    before.turn(b"/x").await.unwrap();
    before.turn(b"/y").await.unwrap();
    let changed = options(&["/y=2/day", "/x=1/day"], 0);
    let after = Pacing::new(&changed, Some(&before)).unwrap();
    assert!(after.turn(b"/x").await.is_err());
    assert!(after.turn(b"/y").await.is_ok());
    assert!(Pacing::new(&options(&[], 5), Some(&after)).is_none());
}
