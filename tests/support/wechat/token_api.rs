//! `/cgi-bin/token` and `/cgi-bin/stable_token`: they check the request and build the reply.

use serde_json::{Value, json};

use super::{
    call::{Call, TokenRequest},
    delivery::{Delivery, Fault},
    reply::{PAGE, Reply},
    state::{Answer, State, lacks_length},
    tokens::Grant,
};

pub const CLASSIC: &str = "/cgi-bin/token";
pub const STABLE: &str = "/cgi-bin/stable_token";

/// The parameters of the caller, from the query or from the JSON body.
#[derive(Debug, Default)]
struct Asked {
    grant_type: Option<String>,
    appid: Option<String>,
    secret: Option<String>,
    force_refresh: bool,
}

/// Answers and records a token request.
pub fn answer(state: &mut State, path: &str, mut call: Call) -> Answer {
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
    let delivery = Delivery {
        delay: behaviour.token_delay,
        fault: if behaviour.token_hangup {
            Fault::NoReply
        } else if behaviour.token_stall || stalls {
            Fault::Stall
        } else {
            Fault::None
        },
        ..Delivery::default()
    };
    let (reply, token) = if !delivery.replies() {
        (Reply::status(200), None)
    } else if lacks_length(&call) {
        (Reply::status(412), None)
    } else if let Some(errcode) = errcode {
        (Reply::error(errcode), None)
    } else if let Some(reply) = on_request(state) {
        (reply, None)
    } else {
        match grant(state, path, &call, asked.as_ref()) {
            Ok(grant) => (
                Reply::json(&json!({
                    "access_token": grant.token,
                    "expires_in": grant.expires_in,
                })),
                Some(grant.token),
            ),
            Err(errcode) => (Reply::error(errcode), None),
        }
    };

    call.errcode = reply.errcode;
    let asked = asked.unwrap_or_default();
    let known = state
        .tokens
        .identify(asked.appid.as_deref(), asked.secret.as_deref());
    state.token_requests.push(TokenRequest {
        path: path.to_owned(),
        appid: asked.appid,
        secret_ok: known.is_ok(),
        force_refresh: asked.force_refresh,
        errcode: reply.errcode,
        token,
        at: call.at,
        call,
    });
    Answer { reply, delivery }
}

/// The reply that is configured, if there is one.
fn on_request(state: &State) -> Option<Reply> {
    let behaviour = &state.behaviour;
    if let Some(status) = behaviour.token_status {
        return Some(Reply {
            status,
            ..Reply::bytes("text/html", PAGE)
        });
    }
    if behaviour.token_garbage {
        return Some(Reply::bytes("text/html", PAGE));
    }
    if let Some(body) = &behaviour.token_body {
        return Some(Reply::bytes(super::reply::JSON, body.clone()));
    }
    behaviour.token_errcode.map(Reply::error)
}

/// Applies the rules, in the order in which WeChat checks them.
fn grant(state: &mut State, path: &str, call: &Call, asked: Option<&Asked>) -> Result<Grant, i64> {
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

fn from_query(call: &Call) -> Asked {
    Asked {
        grant_type: call.parameter("grant_type"),
        appid: call.parameter("appid"),
        secret: call.parameter("secret"),
        force_refresh: false,
    }
}

/// Returns `None` if the body is not a JSON object.
fn from_json(call: &Call) -> Option<Asked> {
    let body = call.json().filter(Value::is_object)?;
    let text = |key: &str| body[key].as_str().map(str::to_owned);
    Some(Asked {
        grant_type: text("grant_type"),
        appid: text("appid"),
        secret: text("secret"),
        force_refresh: body["force_refresh"].as_bool().unwrap_or(false),
    })
}
