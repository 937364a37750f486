//! The token rules: who may have a token, when it is renewed, and how long an older one still works.

use fastrand::Rng;
use tokio::time::{Duration, Instant};

use super::quota::{DAY, MINUTE, Quota, Quotas};

/// The two token APIs, isolated from one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenApi {
    Classic,
    Stable,
}

/// What the API calls make of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works, for the account of this index.
    Good(usize),
    /// 40014
    Malformed,
    /// 40001
    NotLatest,
    /// 42001
    Expired,
}

/// A token that is handed out.
#[derive(Clone, Debug)]
pub struct Grant {
    pub token: String,
    pub expires_in: u64,
}

#[derive(Debug)]
struct Token {
    text: String,
    api: TokenApi,
    expires: Instant,
    /// Earlier than `expires` once it is replaced or killed; later where the overlap carries it past its expiry.
    works_until: Instant,
    replaced: bool,
}

#[derive(Debug)]
struct Account {
    appid: String,
    secret: String,
    /// Every token ever given to it, the newest last.
    tokens: Vec<Token>,
    forced_at: Option<Instant>,
    classic_a_day: Quota,
    stable_a_minute: Quota,
    stable_a_day: Quota,
    forced_a_day: Quota,
}

/// All accounts and their tokens.
#[derive(Debug)]
pub struct Tokens {
    accounts: Vec<Account>,
    lifetime: Duration,
    /// How long a replaced token still works.
    overlap: Duration,
    /// In this last part of its life a stable token is renewed by whoever asks.
    renewal: Duration,
    quotas: Quotas,
    issued: Vec<String>,
    rng: Rng,
}

impl Tokens {
    /// Overlap and renewal are at most a quarter of the lifetime, so that short lives can be tried out.
    pub fn new(lifetime: Duration, overlap: Duration, quotas: Quotas, rng: Rng) -> Self {
        Self {
            accounts: Vec::new(),
            lifetime,
            overlap: overlap.min(lifetime / 4),
            renewal: Duration::from_secs(300).min(lifetime / 4),
            quotas,
            issued: Vec::new(),
            rng,
        }
    }

    /// Adds an account, or gives a known one another secret.
    pub fn set_secret(&mut self, appid: &str, secret: &str) {
        if let Some(known) = self.accounts.iter_mut().find(|a| a.appid == appid) {
            secret.clone_into(&mut known.secret);
            return;
        }
        self.accounts.push(Account {
            appid: appid.to_owned(),
            secret: secret.to_owned(),
            tokens: Vec::new(),
            forced_at: None,
            classic_a_day: Quota::new(self.quotas.classic_a_day, DAY),
            stable_a_minute: Quota::new(self.quotas.stable_a_minute, MINUTE),
            stable_a_day: Quota::new(self.quotas.stable_a_day, DAY),
            forced_a_day: Quota::new(self.quotas.forced_a_day, DAY),
        });
    }

    /// The account that appid and secret name, or the errcode that says what is wrong with them.
    pub fn identify(&self, appid: Option<&str>, secret: Option<&str>) -> Result<usize, i64> {
        let appid = appid.filter(|text| !text.is_empty()).ok_or(41002)?;
        let secret = secret.filter(|text| !text.is_empty()).ok_or(41004)?;
        let account = self.find(appid).ok_or(40013)?;
        if self.accounts[account].secret != secret {
            return Err(40125);
        }
        Ok(account)
    }

    /// The index of the account with this appid.
    pub fn find(&self, appid: &str) -> Option<usize> {
        self.accounts.iter().position(|a| a.appid == appid)
    }

    /// `GET /cgi-bin/token`: always a new token.
    pub fn classic(&mut self, account: usize, now: Instant) -> Result<Grant, i64> {
        if !self.accounts[account].classic_a_day.take(now) {
            return Err(45009);
        }
        Ok(self.mint(account, TokenApi::Classic, now))
    }

    /// `POST /cgi-bin/stable_token`: the current token, or a new one when it is due or forced.
    pub fn stable(&mut self, account: usize, force: bool, now: Instant) -> Result<Grant, i64> {
        let apart = self.quotas.forced_apart;
        let asker = &mut self.accounts[account];
        if !asker.stable_a_minute.take(now) {
            return Err(45011);
        }
        if !asker.stable_a_day.take(now) {
            return Err(45009);
        }
        if force && asker.forced_at.is_none_or(|at| now - at >= apart) {
            if !asker.forced_a_day.take(now) {
                return Err(45009);
            }
            asker.forced_at = Some(now);
            return Ok(self.mint(account, TokenApi::Stable, now));
        }
        Ok(self.stable_now(account, now))
    }

    /// The current stable token, renewed if it is due; counts against no quota.
    pub fn stable_now(&mut self, account: usize, now: Instant) -> Grant {
        if let Some(token) = self.accounts[account].current(TokenApi::Stable, now) {
            let left = token.expires - now;
            if left >= self.renewal {
                return Grant {
                    token: token.text.clone(),
                    expires_in: left.as_secs(),
                };
            }
        }
        self.mint(account, TokenApi::Stable, now)
    }

    /// The stable token that works now, due for renewal or not; a new one only where there is none.
    pub fn peek(&mut self, account: usize, now: Instant) -> String {
        match self.accounts[account].current(TokenApi::Stable, now) {
            Some(token) => token.text.clone(),
            None => self.mint(account, TokenApi::Stable, now).token,
        }
    }

    /// What an API call that brings `token` is told.
    pub fn judge(&self, token: &str, now: Instant) -> Verdict {
        if token.len() < 16 {
            return Verdict::Malformed;
        }
        for (index, account) in self.accounts.iter().enumerate() {
            // From the newest, which is the one that nearly every call brings.
            if let Some(known) = account.tokens.iter().rev().find(|t| t.text == token) {
                return if now < known.works_until {
                    Verdict::Good(index)
                } else if now >= known.expires {
                    Verdict::Expired
                } else {
                    Verdict::NotLatest
                };
            }
        }
        Verdict::NotLatest
    }

    /// Every token is refused from now on, as after a reset of the secret.
    pub fn rotate(&mut self, now: Instant) {
        for token in self.accounts.iter_mut().flat_map(|a| &mut a.tokens) {
            token.works_until = token.works_until.min(now);
            token.replaced = true;
        }
    }

    /// Every token that still works has reached its expiry now.
    pub fn expire(&mut self, now: Instant) {
        for token in self.accounts.iter_mut().flat_map(|a| &mut a.tokens) {
            if now < token.works_until {
                (token.works_until, token.expires) = (now, now);
            }
        }
    }

    /// Every token ever issued.
    pub fn issued(&self) -> &[String] {
        &self.issued
    }

    fn mint(&mut self, account: usize, api: TokenApi, now: Instant) -> Grant {
        let number = self.issued.len() + 1;
        let text = random_token(&mut self.rng, &format!("TOK{number}-"));
        let overlap = self.overlap;
        self.accounts[account].replace(api, overlap, now);
        self.accounts[account].tokens.push(Token {
            text: text.clone(),
            api,
            expires: now + self.lifetime,
            works_until: now + self.lifetime,
            replaced: false,
        });
        self.issued.push(text.clone());
        Grant {
            token: text,
            expires_in: self.lifetime.as_secs(),
        }
    }
}

impl Account {
    fn current(&self, api: TokenApi, now: Instant) -> Option<&Token> {
        let newest = self.tokens.iter().rev().find(|token| token.api == api)?;
        (!newest.replaced && now < newest.works_until).then_some(newest)
    }

    /// Makes room for a new token: the current one has its overlap, and a stable one before it ends at once,
    /// so that two forced refreshes kill a leaked token.
    fn replace(&mut self, api: TokenApi, overlap: Duration, now: Instant) {
        for token in self.tokens.iter_mut().filter(|token| token.api == api) {
            match (api, token.replaced) {
                (TokenApi::Classic, false) => {
                    token.works_until = token.works_until.min(now + overlap);
                }
                (TokenApi::Stable, false) if now < token.works_until => {
                    token.works_until = now + overlap;
                }
                (TokenApi::Stable, true) => token.works_until = token.works_until.min(now),
                _ => {}
            }
            token.replaced = true;
        }
    }
}

/// `prefix`, filled up with letters, digits, `_` and `-` to a length that real tokens have (136 to 512).
pub fn random_token(rng: &mut Rng, prefix: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    let length = rng.usize(136..=512);
    let mut token = String::with_capacity(length);
    token.push_str(prefix);
    while token.len() < length {
        token.push(char::from(ALPHABET[rng.usize(..ALPHABET.len())]));
    }
    token
}
