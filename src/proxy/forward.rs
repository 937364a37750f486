//! Sends a call to WeChat, and reads as much of the reply as it takes to recognize a refusal.

use std::pin::pin;

use http::{Response, StatusCode, Version, header};

use super::{
    Proxy, Reply,
    cause::SendFailure,
    cut_secrets::clean_reply,
    headers,
    quota_reply::{asked_quota, note_quota},
    route::Call,
    target,
    target::Edit,
};
use crate::{
    body::{buffered::BufferedBody, request_body::RequestBody},
    client::{ResponseBody, SendError, UpstreamRequest},
    problems::{Kind, Occurrence},
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
    /// The secrets in it, which must not come back in a header. They are not percent-encoded.
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
            secrets: &[token.value().expose()],
        };
        let asked = asked_quota(call, &body);
        let attempt = pin!(self.send(call, body, insertion, turn)).await?;
        if let Some(endpoint) = asked {
            note_quota(call, endpoint, &attempt.reply);
        }
        Ok(attempt)
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
        let observe = |waited| call.waited(waited);
        let request = self.upstream_request(call, body, edit)?;
        call.sends.begin();
        let mut sent = pin!(self.pools.send(upstream, request, false, observe)).await;
        let origin = || self.pools.origin(upstream);
        call.sends.ended(&sent, origin);
        if let Some(body) = spare.filter(|_| was_closing(&sent)) {
            let request = self.upstream_request(call, body, edit)?;
            call.sends.begin();
            let again = self.pools.send(upstream, request, true, observe);
            let again = Box::pin(again).await;
            call.sends.ended(&again, origin);
            // It is not known whether WeChat saw the first one.
            match again.as_ref().is_err_and(SendError::nothing_sent) {
                true => call.sends.take_back(),
                false => sent = again,
            }
        }
        if sent.as_ref().is_err_and(SendError::nothing_sent) {
            call.sends.take_back();
        }
        let (mut head, body) = sent?.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(SendFailure::SwitchedProtocols);
        }
        // The version of WeChat's connection does not matter to the app.
        head.version = Version::HTTP_11;
        headers::reply_headers(&mut head.headers);
        if matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        ) {
            // It would be the length of a body that is not sent, and hyper sends it sometimes.
            head.headers.remove(header::CONTENT_LENGTH);
        }
        clean_reply(&mut head.headers, call.account.prefix(), secrets);
        let body = BufferedBody::peek(body, PEEK_LIMIT).await?;
        let reply = Reply::from_parts(head, body);
        Ok(Attempt {
            verdict: self.judge(call, &reply),
            reply,
        })
    }

    /// The request to WeChat.
    fn upstream_request(
        &self,
        call: &Call<'_>,
        body: BufferedBody<RequestBody>,
        edit: Edit<'_>,
    ) -> Result<UpstreamRequest, SendFailure> {
        let method = &call.head.method;
        let mut request = UpstreamRequest::new(method, body, |whole| {
            target::write(whole, call.account.prefix(), call.path, call.query, edit);
        })
        .map_err(|_| SendFailure::TargetTooLong)?;
        let private = &self.options.private_headers;
        let private = (!call.account.has_private_upstream()).then_some(private);
        headers::request_headers(method, &call.head.headers, private, &mut request);
        Ok(request)
    }

    /// What the reply says of the call. An error is counted, and logged where that is wanted.
    fn judge(&self, call: &Call<'_>, reply: &Reply) -> Verdict {
        let account = &call.account;
        let endpoint = call.endpoint_label();
        let body = reply.body().whole();
        let verdict = body.map_or(Verdict::Accepted, |body| Verdict::of(account.api, body));
        match (verdict, body) {
            (Verdict::Errcode(code) | Verdict::Refused(code), Some(body)) => {
                let slot = self.metrics.slot(call.endpoint.row());
                account.metrics.errcode_of_call(slot, code);
                call.sends.has_errcode(code);
                account.note_errcode(code, endpoint, body);
                let rid = errcode::rid(body);
                tracing::debug!(
                    account = account.id(),
                    endpoint,
                    errcode = code,
                    rid,
                    "WeChat answered an error"
                );
            }
            (Verdict::Accepted, _) if is_error_page(reply) => {
                note_error_page(call, reply.status());
                return Verdict::UpstreamError;
            }
            _ => {}
        }
        verdict
    }
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

/// Whether a reply without an errcode is a page of a gateway in front of the API, and not the API's. Files that an
/// endpoint returns can be HTML, too; they have a Content-Disposition.
fn is_error_page(reply: &Reply) -> bool {
    if reply.status().is_server_error() {
        return true;
    }
    let start = reply.body().start().trim_ascii_start();
    if !start.is_empty() && !start.starts_with(b"<") {
        return false;
    }
    let headers = reply.headers();
    let content_type = headers.get(header::CONTENT_TYPE);
    let is_html = content_type.is_some_and(|value| {
        let value = value.as_bytes().get(..b"text/html".len());
        value.is_some_and(|value| value.eq_ignore_ascii_case(b"text/html"))
    });
    is_html && !headers.contains_key(header::CONTENT_DISPOSITION)
}

#[cold]
fn note_error_page(call: &Call<'_>, status: StatusCode) {
    let endpoint = call.endpoint_label();
    let status = status.as_u16();
    tracing::debug!(
        account = call.account.id(),
        endpoint,
        status,
        "WeChat's gateway answered an error page"
    );
    call.account.metrics.problems.occurred(
        Kind::UpstreamError,
        Occurrence {
            endpoint: Some(endpoint),
            cause: Some(&format_args!(
                "HTTP status {status}, and no reply of the API"
            )),
            ..Occurrence::default()
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_the_gateway_is_told_from_what_the_api_answers() {
        let disposition = "attachment; filename=\"a.html\"";
        for (status, content_type, disposition, body, is_page) in [
            (502, "text/html", "", "<html>502 Bad Gateway</html>", true),
            (503, "", "", "", true),
            (500, "application/json", "", "{}", true),
            (
                200,
                "Text/HTML; charset=gbk",
                "",
                "\r\n<!DOCTYPE html>",
                true,
            ),
            (404, "text/html", "", "<html>", true),
            // All of it is still to come.
            (200, "text/html", "", "", true),
            (200, "text/html", "", "{\"errcode\":0}", false),
            (200, "text/plain", "", "<xml/>", false),
            (200, "text/html", disposition, "<html>", false),
            (200, "image/jpeg", "", "", false),
            (412, "", "", "", false),
        ] {
            let mut reply = Reply::new(BufferedBody::ready(body));
            *reply.status_mut() = StatusCode::from_u16(status).unwrap();
            for (name, value) in [
                (header::CONTENT_TYPE, content_type),
                (header::CONTENT_DISPOSITION, disposition),
            ] {
                if !value.is_empty() {
                    reply.headers_mut().insert(name, value.parse().unwrap());
                }
            }
            assert_eq!(
                is_error_page(&reply),
                is_page,
                "{status} {content_type} {body}"
            );
        }
    }
}
