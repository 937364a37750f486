//! Tests of thousands of keepers that take turns: at the start, in an outage, and while calls come.

use std::sync::atomic::AtomicUsize;

use tokio::task::JoinSet;

use super::*;
use crate::token::turns::FetchTurns;

/// WeChat for many accounts.
#[derive(Default)]
struct World {
    is_down: AtomicBool,
    /// Whether each account's token stays the same.
    stays: AtomicBool,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    /// When each request began.
    begun: Mutex<Vec<Instant>>,
}

/// Asks it for the tokens of one account.
struct OneAccount {
    world: Arc<World>,
    requests: AtomicUsize,
}

impl TokenSource for OneAccount {
    async fn fetch(&self, _: FetchRequest) -> Result<FetchedToken, TokenError> {
        let world = &self.world;
        self.requests.fetch_add(1, Ordering::SeqCst);
        let in_flight = world.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        world.most_in_flight.fetch_max(in_flight, Ordering::SeqCst);
        let number = {
            let mut begun = world.begun.lock().unwrap();
            begun.push(Instant::now());
            begun.len()
        };
        let number = match world.stays.load(Ordering::SeqCst) {
            true => 0,
            false => number,
        };
        let is_down = world.is_down.load(Ordering::SeqCst);
        sleep(Duration::from_millis(if is_down { 2 } else { 300 })).await;
        world.in_flight.fetch_sub(1, Ordering::SeqCst);
        match is_down {
            true => Err(TokenError::Unreachable("Connection refused".to_owned())),
            false => Ok(FetchedToken {
                token: token(format!("t{number}")),
                fetched: true,
            }),
        }
    }
}

impl World {
    fn requests(&self) -> usize {
        self.begun.lock().unwrap().len()
    }

    /// The most requests that began in one of the seconds since `from`.
    fn most_a_second(&self, from: Instant) -> usize {
        let mut seconds = std::collections::BTreeMap::new();
        for at in self.begun.lock().unwrap().iter().filter(|at| **at >= from) {
            *seconds.entry((*at - from).as_secs()).or_insert(0) += 1;
        }
        seconds.into_values().max().unwrap_or(0)
    }
}

/// Keepers in turn, which run until the set is dropped.
struct Many {
    world: Arc<World>,
    keepers: Vec<Arc<Keeper<OneAccount>>>,
    running: JoinSet<()>,
}

fn many(number: usize) -> Many {
    let (world, turns) = (Arc::new(World::default()), Arc::new(FetchTurns::default()));
    let options = Options {
        renewal: Renewal::Inside,
        retry_same_token: true,
        daily_fetches: 500,
        patience: Duration::from_secs(15),
    };
    let keeper = |_| {
        let turns = Some(turns.clone());
        let source = OneAccount {
            world: world.clone(),
            requests: AtomicUsize::new(0),
        };
        let keeper = Keeper::of_many(source, options, Arc::default(), None, turns);
        keeper.set_in_turn(true);
        keeper
    };
    let keepers: Vec<_> = (0..number).map(keeper).collect();
    let mut running = JoinSet::new();
    for keeper in &keepers {
        running.spawn(keeper.clone().run());
    }
    Many {
        world,
        keepers,
        running,
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_to_the_last_of_ten_thousand_accounts_waits_for_its_own_request_alone() {
    let many = many(10_000);
    sleep(Duration::from_millis(500)).await;
    let before = Instant::now();
    many.keepers[9_999].token().await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_millis(300));
    // It left the queue: it is asked for once.
    let requests = many.world.requests();
    assert!(requests < 15, "{requests}");
    sleep(Duration::from_secs(1000)).await;
    assert_eq!(many.world.requests(), 10_000);
    assert!(many.world.most_in_flight.load(Ordering::SeqCst) <= 5);
    assert!(many.world.most_a_second(before) <= 21);
    assert!(many.keepers.iter().all(|keeper| keeper.status().tried));
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_an_hour_ends_without_a_burst_and_calls_come_first() {
    let many = many(2000);
    sleep(Duration::from_secs(300)).await;
    assert_eq!(many.world.requests(), 2000);
    let down = Instant::now();
    many.world.is_down.store(true, Ordering::SeqCst);
    // All tokens expire meanwhile.
    sleep(LIFE + Duration::from_secs(3600)).await;
    assert!(many.keepers.iter().all(|keeper| {
        let status = keeper.status();
        status.error.is_some() && !status.token.unwrap().is_alive()
    }));
    many.world.is_down.store(false, Ordering::SeqCst);
    let back = Instant::now();
    // A call whose account is not in a pause after a failure has its token at once.
    let waiting = many.keepers.iter().rfind(|keeper| {
        let error = keeper.status().error;
        error.is_some_and(|failure| failure.retry_after.is_zero())
    });
    let waiting = waiting.expect("one that waits for its turn");
    waiting.token().await.unwrap();
    assert_eq!(back.elapsed(), Duration::from_millis(300));
    sleep(Duration::from_secs(300)).await;
    let alive = |keeper: &&Arc<Keeper<_>>| keeper.in_hand().unwrap().is_alive();
    assert_eq!(many.keepers.iter().filter(alive).count(), 2000);
    assert!(many.world.most_a_second(down) <= 21);
    assert!(many.world.most_in_flight.load(Ordering::SeqCst) <= 5);
}

#[tokio::test(start_paused = true)]
async fn calls_of_a_thousand_accounts_at_once_send_no_more_than_sixty_four_requests() {
    let many = many(3000);
    sleep(Duration::from_secs(1)).await;
    let calls = many.keepers[2000..].iter().map(|keeper| keeper.token());
    let tokens = join_all(calls).await;
    assert!(tokens.iter().all(Result::is_ok));
    let most = many.world.most_in_flight.load(Ordering::SeqCst);
    assert!((60..=64).contains(&most), "{most}");
}

#[tokio::test(start_paused = true)]
async fn an_account_that_a_call_wanted_leaves_the_queue() {
    let many = many(1000);
    sleep(Duration::from_secs(1)).await;
    let (last, others) = many.keepers.split_last().unwrap();
    join_all(others.iter().map(|keeper| keeper.token())).await;
    // Those before it take no more turns.
    sleep(Duration::from_secs(1)).await;
    assert!(last.in_hand().is_some());
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_refusal_and_what_is_no_longer_in_turn_waits_for_nobody() {
    let many = many(500);
    let last = &many.keepers[499];
    let refused = last.token().await.unwrap();
    let before = Instant::now();
    let replaced = last.replace(&refused, REFUSAL).await;
    assert!(matches!(replaced, Ok(Replacement::Another(_))));
    assert_eq!(before.elapsed(), Duration::from_millis(300));
    // A reload makes an account one of the first.
    let other = &many.keepers[498];
    assert!(!other.status().tried);
    other.set_in_turn(false);
    sleep(Duration::from_millis(301)).await;
    assert!(other.status().tried);
    // A probe wants one.
    let third = &many.keepers[497];
    third.want();
    sleep(Duration::from_millis(301)).await;
    assert!(third.in_hand().is_some());
    third.want();
    sleep(Duration::from_millis(301)).await;
    assert_eq!(third.source().requests.load(Ordering::SeqCst), 1);
    drop(many.running);
}

#[tokio::test(start_paused = true)]
async fn what_a_keeper_asks_by_itself_after_a_refusal_waits_for_nobody() {
    let many = many(2000);
    many.world.stays.store(true, Ordering::SeqCst);
    let last = &many.keepers[1999];
    let refused = last.token().await.unwrap();
    let second = last.replay_token(&refused, REFUSAL).await.unwrap();
    assert!(second.token.is(&refused));
    last.refused_again(&second.token, NEVER_WORKED);
    assert_eq!(last.source().requests.load(Ordering::SeqCst), 2);
    sleep(Duration::from_secs(13)).await;
    assert_eq!(last.source().requests.load(Ordering::SeqCst), 3);
    assert!(many.world.requests() < 500);
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_waits_for_its_turn_takes_little_memory() {
    let many = many(1);
    let keeper = many.keepers[0].clone();
    let run = std::mem::size_of_val(&keeper.run());
    assert!(run <= 640, "{run}");
}
