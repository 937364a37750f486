//! Answers the token endpoints, where an SDK fetches a token of its own.
//!
//! An unchanged SDK first asks for a token. It gets a placeholder, sends it back, and has it
//! replaced; so it never holds a token and cannot end the shared one. Its secret is not checked.

use http::Method;
use http_body::Body;
use serde_json::{Value, json};

use super::{
    Mark, Proxy, Reply, TokenEndpoint,
    cause::{Closed, Crowded, Malformed},
    error::{ProxyError, json_reply},
    route::Call,
    status_header::mark,
};
use crate::{
    account::Lookup,
    body::{buffered::BufferedBody, request_body::RequestBody},
    wechat::{api::Api, endpoint::STABLE_TOKEN},
};

/// The `expires_in` of a placeholder, in seconds. A placeholder never expires.
const LIFETIME: u64 = 7200;

/// The largest body of a token request.
const LARGEST: usize = 64 * 1024;

/// The parameters in the body of a token request.
#[derive(Debug, Default)]
pub(super) struct TokenRequest {
    pub(super) appid: Option<String>,
    /// Whether it asks for a forced refresh.
    forced: bool,
}

/// Reads the body of a token request.
pub(super) async fn read(proxy: &Proxy, body: RequestBody) -> Result<TokenRequest, ProxyError> {
    let overhead = body.overhead();
    let body = BufferedBody::buffer(body, overhead, LARGEST, proxy.budget).await?;
    let body = match &body {
        BufferedBody::Whole(_) => body.whole(),
        BufferedBody::Partial { rest, .. } if rest.size_hint().lower() > LARGEST as u64 => None,
        BufferedBody::Partial { .. } => {
            return Err(Crowded::TokenRequest.into());
        }
    };
    let body = body.ok_or(Malformed::LongTokenRequest)?;
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let appid = request.get("appid").and_then(Value::as_str);
    let appid = appid.filter(|appid| !appid.is_empty());
    let forced = request.get("force_refresh");
    Ok(TokenRequest {
        appid: appid.map(str::to_owned),
        forced: forced.is_some_and(|force| *force != Value::Bool(false)),
    })
}

/// Answers a token request, which is never sent to WeChat.
pub(super) async fn answer(
    proxy: &Proxy,
    call: &Call<'_>,
    request: TokenRequest,
) -> Result<Reply, ProxyError> {
    if proxy.options.token_endpoint == TokenEndpoint::Off {
        return Err(Closed::TokenEndpoint.into());
    }
    let stable = call.endpoint.path() == STABLE_TOKEN.as_bytes();
    if stable && call.head.method != Method::POST {
        return Err(Malformed::StableTokenMethod.into());
    }
    call.names_appid()?;
    if let Some(appid) = request.appid.filter(|appid| !call.account.is_called(appid)) {
        return Err(match proxy.directory.now().find(&appid) {
            Lookup::Unknown => ProxyError::ForeignAppid,
            Lookup::One(_) | Lookup::Ambiguous => ProxyError::TwoAccounts,
        });
    }
    if request.forced {
        call.account.metrics.forced();
        tracing::debug!(
            account = call.account.id(),
            "an app asked for a forced refresh; ignored"
        );
    }
    let (token, expires_in) = match proxy.options.token_endpoint {
        TokenEndpoint::Real => {
            let token = call.account.keeper.token().await?;
            (
                token.value().expose().to_owned(),
                token.remaining().as_secs(),
            )
        }
        TokenEndpoint::Placeholder | TokenEndpoint::Off => (call.account.placeholder(), LIFETIME),
    };
    let mut body = json!({ "access_token": token, "expires_in": expires_in });
    if call.account.api == Api::Wecom {
        body = json!({
            "errcode": 0,
            "errmsg": "ok",
            "access_token": token,
            "expires_in": expires_in,
        });
    }
    let mut reply = json_reply(body);
    mark(&mut reply, Mark::Local);
    Ok(reply)
}
