//! Replicas of one account go on when their store fails, is unavailable or comes back empty.
#![allow(clippy::unwrap_used)]

#[path = "store_simulated/memory.rs"]
mod memory;
#[path = "store_simulated/replica.rs"]
mod replica;

use futures_util::future::join_all;
use tokio::time::{Duration, Instant, sleep};

use memory::{Break, LIFE};
use replica::{DAILY, REFUSAL, Replica, many};
use wechat_sidecar::{metrics::Cause, token::keeper::Replacement};

/// Breaks a step at the store. Returns whether the step was reached, after checking that the replica recovers.
async fn broken(cause: Cause, at: u64, for_good: bool, taken: bool) -> bool {
    let (memory, mint, replicas) = many(2);
    let replica = &replicas[0];
    let token = match cause {
        Cause::Missing => None,
        Cause::Renewal | Cause::Refusal | Cause::Revoke => Some(replica.token().await),
    };
    // The replica now knows of another one.
    replicas[1].token().await;
    if cause == Cause::Renewal {
        sleep(LIFE - Duration::from_secs(200)).await;
    } else {
        mint.kick();
        memory.with(|contents| contents.token = None);
    }
    let (began, steps, before) = (Instant::now(), replica.view.steps(), mint.requests());
    replica.view.breaks(Break {
        at: steps + at,
        for_good,
        taken,
    });
    replica.run();
    match &token {
        Some(token) if cause == Cause::Refusal => {
            let replaced = replica.keeper.replace(token, REFUSAL).await;
            assert!(
                matches!(replaced, Ok(Replacement::Another(_))),
                "{replaced:?}"
            );
        }
        Some(token) if cause == Cause::Revoke => {
            assert_eq!(replica.keeper.revoke(), Ok(true));
            let mut latest = replica.keeper.revocation();
            let ended =
                latest.wait_for(|latest| latest.as_ref().is_some_and(|one| !one.is_running()));
            assert_eq!(ended.await.unwrap().as_ref().unwrap().ended, Some(Ok(())));
            assert!(!replica.token().await.is(token));
        }
        Some(_) => {
            replica.value().await;
            assert_eq!(began.elapsed(), Duration::ZERO, "a call waited");
        }
        None => drop(replica.value().await),
    }
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    // A token in its last minutes is kept while the store is unavailable.
    sleep(Duration::from_secs(30)).await;
    let happened = replica.view.steps() - steps > at;
    if cause == Cause::Renewal && for_good {
        assert!(mint.requests() - before <= 1);
    } else {
        assert_eq!(replica.in_hand(), mint.newest());
        assert_eq!(mint.requests() - before, 1);
    }
    replica.view.breaks(Break {
        at: u64::MAX,
        for_good,
        taken,
    });
    sleep(Duration::from_secs(120)).await;
    assert_eq!(mint.requests() - before, 1);
    assert_eq!(memory.token().unwrap(), mint.newest());
    assert!(memory.with(|contents| contents.lease.is_none()));
    assert_eq!(replica.in_hand(), mint.newest());
    happened
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_at_any_step_costs_no_call_and_no_second_fetch() {
    for cause in Cause::ALL {
        for for_good in [false, true] {
            for taken in [false, true] {
                let mut at = 0;
                while broken(*cause, at, for_good, taken).await {
                    at += 1;
                }
                assert!(at >= 5, "{cause:?}: {at} steps");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_costs_nothing_while_tokens_live() {
    let (memory, mint, replicas) = many(20);
    for replica in &replicas {
        replica.token().await;
        replica.run();
    }
    sleep(Duration::from_secs(10)).await;
    replicas.iter().for_each(|replica| replica.view.away(true));
    for _ in 0..7100 / 10 {
        let began = Instant::now();
        for replica in &replicas {
            assert_eq!(replica.value().await, "t1");
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "a call waited");
        sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(mint.requests(), 1);
    replicas.iter().for_each(|replica| replica.view.away(false));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(mint.requests(), 2);
    assert_eq!(memory.token().unwrap(), "t2");
    for replica in &replicas {
        assert_eq!(replica.in_hand(), "t2");
    }
}

#[tokio::test(start_paused = true)]
async fn an_absence_of_some_seconds_in_which_all_are_refused_costs_one_fetch() {
    let (memory, mint, replicas) = many(300);
    for replica in &replicas {
        replica.token().await;
        replica.run();
    }
    sleep(Duration::from_secs(100)).await;
    let tokens = join_all(replicas.iter().map(Replica::token)).await;
    replicas.iter().for_each(|replica| replica.view.away(true));
    mint.kick();
    let refused = replicas.iter().zip(&tokens);
    let all = join_all(refused.map(|(replica, token)| replica.replace(token)));
    let back = async {
        sleep(Duration::from_secs(3)).await;
        memory.empty();
        replicas.iter().for_each(|replica| replica.view.away(false));
    };
    let (replaced, ()) = tokio::join!(all, back);
    for value in replaced {
        assert_eq!(value.unwrap(), "t3");
    }
    assert_eq!(mint.requests(), 2);
}

/// A day without a store, in which a foreign process ends every token within the hour.
#[tokio::test(start_paused = true)]
async fn a_long_absence_does_not_burn_the_quota() {
    // Each replica draws a random number that decides whether it may fetch. Three of them may, on average.
    fastrand::seed(7);
    for count in [1, 10, 40] {
        let (_, mint, replicas) = many(count);
        for replica in &replicas {
            replica.token().await;
            replica.run();
        }
        sleep(Duration::from_secs(120)).await;
        replicas.iter().for_each(|replica| replica.view.away(true));
        for _ in 0..23 {
            mint.kick();
            for replica in &replicas {
                if let Some(token) = replica.keeper.in_hand() {
                    replica.replace(&token).await;
                }
            }
            sleep(Duration::from_secs(3600)).await;
        }
        let most = 1 + DAILY.min(24 * count as u32);
        assert!(mint.requests() <= most, "{count}: {}", mint.requests());
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_fetched_without_the_store_is_shared_when_it_is_back() {
    let (memory, mint, replicas) = many(3);
    for replica in &replicas {
        replica.token().await;
        replica.run();
    }
    sleep(Duration::from_secs(100)).await;
    replicas.iter().for_each(|replica| replica.view.away(true));
    let token = replicas[1].token().await;
    assert_eq!(replicas[1].replace(&token).await.unwrap(), "t2");
    sleep(Duration::from_secs(600)).await;
    replicas.iter().for_each(|replica| replica.view.away(false));
    // This is long enough for two polls by the replica that has a token to share, and two by the others.
    sleep(Duration::from_secs(150)).await;
    assert_eq!(memory.token().unwrap(), "t2");
    for replica in &replicas {
        assert_eq!(replica.in_hand(), "t2");
    }
    assert_eq!(mint.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_starts_without_a_store_has_a_token_within_seconds() {
    let (memory, mint, _) = many(0);
    let replica = Replica::new(&memory, &mint);
    replica.view.away(true);
    let began = Instant::now();
    assert_eq!(replica.value().await, "t1");
    assert!(began.elapsed() < Duration::from_secs(4));
}
