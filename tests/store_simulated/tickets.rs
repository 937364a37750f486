//! Tickets that replicas share stay the same for hours, and half of their lifetime is trusted.

#![allow(clippy::unwrap_used)]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use tokio::time::{Duration, Instant, sleep};

use super::{
    memory::{Memory, View},
    replica::DAILY,
};
use wechat_sidecar::{
    metrics::Kept,
    secret::Secret,
    token::{
        Token,
        keeper::{Keeper, Options, schedule::Renewal},
        source::{FetchRequest, FetchedToken, TokenError, TokenSource, shared::Shared},
    },
};

const LIFE: Duration = Duration::from_secs(7200);

/// Returns the same ticket for two hours, and then another.
#[derive(Clone)]
struct Asks {
    began: Instant,
    requests: Arc<AtomicUsize>,
}

impl TokenSource for Asks {
    async fn fetch(&self, wanted: FetchRequest) -> Result<FetchedToken, TokenError> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(300)).await;
        let number = self.began.elapsed().as_secs() / LIFE.as_secs();
        let value = Secret::new(format!("ticket{number}"));
        let before = wanted.current.filter(|before| *before.value() == value);
        // The ticket keeps its known age.
        let lives = before.map_or(LIFE, |before| {
            before.remaining().max(Duration::from_secs(60))
        });
        let fetched = true;
        let token = Token::new(value, lives);
        Ok(FetchedToken { token, fetched })
    }

    fn kept(&self) -> Kept {
        Kept::Ticket
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_replicas_ask_for_a_ticket_hardly_more_often_than_one_would() {
    for (count, most) in [(1, 14), (100, 28)] {
        let memory = Memory::default();
        let asks = Asks {
            began: Instant::now(),
            requests: Arc::default(),
        };
        let keepers: Vec<Arc<Keeper<Shared<Asks, View>>>> = (0..count)
            .map(|_| {
                let shared = Shared::new(asks.clone(), memory.view(), DAILY, Arc::default());
                let options = Options {
                    renewal: Renewal::Halfway,
                    retry_same_token: false,
                    daily_fetches: u32::MAX,
                    patience: Duration::from_secs(15),
                };
                Keeper::new(shared, options, Arc::default())
            })
            .collect();
        // Each replica is asked for the ticket once a minute, each at a different second.
        let used = keepers.iter().map(|keeper| async {
            sleep(Duration::from_millis(fastrand::u64(0..60_000))).await;
            for _ in 0..119 {
                keeper.renew_if_due();
                keeper.token().await.unwrap();
                sleep(Duration::from_secs(60)).await;
            }
        });
        join_all(used).await;
        let requests = asks.requests.load(Ordering::SeqCst);
        assert!(requests <= most, "{requests} requests of {count} replicas");
    }
}
