//! The token rules: who may fetch a token, when it is renewed, and how long an older one still works.

use fastrand::Rng;
use tokio::time::{Duration, Instant};

use super::quota::{DAY, MINUTE, Quota, TokenQuotas};

/// The two token APIs, which do not affect each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Classic,
    Stable,
}

/// The result of checking the token of an API call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenVerdict {
    /// It is valid, for the account with this index.
    Good(usize),
    /// 40014
    Malformed,
    /// 40001
    NotLatest,
    /// 42001
    Expired,
}

/// An issued token.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) token: String,
    pub(super) expires_in: u64,
}

#[derive(Debug)]
struct IssuedToken {
    text: String,
    api: TokenKind,
    expires: Instant,
    /// When it stops working: before `expires` if it was replaced or revoked, and later if the overlap ends later.
    works_until: Instant,
    replaced: bool,
}

#[derive(Debug)]
struct FakeAccount {
    appid: String,
    secret: String,
    /// Every token that was issued to it, the newest last.
    tokens: Vec<IssuedToken>,
    forced_at: Option<Instant>,
    classic_a_day: Quota,
    stable_a_minute: Quota,
    stable_a_day: Quota,
    forced_a_day: Quota,
}

/// All accounts and their tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    accounts: Vec<FakeAccount>,
    lifetime: Duration,
    /// How long a replaced token still works.
    overlap: Duration,
    /// In this last part of its lifetime, the next request renews a stable token.
    renewal: Duration,
    quotas: TokenQuotas,
    issued: Vec<String>,
    rng: Rng,
}

impl Tokens {
    /// Overlap and renewal take at most a quarter of the lifetime, so that short lifetimes can be tested.
    pub(super) fn new(
        lifetime: Duration,
        overlap: Duration,
        quotas: TokenQuotas,
        rng: Rng,
    ) -> Self {
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

    /// Adds an account, or changes the secret of a known one.
    pub(super) fn set_secret(&mut self, appid: &str, secret: &str) {
        if let Some(known) = self.accounts.iter_mut().find(|a| a.appid == appid) {
            secret.clone_into(&mut known.secret);
            return;
        }
        self.accounts.push(FakeAccount {
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

    /// The secrets of all accounts.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &String> {
        self.accounts.iter().map(|account| &account.secret)
    }

    /// The account with this appid and secret, or the errcode of the error.
    pub(super) fn identify(&self, appid: Option<&str>, secret: Option<&str>) -> Result<usize, i64> {
        let appid = appid.filter(|text| !text.is_empty()).ok_or(41002)?;
        let secret = secret.filter(|text| !text.is_empty()).ok_or(41004)?;
        let account = self.find(appid).ok_or(40013)?;
        if self.accounts[account].secret != secret {
            return Err(40125);
        }
        Ok(account)
    }

    /// The index of the account with this appid.
    pub(super) fn find(&self, appid: &str) -> Option<usize> {
        self.accounts.iter().position(|a| a.appid == appid)
    }

    /// `GET /cgi-bin/token`: always a new token.
    pub(super) fn classic(&mut self, account: usize, now: Instant) -> Result<Grant, i64> {
        if !self.accounts[account].classic_a_day.take(now) {
            return Err(45009);
        }
        Ok(self.mint(account, TokenKind::Classic, now))
    }

    /// `POST /cgi-bin/stable_token`: the current token, or a new one when it is due or forced.
    pub(super) fn stable(
        &mut self,
        account: usize,
        force: bool,
        now: Instant,
    ) -> Result<Grant, i64> {
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
            return Ok(self.mint(account, TokenKind::Stable, now));
        }
        Ok(self.stable_now(account, now))
    }

    /// The current stable token, which is renewed if it is due. This counts against no quota.
    pub(super) fn stable_now(&mut self, account: usize, now: Instant) -> Grant {
        if let Some(token) = self.accounts[account].current(TokenKind::Stable, now) {
            let left = token.expires - now;
            if left >= self.renewal {
                return Grant {
                    token: token.text.clone(),
                    expires_in: left.as_secs(),
                };
            }
        }
        self.mint(account, TokenKind::Stable, now)
    }

    /// The stable token that works now, even if it is due for renewal. A new one is minted only if there is none.
    pub(super) fn peek(&mut self, account: usize, now: Instant) -> String {
        match self.accounts[account].current(TokenKind::Stable, now) {
            Some(token) => token.text.clone(),
            None => self.mint(account, TokenKind::Stable, now).token,
        }
    }

    /// Checks the token of an API call.
    pub(super) fn judge(&self, token: &str, now: Instant) -> TokenVerdict {
        if token.len() < 16 {
            return TokenVerdict::Malformed;
        }
        for (index, account) in self.accounts.iter().enumerate() {
            // Begin with the newest token, because nearly every call has that one.
            if let Some(known) = account.tokens.iter().rev().find(|t| t.text == token) {
                return if now < known.works_until {
                    TokenVerdict::Good(index)
                } else if now >= known.expires {
                    TokenVerdict::Expired
                } else {
                    TokenVerdict::NotLatest
                };
            }
        }
        TokenVerdict::NotLatest
    }

    /// Revokes every token, as after a reset of the secret.
    pub(super) fn rotate(&mut self, now: Instant) {
        for token in self.accounts.iter_mut().flat_map(|a| &mut a.tokens) {
            token.works_until = token.works_until.min(now);
            token.replaced = true;
        }
    }

    /// Every token that still works expires now.
    pub(super) fn expire(&mut self, now: Instant) {
        for token in self.accounts.iter_mut().flat_map(|a| &mut a.tokens) {
            if now < token.works_until {
                (token.works_until, token.expires) = (now, now);
            }
        }
    }

    /// Every token that was issued.
    pub(super) fn issued(&self) -> &[String] {
        &self.issued
    }

    fn mint(&mut self, account: usize, api: TokenKind, now: Instant) -> Grant {
        let number = self.issued.len() + 1;
        let text = random_token(&mut self.rng, &format!("TOK{number}-"));
        let overlap = self.overlap;
        self.accounts[account].replace(api, overlap, now);
        self.accounts[account].tokens.push(IssuedToken {
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

impl FakeAccount {
    fn current(&self, api: TokenKind, now: Instant) -> Option<&IssuedToken> {
        let newest = self.tokens.iter().rev().find(|token| token.api == api)?;
        (!newest.replaced && now < newest.works_until).then_some(newest)
    }

    /// Makes room for a new token. The current one gets its overlap, and an older stable one ends at once, so that
    /// two forced refreshes revoke a leaked token.
    fn replace(&mut self, api: TokenKind, overlap: Duration, now: Instant) {
        for token in self.tokens.iter_mut().filter(|token| token.api == api) {
            match (api, token.replaced) {
                (TokenKind::Classic, false) => {
                    token.works_until = token.works_until.min(now + overlap);
                }
                (TokenKind::Stable, false) if now < token.works_until => {
                    token.works_until = now + overlap;
                }
                (TokenKind::Stable, true) => token.works_until = token.works_until.min(now),
                _ => {}
            }
            token.replaced = true;
        }
    }
}

/// A token that begins with `prefix`, with letters, digits, `_` and `-`, and a length as real ones have (136 to 512).
pub(super) fn random_token(rng: &mut Rng, prefix: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    let length = rng.usize(136..=512);
    let mut token = String::with_capacity(length);
    token.push_str(prefix);
    while token.len() < length {
        token.push(char::from(ALPHABET[rng.usize(..ALPHABET.len())]));
    }
    token
}
