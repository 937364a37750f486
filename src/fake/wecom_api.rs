//! WeCom's replies.

use serde_json::{Value, json};

use super::{
    api,
    call::{RecordedCall, RecordedTokenRequest},
    delivery::{Delivery, DeliveryFault, PlannedReply},
    media,
    reply::WechatReply,
    state::WechatState,
    tokens::random_token,
};

pub(super) const GETTOKEN: &str = "/cgi-bin/gettoken";

/// Answers and records a request.
pub(super) fn answer(state: &mut WechatState, path: &str, call: RecordedCall) -> PlannedReply {
    if path == GETTOKEN {
        gettoken(state, call)
    } else {
        api(state, path, call)
    }
}

fn gettoken(state: &mut WechatState, mut call: RecordedCall) -> PlannedReply {
    let behaviour = &state.behaviour;
    let fault = match (behaviour.token_hangup, behaviour.token_stall) {
        (true, _) => DeliveryFault::NoReply,
        (_, true) => DeliveryFault::Stall,
        _ => DeliveryFault::None,
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
            (WechatReply::json(&body), Some(token))
        }
        Err(code) => (error(code, "9.30.0.138"), None),
    };
    call.errcode = reply.errcode.filter(|code| *code != 0);
    call.status = delivery.replies().then_some(reply.status);
    state.token_requests.push(RecordedTokenRequest {
        path: GETTOKEN.to_owned(),
        appid: call.parameter("corpid"),
        secret_ok: token.is_some(),
        force_refresh: false,
        errcode: call.errcode,
        token,
        at: call.at,
        call,
    });
    PlannedReply { reply, delivery }
}

fn api(state: &mut WechatState, path: &str, mut call: RecordedCall) -> PlannedReply {
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
    call.status = delivery.replies().then_some(reply.status);
    call.refused = matches!(reply.errcode, Some(40014 | 42001));
    state.calls.push(call);
    PlannedReply { reply, delivery }
}

fn reply_to(state: &mut WechatState, path: &str, call: &RecordedCall) -> WechatReply {
    if call.lacks_length() {
        return WechatReply::status(412);
    }
    let Some(wecom) = &mut state.wecom else {
        return WechatReply::status(404);
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
    if !takes_no_token(path) && state.behaviour.refuses_next() {
        let code = state.behaviour.refusal.code.unwrap_or(40014);
        return error(code, "9.30.0.138");
    }
    if let Some(code) = over_quota(state, path, call) {
        return error(code, "9.30.0.138");
    }
    let reply = with_token(state, path, call);
    api::overridden(state, path, reply)
}

/// The errcode of the path's quota, if it is used up.
fn over_quota(state: &mut WechatState, path: &str, call: &RecordedCall) -> Option<i64> {
    let quota = state.behaviour.quotas.get(path).copied()?;
    let holder = state.wecom.as_ref()?.holder(call)?;
    state.quotas.take(holder, path, quota, call.at)
}

fn with_token(state: &mut WechatState, path: &str, call: &RecordedCall) -> WechatReply {
    let Some(wecom) = &mut state.wecom else {
        return WechatReply::status(404);
    };
    match path {
        "/cgi-bin/media/upload" => media::upload(&mut state.media, &mut state.rng, call),
        "/cgi-bin/media/get" => ranged(media::get(&state.media, call), call),
        "/cgi-bin/corpgroup/corp/gettoken" => {
            let token = random_token(&mut wecom.rng, "DOWNSTREAM-");
            wecom.downstream.push(token.clone());
            WechatReply::json(&json!({ "errcode": 0, "access_token": token, "expires_in": 7200 }))
        }
        "/cgi-bin/getcallbackip" | "/cgi-bin/get_api_domain_ip" => WechatReply::json(
            &json!({ "ip_list": ["101.226.62.77"], "errcode": 0, "errmsg": "ok" }),
        ),
        // The ticket of the corp is the same for all its apps, and each app has one of its own.
        "/cgi-bin/get_jsapi_ticket" => ticket(state, call, usize::MAX),
        "/cgi-bin/ticket/get" => match wecom.holder(call) {
            Some(holder) => ticket(state, call, holder),
            None => error(40014, "9.30.0.138"),
        },
        "/cgi-bin/user/get" => WechatReply::json(&json!({
            "errcode": 0, "errmsg": "ok", "userid": call.parameter("userid"), "name": "张三",
        })),
        "/cgi-bin/message/send" => match call.json() {
            Some(Value::Object(_)) => {
                WechatReply::json(&json!({ "errcode": 0, "errmsg": "ok", "msgid": "xxxx" }))
            }
            _ => error(47001, "9.30.0.138"),
        },
        _ => WechatReply::ok(),
    }
}

fn ticket(state: &mut WechatState, call: &RecordedCall, whose: usize) -> WechatReply {
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
fn error(code: i64, ip: &str) -> WechatReply {
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
    WechatReply::json(&json!({
        "ip_list": [],
        "errcode": code,
        "errmsg": format!("{text}, hint: [{hint}], from ip: {ip}, more info at https://open.work.weixin.qq.com/devtool/query?e={code}"),
    }))
}

/// The part of a file that `Range: bytes=FROM-TO` requests.
fn ranged(mut reply: WechatReply, call: &RecordedCall) -> WechatReply {
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
