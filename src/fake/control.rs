//! `/_fake`: calls that control the fake, for programs in other languages. They need no token and are not recorded.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    actions::{self, ACTIONS},
    call::RecordedCall,
    knobs::{KNOBS, SteerError},
    reply::WechatReply,
    state::WechatState,
    transcript,
};
use crate::wechat::{api::Api, endpoint::Endpoint};

/// Answers a control call.
pub(super) fn answer(state: &mut WechatState, path: &str, call: &RecordedCall) -> WechatReply {
    actions::advance(state, false);
    let rest = path.trim_start_matches("/_fake").trim_matches('/');
    let done = match (call.method.as_str(), rest) {
        ("GET", "") => return WechatReply::json(&overview(state)),
        ("GET", "calls") => return WechatReply::json(&calls(state, call)),
        ("GET", "stats") => return WechatReply::json(&stats(state)),
        ("POST", "change") => change(state, call),
        ("POST", "script") => {
            let script = call.json().ok_or(SteerError::NoScript);
            script.and_then(|script| actions::begin(state, &script))
        }
        ("POST", "secret") => match credentials(call) {
            Some((appid, secret)) => {
                state.set_secret(&appid, &secret);
                Ok(())
            }
            None => Err(SteerError::NoAccount),
        },
        ("POST", action) => actions::act(state, action, &parameters(call)),
        _ => return bad(404, "GET /_fake says what there is"),
    };
    match done {
        Ok(()) => WechatReply::json(&json!({ "done": true })),
        Err(error @ SteerError::NoAction(_)) => {
            bad(404, &format!("{error}; GET /_fake lists them"))
        }
        Err(error) => bad(400, &error.to_string()),
    }
}

fn bad(status: u16, problem: &str) -> WechatReply {
    WechatReply {
        status,
        ..WechatReply::json(&json!({ "error": problem }))
    }
}

fn change(state: &mut WechatState, call: &RecordedCall) -> Result<(), SteerError> {
    let Some(Value::Object(values)) = call.json() else {
        return Err(SteerError::NoObject);
    };
    let mut knobs = state.knobs();
    knobs.turn(&values)?;
    state.set_knobs(knobs);
    Ok(())
}

/// The account that is added, or gets another secret.
fn credentials(call: &RecordedCall) -> Option<(String, String)> {
    let body = call.json()?;
    let text = |key: &str| body[key].as_str().map(str::to_owned);
    text("appid").zip(text("secret"))
}

/// The parameters of the query, and those of the body if it is an object.
fn parameters(call: &RecordedCall) -> Map<String, Value> {
    let query = call.query().into_iter();
    let mut all: Map<_, _> = query.map(|(name, value)| (name, value.into())).collect();
    if let Some(Value::Object(body)) = call.json() {
        all.extend(body);
    }
    all
}

fn overview(state: &WechatState) -> Value {
    let api = if state.wecom.is_some() {
        Api::Wecom
    } else {
        Api::Wechat
    };
    let (mut paths, mut undocumented) = (BTreeMap::new(), BTreeSet::new());
    for call in &state.calls {
        let path = call.path();
        let path = path.strip_prefix(&state.prefix).unwrap_or(&path).to_owned();
        let known = Endpoint::of(api, path.as_bytes()).is_ok_and(|known| known.row().is_some());
        if !known {
            undocumented.insert(path.clone());
        }
        *paths.entry(path).or_insert(0_u64) += 1;
    }
    let actions = ACTIONS.iter().map(|action| {
        let said = format!("{}. It takes {}.", action.does, action.takes);
        (action.name.to_owned(), said.into())
    });
    let knobs = KNOBS
        .iter()
        .map(|knob| (knob.name.to_owned(), knob.takes.into()));
    json!({
        "api": match api { Api::Wechat => "wechat", Api::Wecom => "wecom" },
        "seen": stats(state),
        "paths": paths,
        "undocumented_paths": undocumented,
        "ask": {
            "GET /_fake/calls": "the calls and token requests that were seen, without secrets; ?path=/cgi-bin/… for those of a path",
            "GET /_fake/stats": "the numbers alone",
            "POST /_fake/change": "turns the knobs in its body",
            "POST /_fake/script": "plays the scenes in its body",
            "POST /_fake/secret": "adds the account of appid and secret in its body, or changes its secret",
            "POST /_fake/ACTION": "does what the action does, with parameters in the query or in a JSON body",
        },
        "actions": actions.collect::<Map<_, _>>(),
        "knobs": knobs.collect::<Map<_, Value>>(),
    })
}

/// The calls and token requests that are remembered, in their order.
fn calls(state: &WechatState, call: &RecordedCall) -> Value {
    let wanted = call.parameter("path");
    let tokens = state.token_requests.iter().map(|request| &request.call);
    let mut calls: Vec<_> = state.calls.iter().chain(tokens).collect();
    calls.retain(|call| wanted.as_ref().is_none_or(|path| call.path() == *path));
    calls.sort_by_key(|call| call.number);
    let secrets = state.secrets();
    let documents = calls
        .into_iter()
        .map(|call| transcript::document(call, state.began, &secrets));
    json!({ "calls": documents.collect::<Vec<_>>() })
}

fn stats(state: &WechatState) -> Value {
    let refused = state.calls.iter().filter(|call| call.refused).count();
    let forgotten = &state.forgotten;
    json!({
        "calls": state.calls.len() + forgotten.calls,
        "refused": refused + forgotten.refused,
        "token_requests": state.token_requests.len() + forgotten.token_requests,
        "tokens_issued": state.tokens.issued().len() + state.wecom.as_ref().map_or(0, |wecom| wecom.issued().count()),
        "tickets_issued": state.tickets.issued().len(),
        "cut_short": state.cut_short.len(),
        "malformed": state.malformed.len(),
        "saw_placeholder": state.saw_placeholder,
    })
}
