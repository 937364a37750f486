//! WeChat's token rules (two tokens, their lifetimes, their quotas), as strict as the documents allow.

use std::collections::VecDeque;

use tokio::time::{Duration, Instant};
use wechat_sidecar::{
    token::source::{TokenError, TokenErrorKind, wechat::TokenApi},
    wechat::api::Api,
};

/// How long a token lives.
pub const LIFE: Duration = Duration::from_secs(7200);

/// How long before its expiry a token is renewed, and how long it still works after that.
pub const WINDOW: Duration = Duration::from_secs(300);

const DAY: Duration = Duration::from_secs(86_400);
const MINUTE: Duration = Duration::from_secs(60);

/// One account at WeChat.
#[derive(Debug)]
pub struct Wechat {
    api: TokenApi,
    secret: u32,
    serial: u32,
    current: Option<Minted>,
    previous: Option<Minted>,
    last_day: Window,
    last_minute: Window,
    /// The token requests of the sidecars.
    pub asked: Asked,
}

#[derive(Clone, Debug)]
struct Minted {
    value: String,
    until: Instant,
}

/// The requests of sidecars that arrived, by result.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// All requests.
    pub requests: u64,
    /// Requests that minted a token.
    pub minted: u64,
    /// Requests that returned the current token.
    pub same: u64,
    /// Requests with a wrong secret.
    pub wrong_secret: u64,
    /// Requests answered with -1.
    pub busy: u64,
    /// Requests beyond a quota.
    pub beyond: u64,
    /// The most in any 24 hours. For `token`, only those that minted one count, including those of others.
    pub most_a_day: usize,
    /// The most in any minute.
    pub most_a_minute: usize,
}

/// Counts events in a sliding window.
#[derive(Debug)]
struct Window {
    length: Duration,
    times: VecDeque<Instant>,
}

impl Window {
    fn new(length: Duration) -> Self {
        let times = VecDeque::new();
        Self { length, times }
    }

    fn note(&mut self) -> usize {
        let now = Instant::now();
        self.times.push_back(now);
        while self
            .times
            .front()
            .is_some_and(|at| *at + self.length <= now)
        {
            self.times.pop_front();
        }
        self.times.len()
    }
}

/// The result of a token request.
pub type Reply = Result<(String, Duration), TokenError>;

impl Wechat {
    pub fn new(api: TokenApi) -> Self {
        Self {
            api,
            secret: 0,
            serial: 0,
            current: None,
            previous: None,
            last_day: Window::new(DAY),
            last_minute: Window::new(MINUTE),
            asked: Asked::default(),
        }
    }

    /// The quotas of a day and of a minute.
    fn quotas(&self) -> (usize, usize) {
        match self.api {
            TokenApi::Classic => (2000, 2000),
            TokenApi::Stable => (500_000, 10_000),
        }
    }

    /// Handles a token request of a sidecar.
    pub fn token_request(&mut self, secret: u32, busy: bool) -> Reply {
        self.asked.requests += 1;
        if secret != self.secret {
            self.asked.wrong_secret += 1;
            return Err(refused(40001));
        }
        // The request counts, whatever its result, because no document says that failures are free.
        let (day, minute) = (self.last_day.note(), self.last_minute.note());
        self.asked.most_a_day = self.asked.most_a_day.max(day);
        self.asked.most_a_minute = self.asked.most_a_minute.max(minute);
        let (a_day, a_minute) = self.quotas();
        if day > a_day || minute > a_minute {
            self.asked.beyond += 1;
            return Err(refused(if day > a_day { 45009 } else { 45011 }));
        }
        if busy {
            self.asked.busy += 1;
            return Err(refused(-1));
        }
        let now = Instant::now();
        let due = |token: &Minted| now + WINDOW >= token.until;
        if self.api == TokenApi::Classic || self.current.as_ref().is_none_or(due) {
            self.asked.minted += 1;
            self.mint(WINDOW);
        } else {
            self.asked.same += 1;
        }
        let current = self.current.as_ref().unwrap();
        let left = current.until - now;
        Ok((current.value.clone(), Duration::from_secs(left.as_secs())))
    }

    /// Mints a token. The current one works for `grace` longer, and the one before that ends now.
    fn mint(&mut self, grace: Duration) {
        let now = Instant::now();
        self.serial += 1;
        self.previous = self.current.take().map(|before| Minted {
            until: before.until.min(now + grace),
            ..before
        });
        self.current = Some(Minted {
            value: format!("token-{}", self.serial),
            until: now + LIFE,
        });
    }

    /// Somebody else who knows the secret fetches a token: by `token`, or by `stable_token` with force. The documents
    /// disagree whether the old one then ends at once.
    pub fn kick(&mut self, at_once: bool) {
        self.last_day.note();
        let at_once = at_once && self.api == TokenApi::Stable;
        self.mint(if at_once { Duration::ZERO } else { WINDOW });
    }

    /// The operator resets the AppSecret. No document says whether the tokens end.
    pub fn reset_secret(&mut self, tokens_end: bool) {
        self.secret += 1;
        if tokens_end {
            self.current = None;
            self.previous = None;
        }
    }

    /// The right secret.
    pub fn secret(&self) -> u32 {
        self.secret
    }

    /// How many tokens were minted, also by others.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Whether a call with `token` would be accepted now.
    pub fn accepts(&self, token: &str) -> bool {
        let now = Instant::now();
        let mut tokens = self.current.iter().chain(&self.previous);
        tokens.any(|minted| minted.value == token && now < minted.until)
    }

    /// When the current token expires.
    pub fn ends_at(&self) -> Option<Instant> {
        self.current.as_ref().map(|token| token.until)
    }
}

fn refused(code: i64) -> TokenError {
    TokenError::Errcode {
        code,
        message: String::new(),
        kind: TokenErrorKind::of(Api::Wechat, code),
    }
}

#[tokio::test(start_paused = true)]
async fn a_classic_token_ends_five_minutes_after_the_next_and_at_once_after_two() {
    let mut wechat = Wechat::new(TokenApi::Classic);
    let first = wechat.token_request(0, false).unwrap().0;
    let second = wechat.token_request(0, false).unwrap().0;
    assert!(wechat.accepts(&first) && wechat.accepts(&second));
    tokio::time::advance(WINDOW).await;
    assert!(!wechat.accepts(&first) && wechat.accepts(&second));
    let third = wechat.token_request(0, false).unwrap().0;
    wechat.kick(false);
    assert!(!wechat.accepts(&second) && wechat.accepts(&third));
    assert!(wechat.token_request(1, false).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stable_token_is_the_same_for_all_until_its_last_five_minutes() {
    let mut wechat = Wechat::new(TokenApi::Stable);
    let first = wechat.token_request(0, false).unwrap();
    assert_eq!(first.1, LIFE);
    tokio::time::advance(LIFE - WINDOW - Duration::from_secs(1)).await;
    let again = wechat.token_request(0, false).unwrap();
    assert_eq!(again, (first.0.clone(), WINDOW + Duration::from_secs(1)));
    tokio::time::advance(Duration::from_secs(1)).await;
    let second = wechat.token_request(0, false).unwrap();
    assert_eq!(second.1, LIFE);
    assert!(wechat.accepts(&first.0) && wechat.accepts(&second.0));
    tokio::time::advance(WINDOW).await;
    assert!(!wechat.accepts(&first.0) && wechat.accepts(&second.0));
}

#[tokio::test(start_paused = true)]
async fn quotas_are_kept() {
    let mut wechat = Wechat::new(TokenApi::Classic);
    for _ in 0..2000 {
        wechat.token_request(0, false).unwrap();
    }
    let beyond = wechat.token_request(0, false).unwrap_err();
    assert_eq!(beyond.code(), Some(45009));
}
