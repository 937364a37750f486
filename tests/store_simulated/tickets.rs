//! Tickets that replicas share: WeChat returns the same one until it expires, and never says how old it is.

#![allow(clippy::unwrap_used)]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use tokio::time::{Duration, Instant, sleep};

use super::memory::{Memory, View};
use wechat_sidecar::{
    metrics::Kept,
    secret::Secret,
    token::{
        Expiry,
        keeper::{Keeper, Options, schedule::Renewal},
        source::{FetchRequest, FetchedToken, TokenError, TokenSource, shared::Shared},
        ticket,
    },
};

const LIFE: Duration = Duration::from_secs(7200);

/// What all replicas together may ask WeChat in a day.
const DAILY: u32 = 50;

/// Gives the same ticket for two hours, and then another. The first was some minutes old.
#[derive(Clone)]
struct Asks {
    began: Instant,
    age: Duration,
    requests: Arc<AtomicUsize>,
}

impl Asks {
    fn new(age: u64) -> Self {
        Self {
            began: Instant::now(),
            age: Duration::from_secs(age),
            requests: Arc::default(),
        }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// The time since the first ticket was created.
    fn time(&self) -> Duration {
        self.began.elapsed() + self.age
    }

    fn current(&self) -> u64 {
        self.time().as_secs() / LIFE.as_secs()
    }

    /// How long the current ticket still lives.
    fn left(&self) -> u64 {
        LIFE.as_secs() - self.time().as_secs() % LIFE.as_secs()
    }
}

impl TokenSource for Asks {
    async fn fetch(&self, wanted: FetchRequest) -> Result<FetchedToken, TokenError> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let value = Secret::new(format!("ticket{}", self.current()));
        let took = Duration::from_millis(300);
        sleep(took).await;
        let token = ticket::fetched(value, LIFE, wanted.current.as_deref());
        let (token, fetched) = (token.aged(took), true);
        Ok(FetchedToken { token, fetched })
    }

    fn kept(&self) -> Kept {
        Kept::Ticket
    }
}

struct Replica {
    asks: Asks,
    keeper: Arc<Keeper<Shared<Asks, View>>>,
}

/// What an app was told.
struct Told {
    ticket: String,
    expires_in: u64,
    expiry: Expiry,
}

impl Replica {
    fn new(asks: &Asks, memory: &Memory) -> Self {
        let options = Options {
            renewal: Renewal::Ticket,
            retry_same_token: false,
            daily_fetches: u32::MAX,
            patience: Duration::from_secs(15),
        };
        let shared = Shared::new(asks.clone(), memory.view(), DAILY, Arc::default());
        Self {
            asks: asks.clone(),
            keeper: Keeper::new(shared, options, Arc::default()),
        }
    }

    /// What the first call for the ticket after a while is told.
    async fn ask(&self) -> Told {
        self.keeper.renew_if_due();
        self.keeper.wait_for_fetch(Duration::from_secs(2)).await;
        let token = self.keeper.token().await.unwrap();
        Told {
            ticket: token.value().expose().to_owned(),
            expires_in: ticket::expires_in(&token),
            expiry: token.expiry(),
        }
    }

    /// Asks for the ticket each minute for `time`, and looks at what is told.
    async fn is_asked_for(&self, time: Duration) {
        sleep(Duration::from_millis(fastrand::u64(0..60_000))).await;
        let began = Instant::now();
        let mut wrong_since = None;
        while began.elapsed() < time {
            let told = self.ask().await;
            let (current, left) = (self.asks.current(), self.asks.left());
            let is_current = told.ticket == format!("ticket{current}");
            match told.expiry {
                // Around its end it is trusted for four minutes each time that WeChat returns it.
                Expiry::Known if told.expires_in <= 240 => {}
                Expiry::Known => {
                    assert!(is_current && told.expires_in <= left, "{}", told.expires_in);
                }
                Expiry::Unknown => {
                    assert_eq!(told.expires_in, 1800, "after {:?}", began.elapsed());
                }
            }
            if is_current {
                wrong_since = None;
            } else {
                let since = wrong_since.get_or_insert_with(Instant::now);
                assert!(since.elapsed() < Duration::from_secs(1200));
            }
            sleep(Duration::from_secs(60)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_day_of_tickets_is_fifty_requests_by_any_number_of_replicas() {
    for (count, age) in [
        (1, 0),
        (1, 4000),
        (1, 7100),
        (30, 0),
        (30, 3000),
        (10, 5000),
    ] {
        let (memory, asks) = (Memory::default(), Asks::new(age));
        let replicas = (0..count).map(|_| Replica::new(&asks, &memory));
        let replicas: Vec<Replica> = replicas.collect();
        let day = Duration::from_secs(86_400);
        join_all(replicas.iter().map(|replica| replica.is_asked_for(day))).await;
        let requests = asks.requests();
        assert!(
            (24..=50).contains(&requests),
            "{requests} by {count}, {age}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_ticket_whose_change_another_replica_saw_has_a_known_age() {
    let (memory, asks) = (Memory::default(), Asks::new(6000));
    let one = Replica::new(&asks, &memory);
    assert_eq!(one.ask().await.expiry, Expiry::Unknown);
    let two = Replica::new(&asks, &memory);
    assert_eq!(two.ask().await.expiry, Expiry::Unknown);
    one.is_asked_for(Duration::from_secs(2400)).await;
    let requests = asks.requests();
    let three = Replica::new(&asks, &memory);
    for replica in [&two, &three] {
        let told = replica.ask().await;
        assert_eq!(
            (told.ticket.as_str(), told.expiry),
            ("ticket1", Expiry::Known)
        );
        let left = asks.left();
        assert!(
            (left - 700..=left).contains(&told.expires_in),
            "{}",
            told.expires_in
        );
    }
    assert_eq!(asks.requests(), requests);
}
