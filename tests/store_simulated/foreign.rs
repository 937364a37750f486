//! Other programs at the store: a value that is no token, and a lock that is not a replica's.

#![allow(clippy::unwrap_used)]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use tokio::time::{Duration, Instant, sleep};

use super::{
    memory::{Asks, LIFE, Memory, Mint, View},
    replica::DAILY,
};
use wechat_sidecar::{
    secret::Secret,
    token::{
        keeper::{Keeper, Options, schedule::Renewal},
        source::{
            TokenError,
            shared::Shared,
            store::{
                FetchGrant, ForeignValue, LeaseId, Note, SetOutcome, Store, StoreError, StoreState,
                StoredToken, ValueForm,
            },
        },
    },
};

/// A store that other programs use, too.
#[derive(Clone)]
struct Beside {
    view: View,
    foreign: Arc<Mutex<Option<ForeignValue>>>,
    locked: Arc<AtomicBool>,
}

impl Beside {
    fn holds(&self, form: Option<ValueForm>) {
        let key = "wx:access_token:wx1".to_owned();
        *self.foreign.lock().unwrap() = form.map(|form| ForeignValue { key, form });
    }

    fn locks(&self, locked: bool) {
        self.locked.store(locked, Ordering::SeqCst);
    }
}

impl Store for Beside {
    async fn read(&self) -> Result<StoreState, StoreError> {
        let found = self.view.read().await?;
        match self.foreign.lock().unwrap().clone() {
            Some(foreign) => Err(StoreError::ForeignValue(foreign)),
            None => Ok(found),
        }
    }

    async fn acquire(&self, owner: &LeaseId, length: Duration) -> Result<bool, StoreError> {
        self.view.acquire(owner, length).await
    }

    async fn begin_fetch(&self, owner: &LeaseId) -> Result<Option<FetchGrant>, StoreError> {
        self.view.begin_fetch(owner).await
    }

    async fn refund(&self, owner: &LeaseId) -> Result<(), StoreError> {
        self.view.refund(owner).await
    }

    async fn compare_and_set(
        &self,
        owner: Option<&LeaseId>,
        seen: Option<&Secret>,
        token: &StoredToken,
    ) -> Result<SetOutcome, StoreError> {
        self.view.compare_and_set(owner, seen, token).await
    }

    async fn publish(&self, note: &Note, length: Duration) -> Result<(), StoreError> {
        self.view.publish(note, length).await
    }

    async fn release(&self, owner: &LeaseId) -> Result<(), StoreError> {
        self.view.release(owner).await
    }

    async fn is_locked_elsewhere(&self) -> Result<bool, StoreError> {
        Ok(self.locked.load(Ordering::SeqCst))
    }

    async fn heartbeat(&self, replica: &LeaseId) -> Result<u32, StoreError> {
        self.view.heartbeat(replica).await
    }
}

struct World {
    memory: Memory,
    mint: Mint,
    store: Beside,
    keeper: Arc<Keeper<Shared<Asks, Beside>>>,
}

impl World {
    fn new() -> Self {
        let (memory, mint) = (Memory::default(), Mint::new());
        let store = Beside {
            view: memory.view(),
            foreign: Arc::default(),
            locked: Arc::default(),
        };
        let asks = Asks {
            mint: mint.clone(),
            cut: Arc::default(),
            circumstances: 0,
        };
        let shared = Shared::new(asks, store.clone(), DAILY, Arc::default());
        let options = Options {
            retry_same_token: true,
            renewal: Renewal::Ahead,
            daily_fetches: DAILY,
            patience: Duration::from_secs(15),
        };
        Self {
            keeper: Keeper::new(shared, options, Arc::default()),
            memory,
            mint,
            store,
        }
    }

    async fn value(&self) -> String {
        let token = self.keeper.token().await.unwrap();
        token.value().expose().to_owned()
    }

    async fn error(&self) -> TokenError {
        self.keeper.token().await.unwrap_err().error
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_fetched_beside_a_value_that_is_no_token_and_its_end_is_noticed() {
    let world = World::new();
    world.store.holds(Some(ValueForm::JavaCodec));
    tokio::spawn(world.keeper.clone().run());
    let is_foreign = |error: &TokenError| matches!(error, TokenError::ForeignValue(_));
    let error = world.error().await;
    assert!(is_foreign(&error), "{error}");
    let says = error.to_string();
    assert!(says.contains("wx:access_token:wx1"), "{says}");
    assert!(says.contains("StringCodec"), "{says}");
    assert!(world.keeper.source().store_is_available());

    // Nor when the store is away in the meantime.
    world.store.view.away(true);
    sleep(Duration::from_secs(3600)).await;
    assert!(is_foreign(&world.error().await));
    assert_eq!(world.mint.requests(), 0);

    world.store.view.away(false);
    sleep(Duration::from_secs(60)).await;
    assert!(is_foreign(&world.error().await));
    world.store.holds(None);
    sleep(Duration::from_secs(15)).await;
    assert_eq!(world.value().await, "t1");
    assert_eq!(world.mint.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_in_hand_goes_on_beside_a_foreign_value_and_is_not_renewed() {
    let world = World::new();
    let token = world.keeper.token().await.unwrap();
    tokio::spawn(world.keeper.clone().run());
    sleep(Duration::from_secs(60)).await;
    let hash = ValueForm::OtherType("hash".to_owned());
    world.store.holds(Some(hash));
    let refused = world.keeper.replace(&token).await;
    assert!(
        matches!(refused, Err(TokenError::ForeignValue(_))),
        "{refused:?}"
    );
    sleep(LIFE - Duration::from_secs(120)).await;
    assert_eq!(world.value().await, "t1");
    assert_eq!(world.mint.requests(), 1);
    assert_eq!(world.memory.token().unwrap(), "t1");
}

#[tokio::test(start_paused = true)]
async fn another_programs_lock_is_waited_for_and_its_token_is_used() {
    let world = World::new();
    world.store.locks(true);
    let theirs = async {
        sleep(Duration::from_secs(3)).await;
        world.memory.set("theirs", LIFE);
        world.store.locks(false);
    };
    let (value, ()) = tokio::join!(world.value(), theirs);
    assert_eq!(value, "theirs");
    assert_eq!(world.mint.requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_left_behind_holds_a_fetch_up_for_ten_seconds() {
    let world = World::new();
    world.store.locks(true);
    let began = Instant::now();
    assert_eq!(world.value().await, "t1");
    let waited = began.elapsed().as_secs();
    assert!((10..12).contains(&waited), "{waited}");
    assert_eq!(world.memory.token().unwrap(), "t1");
}
