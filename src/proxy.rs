//! The life of one call, top to bottom.
//!
//! ```text
//! guard      may it be looked at                     403
//! route      call → account, endpoint                400 / 403 / 404
//! keeper     → token                                 waits only when there is none; 503
//! captured   body → held whole up to a limit         413 / 503 when it has no length either
//! rewrite    head + token → the head to send
//! upstream   → the reply's head                      502 / 504
//! captured   → its beginning, if it can be a refusal
//! errcode    → accepted: on to the app, done
//!            → refused: another token, and the last three steps once more
//! ```

mod credential;
pub mod error;
pub mod guard;
mod headers;
mod options;
mod replay;
mod route;
mod select_account;
mod status_header;
mod target;
mod tickets;
mod token_endpoint;

use std::{pin::pin, sync::Arc};

use http::{Method, Request, Response, StatusCode, Version, request::Parts};

use crate::{
    account::Directory,
    body::{
        budget::ByteBudget,
        buffered::{BufferError, BufferedBody},
        request_body::RequestBody,
    },
    client::{ResponseBody, SendError, UpstreamRequest, pools::Pools},
    metrics::{AccountMetrics, ENDPOINT_LABELS, Metrics, Outcome},
    token::{Token, encode},
    wechat::{
        endpoint::Credential,
        errcode::{self, Verdict},
    },
};
use error::ProxyError;
pub use guard::ListenerInfo;
pub use options::{GuardOptions, Options, TokenEndpoint};
use route::Call;
use status_header::mark;
pub use status_header::{HEADER, Mark};
use target::Edit;

/// A reply on its way to the app.
pub type Reply = Response<ReplyBody>;

/// Its body: made here, held, or still arriving.
pub type ReplyBody = BufferedBody<ResponseBody>;

/// How much of a reply is read before it is passed on. WeChat's refusals are far smaller.
const PEEK_LIMIT: usize = 4096;

/// Forwards calls; one for each worker.
#[derive(Debug)]
pub struct Proxy {
    options: Options,
    directory: Directory,
    pools: Pools,
    budget: &'static ByteBudget,
    metrics: Arc<Metrics>,
}

/// What comes with a call's head.
enum CallBody {
    Body(RequestBody),
    /// The body of a token request, read to know whose it is.
    Asked(token_endpoint::TokenRequest),
}

/// WeChat's answer to one sending of a call.
struct Attempt {
    verdict: Verdict,
    reply: Reply,
}

/// A sending without an answer.
struct SendFailure {
    failure: ProxyError,
    /// WeChat cannot have seen the call.
    nothing_sent: bool,
}

impl Proxy {
    /// A proxy that sends calls by `ways`.
    pub fn new(
        options: Options,
        directory: Directory,
        ways: Pools,
        memory: &'static ByteBudget,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            options,
            directory,
            pools: ways,
            budget: memory,
            metrics,
        }
    }

    /// This worker's connections to WeChat.
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// Answers `call`, always.
    pub async fn handle(&self, call: Request<RequestBody>, entrance: &ListenerInfo) -> Reply {
        let (head, body) = call.into_parts();
        let (call, incoming) = match self.admit(&head, body, entrance).await {
            Ok(admitted) => admitted,
            Err(failure) => {
                let mut reply = self.reject(&failure);
                if head.method == Method::CONNECT {
                    // A 200 would be a tunnel.
                    *reply.status_mut() = failure.status();
                }
                return reply;
            }
        };
        let metrics = &call.account.metrics;
        let slot = self.metrics.slot(call.endpoint.row());
        let mut held = true;
        let mut reply = match pin!(self.answer(&call, incoming, &mut held)).await {
            Ok((outcome, reply)) => {
                metrics.call(slot, outcome);
                reply
            }
            Err(failure) => self.fail(metrics, slot, &failure),
        };
        if !held {
            metrics.not_held();
            mark(&mut reply, Mark::NotReplayable);
        }
        reply
    }

    /// The reply to a call that is not even looked at.
    pub fn reject(&self, failure: &ProxyError) -> Reply {
        self.fail(&self.metrics.nobody, ENDPOINT_LABELS, failure)
    }

    async fn admit<'a>(
        &self,
        head: &'a Parts,
        body: RequestBody,
        entrance: &ListenerInfo,
    ) -> Result<(Call<'a>, CallBody), ProxyError> {
        self.options.guard.check(head, entrance.exposure)?;
        if let Some(call) = Call::of(head, entrance, &self.directory.now(), None)? {
            return Ok((call, CallBody::Body(body)));
        }
        let asked = Box::pin(token_endpoint::read(self, body)).await?;
        let call = Call::of(head, entrance, &self.directory.now(), Some(&asked.appid))?;
        let call = call.ok_or(ProxyError::NoAccount)?;
        Ok((call, CallBody::Asked(asked)))
    }

    /// Whether the sidecar's own errors have HTTP 200.
    pub fn answers_errors_as_200(&self) -> bool {
        self.options.errors_as_200
    }

    fn fail(&self, metrics: &AccountMetrics, slot: usize, failure: &ProxyError) -> Reply {
        metrics.call(slot, failure.outcome());
        if failure.is_of_the_app() {
            tracing::info!(errcode = failure.code(), error = %failure, "a call was turned down");
        } else {
            tracing::warn!(errcode = failure.code(), error = %failure, "a call failed");
        }
        failure.reply(self.options.errors_as_200)
    }

    /// By what the endpoint takes. What is rare is boxed, so that it does not make every call larger.
    async fn answer(
        &self,
        call: &Call<'_>,
        incoming: CallBody,
        held: &mut bool,
    ) -> Result<(Outcome, Reply), ProxyError> {
        let rules = &call.account.options.rules;
        match call.endpoint.credential {
            Credential::TokenFetch => rules.check_denied(call.endpoint.path())?,
            _ => rules.check(call.endpoint.path())?,
        }
        let body = match (incoming, call.endpoint.credential) {
            (CallBody::Body(body), _) => body,
            (CallBody::Asked(asked), Credential::TokenFetch) => {
                return self.token_request(call, asked).await;
            }
            // The default account's kind has no such endpoint.
            (CallBody::Asked(_), _) => return Err(ProxyError::NoAccount),
        };
        match credential::credential(call)? {
            Credential::AccessToken => match self.ticket_wanted(call, &body) {
                Some(ticket) => Box::pin(self.with_ticket(call, ticket)).await,
                None => pin!(self.with_token(call, body, held)).await,
            },
            Credential::TokenFetch => {
                let asked = Box::pin(token_endpoint::read(self, body)).await?;
                self.token_request(call, asked).await
            }
            Credential::QuotaReset if !self.options.allow_clear_quota => Err(ProxyError::Closed(
                "clear_quota/v2 resets the whole account's quota, an operator's act; see --allow-clear-quota",
            )),
            Credential::Nothing | Credential::QuotaReset => {
                let answer = self.without_token(call, body, held, Edit::Without, &[]);
                Box::pin(answer).await
            }
            Credential::Own if credential::has_placeholder(call) => Err(ProxyError::Placeholder),
            Credential::Own => {
                let answer = self.without_token(call, body, held, Edit::Keep, &[]);
                Box::pin(answer).await
            }
            Credential::Secret => {
                let appid = (!call.names_appid()?).then_some(&*call.account.appid);
                let secret = call.account.secret.as_ref().ok_or(ProxyError::Closed(
                    "a login takes the AppSecret, which this account has not: set its secret_file or secret",
                ))?;
                let secret = secret.held();
                let encoded = encode(&secret);
                let edit = Edit::Secret {
                    appid,
                    secret: encoded.expose(),
                };
                let secrets = [secret.expose(), encoded.expose()];
                Box::pin(self.without_token(call, body, held, edit, &secrets)).await
            }
        }
    }

    async fn token_request(
        &self,
        call: &Call<'_>,
        asked: token_endpoint::TokenRequest,
    ) -> Result<(Outcome, Reply), ProxyError> {
        let reply = token_endpoint::answer(self, call, asked).await?;
        Ok((Outcome::Local, reply))
    }

    /// An endpoint that takes no token of ours: a refusal there is not ours either.
    async fn without_token(
        &self,
        call: &Call<'_>,
        body: RequestBody,
        held: &mut bool,
        edit: Edit<'_>,
        secrets: &[&str],
    ) -> Result<(Outcome, Reply), ProxyError> {
        let body = self.buffer(body, held).await?;
        let answered = self.send(call, body, edit, secrets).await;
        let Attempt { verdict, reply } = answered.map_err(|unanswered| unanswered.failure)?;
        let outcome = match verdict {
            Verdict::Accepted => Outcome::Accepted,
            Verdict::Errcode(_) | Verdict::Refused(_) => Outcome::Errcode,
        };
        Ok((outcome, reply))
    }

    async fn buffer(
        &self,
        body: RequestBody,
        held: &mut bool,
    ) -> Result<BufferedBody<RequestBody>, ProxyError> {
        let body = BufferedBody::buffer(body, self.options.replay_limit, self.budget).await;
        *held = match &body {
            Ok(body) => body.whole().is_some(),
            Err(error) => matches!(error, BufferError::Broken(_)),
        };
        Ok(body?)
    }

    async fn send_with(
        &self,
        call: &Call<'_>,
        body: BufferedBody<RequestBody>,
        token: &Token,
    ) -> Result<Attempt, SendFailure> {
        let secrets = [token.value().expose(), token.encoded()];
        let edit = Edit::Token(token.encoded());
        pin!(self.send(call, body, edit, &secrets)).await
    }

    /// Sends the call, and reads as much of the reply as tells whether it is a refusal. `secrets`
    /// are what was put in.
    async fn send(
        &self,
        call: &Call<'_>,
        body: BufferedBody<RequestBody>,
        edit: Edit<'_>,
        secrets: &[&str],
    ) -> Result<Attempt, SendFailure> {
        let spare = if call.is_repeatable() {
            body.try_clone()
        } else {
            None
        };
        let way = call.account.upstream.as_ref();
        let outbound = outgoing(call, body, edit)?;
        let mut sent = pin!(self.pools.send(way, outbound, false)).await;
        let was_closing = matches!(
            sent,
            Err(SendError::Broken {
                was_closing: true,
                ..
            })
        );
        if let Some(body) = spare.filter(|_| was_closing) {
            let again = self.pools.send(way, outgoing(call, body, edit)?, true);
            let again = Box::pin(again).await;
            // Of the first it is not known whether WeChat saw it.
            if !again.as_ref().is_err_and(SendError::nothing_sent) {
                sent = again;
            }
        }
        let reply = sent.map_err(|error| SendFailure {
            nothing_sent: error.nothing_sent(),
            failure: error.into(),
        })?;
        let (mut head, body) = reply.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(broken(ProxyError::Broken(
                "WeChat switched protocols".to_owned(),
            )));
        }
        // Whatever WeChat speaks on its side of this connection.
        head.version = Version::HTTP_11;
        headers::reply_headers(&mut head.headers);
        headers::clean_location(&mut head.headers, call.account.prefix(), secrets);
        let peeked = BufferedBody::peek(body, PEEK_LIMIT).await;
        let body = peeked.map_err(|error| broken(error.into()))?;
        let verdict = body.whole().map_or(Verdict::Accepted, |body| {
            Verdict::of(call.account.api, body)
        });
        if let (Verdict::Errcode(code) | Verdict::Refused(code), Some(body)) =
            (verdict, body.whole())
        {
            call.account.metrics.errcode(code);
            call.account.note_ip(code, body);
            let endpoint = call
                .endpoint
                .row()
                .map_or("other", crate::wechat::endpoint::label);
            let rid = errcode::rid(body);
            tracing::debug!(
                account = call.account.id(),
                endpoint,
                code,
                rid,
                "WeChat answered an error"
            );
        }
        Ok(Attempt {
            verdict,
            reply: Reply::from_parts(head, body),
        })
    }
}

fn outgoing(
    call: &Call<'_>,
    body: BufferedBody<RequestBody>,
    edit: Edit<'_>,
) -> Result<UpstreamRequest, SendFailure> {
    let method = &call.head.method;
    let mut outbound = UpstreamRequest::new(method, body, |whole| {
        target::write(whole, call.account.prefix(), call.path, call.query, edit);
    })
    .ok_or_else(|| SendFailure {
        failure: ProxyError::Malformed("its target is too long".to_owned()),
        nothing_sent: true,
    })?;
    headers::request_headers(method, &call.head.headers, &mut outbound);
    Ok(outbound)
}

fn broken(failure: ProxyError) -> SendFailure {
    SendFailure {
        failure,
        nothing_sent: false,
    }
}
