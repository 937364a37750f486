//! `/_fake/…`: calls that control the fake, for programs in other languages. They need no token and are not recorded.

use std::collections::HashMap;

use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::{
    behaviour::{Behaviour, EarlyReply, HangUp},
    call::RecordedCall,
    quota::CallQuota,
    reply::{PAGE, WechatReply},
    state::FakeState,
};

/// Answers a control call.
pub(super) fn answer(state: &mut FakeState, path: &str, call: &RecordedCall) -> WechatReply {
    match (call.method.as_str(), path) {
        ("POST", "/_fake/rotate") => state.tokens.rotate(Instant::now()),
        ("POST", "/_fake/expire") => state.tokens.expire(Instant::now()),
        ("POST", "/_fake/clear") => state.clear(),
        ("POST", "/_fake/change") => {
            if let Err(problem) = change(state, call) {
                return bad(400, &problem);
            }
        }
        ("POST", "/_fake/secret") => match credentials(call) {
            Some((appid, secret)) => state.tokens.set_secret(&appid, &secret),
            None => return bad(400, "the body must be a JSON object with appid and secret"),
        },
        ("GET", "/_fake/stats") => return WechatReply::json(&stats(state)),
        _ => {
            let hint = "POST /_fake/rotate, /_fake/expire, /_fake/change, /_fake/secret or /_fake/clear; GET /_fake/stats";
            return bad(404, hint);
        }
    }
    WechatReply::json(&json!({ "done": true }))
}

fn bad(status: u16, problem: &str) -> WechatReply {
    WechatReply {
        status,
        ..WechatReply::json(&json!({ "error": problem }))
    }
}

/// The account that is added, or gets another secret.
fn credentials(call: &RecordedCall) -> Option<(String, String)> {
    let body = call.json()?;
    let text = |key: &str| body[key].as_str().map(str::to_owned);
    text("appid").zip(text("secret"))
}

fn stats(state: &FakeState) -> Value {
    let refused = state.calls.iter().filter(|call| call.refused).count();
    json!({
        "calls": state.calls.len(),
        "refused": refused,
        "token_requests": state.token_requests.len(),
        "tokens_issued": state.tokens.issued().len(),
        "tickets_issued": state.tickets.issued().len(),
        "cut_short": state.cut_short.len(),
        "malformed": state.malformed.len(),
        "saw_placeholder": state.saw_placeholder,
    })
}

/// Makes all of the changes, or none.
fn change(state: &mut FakeState, call: &RecordedCall) -> Result<(), String> {
    let Some(Value::Object(knobs)) = call.json() else {
        return Err("the body must be a JSON object of knobs".to_owned());
    };
    let mut changed = state.behaviour.clone();
    let mut rules = state.wecom.as_ref().map(|wecom| wecom.rules.clone());
    for (knob, value) in &knobs {
        match knob.as_str() {
            "wecom_unlisted_ip" => {
                let rules = rules.as_mut().ok_or("this is not WeCom")?;
                rules.unlisted = unlisted_ip(value)?;
            }
            _ => turn(&mut changed, knob, value)?,
        }
    }
    state.behaviour = changed;
    if let (Some(wecom), Some(rules)) = (&mut state.wecom, rules) {
        wecom.rules = rules;
    }
    Ok(())
}

fn unlisted_ip(value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(ip) => Ok(Some(ip.clone())),
        _ => Err("wecom_unlisted_ip wants an IP or null".to_owned()),
    }
}

fn turn(behaviour: &mut Behaviour, knob: &str, value: &Value) -> Result<(), String> {
    let wants = |what: &str| format!("{knob} wants {what}");
    let flag = || value.as_bool().ok_or_else(|| wants("true or false"));
    let count = || {
        let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
        count.ok_or_else(|| wants("a whole number"))
    };
    let millis = || Ok::<_, String>(Duration::from_millis(count()?.into()));
    let code = || match value {
        Value::Null => Ok(None),
        _ => value
            .as_i64()
            .map(Some)
            .ok_or_else(|| wants("an errcode or null")),
    };
    let status = || match value {
        Value::Null => Ok(None),
        _ => u16::try_from(count()?)
            .ok()
            .filter(|status| (200..600).contains(status))
            .map(Some)
            .ok_or_else(|| wants("a status from 200 to 599, or null")),
    };
    match knob {
        "refusal_chance" => {
            behaviour.refusal_chance = value
                .as_f64()
                .filter(|chance| (0.0..=1.0).contains(chance))
                .ok_or_else(|| wants("a number from 0 to 1"))?;
        }
        "refuse_always" => {
            let paths = value.as_array().ok_or_else(|| wants("a list of paths"))?;
            let paths = paths.iter().map(|path| path.as_str().map(str::to_owned));
            behaviour.refuse_always = paths
                .collect::<Option<_>>()
                .ok_or_else(|| wants("a list of paths"))?;
        }
        "refuse_next" => behaviour.refuse_next = count()?,
        "refusal_code" => behaviour.refusal.code = code()?,
        "token_errcode" => behaviour.token_errcode = code()?,
        "token_garbage" => behaviour.token_garbage = flag()?,
        "token_delay_ms" => behaviour.token_delay = millis()?,
        "token_status" => behaviour.token_status = status()?,
        "token_hangup" => behaviour.token_hangup = flag()?,
        "token_stall" => behaviour.token_stall = flag()?,
        "quotas" => {
            behaviour.quotas = quotas(value)
                .ok_or_else(|| wants("an object of paths, each with a_day and a_minute"))?
        }
        "ticket_life_ms" => behaviour.tickets.life = millis()?,
        "ticket_says" => behaviour.tickets.said = count()?.into(),
        "reply_delay_ms" => behaviour.reply_delay = millis()?,
        "stall" => behaviour.stall = flag()?,
        "stall_body" => behaviour.stall_body = flag()?,
        "hang_up" => {
            behaviour.hang_up = hang_up(value).ok_or_else(|| {
                wants("never, before_reading, after_request, mid_head or mid_body")
            })?
        }
        "hang_up_next" => behaviour.hang_up_next = count()?,
        "close_after_reply" => behaviour.close_after_reply = flag()?,
        "close_idle_after_ms" => {
            behaviour.close_idle_after = if value.is_null() {
                None
            } else {
                Some(millis()?)
            };
        }
        "connection_close" => behaviour.connection_close = flag()?,
        "split_writes" => behaviour.split_writes = flag()?,
        "early_reply" => {
            behaviour.early_reply = early_reply(value)
                .ok_or_else(|| wants("never, then_read, then_stop_reading or then_close"))?
        }
        "chunked_replies" => behaviour.chunked_replies = flag()?,
        "errcode" => behaviour.errcode = code()?,
        "page" => {
            let page = || ("text/html".to_owned(), PAGE.into());
            behaviour.body = flag()?.then(page);
        }
        "status" => behaviour.status = status()?,
        "interim_100" => behaviour.interim_100 = flag()?,
        _ => return Err(format!("there is no knob {knob}")),
    }
    Ok(())
}

fn quotas(value: &Value) -> Option<HashMap<String, CallQuota>> {
    let limit = |value: &Value| match value {
        Value::Null => Some(None),
        _ => value.as_u64()?.try_into().ok().map(Some),
    };
    let quota = |(path, value): (&String, &Value)| {
        let (a_day, a_minute) = (limit(&value["a_day"])?, limit(&value["a_minute"])?);
        Some((path.clone(), CallQuota { a_day, a_minute }))
    };
    value.as_object()?.iter().map(quota).collect()
}

fn hang_up(value: &Value) -> Option<HangUp> {
    Some(match value.as_str()? {
        "never" => HangUp::Never,
        "before_reading" => HangUp::BeforeReading,
        "after_request" => HangUp::AfterRequest,
        "mid_head" => HangUp::MidHead,
        "mid_body" => HangUp::MidBody,
        _ => return None,
    })
}

fn early_reply(value: &Value) -> Option<EarlyReply> {
    Some(match value.as_str()? {
        "never" => EarlyReply::Never,
        "then_read" => EarlyReply::ThenRead,
        "then_stop_reading" => EarlyReply::ThenStopReading,
        "then_close" => EarlyReply::ThenClose,
        _ => return None,
    })
}
