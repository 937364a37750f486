//! Sends a call to WeChat, and reads as much of the reply as it takes to recognize a refusal.

use std::pin::pin;

use http::{Response, StatusCode, Version};

use super::{
    Proxy, Reply, ReplyBody, cause::SendFailure, headers, route::Call, target, target::Edit,
};
use crate::{
    body::{buffered::BufferedBody, request_body::RequestBody},
    client::{ResponseBody, SendError, UpstreamRequest},
    token::Token,
    wechat::errcode::{self, Verdict},
};

/// How much of a reply is read before it is passed on. WeChat's refusals are far smaller.
const PEEK_LIMIT: usize = 4096;

/// WeChat's reply to one send of a call.
pub(super) struct Attempt {
    pub(super) verdict: Verdict,
    pub(super) reply: Reply,
}

/// Which send of a call it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The first. If WeChat was closing the connection, a call that changes nothing is sent on a fresh one.
    First,
    /// The replay, which goes out once.
    Replay,
}

/// What is put into a call.
pub(super) struct Insertion<'a> {
    /// What is done to its query.
    pub(super) edit: Edit<'a>,
    /// The secrets in it, which must not come back in a `Location`.
    pub(super) secrets: &'a [&'a str],
}

impl Proxy {
    /// Sends a call that takes our token.
    pub(super) async fn send_with(
        &self,
        call: &Call<'_>,
        body: BufferedBody<RequestBody>,
        token: &Token,
        turn: Turn,
    ) -> Result<Attempt, SendFailure> {
        let insertion = Insertion {
            edit: Edit::Token(token.encoded()),
            secrets: &[token.value().expose(), token.encoded()],
        };
        pin!(self.send(call, body, insertion, turn)).await
    }

    /// Sends the call, and reads as much of the reply as tells whether it is a refusal.
    pub(super) async fn send(
        &self,
        call: &Call<'_>,
        body: BufferedBody<RequestBody>,
        insertion: Insertion<'_>,
        turn: Turn,
    ) -> Result<Attempt, SendFailure> {
        let Insertion { edit, secrets } = insertion;
        let spare = match turn {
            Turn::First if call.is_repeatable() => body.try_clone(),
            Turn::First | Turn::Replay => None,
        };
        let upstream = call.account.upstream.as_ref();
        let request = upstream_request(call, body, edit)?;
        let mut sent = pin!(self.pools.send(upstream, request, false)).await;
        if let Some(body) = spare.filter(|_| was_closing(&sent)) {
            let request = upstream_request(call, body, edit)?;
            let again = self.pools.send(upstream, request, true);
            let again = Box::pin(again).await;
            // It is not known whether WeChat saw the first one.
            if !again.as_ref().is_err_and(SendError::nothing_sent) {
                sent = again;
            }
        }
        let (mut head, body) = sent?.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(SendFailure::SwitchedProtocols);
        }
        // The version of WeChat's connection does not matter to the app.
        head.version = Version::HTTP_11;
        headers::reply_headers(&mut head.headers);
        headers::clean_location(&mut head.headers, call.account.prefix(), secrets);
        let body = BufferedBody::peek(body, PEEK_LIMIT).await?;
        Ok(Attempt {
            verdict: judge(call, &body),
            reply: Reply::from_parts(head, body),
        })
    }
}

/// The request to WeChat.
fn upstream_request(
    call: &Call<'_>,
    body: BufferedBody<RequestBody>,
    edit: Edit<'_>,
) -> Result<UpstreamRequest, SendFailure> {
    let method = &call.head.method;
    let mut request = UpstreamRequest::new(method, body, |whole| {
        target::write(whole, call.account.prefix(), call.path, call.query, edit);
    })
    .ok_or(SendFailure::TargetTooLong)?;
    headers::request_headers(method, &call.head.headers, &mut request);
    Ok(request)
}

/// Whether WeChat was closing the connection when the call was sent, so that it may not have seen the call.
fn was_closing(sent: &Result<Response<ResponseBody>, SendError>) -> bool {
    let closing = |error: &SendError| {
        matches!(
            error,
            SendError::Broken {
                was_closing: true,
                ..
            }
        )
    };
    sent.as_ref().is_err_and(closing)
}

/// The verdict of a reply with this body. An error is counted and logged.
fn judge(call: &Call<'_>, body: &ReplyBody) -> Verdict {
    let Some(body) = body.whole() else {
        return Verdict::Accepted;
    };
    let verdict = Verdict::of(call.account.api, body);
    if let Verdict::Errcode(code) | Verdict::Refused(code) = verdict {
        call.account.metrics.errcode(code);
        call.account.note_ip(code, body);
        tracing::debug!(
            account = call.account.id(),
            endpoint = call.endpoint_label(),
            code,
            rid = errcode::rid(body),
            "WeChat answered an error"
        );
    }
    verdict
}
