//! Tests of a machine that was suspended: tokio's clock, which is paused, stood still meanwhile.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_token_whose_life_ended_meanwhile_is_not_served() {
    let kept = keep(another);
    let old = kept.token().await;
    kept.keeper.accepted(&old);
    kept.keeper.suspended(HOUR);
    let token = kept.token().await;
    assert!(token.is(&old) && token.was_accepted() && old.is_alive());
    assert_eq!((token.remaining(), token.age()), (LIFE - HOUR, HOUR));
    kept.keeper.suspended(HOUR);
    assert_eq!(kept.token().await.value().expose(), "t2");
    assert_eq!(kept.requests(), 2);
    // A call that was sent before is refused: the token was replaced since.
    assert!(matches!(
        kept.keeper.replace(&old, REFUSAL).await,
        Ok(Replacement::Another(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_became_due_meanwhile_waits_for_no_call() {
    let kept = keep(another);
    tokio::spawn(kept.keeper.clone().run());
    let before = kept.token().await;
    let left = Duration::from_secs(120);
    kept.keeper.suspended(LIFE - left);
    sleep(Duration::from_secs(1)).await;
    assert!(before.is_alive());
    let token = kept.keeper.in_hand().unwrap();
    assert_eq!((token.value().expose(), kept.requests()), ("t2", 2));
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_waited_in_the_machine_is_as_old_as_that() {
    let kept = keep(another);
    let suspended = async {
        sleep(Duration::from_millis(100)).await;
        kept.keeper.suspended(HOUR);
    };
    let (token, ()) = tokio::join!(kept.token(), suspended);
    assert_eq!(token.remaining(), LIFE - HOUR);
}

#[tokio::test(start_paused = true)]
async fn the_wait_after_a_failure_went_on_meanwhile() {
    let kept = keep(failing);
    kept.keeper.token().await.unwrap_err();
    kept.keeper.token().await.unwrap_err();
    assert_eq!(kept.requests(), 1);
    kept.keeper.suspended(HOUR);
    kept.keeper.token().await.unwrap_err();
    assert_eq!(kept.requests(), 2);
}
