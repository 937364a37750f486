//! WeCom's tokens. Each secret of a corp has one token, which is the same for all who fetch it.

use std::collections::HashMap;

use fastrand::Rng;
use tokio::time::{Duration, Instant};

use super::{
    call::{RecordedCall, is_placeholder},
    tokens::random_token,
};

/// The rules of WeCom from now on; see [`Wechat::change_wecom`](super::Wechat::change_wecom).
#[derive(Clone, Debug)]
pub struct WecomRules {
    /// How long tokens live.
    pub lifetime: Duration,
    /// The lifetime that `gettoken` claims for any token; `None` for the truth.
    pub says: Option<u64>,
    /// The share of calls with a good token that end it early. The first call of a new token never does.
    pub early_end_chance: f64,
    /// `gettoken` returns a refused token again.
    pub insists: bool,
    /// A token comes without an errcode, as for old corps.
    pub no_errcode: bool,
    /// The IP of all calls, if it is not on the whitelist. Tokens are issued anyway.
    pub unlisted: Option<String>,
    /// Paths that answer with this code to any token.
    pub always: HashMap<String, i64>,
    /// How many wrong secrets block the IP.
    pub wrong_secrets: u32,
}

impl Default for WecomRules {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(7200),
            says: Some(7200),
            early_end_chance: 0.05,
            insists: false,
            no_errcode: false,
            unlisted: None,
            always: HashMap::new(),
            wrong_secrets: 5,
        }
    }
}

#[derive(Debug)]
struct WecomToken {
    text: String,
    expires: Instant,
    /// The code with which it is refused, once it is invalid.
    invalid: Option<i64>,
    used: bool,
}

/// The holder of a secret of a corp: an app, the address book …
#[derive(Debug)]
struct Holder {
    corpid: String,
    secret: String,
    /// Its tokens, the newest last.
    tokens: Vec<WecomToken>,
}

/// The tokens of all corps, and the rules for them.
#[derive(Debug)]
pub(super) struct WecomTokens {
    pub(super) rules: WecomRules,
    holders: Vec<Holder>,
    /// Tokens of other corps.
    pub(super) downstream: Vec<String>,
    issued: Vec<String>,
    wrong: u32,
    blocked_until: Option<Instant>,
    pub(super) rng: Rng,
}

impl WecomTokens {
    pub(super) fn new(
        accounts: &[(String, String)],
        early_end_chance: f64,
        lifetime: Duration,
        rng: Rng,
    ) -> Self {
        let holder = |(corpid, secret): &(String, String)| Holder {
            corpid: corpid.clone(),
            secret: secret.clone(),
            tokens: Vec::new(),
        };
        Self {
            rules: WecomRules {
                early_end_chance,
                lifetime,
                ..WecomRules::default()
            },
            holders: accounts.iter().map(holder).collect(),
            downstream: Vec::new(),
            issued: Vec::new(),
            wrong: 0,
            blocked_until: None,
            rng,
        }
    }

    pub(super) fn issued(&self) -> impl Iterator<Item = &String> {
        self.issued.iter().chain(&self.downstream)
    }

    /// The secrets of all corps.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &String> {
        self.holders.iter().map(|holder| &holder.secret)
    }

    /// Adds a secret of a corp, unless it is known.
    pub(super) fn add(&mut self, corpid: &str, secret: &str) {
        let is_known = |h: &Holder| h.corpid == corpid && h.secret == secret;
        if !self.holders.iter().any(is_known) {
            self.holders.push(Holder {
                corpid: corpid.to_owned(),
                secret: secret.to_owned(),
                tokens: Vec::new(),
            });
        }
    }

    /// Makes every token invalid, with this code.
    pub(super) fn end_tokens(&mut self, code: i64) {
        for token in self.holders.iter_mut().filter_map(|h| h.tokens.last_mut()) {
            token.invalid = token.invalid.or(Some(code));
        }
    }

    /// A token and its claimed life, or the errcode.
    pub(super) fn gettoken(&mut self, call: &RecordedCall) -> Result<(String, u64), i64> {
        if self.blocked_until.is_some_and(|until| call.at < until) {
            return Err(45009);
        }
        let corpid = call.parameter("corpid").ok_or(41002)?;
        let secret = call.parameter("corpsecret").ok_or(41004)?;
        let Some(at) = self
            .holders
            .iter()
            .position(|h| h.corpid == corpid && h.secret == secret)
        else {
            self.wrong += 1;
            if self.wrong >= self.rules.wrong_secrets {
                self.blocked_until = Some(call.at + Duration::from_secs(3600));
            }
            let known = self.holders.iter().any(|h| h.corpid == corpid);
            return Err(if known { 40001 } else { 40013 });
        };
        let (rules, holder) = (&self.rules, &mut self.holders[at]);
        let good = |token: &&WecomToken| {
            call.at < token.expires && (token.invalid.is_none() || rules.insists)
        };
        if holder.tokens.last().as_ref().filter(|t| good(t)).is_none() {
            let prefix = format!("COM{}-", self.issued.len() + 1);
            let text = random_token(&mut self.rng, &prefix);
            self.issued.push(text.clone());
            holder.tokens.push(WecomToken {
                text,
                expires: call.at + rules.lifetime,
                invalid: None,
                used: false,
            });
        }
        let token = &holder.tokens[holder.tokens.len() - 1];
        let left = (token.expires - call.at).as_secs().max(1);
        Ok((token.text.clone(), rules.says.unwrap_or(left)))
    }

    /// The holder of the call's token.
    pub(super) fn holder(&self, call: &RecordedCall) -> Option<usize> {
        let token = call.token.as_deref()?;
        let its = |holder: &Holder| holder.tokens.iter().any(|known| known.text == token);
        self.holders.iter().position(its)
    }

    /// The code with which the token of this call is refused, if it is.
    pub(super) fn judge(&mut self, path: &str, call: &RecordedCall) -> Option<i64> {
        let Some(text) = call.token.as_deref().filter(|token| !token.is_empty()) else {
            return Some(41001);
        };
        if let Some(code) = self.rules.always.get(path) {
            return Some(*code);
        }
        if self.downstream.iter().any(|token| token == text) {
            return None;
        }
        if is_placeholder(text) || call.has_two_tokens() {
            return Some(40014);
        }
        let ends_early = self.rng.f64() < self.rules.early_end_chance;
        for holder in &mut self.holders {
            let newest = holder.tokens.len().wrapping_sub(1);
            let Some(at) = holder.tokens.iter().position(|t| t.text == text) else {
                continue;
            };
            let token = &mut holder.tokens[at];
            if token.invalid.is_none() && ends_early && token.used && at == newest {
                token.invalid = Some(if self.rng.bool() { 40014 } else { 42001 });
            }
            token.used = true;
            let expired = call.at >= token.expires || at != newest;
            return token.invalid.or(expired.then_some(42001));
        }
        Some(40014)
    }
}
