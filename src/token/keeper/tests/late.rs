//! Tests with WeCom's tokens: the same one is returned until it expires, and refusals are never spurious.

use super::*;

/// Returns the same token until it expires, with its true remaining lifetime.
struct FakeWecom {
    started: Instant,
    requests: AtomicU64,
}

impl TokenSource for Arc<FakeWecom> {
    async fn fetch(&self, _: FetchRequest) -> Result<FetchedToken, TokenError> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(50)).await;
        let now = self.started.elapsed();
        let number = now.as_millis() / LIFE.as_millis();
        let left = LIFE.as_millis() - now.as_millis() % LIFE.as_millis();
        let left = Duration::from_millis(u64::try_from(left).unwrap());
        let token = Token::new(Secret::new(format!("t{number}")), left);
        let fetched = true;
        Ok(FetchedToken { token, fetched })
    }
}

fn wecom() -> (Arc<Keeper<Arc<FakeWecom>>>, Arc<FakeWecom>) {
    let wecom = Arc::new(FakeWecom {
        started: Instant::now(),
        requests: AtomicU64::new(0),
    });
    let options = Options {
        renewal: Renewal::Late,
        retry_same_token: false,
        daily_fetches: 500,
        patience: Duration::from_secs(15),
    };
    (Keeper::new(wecom.clone(), options, Arc::default()), wecom)
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_that_comes_again_is_not_sent_again_and_cools_down() {
    let kept = keep_as(Renewal::Late, same);
    let refused = kept.token().await;
    let second = async || kept.keeper.replay_token(&refused, REFUSAL).await;
    // Some of them are refused while it is asked for already.
    let first = async |n| {
        sleep(Duration::from_millis(n)).await;
        second().await
    };
    for answer in join_all((0..100).map(first)).await {
        assert!(matches!(answer, Err(NoReplay::Same { confirmed: true })));
    }
    assert_eq!(kept.requests(), 2);
    let before = Instant::now();
    for answer in join_all((0..100).map(|_| second())).await {
        assert!(matches!(answer, Err(NoReplay::Same { confirmed: false })));
    }
    assert_eq!(
        before.elapsed(),
        Duration::ZERO,
        "a call waited for nothing"
    );
    assert_eq!(kept.requests(), 2);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(3600) {
        second().await.unwrap_err();
        advance(Duration::from_millis(100)).await;
    }
    assert!((10..25).contains(&kept.requests()), "{}", kept.requests());
}

#[tokio::test(start_paused = true)]
async fn another_token_in_place_of_a_refused_one_is_used_at_once() {
    let kept = keep_as(Renewal::Late, another);
    let refused = kept.token().await;
    let second = kept.keeper.replay_token(&refused, REFUSAL).await.unwrap();
    assert!(second.confirmed);
    assert_eq!(second.token.value().expose(), "t2");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_had_worked_since_is_asked_about_though_it_cools_down() {
    let kept = keep_as(Renewal::Late, |number| {
        Ok(token(if number < 3 { "same" } else { "new" }))
    });
    let refused = kept.token().await;
    kept.keeper
        .replay_token(&refused, REFUSAL)
        .await
        .unwrap_err();
    kept.keeper.accepted(&refused);
    // As after many spurious refusals: the wait does not end.
    kept.keeper.lock().token.backoff.in_vain(Instant::now());
    let second = kept.keeper.replay_token(&refused, REFUSAL).await.unwrap();
    assert_eq!(second.token.value().expose(), "new");
}

#[tokio::test(start_paused = true)]
async fn calm_hours_cost_a_few_fetches_a_lifetime_and_calls_cause_none_while_it_lives() {
    let (keeper, wecom) = wecom();
    tokio::spawn(keeper.clone().run());
    let mut waited = 0;
    for _ in 0..8 * 9000 {
        let asked = Instant::now();
        let token = keeper.token().await.unwrap();
        assert!(token.is_alive());
        waited += u32::from(asked.elapsed() > Duration::ZERO);
        advance(Duration::from_millis(400)).await;
    }
    let requests = wecom.requests.load(Ordering::SeqCst);
    assert!((4..=4 * 12).contains(&requests), "{requests}");
    assert!(waited <= 5, "{waited}");
}
