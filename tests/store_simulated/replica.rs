//! A replica: its keeper, its view of the store, and its connection to WeChat.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::sync::{Arc, atomic::AtomicBool};

use tokio::time::Duration;

use super::memory::{Asks, Memory, Mint, View};
use wechat_sidecar::token::{
    Token,
    keeper::{Keeper, Options, PathId, Refusal, Replacement, schedule::Renewal},
    source::shared::Shared,
};

/// How many fetches all replicas together may make in a day because of refusals.
pub const DAILY: u32 = 200;

/// A refusal by an endpoint that worked before.
pub const REFUSAL: Refusal = Refusal {
    path: PathId::from_hash(1),
    worked: true,
    suspect: false,
    weak: false,
};

pub struct Replica {
    pub keeper: Arc<Keeper<Shared<Asks, View>>>,
    pub view: View,
    pub cut: Arc<AtomicBool>,
}

impl Replica {
    pub fn new(memory: &Memory, mint: &Mint) -> Self {
        Self::with(memory, mint, 0)
    }

    pub fn with(memory: &Memory, mint: &Mint, circumstances: u16) -> Self {
        let (view, cut) = (memory.view(), Arc::new(AtomicBool::new(false)));
        let asks = Asks {
            mint: mint.clone(),
            cut: cut.clone(),
            circumstances,
        };
        let shared = Shared::new(asks, view.clone(), DAILY, Arc::default());
        let options = Options {
            retry_same_token: true,
            renewal: Renewal::Ahead,
            daily_fetches: DAILY,
            patience: Duration::from_secs(15),
        };
        Self {
            keeper: Keeper::new(shared, options, Arc::default()),
            view,
            cut,
        }
    }

    pub async fn token(&self) -> Arc<Token> {
        self.keeper.token().await.unwrap()
    }

    /// Keeps the token renewed, for ever.
    pub fn run(&self) {
        tokio::spawn(self.keeper.clone().run());
    }

    pub fn in_hand(&self) -> String {
        let token = self.keeper.in_hand().unwrap();
        token.value().expose().to_owned()
    }

    pub async fn value(&self) -> String {
        self.token().await.value().expose().to_owned()
    }

    pub async fn replace(&self, refused: &Token) -> Option<String> {
        match self.keeper.replace(refused, REFUSAL).await {
            Ok(Replacement::Another(token)) => Some(token.value().expose().to_owned()),
            Ok(Replacement::Same | Replacement::Unclear | Replacement::None) | Err(_) => None,
        }
    }
}

/// A replica without a keeper.
pub fn shared(memory: &Memory, mint: &Mint) -> Shared<Asks, View> {
    let asks = Asks {
        mint: mint.clone(),
        cut: Arc::default(),
        circumstances: 0,
    };
    Shared::new(asks, memory.view(), DAILY, Arc::default())
}

pub fn many(count: usize) -> (Memory, Mint, Vec<Replica>) {
    let (memory, mint) = (Memory::default(), Mint::new());
    let replicas = (0..count).map(|_| Replica::new(&memory, &mint)).collect();
    (memory, mint, replicas)
}
