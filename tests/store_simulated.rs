//! Many replicas of one account share one store and one WeChat, on a paused clock.
#![allow(clippy::unwrap_used)]

#[path = "store_simulated/foreign.rs"]
mod foreign;
#[path = "store_simulated/memory.rs"]
mod memory;
#[path = "store_simulated/replica.rs"]
mod replica;
#[path = "store_simulated/tickets.rs"]
mod tickets;

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use tokio::time::{Duration, Instant, sleep, timeout};

use memory::LIFE;
use replica::{DAILY, REFUSAL, Replica, many, shared};
use wechat_sidecar::{
    metrics::Cause,
    token::{
        keeper::Replacement,
        source::{FetchRequest, TokenError, TokenErrorKind, TokenSource, store::LeaseId},
    },
    wechat::api::Api,
};

#[tokio::test(start_paused = true)]
async fn a_thousand_replicas_that_start_together_cause_one_fetch() {
    let (memory, mint, replicas) = many(1000);
    for value in join_all(replicas.iter().map(Replica::value)).await {
        assert_eq!(value, "t1");
    }
    assert_eq!(mint.requests(), 1);
    assert_eq!(memory.token().unwrap(), "t1");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_at_a_thousand_replicas_is_one_fetch() {
    let (_, mint, replicas) = many(1000);
    let tokens = join_all(replicas.iter().map(Replica::token)).await;
    mint.kick();
    let refused = replicas.iter().zip(&tokens);
    let refused = refused.map(|(replica, token)| replica.replace(token));
    for value in join_all(refused).await {
        assert_eq!(value.unwrap(), "t3");
    }
    assert_eq!(mint.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_calm_day_costs_ten_replicas_one_fetch_a_lifetime() {
    let (_, mint, replicas) = many(10);
    replicas.iter().for_each(Replica::run);
    for _ in 0..24 * 6 {
        sleep(Duration::from_secs(600)).await;
        for replica in &replicas {
            assert_eq!(replica.value().await, mint.newest());
        }
    }
    assert_eq!(mint.requests(), 13);
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_owner_died_is_taken_when_it_ends() {
    let (memory, mint, replicas) = many(2);
    mint.takes(Duration::from_secs(5));
    let dying = timeout(Duration::from_secs(1), async {
        let wanted = FetchRequest {
            cause: Cause::Missing,
            current: None,
        };
        shared(&memory, &mint).fetch(wanted).await
    });
    assert!(dying.await.is_err());
    mint.takes(Duration::from_millis(300));
    let began = Instant::now();
    replicas[0].run();
    replicas[1].run();
    while replicas.iter().any(|one| one.keeper.in_hand().is_none()) {
        sleep(Duration::from_millis(100)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(21));
    assert_eq!(replicas[0].in_hand(), "t2");
    assert_eq!(replicas[1].in_hand(), "t2");
    assert_eq!(mint.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_outlives_the_lease_is_given_up_before_it_ends() {
    let (memory, mint, replicas) = many(1);
    mint.takes(Duration::from_secs(60));
    let began = Instant::now();
    let error = replicas[0].keeper.token().await.unwrap_err().error;
    assert_eq!(error, TokenError::TimedOut);
    sleep(Duration::from_secs(15)).await;
    assert!(memory.with(|contents| contents.lease.is_none()));
    assert!(began.elapsed() < Duration::from_secs(31));
    assert!(memory.token().is_none());
}

/// While a replica fetches, its lease expires and another token is stored.
#[tokio::test(start_paused = true)]
async fn a_late_writer_does_not_overwrite_a_newer_token_but_takes_it() {
    let (memory, mint, replicas) = many(2);
    mint.takes(Duration::from_secs(5));
    let late = async {
        sleep(Duration::from_secs(2)).await;
        memory.empty();
        mint.takes(Duration::from_millis(300));
        replicas[1].value().await
    };
    let (first, second) = tokio::join!(replicas[0].value(), late);
    assert_eq!((&*first, &*second), ("t2", "t2"));
    assert_eq!(memory.token().unwrap(), "t2");
}

#[tokio::test(start_paused = true)]
async fn what_a_stranger_wrote_during_a_fetch_is_taken_unless_it_is_older() {
    for (lives, taken) in [(LIFE, "stranger"), (LIFE / 2, "t1")] {
        let (memory, mint, replicas) = many(1);
        let stranger = async {
            sleep(Duration::from_millis(100)).await;
            memory.set("stranger", lives);
        };
        let (value, ()) = tokio::join!(replicas[0].value(), stranger);
        assert_eq!(value, taken);
        assert_eq!(memory.token().unwrap(), taken);
        assert_eq!(mint.requests(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_compared_with_the_store_before_anybody_fetches() {
    let (memory, mint, replicas) = many(1);
    let refused = replicas[0].token().await;
    let newer = mint.kick();
    memory.set(&newer, LIFE);
    assert_eq!(replicas[0].replace(&refused).await.unwrap(), newer);
    assert_eq!(mint.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_refused_here_is_not_taken_again_from_a_stale_store() {
    let (memory, mint, replicas) = many(1);
    let first = replicas[0].token().await;
    mint.kick();
    replicas[0].replace(&first).await.unwrap();
    let second = replicas[0].token().await;
    memory.set("t1", LIFE);
    mint.kick();
    assert_eq!(replicas[0].replace(&second).await.unwrap(), "t5");
    assert_eq!(memory.token().unwrap(), "t5");
}

#[tokio::test(start_paused = true)]
async fn a_stale_store_gets_the_newer_token_that_a_replica_has() {
    let (memory, mint, replicas) = many(1);
    let first = replicas[0].token().await;
    replicas[0].run();
    replicas[0].replace(&first).await.unwrap();
    for older in [("t1", LIFE), ("unknown", LIFE / 2)] {
        memory.set(older.0, older.1);
        sleep(Duration::from_secs(50)).await;
        assert_eq!(memory.token().unwrap(), "t2", "{older:?}");
    }
    assert_eq!(replicas[0].in_hand(), "t2");
    assert_eq!(mint.requests(), 2);
}

/// Its clock stood still, so its token would look newer than the store's.
#[tokio::test(start_paused = true)]
async fn a_replica_whose_machine_was_suspended_takes_the_newer_token() {
    let (memory, mint, replicas) = many(1);
    replicas[0].token().await;
    replicas[0].run();
    sleep(Duration::from_secs(1)).await;
    let suspended = Duration::from_secs(3600);
    memory.set(&mint.kick(), LIFE - suspended / 2);
    replicas[0].keeper.suspended(suspended);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(memory.token().unwrap(), "t2");
    assert_eq!(replicas[0].in_hand(), "t2");
    assert_eq!(mint.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_others_put_in_place_is_everybodys_within_a_minute() {
    let (memory, mint, replicas) = many(20);
    for replica in &replicas {
        replica.token().await;
        replica.run();
    }
    memory.set(&mint.kick(), LIFE);
    sleep(Duration::from_secs(60)).await;
    for replica in &replicas {
        assert_eq!(replica.in_hand(), "t2");
    }
    assert_eq!(mint.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_emptied_store_gets_the_living_token_back_and_nobody_fetches() {
    let (memory, mint, replicas) = many(20);
    for replica in &replicas {
        replica.token().await;
        replica.run();
    }
    memory.empty();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(memory.token().unwrap(), "t1");
    assert_eq!(mint.requests(), 1);
    assert_eq!(Replica::new(&memory, &mint).value().await, "t1");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_others_refused_and_took_away_is_not_put_back_while_they_fetch() {
    let (memory, _, replicas) = many(1);
    replicas[0].token().await;
    replicas[0].run();
    sleep(Duration::from_secs(1)).await;
    let owner = LeaseId::random();
    memory.with(|contents| {
        contents.token = None;
        contents.lease = Some((owner, Instant::now() + Duration::from_secs(120)));
    });
    sleep(Duration::from_secs(100)).await;
    assert!(memory.token().is_none());
}

fn refused(code: i64) -> TokenError {
    TokenError::Errcode {
        code,
        message: "no".to_owned(),
        kind: TokenErrorKind::of(Api::Wechat, code),
    }
}

#[tokio::test(start_paused = true)]
async fn one_failure_answers_a_thousand_replicas() {
    for code in [-1, 45009, 40243, 40125] {
        let (_, mint, replicas) = many(1000);
        mint.fails(Some(refused(code)));
        let answers = join_all(replicas.iter().map(|replica| replica.keeper.token())).await;
        for answer in answers {
            assert_eq!(answer.unwrap_err().error.code(), Some(code));
        }
        assert_eq!(mint.requests(), 1, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_endpoint_is_asked_ever_more_seldom_by_all_together() {
    let (_, mint, replicas) = many(100);
    mint.fails(Some(refused(-1)));
    replicas.iter().for_each(Replica::run);
    sleep(Duration::from_secs(3600)).await;
    assert!((60..120).contains(&mint.requests()), "{}", mint.requests());
    mint.fails(None);
    sleep(Duration::from_secs(120)).await;
    for replica in &replicas {
        assert_eq!(replica.in_hand(), "t1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_with_another_secret_tries_it_whatever_others_were_told() {
    let (memory, mint, replicas) = many(1);
    mint.fails(Some(refused(40125)));
    replicas[0].keeper.token().await.unwrap_err();
    mint.fails(None);
    let same = Replica::new(&memory, &mint);
    same.keeper.token().await.unwrap_err();
    assert_eq!(mint.requests(), 1);
    assert_eq!(Replica::with(&memory, &mint, 7).value().await, "t1");
    assert_eq!(mint.requests(), 2);
}

/// Ninety-nine of a hundred replicas cannot reach WeChat.
#[tokio::test(start_paused = true)]
async fn whoever_reaches_wechat_is_let_before_those_who_do_not() {
    let (_, mint, replicas) = many(100);
    for replica in &replicas[1..] {
        replica.cut.store(true, Ordering::SeqCst);
    }
    replicas[1..].iter().for_each(Replica::run);
    // By then, each of them has failed.
    sleep(Duration::from_secs(900)).await;
    replicas[0].run();
    sleep(Duration::from_secs(120)).await;
    for replica in &replicas {
        assert_eq!(replica.in_hand(), "t1");
    }
    assert_eq!(mint.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn all_replicas_together_fetch_no_more_a_day_for_refusals_than_the_ceiling() {
    let (_, mint, replicas) = many(40);
    replicas.iter().for_each(Replica::run);
    for _ in 0..300 {
        for replica in &replicas {
            let token = replica.token().await;
            replica.keeper.accepted(&token);
            // These refusals have no known cause.
            let _ = replica.keeper.replace(&token, REFUSAL).await;
        }
        sleep(Duration::from_secs(60)).await;
    }
    // A token that is about to expire is still renewed.
    assert!(
        (DAILY..DAILY + 4).contains(&mint.requests()),
        "{}",
        mint.requests()
    );
}

#[tokio::test(start_paused = true)]
async fn where_a_fetch_brings_the_refused_token_again_one_asks_for_all() {
    let (_, mint, replicas) = many(100);
    mint.is_stubborn();
    let tokens = join_all(replicas.iter().map(Replica::token)).await;
    let refused = replicas.iter().zip(&tokens);
    let replaced =
        join_all(refused.map(|(replica, token)| replica.keeper.replace(token, REFUSAL))).await;
    for replaced in replaced {
        assert!(matches!(replaced, Ok(Replacement::Same)), "{replaced:?}");
    }
    assert_eq!(mint.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_wechat_does_not_use_up_the_fetches_of_the_day() {
    let (memory, mint, replicas) = many(10);
    join_all(replicas.iter().map(Replica::token)).await;
    replicas
        .iter()
        .for_each(|one| one.cut.store(true, Ordering::SeqCst));
    for _ in 0..50 {
        let token = replicas[0].token().await;
        assert!(replicas[0].replace(&token).await.is_none());
        sleep(Duration::from_secs(80)).await;
    }
    assert_eq!(memory.with(|contents| contents.fetches), 1);
    assert_eq!(mint.requests(), 1);
}
