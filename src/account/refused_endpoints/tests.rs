//! Tests of the state machine of an endpoint, and of the cache around it.

use tokio::time::advance;

use super::*;
use crate::secret::Secret;

fn token(value: &str) -> Arc<Token> {
    Arc::new(Token::new(Secret::new(value), Duration::from_secs(7200)))
}

fn call(number: usize) -> CallId {
    CallId::of(None, format!("call {number}").as_bytes())
}

fn answer() -> CachedRefusal {
    CachedRefusal {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        extensions: http::Extensions::new(),
        body: Bytes::from_static(b"{\"errcode\":40001}"),
    }
}

/// A confirmed refusal of an endpoint that never worked.
fn refused(number: usize, token: &Arc<Token>) -> RefusedCall {
    RefusedCall {
        call: call(number),
        token: token.clone(),
        confirmed: true,
        worked: false,
        may_work: false,
    }
}

/// What is known about `/x`.
struct KnownEndpoint(Arc<RefusedEndpoints>);

impl KnownEndpoint {
    fn new() -> Self {
        Self(RefusedEndpoints::new(limit()))
    }

    fn add(&self, refused: &RefusedCall) -> bool {
        self.0.add(b"/x", refused, answer())
    }

    fn add_different(&self, refused: &RefusedCall) {
        for number in 0..DIFFERENT_CALLS {
            let call = call(number);
            self.add(&RefusedCall {
                call,
                ..refused.clone()
            });
        }
    }

    fn known(&self, number: usize, token: &Token) -> Outlook {
        self.0.known(b"/x", token, || call(number))
    }
}

#[tokio::test(start_paused = true)]
async fn one_bad_call_spoils_nothing_for_others_and_is_itself_not_replayed() {
    let (endpoint, old) = (KnownEndpoint::new(), token("old"));
    for _ in 0..10 {
        endpoint.add(&refused(1, &old));
        assert_eq!(endpoint.known(1, &old), Outlook::Hopeless);
        assert_eq!(endpoint.known(2, &old), Outlook::Suspect);
    }
    for _ in 0..100 {
        let cached = endpoint.0.cached_refusal(b"/x", &old, || call(2));
        assert!(cached.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn three_different_calls_give_an_endpoint_up() {
    let (endpoint, old) = (KnownEndpoint::new(), token("old"));
    for (number, is_third) in [(1, false), (2, false), (1, true), (3, false), (4, false)] {
        assert_eq!(endpoint.known(9, &old) == Outlook::Hopeless, number == 4);
        assert_eq!(endpoint.add(&refused(number, &old)), is_third, "{number}");
    }
    assert_eq!(endpoint.known(9, &token("old")), Outlook::Hopeless);
    assert_eq!(endpoint.known(9, &token("new")), Outlook::Suspect);
    endpoint.0.forget(b"/x");
    assert_eq!(endpoint.known(9, &old), Outlook::Nothing);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_may_work_is_never_given_up() {
    let (endpoint, old) = (KnownEndpoint::new(), token("old"));
    for number in 0..20 {
        endpoint.add(&RefusedCall {
            may_work: true,
            ..refused(number, &old)
        });
    }
    assert_eq!(endpoint.known(99, &old), Outlook::Suspect);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_worked_is_given_up_only_for_a_token_confirmed_since() {
    let (endpoint, old) = (KnownEndpoint::new(), token("old"));
    let worked = RefusedCall {
        worked: true,
        ..refused(1, &old)
    };
    advance(Duration::from_secs(1)).await;
    endpoint.add_different(&worked);
    assert_eq!(endpoint.known(1, &old), Outlook::Suspect);
    advance(Duration::from_secs(1)).await;
    let confirmed = RefusedCall {
        token: token("old"),
        ..worked
    };
    endpoint.add(&confirmed);
    assert_eq!(endpoint.known(1, &old), Outlook::Hopeless);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_never_worked_and_refuses_another_token_refuses_any_for_an_hour() {
    let endpoint = KnownEndpoint::new();
    endpoint.add_different(&refused(1, &token("one")));
    endpoint.add(&refused(1, &token("two")));
    assert_eq!(endpoint.known(9, &token("three")), Outlook::Hopeless);
    advance(ANY_TOKEN).await;
    assert_eq!(endpoint.known(9, &token("three")), Outlook::Nothing);
}

#[tokio::test(start_paused = true)]
async fn with_a_token_that_nobody_confirmed_it_counts_for_a_minute() {
    let (endpoint, old) = (KnownEndpoint::new(), token("old"));
    endpoint.add_different(&RefusedCall {
        confirmed: false,
        ..refused(1, &old)
    });
    assert_eq!(endpoint.known(9, &old), Outlook::Hopeless);
    advance(UNCONFIRMED).await;
    assert_eq!(endpoint.known(9, &old), Outlook::Nothing);
}

#[tokio::test(start_paused = true)]
async fn suspicion_ends_ten_minutes_after_the_last_refusal() {
    let (endpoint, old) = (KnownEndpoint::new(), token("old"));
    endpoint.add(&refused(1, &old));
    advance(SUSPECT - Duration::from_secs(1)).await;
    assert_eq!(endpoint.known(2, &old), Outlook::Suspect);
    advance(Duration::from_secs(1)).await;
    assert_eq!(endpoint.known(2, &old), Outlook::Nothing);
}

#[tokio::test(start_paused = true)]
async fn ten_hopeless_calls_a_second_pass_and_the_rest_is_answered() {
    let (endpoint, old) = (KnownEndpoint::new(), token("old"));
    let cached = |number| endpoint.0.cached_refusal(b"/x", &old, || call(number));
    assert!(cached(1).is_none());
    endpoint.add_different(&refused(1, &old));
    for _ in 0..3 {
        assert_eq!((0..25).filter_map(|_| cached(7)).count(), 15);
        advance(Duration::from_secs(1)).await;
    }
    let other = endpoint.0.cached_refusal(b"/y", &old, || call(1));
    assert!(other.is_none());
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded() {
    let (endpoints, old) = (RefusedEndpoints::new(limit()), token("old"));
    let known = |path: &[u8]| endpoints.known(path, &old, || call(1));
    for at in 0..1000 {
        let path = format!("/{at}");
        endpoints.add(path.as_bytes(), &refused(1, &old), answer());
    }
    endpoints.add(&[b'x'; 1000], &refused(1, &old), answer());
    assert_eq!(endpoints.lock().len(), MOST);
    assert_eq!(known(b"/999"), Outlook::Hopeless);
    assert_eq!(known(b"/0"), Outlook::Nothing);
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_for_all_accounts_together() {
    let (limit, old) = (Arc::new(SharedLimit::new(10)), token("old"));
    let accounts = [(); 4].map(|()| RefusedEndpoints::new(limit.clone()));
    let add = |account: usize, path: usize| {
        let path = format!("/{path}");
        accounts[account].add(path.as_bytes(), &refused(1, &old), answer());
    };
    let counts = || accounts.each_ref().map(|account| account.lock().len());
    (0..8).for_each(|path| add(0, path));
    // A path that is refused again is no other one.
    (0..50).for_each(|_| add(0, 3));
    assert_eq!(counts(), [8, 0, 0, 0]);
    (0..8).for_each(|path| add(1, path));
    assert_eq!(counts(), [2, 8, 0, 0]);
    // Those that were refused last are kept.
    let known = accounts[0].known(b"/3", &old, || call(1));
    assert_eq!(known, Outlook::Hopeless);
    accounts[1].forget(b"/0");
    for path in 0..1000 {
        add(2 + path % 2, path);
        assert!(counts().iter().sum::<usize>() <= 10);
    }
    assert_eq!(counts(), [0, 0, 5, 5]);
}
