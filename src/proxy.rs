//! The life of one call, top to bottom.
//!
//! ```text
//! server          bytes → call, on a worker thread
//! guard           may the call be looked at                        403
//! route           call → account and endpoint                      400 / 403 / 404
//! account::rules  may the app call this endpoint                   403
//! tickets, token_endpoint
//!                 a call for a ticket or a token is answered from what is kept here: done
//! keeper          → token; waits only when there is none           503
//! body            held whole up to a limit, to be sent again       413 / 503
//! account::refused_endpoints
//!                 a call that is refused whatever the token is answered so: done
//! account::pacing a call above a rate of `pace` waits for its turn          429
//! target, headers head + token → the head to send
//! client          → the reply's head                               502 / 504
//! forward         the reply's beginning is read, if it can be a refusal
//!                 → accepted: it streams on to the app, done
//! replay          → refused: keeper → another token, and the call is sent once more, never a third time
//! error           a failure on the way becomes a reply in WeChat's shape
//! ```
//!
//! `replay` has the steps from the token on, for the calls that take it.

mod access;
pub mod cause;
mod credential;
mod cut_secrets;
pub mod error;
mod forward;
#[cfg(fuzzing)]
pub mod fuzz;
pub mod guard;
mod headers;
mod options;
mod pace;
mod pending_call;
mod private_headers;
mod quota_reply;
mod replay;
mod route;
mod select_account;
mod sends;
mod status_header;
mod target;
mod tickets;
mod token_endpoint;

use std::{pin::pin, sync::Arc};

use http::{HeaderMap, Method, Request, Response, StatusCode, request::Parts};

use crate::{
    account::Directory,
    body::{
        budget::{ByteBudget, Reservation},
        buffered::{BufferError, BufferedBody},
        request_body::{CALL, RequestBody},
    },
    client::{ResponseBody, pools::Pools},
    metrics::{ENDPOINT_LABELS, Metrics, Outcome},
    problems::{Kind, Occurrence},
    token::encode,
    wechat::{endpoint::Credential, errcode::Verdict},
};
use cause::Closed;
use credential::{effective_credential, has_placeholder};
use error::ProxyError;
use forward::{Attempt, Insertion, Turn};
use guard::AppTls;
pub use guard::ListenerInfo;
pub use options::{GuardOptions, Options, TokenEndpoint};
use pace::paced;
use pending_call::PendingCall;
pub use private_headers::{NAMES as PRIVATE_HEADERS, PrivateHeaders};
use route::Call;
use select_account::BodyAppid;
use status_header::mark;
pub use status_header::{Mark, STATUS_HEADER};
use target::Edit;

/// A reply to the app.
pub type Reply = Response<ReplyBody>;

/// The body of a reply: created here, buffered, or still arriving.
pub type ReplyBody = BufferedBody<ResponseBody>;

/// Forwards calls. Each worker has one.
#[derive(Debug)]
pub struct Proxy {
    options: Options,
    directory: Directory,
    pools: Pools,
    budget: &'static ByteBudget,
    metrics: Arc<Metrics>,
}

/// The body of a call.
enum CallBody {
    Unread(RequestBody),
    /// A token request, which was read to select the account.
    TokenRequest(token_endpoint::TokenRequest),
}

/// The reply to a call.
struct Answered {
    outcome: Outcome,
    reply: Reply,
    /// Whether the call could be replayed, that is, its body was buffered whole.
    replayable: bool,
}

/// The error of a call.
struct Unanswered {
    error: ProxyError,
    /// As in [`Answered`].
    replayable: bool,
}

impl Unanswered {
    /// An error that occurs before the body is read.
    fn before_body(error: impl Into<ProxyError>) -> Self {
        Self {
            error: error.into(),
            replayable: true,
        }
    }
}

impl Proxy {
    /// A proxy that sends calls over the connections of `pools`, and holds bodies within `budget`.
    pub fn new(
        options: Options,
        directory: Directory,
        pools: Pools,
        budget: &'static ByteBudget,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            options,
            directory,
            pools,
            budget,
            metrics,
        }
    }

    /// From now on calls that have no reply yet get none, since the process ends.
    pub fn calls_are_cut(&self) {
        if let Some(recorder) = &self.options.recorder {
            recorder.calls_are_cut();
        }
    }

    /// This worker's connections to WeChat.
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// Memory for a call of so many bytes, if it may be held and there is room.
    pub fn reserve_for(&self, length: usize) -> Option<Reservation> {
        let fits = length <= self.options.replay_limit;
        fits.then(|| self.budget.reserve(length + CALL)).flatten()
    }

    /// Answers `call` in any case.
    pub async fn handle(&self, call: Request<RequestBody>, listener: &ListenerInfo) -> Reply {
        let (head, body) = call.into_parts();
        let recorder = self.options.recorder.as_ref();
        let record = recorder.and_then(|to| {
            let is_tls = matches!(listener.tls, AppTls::Present(_));
            to.begin(Some(&head.method), &head.headers, is_tls)
        });
        let (mut call, body) = match self.admit(&head, body, listener).await {
            Ok(admitted) => admitted,
            Err(error) => {
                let mut reply = self.fail(None, &error);
                if head.method == Method::CONNECT {
                    // A reply with status 200 would open a tunnel.
                    *reply.status_mut() = error.status();
                }
                if let Some(record) = record {
                    access::record(record, None, error.outcome(), &mut reply);
                }
                return reply;
            }
        };
        if let Some(record) = &record {
            call.sends.trace(record.wants_sends());
        }
        let metrics = &call.account.metrics;
        let pending = PendingCall::new(self, &call, record);
        let (mut reply, replayable, outcome) = match pin!(self.answer(&call, body)).await {
            Ok(answered) => {
                if matches!(answered.outcome, Outcome::Refused | Outcome::Remembered) {
                    let problems = &metrics.problems;
                    problems.recurred(Kind::EndpointRefused, call.endpoint_label());
                }
                (answered.reply, answered.replayable, answered.outcome)
            }
            Err(Unanswered { error, replayable }) => {
                (self.fail(Some(&call), &error), replayable, error.outcome())
            }
        };
        if !replayable {
            metrics.not_held();
            mark(&mut reply, Mark::NotReplayable);
        }
        pending.answered(outcome, &mut reply);
        reply
    }

    /// The reply to a call that is rejected before it has an account. `status` replaces that of `error`.
    pub fn reject(&self, error: &ProxyError, status: Option<StatusCode>) -> Reply {
        let mut reply = self.fail(None, error);
        if let Some(status) = status.filter(|_| reply.status().is_client_error()) {
            *reply.status_mut() = status;
        }
        let recorder = self.options.recorder.as_ref();
        if let Some(record) = recorder.and_then(|to| to.begin(None, &HeaderMap::new(), false)) {
            access::record(record, None, error.outcome(), &mut reply);
        }
        reply
    }

    /// Lets the call pass the guard, and selects its account. The body of a token request may have to be read for
    /// that.
    async fn admit<'a>(
        &self,
        head: &'a Parts,
        body: RequestBody,
        listener: &ListenerInfo,
    ) -> Result<(Call<'a>, CallBody), ProxyError> {
        let is_upstream = |host: &str| self.directory.now().has_host(host);
        let guard = &self.options.guard;
        guard.check_tls(head, &listener.tls)?;
        guard.check(head, listener.exposure, &is_upstream)?;
        if let Some(call) = Call::of(head, listener, &self.directory.now(), BodyAppid::Unread)? {
            return Ok((call, CallBody::Unread(body)));
        }
        let request = Box::pin(token_endpoint::read(self, body)).await?;
        let appid = BodyAppid::Read(request.appid.as_deref());
        let call = Call::of(head, listener, &self.directory.now(), appid)?;
        let call = call.ok_or(ProxyError::NoAccount)?;
        Ok((call, CallBody::TokenRequest(request)))
    }

    /// The reply to a call that ends with `error`; `None` for one whose account is not known, which is counted here.
    fn fail(&self, call: Option<&Call<'_>>, error: &ProxyError) -> Reply {
        let account = call.map(|call| &call.account);
        let metrics = account.map_or(&self.metrics.nobody, |account| &*account.metrics);
        if call.is_none() {
            metrics.call(ENDPOINT_LABELS, error.outcome());
        }
        let (account, errcode) = (account.map(|account| account.id()), error.code());
        let endpoint = call.map(Call::endpoint_label);
        if error.is_of_the_app() {
            tracing::debug!(account, endpoint, errcode, %error, "a call was turned down");
        } else {
            tracing::debug!(account, endpoint, errcode, %error, "a call failed");
        }
        if let Some(kind) = error.problem() {
            metrics.problems.occurred(
                kind,
                Occurrence {
                    endpoint,
                    errcode: Some(errcode),
                    cause: Some(error.cause()),
                    ..Occurrence::default()
                },
            );
        }
        error.reply(self.options.errors_as_200)
    }

    /// Answers the call with the credential that its endpoint takes. The rare futures are boxed, so that they do not
    /// enlarge that of every call.
    async fn answer(&self, call: &Call<'_>, body: CallBody) -> Result<Answered, Unanswered> {
        let allowed = (call.account.options.rules).check_endpoint(&call.endpoint);
        allowed.map_err(Unanswered::before_body)?;
        let body = match (body, call.endpoint.credential) {
            (CallBody::Unread(body), _) => body,
            (CallBody::TokenRequest(request), Credential::TokenRequest) => {
                return self.token_request(call, request).await;
            }
            // The API of the default account has no such endpoint.
            (CallBody::TokenRequest(_), _) => {
                return Err(Unanswered::before_body(ProxyError::NoAccount));
            }
        };
        match effective_credential(call).map_err(Unanswered::before_body)? {
            Credential::AccessToken => match self.ticket_wanted(call, &body) {
                Some(ticket) => Box::pin(self.with_ticket(call, ticket)).await,
                None => pin!(self.with_token(call, body)).await,
            },
            Credential::TokenRequest => {
                let request = Box::pin(token_endpoint::read(self, body)).await;
                let request = request.map_err(Unanswered::before_body)?;
                self.token_request(call, request).await
            }
            Credential::QuotaReset if !self.options.allow_clear_quota => {
                Err(Unanswered::before_body(Closed::QuotaReset))
            }
            Credential::Nothing | Credential::QuotaReset => {
                Box::pin(self.without_token(call, body, Edit::Without, &[])).await
            }
            Credential::CallersToken if has_placeholder(call) => {
                Err(Unanswered::before_body(ProxyError::Placeholder))
            }
            Credential::CallersToken => {
                Box::pin(self.without_token(call, body, Edit::Keep, &[])).await
            }
            Credential::Secret => Box::pin(self.with_secret(call, body)).await,
        }
    }

    async fn token_request(
        &self,
        call: &Call<'_>,
        request: token_endpoint::TokenRequest,
    ) -> Result<Answered, Unanswered> {
        let reply = token_endpoint::answer(self, call, request).await;
        Ok(Answered {
            reply: reply.map_err(Unanswered::before_body)?,
            outcome: Outcome::Local,
            replayable: true,
        })
    }

    /// Answers the login of a user, which takes the account's AppSecret.
    async fn with_secret(
        &self,
        call: &Call<'_>,
        body: RequestBody,
    ) -> Result<Answered, Unanswered> {
        let names_appid = call.names_appid().map_err(Unanswered::before_body)?;
        let appid = (!names_appid).then_some(&*call.account.appid);
        let secret = call.account.secret.as_ref().ok_or(Closed::Login);
        let secret = secret.map_err(Unanswered::before_body)?.held();
        let encoded = encode(&secret);
        let edit = Edit::Secret {
            appid,
            secret: encoded.expose(),
        };
        self.without_token(call, body, edit, &[secret.expose()])
            .await
    }

    /// Answers a call that takes no token of ours. A refusal of its token is not about ours.
    async fn without_token(
        &self,
        call: &Call<'_>,
        body: RequestBody,
        edit: Edit<'_>,
        secrets: &[&str],
    ) -> Result<Answered, Unanswered> {
        let body = self.buffer(body).await?;
        let replayable = body.whole().is_some();
        if let Some(pacing) = &call.account.pacing {
            let turn = paced(call, pacing).await;
            turn.map_err(|error| Unanswered { error, replayable })?;
        }
        let insertion = Insertion { edit, secrets };
        match self.send(call, body, insertion, Turn::First).await {
            Ok(Attempt { verdict, reply }) => Ok(Answered {
                outcome: match verdict {
                    Verdict::Accepted => {
                        call.account.metrics.problems.replied();
                        Outcome::Accepted
                    }
                    Verdict::Errcode(_) | Verdict::Refused(_) => Outcome::Errcode,
                    Verdict::UpstreamError => Outcome::UpstreamError,
                },
                reply,
                replayable,
            }),
            Err(failure) => Err(Unanswered {
                error: failure.into(),
                replayable,
            }),
        }
    }

    /// Reads the call's body so that it can be sent again, if the budget allows that.
    async fn buffer(&self, body: RequestBody) -> Result<BufferedBody<RequestBody>, Unanswered> {
        let (overhead, limit) = (body.overhead(), self.options.replay_limit);
        let buffered = BufferedBody::buffer(body, overhead, limit, self.budget).await;
        buffered.map_err(|error| Unanswered {
            // A body that broke off would have been buffered.
            replayable: matches!(error, BufferError::Read(_)),
            error: error.into(),
        })
    }
}
