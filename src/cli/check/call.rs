//! A call to WeChat that changes nothing, and what its reply tells.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, header::DATE};
use http_body_util::{BodyExt, Collected, Limited};
use tokio::time::{Duration, Instant, timeout_at};

use super::clock::ClockSample;
use crate::{
    body::buffered::BufferedBody,
    client::{self, SendError, Upstream, UpstreamRequest},
    metrics::Metrics,
    net::connector::{Connector, DialError},
    token::Token,
};

/// WeChat answers this path even without a token, with an error code.
const HARMLESS: &str = "/cgi-bin/get_api_domain_ip";

/// The largest reply that is read. Error pages may be larger, and are not needed.
const MAX_REPLY: usize = 64 * 1024;

/// How long a reply may take. WeChat answers such a call at once.
const REPLY_TIMEOUT: Duration = Duration::from_secs(8);

/// A reply to the call.
#[derive(Debug)]
pub(super) struct HarmlessReply {
    pub(super) status: u16,
    pub(super) body: Bytes,
    /// What its `Date` says, if it has one.
    pub(super) clock: Option<ClockSample>,
}

/// Sends the call over a new connection, with `token` or without one.
pub(super) async fn call(
    connector: &Arc<Connector>,
    options: client::Options,
    token: Option<&Token>,
) -> Result<HarmlessReply, SendError> {
    let options = client::Options {
        reply_timeout: options.reply_timeout.min(REPLY_TIMEOUT),
        ..options
    };
    let query = token.map_or(String::new(), |token| {
        format!("?access_token={}", token.encoded())
    });
    let body = BufferedBody::ready(Bytes::new());
    let request = UpstreamRequest::new(&Method::GET, body, |target| {
        target.extend_from_slice([connector.prefix(), HARMLESS, &query].concat().as_bytes());
    });
    let request = request.map_err(|_| SendError::Dial(DialError::NoAddress))?;
    let upstream = Upstream::new(connector.clone(), options, Arc::new(Metrics::default()));
    let sent = SystemTime::now();
    let reply = upstream.send(request, true, drop).await?;
    let received = SystemTime::now();
    let date = date(reply.headers());
    let status = reply.status().as_u16();
    let body = Limited::new(reply.into_body(), MAX_REPLY).collect();
    let body = timeout_at(Instant::now() + REPLY_TIMEOUT, body).await;
    let body = body.ok().and_then(Result::ok);
    Ok(HarmlessReply {
        status,
        body: body.map(Collected::to_bytes).unwrap_or_default(),
        clock: date.map(|date| ClockSample {
            sent,
            received,
            date,
        }),
    })
}

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}
