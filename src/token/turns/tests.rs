//! Tests that turns keep their limits, whatever comes when, and that everybody has one.

use proptest::prelude::*;
use tokio::{
    task::JoinSet,
    time::{advance, sleep, timeout},
};

use super::*;

const MILLI: Duration = Duration::from_millis(1);

/// A request of a test.
#[derive(Clone, Copy, Debug)]
struct Request {
    /// When it comes.
    at: Duration,
    /// How long it takes.
    takes: Duration,
    wanted: bool,
    asks: Asks,
    /// How long it waits for its turn before it gives up.
    patience: Duration,
}

/// When a request came, had its turn and ended.
#[derive(Clone, Copy, Debug)]
struct RequestCourse {
    request: Request,
    came: Instant,
    began: Instant,
    ended: Instant,
}

/// Makes all `requests`, and returns the courses of those that did not give up.
async fn courses(requests: &[Request]) -> Vec<RequestCourse> {
    let turns = Arc::new(FetchTurns::default());
    let mut all = JoinSet::new();
    for request in requests.iter().copied() {
        let turns = turns.clone();
        all.spawn(async move {
            sleep(request.at).await;
            let came = Instant::now();
            let turn = async {
                match request.wanted {
                    true => turns.wanted(request.asks).await,
                    false => turns.background(request.asks).await,
                }
            };
            let turn = timeout(request.patience, turn).await.ok()?;
            let began = Instant::now();
            sleep(request.takes).await;
            drop(turn);
            let ended = Instant::now();
            Some(RequestCourse {
                request,
                came,
                began,
                ended,
            })
        });
    }
    let mut courses = Vec::new();
    while let Some(course) = all.join_next().await {
        courses.extend(course.unwrap());
    }
    courses
}

fn of(courses: &[RequestCourse], wanted: bool, asks: Asks) -> Vec<RequestCourse> {
    let is_one =
        |course: &&RequestCourse| course.request.wanted == wanted && course.request.asks == asks;
    courses.iter().filter(is_one).copied().collect()
}

/// The most of them that were in flight at once.
fn most_in_flight(courses: &[RequestCourse]) -> usize {
    let at = |instant| {
        let is_in_flight = |one: &&RequestCourse| one.began <= instant && instant < one.ended;
        courses.iter().filter(is_in_flight).count()
    };
    courses.iter().map(|one| at(one.began)).max().unwrap_or(0)
}

/// The most of them that began within a second.
fn most_a_second(courses: &[RequestCourse]) -> usize {
    let from = |instant| {
        let begins = |one: &&RequestCourse| {
            one.began >= instant && one.began < instant + Duration::from_secs(1)
        };
        courses.iter().filter(begins).count()
    };
    courses.iter().map(|one| from(one.began)).max().unwrap_or(0)
}

fn request() -> impl Strategy<Value = Request> {
    let patience = prop_oneof![
        4 => Just(Duration::from_secs(3600)),
        1 => (0..2000u32).prop_map(|ms| ms * MILLI),
    ];
    let takes = prop_oneof![1..20u32, 1..4000u32];
    (0..3000u32, takes, any::<bool>(), 0..4u8, patience).prop_map(
        |(at, takes, wanted, nearby, patience)| Request {
            at: at * MILLI,
            takes: takes * MILLI,
            wanted,
            asks: if nearby == 0 {
                Asks::Nearby
            } else {
                Asks::Wechat
            },
            patience,
        },
    )
}

/// A second as it should be for `requests`.
fn check(requests: &[Request]) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let courses = runtime.block_on(courses(requests));
    let wanted = of(&courses, true, Asks::Wechat);
    let background = of(&courses, false, Asks::Wechat);
    let nearby = of(&courses, false, Asks::Nearby);
    prop_assert!(most_in_flight(&background) <= BACKGROUND);
    prop_assert!(most_in_flight(&nearby) <= BACKGROUND);
    prop_assert!(most_in_flight(&wanted) <= WANTED);
    let to_wechat = [&wanted[..], &background[..]].concat();
    prop_assert!(most_in_flight(&to_wechat) <= 64);
    prop_assert!(most_a_second(&background) <= 20);
    // One that a call waits for waits only while sixty such ones are in flight.
    for late in wanted.iter().filter(|one| one.began > one.came) {
        let before = |one: &&RequestCourse| one.came <= late.came && one.ended >= late.began;
        prop_assert!(wanted.iter().filter(before).count() > WANTED, "{late:?}");
    }
    let near = of(&courses, true, Asks::Nearby);
    prop_assert!(near.iter().all(|one| one.began == one.came));
    // Everybody who waits long enough has a turn.
    let patient = |patience: Duration| patience > Duration::from_secs(10);
    let all = requests.iter().filter(|one| patient(one.patience)).count();
    let served = courses.iter().filter(|one| patient(one.request.patience));
    prop_assert_eq!(served.count(), all);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn limits_hold_nobody_starves_and_no_call_waits_for_what_nobody_waits_for(
        requests in prop::collection::vec(request(), 1..300)
    ) {
        check(&requests)?;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_leaves_the_queue_holds_nobody_up() {
    let turns = FetchTurns::default();
    let mut held = Vec::new();
    for _ in 0..BACKGROUND {
        held.push(turns.background(Asks::Wechat).await);
    }
    let mut left = Box::pin(turns.background(Asks::Wechat));
    assert!(timeout(MILLI, &mut left).await.is_err());
    let next = turns.background(Asks::Wechat);
    held.clear();
    drop(left);
    assert!(timeout(Duration::from_secs(1), next).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_pace_is_even_and_makes_up_for_no_time_that_passed() {
    let start = Instant::now();
    let mut throttle = Throttle::default();
    let mut begins = Vec::new();
    for _ in 0..3 {
        let (at, next) = throttle.step(Instant::now());
        begins.push(at - start);
        throttle = next;
    }
    assert_eq!(begins, [Duration::ZERO, GAP, 2 * GAP]);
    advance(Duration::from_secs(60)).await;
    let (at, next) = throttle.step(Instant::now());
    assert_eq!(at, Instant::now());
    assert_eq!(next.step(Instant::now()).0, at + GAP);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_hangs_holds_the_others_up_for_two_seconds_at_most() {
    let turns = Arc::new(FetchTurns::default());
    for asks in [Asks::Wechat, Asks::Nearby] {
        let hanging: Vec<_> = (0..BACKGROUND)
            .map(|_| {
                let turns = turns.clone();
                tokio::spawn(async move {
                    let turn = turns.background(asks).await;
                    turn.spend(sleep(10 * LONGEST)).await;
                    Instant::now()
                })
            })
            .collect();
        sleep(Duration::from_secs(1)).await;
        let begin = Instant::now();
        turns.background(asks).await.spend(async {}).await;
        assert!(begin.elapsed() <= LONGEST, "{asks:?}");
        // What hung goes on to its end.
        for hanging in hanging {
            assert!(hanging.await.unwrap() - begin > 9 * LONGEST);
        }
    }
    // One that a call waits for keeps its turn.
    let turn = turns.wanted(Asks::Wechat).await;
    tokio::spawn(turn.spend(sleep(10 * LONGEST)));
    sleep(2 * LONGEST).await;
    assert_eq!(turns.wanted.available_permits(), WANTED - 1);
}
