//! WeCom's rules and replies. Each secret of a corp has one token, which is the same for all who fetch it.

use std::collections::HashMap;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::{
    call::{Call, TokenRequest},
    delivery::{Delivery, Fault},
    media,
    reply::Reply,
    state::{Answer, State, has_two_tokens, is_placeholder, lacks_length},
    tokens::random_token,
};

pub const GETTOKEN: &str = "/cgi-bin/gettoken";

/// The rules of WeCom from now on; see [`Wechat::change_wecom`](super::Wechat::change_wecom).
#[derive(Clone, Debug)]
pub struct Rules {
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

impl Default for Rules {
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
struct Token {
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
    tokens: Vec<Token>,
}

/// The state of WeCom.
#[derive(Debug)]
pub struct Wecom {
    pub rules: Rules,
    holders: Vec<Holder>,
    /// Tokens of other corps.
    downstream: Vec<String>,
    issued: Vec<String>,
    wrong: u32,
    blocked_until: Option<Instant>,
    rng: Rng,
}

impl Wecom {
    pub fn new(
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
            rules: Rules {
                early_end_chance,
                lifetime,
                ..Rules::default()
            },
            holders: accounts.iter().map(holder).collect(),
            downstream: Vec::new(),
            issued: Vec::new(),
            wrong: 0,
            blocked_until: None,
            rng,
        }
    }

    pub fn issued(&self) -> impl Iterator<Item = &String> {
        self.issued.iter().chain(&self.downstream)
    }

    /// Makes every token invalid, with this code.
    pub fn end_tokens(&mut self, code: i64) {
        for token in self.holders.iter_mut().filter_map(|h| h.tokens.last_mut()) {
            token.invalid = token.invalid.or(Some(code));
        }
    }

    fn gettoken(&mut self, call: &Call) -> Result<(String, u64), i64> {
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
        let good =
            |token: &&Token| call.at < token.expires && (token.invalid.is_none() || rules.insists);
        if holder.tokens.last().as_ref().filter(|t| good(t)).is_none() {
            let prefix = format!("COM{}-", self.issued.len() + 1);
            let text = random_token(&mut self.rng, &prefix);
            self.issued.push(text.clone());
            holder.tokens.push(Token {
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
    fn holder(&self, call: &Call) -> Option<usize> {
        let token = call.token.as_deref()?;
        let its = |holder: &Holder| holder.tokens.iter().any(|known| known.text == token);
        self.holders.iter().position(its)
    }

    /// The code with which the token of this call is refused, if it is.
    fn judge(&mut self, path: &str, call: &Call) -> Option<i64> {
        let Some(text) = call.token.as_deref().filter(|token| !token.is_empty()) else {
            return Some(41001);
        };
        if let Some(code) = self.rules.always.get(path) {
            return Some(*code);
        }
        if self.downstream.iter().any(|token| token == text) {
            return None;
        }
        if is_placeholder(text) || has_two_tokens(&call.query()) {
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

/// Answers and records a request.
pub fn answer(state: &mut State, path: &str, call: Call) -> Answer {
    if path == GETTOKEN {
        gettoken(state, call)
    } else {
        api(state, path, call)
    }
}

fn gettoken(state: &mut State, mut call: Call) -> Answer {
    let behaviour = &state.behaviour;
    let fault = match (behaviour.token_hangup, behaviour.token_stall) {
        (true, _) => Fault::NoReply,
        (_, true) => Fault::Stall,
        _ => Fault::None,
    };
    let delivery = Delivery {
        delay: behaviour.token_delay,
        fault,
        ..Delivery::default()
    };
    let forced = behaviour.token_errcode;
    let granted = match (&mut state.wecom, forced) {
        (_, Some(code)) => Err(code),
        (Some(wecom), None) => wecom.gettoken(&call),
        (None, None) => Err(40013),
    };
    let no_errcode = state.wecom.as_ref().is_some_and(|w| w.rules.no_errcode);
    let (reply, token) = match granted {
        Ok((token, expires_in)) => {
            let mut body = json!({ "errcode": 0, "errmsg": "ok", "access_token": token, "expires_in": expires_in });
            if let (true, Some(body)) = (no_errcode, body.as_object_mut()) {
                body.remove("errcode");
                body.remove("errmsg");
            }
            (Reply::json(&body), Some(token))
        }
        Err(code) => (error(code, "9.30.0.138"), None),
    };
    call.errcode = reply.errcode.filter(|code| *code != 0);
    state.token_requests.push(TokenRequest {
        path: GETTOKEN.to_owned(),
        appid: call.parameter("corpid"),
        secret_ok: token.is_some(),
        force_refresh: false,
        errcode: call.errcode,
        token,
        at: call.at,
        call,
    });
    Answer { reply, delivery }
}

fn api(state: &mut State, path: &str, mut call: Call) -> Answer {
    let delivery = Delivery::of_api_call(&mut state.behaviour, path);
    let mut reply = reply_to(state, path, &call);
    if let Some(code) = reply.errcode {
        reply
            .headers
            .push(("Error-Code".to_owned(), code.to_string()));
    }
    let extra = state.behaviour.extra_headers.iter().cloned();
    reply.headers.extend(extra);
    call.errcode = reply.errcode;
    call.refused = matches!(reply.errcode, Some(40014 | 42001));
    state.calls.push(call);
    Answer { reply, delivery }
}

fn reply_to(state: &mut State, path: &str, call: &Call) -> Reply {
    if lacks_length(call) {
        return Reply::status(412);
    }
    let Some(wecom) = &mut state.wecom else {
        return Reply::status(404);
    };
    let unlisted = wecom.rules.unlisted.clone();
    if let Some(ip) = unlisted.filter(|_| !takes_no_token(path)) {
        return error(60020, &ip);
    }
    if !takes_no_token(path)
        && let Some(code) = wecom.judge(path, call)
    {
        return error(code, "9.30.0.138");
    }
    match path {
        "/cgi-bin/media/upload" => media::upload(state, call),
        "/cgi-bin/media/get" => ranged(media::get(state, call), call),
        "/cgi-bin/corpgroup/corp/gettoken" => {
            let token = random_token(&mut wecom.rng, "DOWNSTREAM-");
            wecom.downstream.push(token.clone());
            Reply::json(&json!({ "errcode": 0, "access_token": token, "expires_in": 7200 }))
        }
        "/cgi-bin/getcallbackip" | "/cgi-bin/get_api_domain_ip" => {
            Reply::json(&json!({ "ip_list": ["101.226.62.77"], "errcode": 0, "errmsg": "ok" }))
        }
        // The ticket of the corp is the same for all its apps, and each app has one of its own.
        "/cgi-bin/get_jsapi_ticket" => ticket(state, call, usize::MAX),
        "/cgi-bin/ticket/get" => match wecom.holder(call) {
            Some(holder) => ticket(state, call, holder),
            None => error(40014, "9.30.0.138"),
        },
        "/cgi-bin/user/get" => Reply::json(&json!({
            "errcode": 0, "errmsg": "ok", "userid": call.parameter("userid"), "name": "张三",
        })),
        "/cgi-bin/message/send" => match call.json() {
            Some(Value::Object(_)) => {
                Reply::json(&json!({ "errcode": 0, "errmsg": "ok", "msgid": "xxxx" }))
            }
            _ => error(47001, "9.30.0.138"),
        },
        _ => Reply::ok(),
    }
}

fn ticket(state: &mut State, call: &Call, whose: usize) -> Reply {
    let kind = call.parameter("type").unwrap_or_default();
    if !matches!(
        (whose, &*kind),
        (usize::MAX, _) | (_, "agent_config" | "wx_card")
    ) {
        return error(40097, "9.30.0.138");
    }
    let rules = state.behaviour.tickets;
    let of = (whose, kind);
    state.tickets.answer(of, rules, call.at, &mut state.rng)
}

/// Whether calls to `path` take no token, or one of another kind, which this fake does not check.
fn takes_no_token(path: &str) -> bool {
    ["service", "license", "webhook", "paytool", "openhw"]
        .iter()
        .any(|folder| path.starts_with(&format!("/cgi-bin/{folder}/")))
}

/// An error of WeCom. Its message has the IP of the caller, and the code need not be first.
fn error(code: i64, ip: &str) -> Reply {
    let text = match code {
        -1 => "system busy",
        40001 => "invalid credential",
        40013 => "invalid corpid",
        40014 => "invalid access_token",
        41001 => "access_token missing",
        42001 => "access_token expired",
        45009 => "api freq out of limit",
        60020 => "not allow to access from your ip",
        _ => "error",
    };
    let hint = fastrand::u64(..);
    Reply::json(&json!({
        "ip_list": [],
        "errcode": code,
        "errmsg": format!("{text}, hint: [{hint}], from ip: {ip}, more info at https://open.work.weixin.qq.com/devtool/query?e={code}"),
    }))
}

/// The part of a file that `Range: bytes=FROM-TO` requests.
fn ranged(mut reply: Reply, call: &Call) -> Reply {
    let wanted = call
        .header("range")
        .and_then(|range| range.strip_prefix("bytes="));
    let Some((from, to)) = wanted.and_then(|range| range.split_once('-')) else {
        return reply;
    };
    let (Ok(from), Ok(to)) = (from.parse::<usize>(), to.parse::<usize>()) else {
        return reply;
    };
    let whole = reply.body.len();
    let end = whole.min(to + 1);
    if reply.errcode.is_some() || from >= end {
        return reply;
    }
    reply.status = 206;
    reply.body = reply.body.slice(from..end);
    let range = format!("bytes {from}-{}/{whole}", end - 1);
    reply.headers.push(("Content-Range".to_owned(), range));
    reply
}
