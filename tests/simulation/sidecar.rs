//! A simulated sidecar: the real keeper and token source, and the decisions of `proxy/replay.rs`, without sockets.

use std::{
    future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, StatusCode};
use tokio::{
    task::AbortHandle,
    time::{Duration, Instant, sleep, sleep_until, timeout},
};
use wechat_sidecar::{
    account::refused_endpoints::{
        self, CachedRefusal, CallId, Outlook, RefusedCall, RefusedEndpoints,
    },
    secret::Secret,
    token::{
        Token,
        keeper::{Keeper, Options, PathId, Refusal, ReplayToken, schedule::Renewal},
        source::{
            FetchRequest, FetchedToken, TokenError, TokenSource, shared::Shared, wechat::TokenApi,
        },
    },
};

use super::{
    store::View,
    world::{Line, World, about, between},
};

/// As in `token/source/api.rs`.
const TIME_OUT: Duration = Duration::from_secs(10);

/// The endpoints that an app calls, each equally often.
const PATHS: [&[u8]; 4] = [
    b"/cgi-bin/user/info",
    b"/cgi-bin/message/custom/send",
    b"/cgi-bin/menu/get",
    b"/wxa/getwxacode",
];

/// Whether a process is alive, and until when it is suspended.
#[derive(Debug)]
pub struct Life {
    dead: AtomicBool,
    frozen_until: Mutex<Instant>,
}

impl Life {
    fn new() -> Self {
        Self {
            dead: AtomicBool::new(false),
            frozen_until: Mutex::new(Instant::now()),
        }
    }

    /// Waits while the process is suspended, and for ever if it is dead.
    pub async fn goes_on(&self) {
        loop {
            if self.dead.load(Ordering::Relaxed) {
                future::pending::<()>().await;
            }
            let until = *self.frozen_until.lock().unwrap();
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}

/// Requests tokens from the simulated WeChat.
pub struct Asking {
    pub world: Arc<World>,
    pub index: usize,
    pub life: Arc<Life>,
}

impl Asking {
    fn line(&self) -> &Line {
        &self.world.lines[self.index]
    }

    async fn ask(&self) -> Result<Token, TokenError> {
        let (world, index) = (&self.world, self.index);
        self.life.goes_on().await;
        // The secret file is read again for each request.
        let secret = self.line().get().secret;
        if !self.line().get().reaches_wechat() {
            // The connection is refused at once, or there is no answer.
            sleep(if fastrand::bool() {
                between(0.001, 0.1)
            } else {
                Duration::from_secs(5)
            })
            .await;
            return Err(TokenError::Unreachable("cut".to_owned()));
        }
        world.travel().await;
        if !self.line().get().reaches_wechat() {
            return future::pending().await;
        }
        let busy = Instant::now() < world.weather.lock().unwrap().busy_until && fastrand::bool();
        let reply = world.wechat().token_request(secret, busy);
        match &reply {
            Ok((value, left)) => world.note(format_args!("{index} is brought {value} {left:?}")),
            Err(error) if busy => world.event("-1", format_args!("{index} {:?}", error.code())),
            Err(error) => world.note(format_args!("{index} is refused {:?}", error.code())),
        }
        let guard = OnTheWay {
            world,
            index,
            token: reply.is_ok(),
        };
        world.travel().await;
        self.life.goes_on().await;
        if !self.line().get().reaches_wechat() {
            return future::pending().await;
        }
        guard.arrived();
        let (value, left) = reply?;
        Ok(Token::new(Secret::new(value), left))
    }
}

/// A reply on its way from WeChat to the sidecar. If it is lost, that is an event, because its token may be lost with
/// it.
struct OnTheWay<'a> {
    world: &'a World,
    index: usize,
    token: bool,
}

impl OnTheWay<'_> {
    fn arrived(mut self) {
        self.token = false;
    }
}

impl Drop for OnTheWay<'_> {
    fn drop(&mut self) {
        if self.token {
            let index = self.index;
            self.world.event("a reply lost", format_args!("{index}"));
        }
    }
}

impl TokenSource for Asking {
    async fn fetch(&self, _: FetchRequest) -> Result<FetchedToken, TokenError> {
        let issued = match timeout(TIME_OUT, self.ask()).await {
            Ok(Ok(token)) => Ok(FetchedToken {
                token,
                fetched: true,
            }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(TokenError::TimedOut),
        };
        self.life.goes_on().await;
        if issued.is_err() {
            let now = Instant::now();
            self.line().set(|line| line.failed_at = Some(now));
        }
        issued
    }

    fn credential_fingerprint(&self) -> u16 {
        self.line().get().secret as u16
    }
}

/// A sidecar polls the store so many times less often than a real one. Six million polls are too many for a test, and
/// with fewer of them more calls need to be healed.
pub const POLL_FACTOR: u32 = 120;

/// The token source of a sidecar.
pub enum Source {
    Alone(Asking),
    Shared(Box<Shared<Asking, View>>),
}

impl TokenSource for Source {
    async fn fetch(&self, wanted: FetchRequest) -> Result<FetchedToken, TokenError> {
        match self {
            Self::Alone(asking) => asking.fetch(wanted).await,
            Self::Shared(shared) => shared.fetch(wanted).await,
        }
    }

    async fn poll(&self) -> Option<Token> {
        match self {
            Self::Alone(asking) => asking.poll().await,
            Self::Shared(shared) => shared.poll().await,
        }
    }

    fn poll_interval(&self) -> Option<Duration> {
        match self {
            Self::Alone(asking) => asking.poll_interval(),
            Self::Shared(shared) => shared.poll_interval().map(|every| every * POLL_FACTOR),
        }
    }
}

/// A sidecar from a start to its end.
pub struct Incarnation {
    pub world: Arc<World>,
    pub index: usize,
    pub keeper: Arc<Keeper<Source>>,
    life: Arc<Life>,
    refused: Arc<RefusedEndpoints>,
    /// The tag of the token with which a call was accepted last, by path.
    accepted_with: [AtomicU16; PATHS.len()],
    /// How many calls have begun, all of which differ.
    calls_begun: AtomicUsize,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// The outcome of one send.
#[derive(PartialEq, Eq)]
enum Sent {
    Accepted,
    Refused,
    Unreachable,
}

impl Incarnation {
    /// Starts a sidecar that gets a call `every` so often on average.
    pub fn start(world: &Arc<World>, index: usize, every: Duration) -> Arc<Self> {
        world.starts.fetch_add(1, Ordering::Relaxed);
        if world.scenario.store && !world.has_store(index) {
            // It has no token, and knows of no other replica.
            world.event("a start without the store", format_args!("{index}"));
            world.event("its return to the store", format_args!("{index}"));
        }
        let life = Arc::new(Life::new());
        let asking = Asking {
            world: world.clone(),
            index,
            life: life.clone(),
        };
        let (renewal, daily_fetches) = match world.scenario.api {
            TokenApi::Stable => (Renewal::Inside, 500),
            TokenApi::Classic => (Renewal::Ahead, 200),
        };
        let options = Options {
            renewal,
            daily_fetches,
            patience: Duration::from_secs(15),
            retry_same_token: true,
        };
        let source = if world.scenario.store {
            let view = View {
                world: world.clone(),
                index,
                life: life.clone(),
            };
            Source::Shared(Box::new(Shared::new(
                asking,
                view,
                daily_fetches,
                world.metrics.clone(),
            )))
        } else {
            Source::Alone(asking)
        };
        let started = Arc::new(Self {
            world: world.clone(),
            index,
            keeper: Keeper::new(source, options, world.metrics.clone()),
            life,
            refused: RefusedEndpoints::new(refused_endpoints::limit()),
            accepted_with: Default::default(),
            calls_begun: AtomicUsize::new(0),
            tasks: Mutex::default(),
        });
        let runs = tokio::spawn(started.keeper.clone().run());
        let calls = tokio::spawn(started.clone().calls(every));
        let mut tasks = started.tasks.lock().unwrap();
        tasks.extend([runs.abort_handle(), calls.abort_handle()]);
        drop(tasks);
        world.running.lock().unwrap()[index] = Some(started.clone());
        started
    }

    /// Ends the sidecar as SIGKILL does.
    pub fn kill(&self) {
        self.world.is_hampered(self.index);
        self.life.dead.store(true, Ordering::Relaxed);
        for task in self.tasks.lock().unwrap().drain(..) {
            task.abort();
        }
        self.world.running.lock().unwrap()[self.index] = None;
    }

    /// Suspends the sidecar for `time`, like a suspended machine.
    pub fn freeze(&self, time: Duration) {
        self.world.is_hampered(self.index);
        let until = Instant::now() + time;
        let mut frozen = self.life.frozen_until.lock().unwrap();
        *frozen = frozen.max(until);
        self.line().set(|line| line.frozen_until = *frozen);
    }

    fn line(&self) -> &Line {
        &self.world.lines[self.index]
    }

    async fn calls(self: Arc<Self>, every: Duration) {
        loop {
            sleep(about(every)).await;
            self.call().await;
        }
    }

    /// Makes one call of the app. It is counted at its end, because the simulation may end before.
    pub async fn call(&self) {
        self.life.goes_on().await;
        self.make_call().await;
        self.world.calls().made += 1;
    }

    /// Handles the call as `proxy/replay.rs` does.
    async fn make_call(&self) {
        let choice = fastrand::usize(..PATHS.len());
        let (path, accepted_with) = (PATHS[choice], &self.accepted_with[choice]);
        let worked = || accepted_with.load(Ordering::Relaxed) != 0;
        let number = self.calls_begun.fetch_add(1, Ordering::Relaxed);
        let id = CallId::of(None, &number.to_be_bytes());
        let mut token = match self.keeper.token().await {
            Ok(token) => token,
            Err(error) => return self.fails(&format!("has no token: {error}"), None),
        };
        if !token.is_alive() {
            token = match self.keeper.token().await {
                Ok(token) => token,
                Err(error) => return self.fails(&format!("has no token: {error}"), None),
            };
        }
        if self.refused.cached_refusal(path, &token, || id).is_some() {
            return self.fails("is answered from memory", None);
        }
        match self.send(&token, true).await {
            Sent::Accepted => return self.accepted(choice, &token, false),
            Sent::Unreachable => return self.world.calls().unreachable += 1,
            Sent::Refused => self.world.noticed_dead(token.value().expose()),
        }
        let in_hand = self.keeper.in_hand().filter(|token| token.is_alive());
        let unchanged = in_hand.is_none_or(|held| held.is(&token));
        let known = self.refused.known(path, &token, || id);
        if unchanged && known == Outlook::Hopeless {
            return self.fails("is hopeless", None);
        }
        let refusal = Refusal {
            path: PathId::of(path),
            worked: worked(),
            suspect: known != Outlook::Nothing,
            weak: false,
        };
        let ReplayToken { token, confirmed } = match self.keeper.replay_token(&token, refusal).await
        {
            Ok(second) => second,
            Err(error) => return self.fails(&format!("gets no second token: {error:?}"), None),
        };
        self.life.goes_on().await;
        let good = self.world.wechat().accepts(token.value().expose());
        match self.send(&token, false).await {
            Sent::Accepted => self.accepted(choice, &token, true),
            // Nothing was sent, so the app gets the first refusal.
            Sent::Unreachable => self.fails("cannot be sent again", None),
            Sent::Refused => {
                let worked = worked();
                self.keeper.refused_again(&token, refusal);
                if confirmed || !worked {
                    let answer = CachedRefusal {
                        status: StatusCode::OK,
                        headers: HeaderMap::new(),
                        extensions: Extensions::new(),
                        body: Bytes::new(),
                    };
                    let refused = RefusedCall {
                        call: id,
                        token: token.clone(),
                        confirmed,
                        worked,
                        may_work: accepted_with.load(Ordering::Relaxed) == token.tag(),
                    };
                    self.refused.add(path, &refused, answer);
                }
                self.fails("is refused twice", Some((&token, good)));
            }
        }
    }

    /// Sends a call. Only a first send can meet a spurious refusal.
    async fn send(&self, token: &Token, first: bool) -> Sent {
        let world = &self.world;
        if !self.line().get().reaches_wechat() {
            sleep(between(0.001, 5.0)).await;
            return Sent::Unreachable;
        }
        world.travel().await;
        if !self.line().get().reaches_wechat() {
            return Sent::Unreachable;
        }
        let accepted = world.wechat().accepts(token.value().expose());
        let spurious = accepted && first && {
            let left = &mut world.weather.lock().unwrap().spurious_refusals;
            let spurious = *left > 0;
            *left = left.saturating_sub(1);
            spurious
        };
        if spurious {
            world.event("a spurious refusal", format_args!("{}", self.index));
        }
        // The way back takes no time unless WeChat is slow, because timers are the main cost of a run.
        if world.is_slow() {
            world.travel().await;
        }
        self.life.goes_on().await;
        if accepted && !spurious {
            Sent::Accepted
        } else {
            Sent::Refused
        }
    }

    fn accepted(&self, choice: usize, token: &Token, healed: bool) {
        self.keeper.accepted(token);
        self.accepted_with[choice].store(token.tag(), Ordering::Relaxed);
        self.refused.forget(PATHS[choice]);
        let mut calls = self.world.calls();
        calls.accepted += 1;
        calls.healed += u64::from(healed);
        drop(calls);
        if healed {
            let index = self.index;
            self.world.note(format_args!("{index} is healed"));
        }
    }

    /// Records a call that failed. `second` is the token of its second send, and whether it was valid then.
    fn fails(&self, how: &str, second: Option<(&Token, bool)>) {
        if self.life.dead.load(Ordering::Relaxed) {
            return;
        }
        let (world, index) = (&self.world, self.index);
        let overtaken = second
            .is_some_and(|(token, good)| good || !world.is_known_dead(token.value().expose()));
        let excuse = world.excuse(index);
        let mut calls = world.calls();
        if overtaken {
            calls.overtaken += 1;
        } else if let Some(excuse) = excuse {
            *calls.excused.entry(excuse).or_default() += 1;
        } else {
            let at = world.began.elapsed().as_secs_f64();
            calls
                .failed
                .push(format!("at {at:.3} s a call of {index} {how}"));
        }
        drop(calls);
        world.note(format_args!("{index} {how}; {overtaken} {excuse:?}"));
    }
}
