//! Tests of a keeper whose valid token is refused now and then.

use super::*;

/// WeChat refuses the token spuriously so often that the backoff forbids fetches.
async fn after_many_whims() -> (Kept, Arc<Token>) {
    let kept = keep(|number| Ok(token(if number < 150 { "same" } else { "new" })));
    let mut held = kept.token().await;
    kept.keeper.accepted(&held);
    let mut whims = 0;
    while !matches!(
        kept.keeper.replace(&held, REFUSAL).await,
        Ok(Replacement::Unclear)
    ) {
        held = kept.token().await;
        kept.keeper.accepted(&held);
        whims += 1;
        assert!(whims < 150, "whims are never paced");
    }
    assert!(whims >= 60, "whims are paced too soon: {whims}");
    kept.source.requests.store(200, Ordering::SeqCst);
    (kept, held)
}

#[tokio::test(start_paused = true)]
async fn after_many_whims_a_token_that_others_still_use_is_not_fetched_again() {
    let (kept, held) = after_many_whims().await;
    let requests = kept.requests();
    let (second, ()) = tokio::join!(kept.keeper.replay_token(&held, REFUSAL), async {
        for _ in 0..30 {
            sleep(Duration::from_millis(10)).await;
            kept.keeper.accepted(&held);
        }
    });
    let second = second.unwrap();
    assert!(second.token.is(&held) && second.confirmed);
    assert_eq!(kept.requests(), requests);
}

#[tokio::test(start_paused = true)]
async fn after_many_whims_a_dead_token_is_still_replaced_before_anybody_notices() {
    let (kept, held) = after_many_whims().await;
    // It worked until now.
    kept.keeper.watching.store(true, Ordering::Relaxed);
    kept.keeper.accepted(&held);
    let calls = join_all((0..50).map(|_| kept.keeper.replay_token(&held, REFUSAL))).await;
    for second in calls {
        let second = second.unwrap();
        assert!(!second.token.is(&held) && second.confirmed);
    }
}
