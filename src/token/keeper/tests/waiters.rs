//! Tests of the limit of waiting calls, and of a keeper that takes over from another.

use super::*;

#[tokio::test(start_paused = true)]
async fn beyond_its_room_nobody_waits_for_a_fetch() {
    let kept = keep(another);
    kept.keeper.limit_waiters(10);
    let asked = join_all((0..100).map(|_| kept.keeper.token())).await;
    let served = asked.iter().filter(|token| token.is_ok()).count();
    assert_eq!((served, kept.requests()), (10, 1));
    // Those who left made room, and with a token nobody waits.
    let again = join_all((0..100).map(|_| kept.keeper.token())).await;
    assert!(again.iter().all(Result::is_ok));
    let refused = again[0].as_ref().unwrap();
    let replaced = join_all((0..100).map(|_| kept.keeper.replace(refused, REFUSAL))).await;
    let served = replaced.iter().filter(|replaced| replaced.is_ok()).count();
    assert_eq!((served, kept.requests()), (10, 2));
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_goes_on_where_another_is_fetches_no_sooner() {
    let (before, after) = (keep(another), keep(|_| Ok(token("later"))));
    let held = before.token().await;
    after.keeper.go_on_from(&before.keeper);
    let running = tokio::spawn(after.keeper.clone().run());
    assert!(after.token().await.is(&held));
    assert!(after.keeper.status().tried);
    advance(LIFE / 2).await;
    assert_eq!(after.requests(), 0);
    sleep(LIFE / 2).await;
    assert_eq!(after.token().await.value().expose(), "later");
    assert!(after.keeper.has_had(held.value()));
    running.abort();
}
