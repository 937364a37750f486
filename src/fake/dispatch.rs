//! Every request, to the part of the fake that answers its path.

use super::{
    api,
    call::RecordedCall,
    control,
    delivery::{Delivery, PlannedReply},
    reply::WechatReply,
    state::WechatState,
    token_api, wecom_api,
};

/// The part of the fake that answers a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathKind {
    /// The fake's own control calls.
    Control,
    /// The token endpoints.
    Token,
    /// Everything else.
    Api,
}

impl PathKind {
    /// That of a whole path.
    pub(super) fn of(state: &WechatState, whole: &str) -> Self {
        let path = whole.strip_prefix(&state.prefix);
        match path.unwrap_or_default() {
            path if path == "/_fake" || path.starts_with("/_fake/") => Self::Control,
            wecom_api::GETTOKEN if state.wecom.is_some() => Self::Token,
            token_api::CLASSIC | token_api::STABLE if state.wecom.is_none() => Self::Token,
            _ => Self::Api,
        }
    }
}

/// Records the request and builds its reply.
pub(super) fn answer(state: &mut WechatState, call: RecordedCall) -> PlannedReply {
    let whole = call.path();
    let Some(path) = whole.strip_prefix(&state.prefix).map(str::to_owned) else {
        let delivery = Delivery::default();
        let reply = WechatReply::status(404);
        state.calls.push(call);
        return PlannedReply { reply, delivery };
    };
    let kind = PathKind::of(state, &whole);
    if kind != PathKind::Control {
        state.check_for_placeholder(&call);
    }
    let planned = match kind {
        PathKind::Control => PlannedReply {
            reply: control::answer(state, &path, &call),
            delivery: Delivery::default(),
        },
        PathKind::Token | PathKind::Api if state.wecom.is_some() => {
            wecom_api::answer(state, &path, call)
        }
        PathKind::Token => token_api::answer(state, &path, call),
        PathKind::Api => api::answer(state, &path, call),
    };
    if kind != PathKind::Control {
        state.transcribe(kind == PathKind::Token);
        state.trim();
    }
    planned
}
