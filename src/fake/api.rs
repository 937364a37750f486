//! The fake's API calls: it checks the token, may refuse the call by chance, and answers by path.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    call::{RecordedCall, is_placeholder},
    delivery::{Delivery, PlannedReply},
    media,
    reply::WechatReply,
    samples, sns,
    state::WechatState,
    tokens::{TokenVerdict, random_token},
};

/// The credential that a path takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequiredToken {
    /// No token. There may be appid and secret in the call.
    Nothing,
    /// The account's token.
    Account,
    /// The token of a user who logged in.
    User,
    /// The token of a third-party platform.
    Component,
}

/// Answers and records an API call.
pub(super) fn answer(state: &mut WechatState, path: &str, mut call: RecordedCall) -> PlannedReply {
    let delivery = Delivery::of_api_call(&mut state.behaviour, path);
    let mut reply = if delivery.replies() {
        reply_to(state, path, &call)
    } else {
        WechatReply::status(200)
    };
    if reply.errcode.is_some_and(|code| code != 0) {
        let token = call.token.as_deref().unwrap_or_default();
        let account = match state.tokens.judge(token, call.at) {
            TokenVerdict::Good(account) => Some(account),
            TokenVerdict::Malformed | TokenVerdict::NotLatest | TokenVerdict::Expired => None,
        };
        state.rids.remember(account, &call, &reply);
    }
    call.errcode = reply.errcode;
    call.status = delivery.replies().then_some(reply.status);
    call.refused = reply.is_refusal();
    if call.refused {
        state.second_sends.remember(&call);
    }
    let extra = state.behaviour.extra_headers.iter().cloned();
    reply.headers.extend(extra);
    state.calls.push(call);
    PlannedReply { reply, delivery }
}

fn reply_to(state: &mut WechatState, path: &str, call: &RecordedCall) -> WechatReply {
    if call.lacks_length() {
        return WechatReply::status(412);
    }
    let reply = match credential(path) {
        RequiredToken::Nothing => without_token(state, path, call),
        RequiredToken::User => sns::with_user_token(state, path, call),
        RequiredToken::Component => with_component_token(state, call),
        RequiredToken::Account => match admit(state, path, call) {
            Ok(account) => within_quota(state, path, call, account),
            Err(refusal) => return refusal,
        },
    };
    if reply.is_refusal() {
        return reply;
    }
    overridden(state, path, reply)
}

fn credential(path: &str) -> RequiredToken {
    match path {
        "/cgi-bin/clear_quota/v2"
        | "/cgi-bin/component/clear_quota/v2"
        | "/cgi-bin/component/api_component_token"
        | "/cgi-bin/component/api_start_push_ticket"
        | "/sns/jscode2session"
        | "/sns/oauth2/access_token"
        | "/sns/oauth2/refresh_token" => RequiredToken::Nothing,
        "/sns/userinfo" | "/sns/auth" => RequiredToken::User,
        "/cgi-bin/component/getprivacysetting"
        | "/cgi-bin/component/setprivacysetting"
        | "/cgi-bin/component/uploadprivacyextfile" => RequiredToken::Account,
        "/wxa/addtotemplate"
        | "/wxa/deletetemplate"
        | "/wxa/gettemplatedraftlist"
        | "/wxa/gettemplatelist"
        | "/wxa/security/applysetorderpathinfo" => RequiredToken::Component,
        _ if COMPONENT.iter().any(|start| path.starts_with(start)) => RequiredToken::Component,
        _ => RequiredToken::Account,
    }
}

/// The prefix of calls for third-party platforms.
const COMPONENT: [&str; 7] = [
    "/cgi-bin/component/",
    "/componenttcb/",
    "/wxa/component/",
    "/wxa/servicemarket/",
    "/wedata/",
    "/sns/component/",
    "/sns/oauth2/component/",
];

/// The account of this token, or the refusal.
fn admit(state: &mut WechatState, path: &str, call: &RecordedCall) -> Result<usize, WechatReply> {
    let refuse = |state: &WechatState, errcode| {
        let in_base_resp = path.starts_with("/device/") || path.starts_with("/shakearound/");
        let refusal = &state.behaviour.refusal;
        Err(refusal.reply(errcode, in_base_resp, errors_are_text(path)))
    };
    let Some(token) = call.token.as_deref().filter(|token| !token.is_empty()) else {
        return refuse(state, 41001);
    };
    if is_placeholder(token) || call.has_two_tokens() || has_token_in_form(call) {
        return refuse(state, 40001);
    }
    let account = match state.tokens.judge(token, call.at) {
        TokenVerdict::Good(account) => account,
        TokenVerdict::Malformed => return refuse(state, 40014),
        TokenVerdict::NotLatest => return refuse(state, 40001),
        TokenVerdict::Expired => return refuse(state, 42001),
    };
    if is_hopeless(state, path, account) || refused_all_the_same(state, path, call) {
        let errcode = state.behaviour.refusal.code.unwrap_or(40001);
        return refuse(state, errcode);
    }
    Ok(account)
}

/// WeChat reads a form body for parameters, too, and refuses the call for a token there (WxJava #1087).
fn has_token_in_form(call: &RecordedCall) -> bool {
    let is_form = call
        .header("content-type")
        .is_some_and(|value| value.contains("x-www-form-urlencoded"));
    let form = String::from_utf8_lossy(&call.body);
    is_form
        && form
            .split('&')
            .any(|pair| pair.starts_with("access_token="))
}

fn is_hopeless(state: &WechatState, path: &str, account: usize) -> bool {
    let of = &state.behaviour.refuse_always_of;
    of.iter()
        .any(|(appid, always)| always == path && state.tokens.find(appid) == Some(account))
}

fn refused_all_the_same(state: &mut WechatState, path: &str, call: &RecordedCall) -> bool {
    let behaviour = &mut state.behaviour;
    if behaviour.refuse_always.iter().any(|always| always == path) || behaviour.refuses_next() {
        return true;
    }
    !state.second_sends.spares(call) && state.rng.f64() < behaviour.refusal_chance
}

/// Errors have the type `text/plain` if success would be a picture or a file.
fn errors_are_text(path: &str) -> bool {
    path.starts_with("/sns/")
        || path.starts_with("/cgi-bin/media/")
        || path.starts_with("/cgi-bin/material/")
        || path.starts_with("/wxa/getwxacode")
        || path == "/cgi-bin/wxaapp/createwxaqrcode"
}

/// The reply with the status and the body that are configured.
pub(super) fn overridden(state: &WechatState, path: &str, mut reply: WechatReply) -> WechatReply {
    let behaviour = &state.behaviour;
    if let Some((content_type, body)) = behaviour.body_at.get(path).or(behaviour.body.as_ref()) {
        reply = WechatReply::bytes(content_type, body.clone());
    }
    if let Some(errcode) = behaviour.errcode {
        reply = WechatReply::error(errcode);
    }
    reply.status = behaviour.status.unwrap_or(reply.status);
    reply
}

/// The reply to a call with a good token, unless it is one too many.
fn within_quota(
    state: &mut WechatState,
    path: &str,
    call: &RecordedCall,
    account: usize,
) -> WechatReply {
    let quota = state.behaviour.quotas.get(path).copied();
    let over = quota.and_then(|quota| state.quotas.take(account, path, quota, call.at));
    match over {
        Some(errcode) => WechatReply::error(errcode),
        None => with_token(state, path, call, account),
    }
}

fn with_token(
    state: &mut WechatState,
    path: &str,
    call: &RecordedCall,
    account: usize,
) -> WechatReply {
    match path {
        "/cgi-bin/user/get" => followers(call),
        "/cgi-bin/user/info" => follower(call),
        "/cgi-bin/message/custom/send" | "/cgi-bin/menu/create" => {
            posted(call, |_| WechatReply::ok())
        }
        "/cgi-bin/message/template/send" => posted(call, |_| {
            WechatReply::json(&json!({ "errcode": 0, "errmsg": "ok", "msgid": 200_228_332 }))
        }),
        "/cgi-bin/media/upload" => media::upload(&mut state.media, &mut state.rng, call),
        "/cgi-bin/media/get" => media::get(&state.media, call),
        "/cgi-bin/media/uploadimg" => media::upload_image(call),
        "/cgi-bin/material/add_material" => {
            media::add_material(&mut state.media, &mut state.rng, call)
        }
        "/cgi-bin/material/get_material" => posted(call, |body| {
            media::stored(&state.media, body["media_id"].as_str())
        }),
        "/cgi-bin/user/info/batchget" => posted(call, |body| samples::followers(&body)),
        "/cgi-bin/qrcode/create" => posted(call, |_| {
            WechatReply::json(&json!({
                "ticket": "gQH47joAAAAAAAAAASxodHRwOi8vd2VpeGluLnFxLmNvbS9xL2taZ2Z3TVRtNzJXV1Brb3ZhYmJJAAIEZ23sUwMEmm3sUw==",
                "expire_seconds": 60,
                "url": "http://weixin.qq.com/q/kZgfwMTm72WWPkovabbI",
            }))
        }),
        "/wxa/getwxacode" | "/wxa/getwxacodeunlimit" | "/cgi-bin/wxaapp/createwxaqrcode" => {
            let reply = posted(call, |_| WechatReply::bytes("image/jpeg", picture()));
            if reply.errcode.is_some() {
                reply.into_text()
            } else {
                reply
            }
        }
        "/cgi-bin/ticket/getticket" => ticket(state, call, account),
        "/cgi-bin/get_api_domain_ip" | "/cgi-bin/getcallbackip" => {
            WechatReply::json(&json!({ "ip_list": ["101.226.62.77", "101.226.62.78"] }))
        }
        "/big" => big(call),
        _ if path.starts_with("/device/") || path.starts_with("/shakearound/") => {
            WechatReply::json(&json!({ "base_resp": { "errcode": 0, "errmsg": "ok" } }))
        }
        _ => of_quotas(state, path, call, account).unwrap_or_else(|| samples::reply(path)),
    }
}

/// The reply to a call about quotas, or about a call that failed.
fn of_quotas(
    state: &mut WechatState,
    path: &str,
    call: &RecordedCall,
    account: usize,
) -> Option<WechatReply> {
    Some(match path {
        "/cgi-bin/openapi/quota/get" => posted(call, |body| quota(state, account, &body)),
        "/cgi-bin/openapi/quota/clear" => posted(call, |body| {
            state.quotas.reset(account, body["cgi_path"].as_str());
            WechatReply::ok()
        }),
        "/cgi-bin/openapi/rid/get" => posted(call, |body| {
            state.rids.answer(account, body["rid"].as_str())
        }),
        "/cgi-bin/clear_quota" => posted(call, |body| {
            match body["appid"].as_str().map(|appid| state.tokens.find(appid)) {
                Some(Some(of)) if of == account => {
                    state.quotas.reset(account, None);
                    WechatReply::ok()
                }
                _ => WechatReply::error(40013),
            }
        }),
        _ => return None,
    })
}

fn without_token(state: &mut WechatState, path: &str, call: &RecordedCall) -> WechatReply {
    match path {
        "/sns/jscode2session" => sns::session(state, call),
        "/sns/oauth2/access_token" => sns::login(state, call),
        "/sns/oauth2/refresh_token" => sns::refresh(state, call),
        "/cgi-bin/clear_quota/v2" => {
            let body = call.json().unwrap_or_default();
            let given = |name: &str| {
                let in_query = call.parameter(name);
                in_query.or_else(|| body[name].as_str().map(str::to_owned))
            };
            let (appid, secret) = (given("appid"), given("appsecret"));
            match state.tokens.identify(appid.as_deref(), secret.as_deref()) {
                Ok(account) => {
                    state.quotas.reset(account, None);
                    WechatReply::ok()
                }
                Err(errcode) => WechatReply::error(errcode),
            }
        }
        "/cgi-bin/component/api_component_token" => posted(call, |_| {
            let token = random_token(&mut state.rng, "COMPONENT-");
            state.logins.component_tokens.insert(token.clone());
            WechatReply::json(&json!({ "component_access_token": token, "expires_in": 7200 }))
        }),
        _ => WechatReply::ok(),
    }
}

fn with_component_token(state: &WechatState, call: &RecordedCall) -> WechatReply {
    let token = call
        .parameter("component_access_token")
        .or_else(|| call.token.clone());
    match token {
        None => WechatReply::error(41001),
        Some(token) if state.logins.component_tokens.contains(&token) => WechatReply::ok(),
        Some(_) => WechatReply::error(40001),
    }
}

/// `then` for a POST with JSON in it.
fn posted(call: &RecordedCall, then: impl FnOnce(Value) -> WechatReply) -> WechatReply {
    if call.method != "POST" {
        return WechatReply::error(43002);
    }
    call.json().map_or_else(|| WechatReply::error(47001), then)
}

fn followers(call: &RecordedCall) -> WechatReply {
    let after = call.parameter("next_openid").unwrap_or_default();
    if !after.is_empty() {
        return WechatReply::json(&json!({ "total": 2, "count": 0, "next_openid": "" }));
    }
    let openids = [
        "oFollower0000000000000000001",
        "oFollower0000000000000000002",
    ];
    WechatReply::json(&json!({
        "total": 2,
        "count": 2,
        "data": { "openid": openids },
        "next_openid": openids[1],
    }))
}

fn follower(call: &RecordedCall) -> WechatReply {
    match call.parameter("openid") {
        None => WechatReply::error(40003),
        Some(openid) => WechatReply::json(&samples::follower(&openid)),
    }
}

/// The reply to a question about the quota of a path.
fn quota(state: &mut WechatState, account: usize, body: &Value) -> WechatReply {
    let path = body["cgi_path"].as_str().unwrap_or_default();
    if path.starts_with("/sns/") {
        return WechatReply::error(76022);
    }
    match state.behaviour.quotas.get(path).copied() {
        Some(quota) => WechatReply::json(&state.quotas.describe(account, path, quota)),
        None => WechatReply::error(76021),
    }
}

fn ticket(state: &mut WechatState, call: &RecordedCall, account: usize) -> WechatReply {
    let kind = call.parameter("type").unwrap_or_default();
    if !matches!(kind.as_str(), "jsapi" | "wx_card" | "2") {
        return WechatReply::error(40097);
    }
    let rules = state.behaviour.tickets;
    let of = (account, kind);
    state.tickets.answer(of, rules, call.at, &mut state.rng)
}

/// The bytes that every picture call returns.
pub fn picture() -> Bytes {
    let mut picture = vec![0xff, 0xd8, 0xff, 0xe0];
    picture.extend((0..6000_u32).map(|n| (n * 31 % 251) as u8));
    picture.extend([0xff, 0xd9]);
    picture.into()
}

/// `/big?size=N`: N bytes; with `json=1` a JSON object of that length.
fn big(call: &RecordedCall) -> WechatReply {
    let size = call.parameter("size").and_then(|size| size.parse().ok());
    let size: usize = size.unwrap_or(1 << 20);
    if call.parameter("json").as_deref() != Some("1") {
        return WechatReply::bytes("application/octet-stream", vec![b'x'; size]);
    }
    let (start, end) = ("{\"data\":\"", "\"}");
    let filling = "x".repeat(size.saturating_sub(start.len() + end.len()));
    WechatReply::bytes(super::reply::JSON, format!("{start}{filling}{end}"))
}
