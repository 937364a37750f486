//! Many replicas of one account against one store and one WeChat, on a clock that is paused.
#![allow(clippy::unwrap_used, dead_code)]

#[path = "replicas/memory.rs"]
#[allow(dead_code)]
mod memory;

use std::sync::{Arc, atomic::AtomicBool};

use futures_util::future::join_all;
use tokio::time::{Duration, sleep};

use memory::{Asks, Memory, Mint, View};
use wechat_sidecar::{
    issuer::shared::Shared,
    keeper::{Keeper, Options, Replacement, schedule::Renewal},
    token::Token,
};

/// A replica: what keeps its token, its view of the store, its way to WeChat.
struct Replica {
    keeper: Arc<Keeper<Shared<Asks, View>>>,
    view: View,
    cut: Arc<AtomicBool>,
}

impl Replica {
    fn new(memory: &Memory, mint: &Mint) -> Self {
        Self::with(memory, mint, 0)
    }

    fn with(memory: &Memory, mint: &Mint, circumstances: u16) -> Self {
        let (view, cut) = (memory.view(), Arc::new(AtomicBool::new(false)));
        let asks = Asks {
            mint: mint.clone(),
            cut: cut.clone(),
            circumstances,
        };
        let shared = Shared::new(asks, view.clone(), 200, Arc::default());
        let options = Options {
            second_thoughts: true,
            renewal: Renewal::Ahead,
            daily_fetches: 200,
            patience: Duration::from_secs(15),
        };
        Self {
            keeper: Keeper::new(shared, options, Arc::default()),
            view,
            cut,
        }
    }

    async fn token(&self) -> Arc<Token> {
        self.keeper.token().await.unwrap()
    }

    async fn value(&self) -> String {
        self.token().await.value().expose().to_owned()
    }

    async fn replace(&self, refused: &Token) -> Option<String> {
        match self.keeper.replace(refused).await {
            Ok(Replacement::Another(token)) => Some(token.value().expose().to_owned()),
            Ok(Replacement::Same | Replacement::Paced) | Err(_) => None,
        }
    }
}

fn many(count: usize) -> (Memory, Mint, Vec<Replica>) {
    let (memory, mint) = (Memory::default(), Mint::new());
    let replicas = (0..count).map(|_| Replica::new(&memory, &mint)).collect();
    (memory, mint, replicas)
}

#[tokio::test(start_paused = true)]
async fn a_thousand_replicas_that_start_together_cause_one_fetch() {
    let (memory, mint, replicas) = many(1000);
    for value in join_all(replicas.iter().map(Replica::value)).await {
        assert_eq!(value, "t1");
    }
    assert_eq!(mint.requests(), 1);
    assert_eq!(memory.token().unwrap(), "t1");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_at_a_thousand_replicas_is_one_fetch() {
    let (_, mint, replicas) = many(1000);
    let tokens = join_all(replicas.iter().map(Replica::token)).await;
    mint.kick();
    let refused = replicas.iter().zip(&tokens);
    let refused = refused.map(|(replica, token)| replica.replace(token));
    for value in join_all(refused).await {
        assert_eq!(value.unwrap(), "t3");
    }
    assert_eq!(mint.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_calm_day_costs_twenty_replicas_one_fetch_a_lifetime() {
    let (_, mint, replicas) = many(20);
    for replica in &replicas {
        tokio::spawn(replica.keeper.clone().run());
    }
    for _ in 0..24 * 60 {
        sleep(Duration::from_secs(60)).await;
        for replica in &replicas {
            assert_eq!(replica.value().await, mint.newest());
        }
    }
    assert_eq!(mint.requests(), 13);
}
