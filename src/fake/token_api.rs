//! `/cgi-bin/token` and `/cgi-bin/stable_token`: they check the request and build the reply.

use serde_json::{Value, json};

use super::{
    behaviour::Behaviour,
    call::{RecordedCall, RecordedTokenRequest},
    delivery::{Delivery, DeliveryFault, PlannedReply},
    reply::{PAGE, WechatReply},
    state::WechatState,
    tokens::Grant,
};

pub(super) const CLASSIC: &str = "/cgi-bin/token";
pub(super) const STABLE: &str = "/cgi-bin/stable_token";

/// The parameters of the caller, from the query or from the JSON body.
#[derive(Debug, Default)]
struct Asked {
    grant_type: Option<String>,
    appid: Option<String>,
    secret: Option<String>,
    force_refresh: bool,
}

/// Answers and records a token request.
pub(super) fn answer(state: &mut WechatState, path: &str, mut call: RecordedCall) -> PlannedReply {
    let behaviour = &state.behaviour;
    let asked = if path == CLASSIC {
        Some(from_query(&call))
    } else {
        from_json(&call)
    };
    let appid = asked.as_ref().and_then(|asked| asked.appid.as_ref());
    let stalls = appid.is_some_and(|appid| behaviour.token_stall_of.contains(appid));
    let errcode = appid.and_then(|appid| behaviour.token_errcode_of.get(appid));
    let errcode = errcode.copied();
    let delivery = delivery(behaviour, stalls);
    let (reply, token) = if !delivery.replies() {
        (WechatReply::status(200), None)
    } else if call.lacks_length() {
        (WechatReply::status(412), None)
    } else if let Some(errcode) = errcode {
        (WechatReply::error(errcode), None)
    } else if let Some(reply) = on_request(state) {
        (reply, None)
    } else {
        match grant(state, path, &call, asked.as_ref()) {
            Ok(grant) => (
                WechatReply::json(&json!({
                    "access_token": grant.token,
                    "expires_in": grant.expires_in,
                })),
                Some(grant.token),
            ),
            Err(errcode) => (WechatReply::error(errcode), None),
        }
    };

    call.errcode = reply.errcode;
    call.status = delivery.replies().then_some(reply.status);
    let asked = asked.unwrap_or_default();
    let known = state
        .tokens
        .identify(asked.appid.as_deref(), asked.secret.as_deref());
    state.token_requests.push(RecordedTokenRequest {
        path: path.to_owned(),
        appid: asked.appid,
        secret_ok: known.is_ok(),
        force_refresh: asked.force_refresh,
        errcode: reply.errcode,
        token,
        at: call.at,
        call,
    });
    PlannedReply { reply, delivery }
}

fn delivery(behaviour: &Behaviour, stalls: bool) -> Delivery {
    Delivery {
        delay: behaviour.token_delay,
        fault: if behaviour.token_hangup {
            DeliveryFault::NoReply
        } else if behaviour.token_stall || stalls {
            DeliveryFault::Stall
        } else {
            DeliveryFault::None
        },
        ..Delivery::default()
    }
}

/// The reply that is configured, if there is one.
fn on_request(state: &WechatState) -> Option<WechatReply> {
    let behaviour = &state.behaviour;
    if let Some(status) = behaviour.token_status {
        return Some(WechatReply {
            status,
            ..WechatReply::bytes("text/html", PAGE)
        });
    }
    if behaviour.token_garbage {
        return Some(WechatReply::bytes("text/html", PAGE));
    }
    if let Some(body) = &behaviour.token_body {
        return Some(WechatReply::bytes(super::reply::JSON, body.clone()));
    }
    behaviour.token_errcode.map(WechatReply::error)
}

/// Applies the rules, in the order in which WeChat checks them.
fn grant(
    state: &mut WechatState,
    path: &str,
    call: &RecordedCall,
    asked: Option<&Asked>,
) -> Result<Grant, i64> {
    match (path, call.method.as_str()) {
        (CLASSIC, "GET") | (STABLE, "POST") => {}
        (CLASSIC, _) => return Err(43001),
        _ => return Err(43002),
    }
    let asked = asked.ok_or(47001)?;
    if asked.grant_type.as_deref() != Some("client_credential") {
        return Err(40002);
    }
    let account = state
        .tokens
        .identify(asked.appid.as_deref(), asked.secret.as_deref())?;
    if path == CLASSIC {
        state.tokens.classic(account, call.at)
    } else {
        state.tokens.stable(account, asked.force_refresh, call.at)
    }
}

fn from_query(call: &RecordedCall) -> Asked {
    Asked {
        grant_type: call.parameter("grant_type"),
        appid: call.parameter("appid"),
        secret: call.parameter("secret"),
        force_refresh: false,
    }
}

/// Returns `None` if the body is not a JSON object.
fn from_json(call: &RecordedCall) -> Option<Asked> {
    let body = call.json().filter(Value::is_object)?;
    let text = |key: &str| body[key].as_str().map(str::to_owned);
    Some(Asked {
        grant_type: text("grant_type"),
        appid: text("appid"),
        secret: text("secret"),
        force_refresh: body["force_refresh"].as_bool().unwrap_or(false),
    })
}
