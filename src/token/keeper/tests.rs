//! Tests of a keeper with sources that are slow, stubborn or broken, on a clock that can be paused.

mod late;
mod revoke;
mod shared;
mod spurious;
mod suspension;
mod turns;
mod waiters;

use std::sync::atomic::AtomicU64;

use futures_util::future::join_all;
use tokio::time::{advance, sleep};

use super::*;
use crate::{secret::Secret, token::source::TokenErrorKind};

const LIFE: Duration = Duration::from_secs(7200);

/// A refusal by an endpoint that worked before.
const REFUSAL: Refusal = Refusal {
    path: PathId::from_hash(1),
    worked: true,
    suspect: false,
    weak: false,
};

/// A refusal by an endpoint that never worked.
const NEVER_WORKED: Refusal = Refusal {
    worked: false,
    ..REFUSAL
};

/// Answers after 900 ms with `answer` of the request's number.
struct FakeSource {
    requests: AtomicU64,
    answer: fn(u64) -> Result<Token, TokenError>,
}

impl TokenSource for Arc<FakeSource> {
    async fn fetch(&self, _: FetchRequest) -> Result<FetchedToken, TokenError> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        sleep(Duration::from_millis(900)).await;
        let fetched = true;
        (self.answer)(number).map(|token| FetchedToken { token, fetched })
    }
}

fn token(value: impl Into<String>) -> Token {
    Token::new(Secret::new(value), LIFE)
}

fn another(number: u64) -> Result<Token, TokenError> {
    Ok(token(format!("t{number}")))
}

fn same(_: u64) -> Result<Token, TokenError> {
    Ok(token("same"))
}

fn failing(_: u64) -> Result<Token, TokenError> {
    Err(TokenError::Errcode {
        code: 40125,
        message: "invalid appsecret".to_owned(),
        kind: TokenErrorKind::WrongSecret,
    })
}

struct Kept {
    keeper: Arc<Keeper<Arc<FakeSource>>>,
    source: Arc<FakeSource>,
}

impl Kept {
    fn requests(&self) -> u64 {
        self.source.requests.load(Ordering::SeqCst)
    }

    async fn token(&self) -> Arc<Token> {
        self.keeper.token().await.unwrap()
    }
}

fn keep(answer: fn(u64) -> Result<Token, TokenError>) -> Kept {
    keep_as(Renewal::Ahead, answer)
}

fn keep_as(renewal: Renewal, answer: fn(u64) -> Result<Token, TokenError>) -> Kept {
    let source = Arc::new(FakeSource {
        requests: AtomicU64::new(0),
        answer,
    });
    let options = Options {
        renewal,
        retry_same_token: renewal != Renewal::Late,
        daily_fetches: 500,
        patience: Duration::from_secs(15),
    };
    Kept {
        keeper: Keeper::new(source.clone(), options, Arc::default()),
        source,
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_callers_cause_one_fetch() {
    let kept = keep(another);
    for token in join_all((0..100).map(|_| kept.token())).await {
        assert_eq!(token.value().expose(), "t1");
    }
    assert_eq!(kept.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_refusals_of_one_token_cause_one_fetch() {
    let kept = keep(another);
    let refused = kept.token().await;
    for replacement in join_all((0..1000).map(|_| kept.keeper.replace(&refused, REFUSAL))).await {
        let Ok(Replacement::Another(token)) = replacement else {
            panic!("{replacement:?}")
        };
        assert_eq!(token.value().expose(), "t2");
    }
    assert_eq!(kept.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_late_refusal_of_an_old_token_fetches_nothing() {
    let kept = keep(another);
    let old = kept.token().await;
    kept.keeper.replace(&old, REFUSAL).await.unwrap();
    assert!(matches!(
        kept.keeper.replace(&old, REFUSAL).await,
        Ok(Replacement::Another(_))
    ));
    assert_eq!(kept.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_had_begun_before_the_refusal_is_asked_once_more() {
    // The renewal in flight brings the refused token back; only the next request brings another.
    let kept = keep(|number| Ok(token(if number < 3 { "old" } else { "new" })));
    let refused = kept.token().await;
    advance(LIFE - Duration::from_secs(10)).await;
    let (_, replacement) = tokio::join!(kept.keeper.token(), async {
        sleep(Duration::from_millis(100)).await;
        kept.keeper.replace(&refused, REFUSAL).await
    });
    let Ok(Replacement::Another(token)) = replacement else {
        panic!("{replacement:?}")
    };
    assert_eq!(token.value().expose(), "new");
    assert_eq!(kept.requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_hangs_up_does_not_cancel_the_fetch() {
    let kept = keep(another);
    let hasty = timeout(Duration::from_millis(10), kept.keeper.token()).await;
    assert!(hasty.is_err());
    sleep(Duration::from_secs(1)).await;
    assert!(kept.keeper.in_hand().is_some());
    assert_eq!(kept.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_failure_answers_every_waiter_and_is_remembered_for_as_long_as_it_means() {
    let kept = keep(failing);
    let calls = join_all((0..50).map(|_| kept.keeper.token())).await;
    assert!(calls.iter().all(Result::is_err));
    let failure = kept.keeper.token().await.unwrap_err();
    assert!(
        failure.retry_after >= Duration::from_secs(200),
        "{failure:?}"
    );
    assert_eq!(kept.requests(), 1);
    kept.keeper.try_again();
    assert!(kept.keeper.token().await.is_err());
    assert_eq!(kept.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_served_to_its_end_while_renewal_fails_and_never_beyond() {
    let kept = keep(|number| {
        if number == 1 {
            another(1)
        } else {
            failing(number)
        }
    });
    tokio::spawn(kept.keeper.clone().run());
    kept.token().await;
    advance(LIFE - Duration::from_secs(10)).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(kept.token().await.value().expose(), "t1");
    sleep(Duration::from_secs(9)).await;
    assert!(kept.keeper.token().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_one_failure_and_not_the_end() {
    let kept = keep(|number| {
        if number == 1 {
            panic!("boom")
        } else {
            another(number)
        }
    });
    assert_eq!(
        kept.keeper.token().await.unwrap_err().error,
        TokenError::Panicked
    );
    sleep(Duration::from_secs(3)).await;
    assert_eq!(kept.token().await.value().expose(), "t2");
}

#[tokio::test(start_paused = true)]
async fn a_calm_day_costs_one_fetch_a_lifetime_and_no_call_waits() {
    let kept = keep(another);
    tokio::spawn(kept.keeper.clone().run());
    sleep(Duration::from_secs(1)).await;
    for _ in 0..24 * 60 {
        let before = Instant::now();
        let token = kept.token().await;
        assert_eq!(Instant::now(), before, "a call waited");
        assert!(token.is_fresh());
        sleep(Duration::from_secs(60)).await;
    }
    // 24 hours by 6,900 s, and the first.
    assert_eq!(kept.requests(), 13);
}

#[tokio::test(start_paused = true)]
async fn a_stable_token_that_stays_the_same_is_asked_for_again_every_half_minute() {
    let kept = keep_as(Renewal::Inside, |number| {
        // WeChat counts the seconds down, and renews when it pleases.
        let left = if number == 1 { 7200 } else { 200 };
        Ok(Token::new(Secret::new("same"), Duration::from_secs(left)))
    });
    tokio::spawn(kept.keeper.clone().run());
    sleep(LIFE - Duration::from_secs(285)).await;
    let before = kept.requests();
    sleep(Duration::from_secs(285)).await;
    let asked = kept.requests() - before;
    assert!((4..=15).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn refusals_in_vain_are_paced() {
    let kept = keep(same);
    let refused = kept.token().await;
    assert!(matches!(
        kept.keeper.replace(&refused, REFUSAL).await,
        Ok(Replacement::Same)
    ));
    assert!(matches!(
        kept.keeper.replace(&refused, REFUSAL).await,
        Ok(Replacement::Unclear)
    ));
    sleep(Duration::from_secs(1)).await;
    assert!(matches!(
        kept.keeper.replace(&refused, REFUSAL).await,
        Ok(Replacement::Same)
    ));
    sleep(Duration::from_secs(1)).await;
    assert!(matches!(
        kept.keeper.replace(&refused, REFUSAL).await,
        Ok(Replacement::Unclear)
    ));
    assert_eq!(kept.requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_new_token_refused_again_is_paced_until_one_is_accepted() {
    let kept = keep(another);
    let first = kept.token().await;
    let Ok(Replacement::Another(second)) = kept.keeper.replace(&first, REFUSAL).await else {
        panic!()
    };
    kept.keeper.refused_again(&second, NEVER_WORKED);
    kept.keeper.refused_again(&second, NEVER_WORKED);
    assert!(matches!(
        kept.keeper.replace(&second, REFUSAL).await,
        Ok(Replacement::Unclear)
    ));
    sleep(Duration::from_millis(1001)).await;
    let Ok(Replacement::Another(third)) = kept.keeper.replace(&second, REFUSAL).await else {
        panic!()
    };
    kept.keeper.accepted(&third);
    assert!(matches!(
        kept.keeper.replace(&third, REFUSAL).await,
        Ok(Replacement::Another(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_confirmed_and_refused_is_asked_about_now_and_then() {
    let kept = keep_as(Renewal::Inside, |number| {
        Ok(token(if number < 4 { "dead" } else { "new" }))
    });
    tokio::spawn(kept.keeper.clone().run());
    let dead = kept.token().await;
    let second = kept.keeper.replay_token(&dead, REFUSAL).await.unwrap();
    assert!(second.confirmed);
    kept.keeper.refused_again(&second.token, NEVER_WORKED);
    // No call asks again; ten seconds and half a minute later the keeper does by itself.
    sleep(Duration::from_secs(9)).await;
    assert_eq!(kept.requests(), 2);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(kept.requests(), 3);
    sleep(Duration::from_secs(22)).await;
    assert_eq!(kept.token().await.value().expose(), "new");
    // That ends the doubt.
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(kept.requests(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_came_after_a_fetch_began_is_not_answered_by_it() {
    // A spurious refusal causes a fetch, which returns the same token; meanwhile that is revoked.
    let kept = keep(|number| Ok(token(if number < 3 { "old" } else { "new" })));
    let old = kept.token().await;
    kept.keeper.accepted(&old);
    let (whim, late) = tokio::join!(kept.keeper.replace(&old, REFUSAL), async {
        sleep(Duration::from_millis(100)).await;
        join_all((0..50).map(|_| kept.keeper.replay_token(&old, REFUSAL))).await
    });
    assert!(matches!(whim, Ok(Replacement::Same)));
    assert!(
        late.into_iter()
            .all(|second| second.unwrap().token.value().expose() == "new")
    );
    assert_eq!(kept.requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_renewal_does_not_take_a_living_token_away() {
    /// Returns one token, and then never answers again.
    struct Hanging(AtomicU64);
    impl TokenSource for Hanging {
        async fn fetch(&self, _: FetchRequest) -> Result<FetchedToken, TokenError> {
            if self.0.fetch_add(1, Ordering::SeqCst) > 0 {
                std::future::pending::<()>().await;
            }
            Ok(FetchedToken {
                token: Token::new(Secret::new("t"), Duration::from_secs(40)),
                fetched: true,
            })
        }
    }
    let options = Options {
        renewal: Renewal::Inside,
        retry_same_token: true,
        daily_fetches: 500,
        patience: Duration::from_secs(15),
    };
    let keeper = Keeper::new(Hanging(AtomicU64::new(0)), options, Arc::default());
    tokio::spawn(keeper.clone().run());
    keeper.token().await.unwrap();
    let began = Instant::now();
    sleep(Duration::from_secs_f64(36.5)).await;
    while began.elapsed() < Duration::from_secs(39) {
        assert!(keeper.token().await.unwrap().is_alive());
        sleep(Duration::from_millis(100)).await;
    }
}
