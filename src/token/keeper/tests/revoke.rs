//! Tests of revocations, with a source that keeps WeChat's rules of forced refreshes.

use std::sync::atomic::AtomicU32;

use super::*;
use crate::token::source::revocation::{NotRevocable, RevocationMethod};

const MINUTE: Duration = Duration::from_secs(60);

/// A WeChat with one token, which a forced refresh replaces unless there was one within 30 s.
struct Forcible {
    method: RevocationMethod,
    token: Mutex<u32>,
    forced_at: Mutex<Vec<Instant>>,
    in_flight: AtomicU32,
    /// How many forced refreshes succeed.
    room: usize,
    /// How many requests there were.
    requests: AtomicU32,
    /// The first forced refresh that WeChat is too busy for, and how many it is too busy for.
    busy: Mutex<(usize, usize)>,
    /// How long a request takes.
    takes: Mutex<Duration>,
}

impl Forcible {
    fn refresh(&self) {
        *self.token.lock().unwrap() += 1;
    }
}

impl TokenSource for Arc<Forcible> {
    async fn fetch(&self, request: FetchRequest) -> Result<FetchedToken, TokenError> {
        assert_eq!(
            self.in_flight.fetch_add(1, Ordering::SeqCst),
            0,
            "two at once"
        );
        let takes = *self.takes.lock().unwrap();
        sleep(takes).await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.requests.fetch_add(1, Ordering::SeqCst);
        if request.cause == Cause::Revoke {
            let mut forced_at = self.forced_at.lock().unwrap();
            let mut busy = self.busy.lock().unwrap();
            if forced_at.len() >= busy.0 && busy.1 > 0 {
                busy.1 -= 1;
                return Err(TokenError::Errcode {
                    code: -1,
                    message: "system error".to_owned(),
                    kind: TokenErrorKind::Busy,
                });
            }
            if forced_at.len() >= self.room {
                return Err(TokenError::Errcode {
                    code: 45009,
                    message: "reach max api daily quota limit".to_owned(),
                    kind: TokenErrorKind::DailyQuota,
                });
            }
            let last = forced_at.last().copied();
            if last.is_none_or(|at| at.elapsed() >= Duration::from_secs(30)) {
                forced_at.push(Instant::now());
                self.refresh();
            }
        }
        let token = token(format!("t{}", self.token.lock().unwrap()));
        let fetched = true;
        Ok(FetchedToken { token, fetched })
    }

    fn revocation(&self) -> Result<RevocationMethod, NotRevocable> {
        Ok(self.method)
    }
}

fn forcible(method: RevocationMethod, room: usize) -> (Arc<Keeper<Arc<Forcible>>>, Arc<Forcible>) {
    let source = Arc::new(Forcible {
        method,
        token: Mutex::new(1),
        forced_at: Mutex::default(),
        in_flight: AtomicU32::new(0),
        room,
        requests: AtomicU32::new(0),
        busy: Mutex::default(),
        takes: Mutex::new(Duration::from_millis(200)),
    });
    let options = Options {
        renewal: Renewal::Inside,
        retry_same_token: true,
        daily_fetches: 500,
        patience: Duration::from_secs(15),
    };
    let keeper = Keeper::new(source.clone(), options, Arc::default());
    (keeper, source)
}

async fn ended(keeper: &Keeper<Arc<Forcible>>) -> Revocation {
    let mut latest = keeper.revocation();
    let ended = latest.wait_for(|latest| latest.as_ref().is_some_and(|one| !one.is_running()));
    ended.await.unwrap().clone().unwrap()
}

fn value(keeper: &Keeper<Arc<Forcible>>) -> String {
    keeper.in_hand().unwrap().value().expose().to_owned()
}

#[tokio::test(start_paused = true)]
async fn two_refreshes_half_a_minute_apart_replace_the_token_twice_and_no_call_waits() {
    let (keeper, source) = forcible(RevocationMethod::TwoRefreshes, 20);
    tokio::spawn(keeper.clone().run());
    assert_eq!(keeper.token().await.unwrap().value().expose(), "t1");
    let begun = Instant::now();
    assert_eq!(keeper.revoke(), Ok(true));
    sleep(Duration::from_secs(1)).await;
    // The first new token is in use at once, and a second request joins.
    assert_eq!(value(&keeper), "t2");
    assert_eq!(keeper.revoke(), Ok(false));
    let latest = keeper.revocation().borrow().clone().unwrap();
    assert_eq!((latest.done, latest.is_running()), (2, true));
    let promised = latest.dead_at.unwrap();
    while keeper.revocation().borrow().as_ref().unwrap().is_running() {
        let before = Instant::now();
        assert!(keeper.token().await.unwrap().is_fresh());
        assert_eq!(Instant::now(), before, "a call waited");
        sleep(Duration::from_millis(100)).await;
    }
    let end = ended(&keeper).await;
    assert_eq!((end.done, end.ended), (4, Some(Ok(()))));
    assert_eq!(value(&keeper), "t3");
    let forced = source.forced_at.lock().unwrap().clone();
    assert_eq!(forced.len(), 2);
    assert!(end.dead_at.unwrap() >= forced[1] && promised + Duration::from_secs(1) > forced[1]);
    assert!(
        begun.elapsed() < Duration::from_secs(33),
        "{:?}",
        begun.elapsed()
    );
    // An ordinary fetch returns what is current. It is a renewal again.
    sleep(LIFE - Duration::from_secs(100)).await;
    assert_eq!(value(&keeper), "t3");
    assert_eq!(source.forced_at.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_came_too_soon_after_somebody_elses_is_asked_for_again() {
    let (keeper, source) = forcible(RevocationMethod::TwoRefreshes, 20);
    keeper.token().await.unwrap();
    // Another replica has forced one, and this one still has the token before.
    source.forced_at.lock().unwrap().push(Instant::now());
    source.refresh();
    sleep(Duration::from_secs(5)).await;
    keeper.revoke().unwrap();
    let end = ended(&keeper).await;
    assert_eq!(end.ended, Some(Ok(())));
    // Its own two after the other's: t2 leaked as well, and is dead now.
    assert_eq!(value(&keeper), "t4");
    assert_eq!(source.forced_at.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_second_step_that_fails_leaves_the_token_in_use_and_no_backoff() {
    let (keeper, _) = forcible(RevocationMethod::TwoRefreshes, 1);
    keeper.token().await.unwrap();
    keeper.revoke().unwrap();
    let end = ended(&keeper).await;
    let Some(Err(RevocationError::Fetch(error))) = end.ended else {
        panic!("{end:?}")
    };
    assert_eq!((error.code(), end.done), (Some(45009), 3));
    // The first refresh ends the old token all the same, five minutes after it.
    let left = end.dead_at.unwrap().duration_since(Instant::now());
    assert!(left > 4 * MINUTE && left < 5 * MINUTE, "{left:?}");
    let status = keeper.status();
    assert!(status.error.is_none() && status.token.unwrap().is_fresh());
    let token = keeper.token().await.unwrap();
    assert_eq!(token.value().expose(), "t2");
    // A refusal may fetch at once.
    assert!(keeper.replace(&token, REFUSAL).await.is_ok());
    // It can be tried again.
    assert_eq!(keeper.revoke(), Ok(true));
    let again = ended(&keeper).await;
    assert!(again.done == 1 && again.dead_at.is_none(), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn one_request_is_enough_for_a_classic_token_and_the_old_one_has_five_minutes() {
    let (keeper, source) = forcible(RevocationMethod::OneRequest, 20);
    keeper.token().await.unwrap();
    keeper.revoke().unwrap();
    let end = ended(&keeper).await;
    assert_eq!((end.done, &end.ended), (1, &Some(Ok(()))));
    let left = end.dead_at.unwrap().duration_since(Instant::now());
    assert!(left <= 5 * MINUTE && left > 4 * MINUTE, "{left:?}");
    assert_eq!(
        (
            value(&keeper).as_str(),
            source.forced_at.lock().unwrap().len()
        ),
        ("t2", 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_revocation_waits_for_the_fetch_in_flight() {
    let (keeper, _) = forcible(RevocationMethod::TwoRefreshes, 20);
    let (first, ()) = tokio::join!(keeper.token(), async {
        sleep(Duration::from_millis(50)).await;
        keeper.revoke().unwrap();
    });
    assert_eq!(first.unwrap().value().expose(), "t1");
    assert_eq!(ended(&keeper).await.ended, Some(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_cannot_says_so_and_nothing_begins() {
    let kept = keep(another);
    assert_eq!(kept.keeper.revoke(), Err(NotRevocable::NoToken));
    assert!(kept.keeper.revocation().borrow().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_old_token_is_never_said_to_be_dead_sooner_than_it_is() {
    let (keeper, source) = forcible(RevocationMethod::TwoRefreshes, 20);
    keeper.token().await.unwrap();
    // Somebody else forces a refresh between the look and the first one.
    source.forced_at.lock().unwrap().push(Instant::now());
    sleep(Duration::from_secs(5)).await;
    keeper.revoke().unwrap();
    let mut promises = Vec::new();
    while keeper.revocation().borrow().as_ref().unwrap().is_running() {
        let latest = keeper.revocation().borrow().clone().unwrap();
        promises.push((latest.done, latest.dead_at.unwrap()));
        sleep(Duration::from_secs(1)).await;
    }
    let end = ended(&keeper).await;
    assert_eq!(end.ended, Some(Ok(())));
    // It is known from the first refresh on, which comes after the look and takes 200 ms.
    let slack = Duration::from_secs(1);
    for (done, promised) in promises.iter().filter(|(done, _)| *done > 0).skip(1) {
        assert!(
            *promised + slack >= end.dead_at.unwrap(),
            "after {done}: {promised:?} {end:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_fails_does_not_have_the_token_asked_for_all_the_time() {
    let (keeper, source) = forcible(RevocationMethod::TwoRefreshes, 0);
    tokio::spawn(keeper.clone().run());
    keeper.token().await.unwrap();
    sleep(10 * MINUTE).await;
    keeper.revoke().unwrap();
    assert!(ended(&keeper).await.ended.unwrap().is_err());
    let before = source.requests.load(Ordering::SeqCst);
    sleep(60 * MINUTE).await;
    assert_eq!(source.requests.load(Ordering::SeqCst), before);
}

#[tokio::test(start_paused = true)]
async fn a_second_step_that_wechat_is_too_busy_for_is_asked_for_again() {
    let (keeper, source) = forcible(RevocationMethod::TwoRefreshes, 20);
    keeper.token().await.unwrap();
    *source.busy.lock().unwrap() = (1, 2);
    keeper.revoke().unwrap();
    let end = ended(&keeper).await;
    assert_eq!((end.done, end.ended), (4, Some(Ok(()))));
    assert_eq!(value(&keeper), "t3");
    // A first step is told at once: nothing has begun, and who asked for it is still there.
    *source.busy.lock().unwrap() = (0, 1);
    let began = Instant::now();
    keeper.revoke().unwrap();
    let end = ended(&keeper).await;
    assert!(
        matches!(end.ended, Some(Err(RevocationError::Fetch(_)))),
        "{end:?}"
    );
    assert!(end.dead_at.is_none() && began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_forced_refresh_that_fails_is_no_answer_to_a_refused_call() {
    let (keeper, source) = forcible(RevocationMethod::TwoRefreshes, 0);
    let refused = keeper.token().await.unwrap();
    keeper.revoke().unwrap();
    // The look has ended, and the forced refresh is on its way, when somebody else ends the token.
    sleep(Duration::from_millis(300)).await;
    source.refresh();
    let replaced = keeper.replace(&refused, REFUSAL).await;
    let Ok(Replacement::Another(token)) = replaced else {
        panic!("{replaced:?}")
    };
    assert_eq!(token.value().expose(), "t2");
    assert!(ended(&keeper).await.ended.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_slow_wechat_makes_nobody_believe_that_the_old_token_is_dead() {
    for (method, takes_until, promised) in [
        (RevocationMethod::TwoRefreshes, 18, 31),
        (RevocationMethod::OneRequest, 9, 300),
    ] {
        let (keeper, source) = forcible(method, 20);
        keeper.token().await.unwrap();
        *source.takes.lock().unwrap() = Duration::from_secs(9);
        let begun = Instant::now();
        keeper.revoke().unwrap();
        loop {
            let latest = keeper.revocation().borrow().clone().unwrap();
            if !latest.is_running() {
                break;
            }
            let left = latest.old_token_dead_in().unwrap();
            assert!(left >= Duration::from_secs(1), "{latest:?}");
            let is_replaced = begun.elapsed() > Duration::from_secs(takes_until);
            assert!(
                is_replaced || left >= Duration::from_secs(promised),
                "{left:?} {latest:?}"
            );
            sleep(Duration::from_millis(500)).await;
        }
        let left = ended(&keeper).await.old_token_dead_in().unwrap();
        let rest = Duration::from_secs(if promised == 31 { 0 } else { promised });
        assert!(
            left <= rest && left + Duration::from_secs(1) > rest,
            "{left:?}"
        );
    }
}
