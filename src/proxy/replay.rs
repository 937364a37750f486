//! A call that takes our token: sent, and sent once more when WeChat refuses the token.

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use tokio::time::{Duration, timeout};

use super::{
    Answered, Mark, Proxy, Reply, Unanswered,
    error::ProxyError,
    forward::{Attempt, Turn},
    pace::paced,
    route::Call,
    status_header::mark,
    target::values,
};
use crate::{
    account::{
        OpenCall,
        refused_endpoints::{CachedRefusal, CallId, Outlook, RefusedCall},
    },
    body::{buffered::BufferedBody, request_body::RequestBody},
    metrics::{Outcome, Skipped},
    problems::Kind,
    token::{
        Token,
        keeper::{NoReplay, PathId, Refusal, ReplayToken},
    },
    wechat::errcode::{self, Verdict},
};

/// How long a call that cannot be replayed waits for the replacement of a refused token.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// A call whose first send was refused, and all that its replay takes.
struct FirstSend<'a> {
    call: &'a Call<'a>,
    open: OpenCall<'a>,
    token: Arc<Token>,
    attempt: Attempt,
    body: BufferedBody<RequestBody>,
    id: CallId,
}

impl Proxy {
    /// Answers a call that takes our token.
    pub(super) async fn with_token(
        &self,
        call: &Call<'_>,
        body: RequestBody,
    ) -> Result<Answered, Unanswered> {
        let keeper = &call.account.keeper;
        // Get the token first, so that a call that waits for it holds no memory.
        let token = keeper.token().await;
        let mut token = token.map_err(Unanswered::before_body)?;
        let body = self.buffer(body).await?;
        let replayable = body.whole().is_some();
        let answered = |(outcome, reply)| Answered {
            outcome,
            reply,
            replayable,
        };
        let failed = |error| Unanswered { error, replayable };
        if !replayable || !token.is_alive() {
            token = pin!(self.settled_token(call, replayable))
                .await
                .map_err(failed)?;
        }
        let open = call.account.endpoint_use.begin(&call.endpoint);
        if let Some(reply) = self.cached_refusal(call, &token, &body, &open) {
            return Ok(answered((Outcome::Remembered, reply)));
        }
        if let Some(pacing) = &call.account.pacing
            && Box::pin(paced(call, pacing)).await.map_err(failed)?
        {
            // The one in hand may have been replaced meanwhile.
            token = keeper.token().await.map_err(|none| failed(none.into()))?;
        }
        let spare = body.try_clone();
        let first = pin!(self.send_with(call, body, &token, Turn::First)).await;
        let first = first.map_err(|failure| failed(failure.into()))?;
        if !matches!(first.verdict, Verdict::Refused(_)) {
            let outcome = self.record(call, &open, &token, &first);
            return Ok(answered((outcome, first.reply)));
        }
        call.account.metrics.refusal();
        let again = match spare {
            Some(body) => {
                let id = call_id(call, &body);
                let first = FirstSend {
                    call,
                    open,
                    token,
                    attempt: first,
                    body,
                    id,
                };
                Box::pin(self.replay(first)).await.map_err(failed)?
            }
            None => Box::pin(self.not_replayable(call, &open, &token, first)).await,
        };
        Ok(answered(again))
    }

    /// The token for a call whose body took its time, or that cannot be replayed. The latter waits while the token in
    /// hand is known to be refused.
    async fn settled_token(
        &self,
        call: &Call<'_>,
        replayable: bool,
    ) -> Result<Arc<Token>, ProxyError> {
        let keeper = &call.account.keeper;
        if !replayable {
            keeper.settled(SETTLE_LIMIT).await;
        }
        Ok(keeper.token().await?)
    }

    /// Replays a refused call if there is a token for that.
    async fn replay(&self, first: FirstSend<'_>) -> Result<(Outcome, Reply), ProxyError> {
        let refusal = first.refusal();
        match self.replay_token(&first, refusal).await {
            Ok(second) => self.send_again(first, refusal, &second).await,
            Err(reason) => {
                first.call.account.metrics.skipped(reason);
                Ok((Outcome::Refused, first.attempt.reply))
            }
        }
    }

    /// The token to send a refused call with, once more.
    async fn replay_token(
        &self,
        first: &FirstSend<'_>,
        refusal: Refusal,
    ) -> Result<ReplayToken, Skipped> {
        let keeper = &first.call.account.keeper;
        let in_hand = keeper.in_hand().filter(|token| token.is_alive());
        let unchanged = in_hand.is_none_or(|token| token.is(&first.token));
        if unchanged && first.known() == Outlook::Hopeless {
            first.report_hopeless();
            return Err(Skipped::Hopeless);
        }
        if refusal.weak {
            first
                .call
                .note_problem(Kind::TokenInForm, &first.attempt.reply);
        }
        match keeper.replay_token(&first.token, refusal).await {
            Ok(second) => Ok(second),
            Err(NoReplay::Failed(_)) => Err(Skipped::NoToken),
            Err(NoReplay::Same { confirmed }) => {
                // An expiry is about the token; all else may be about the endpoint, for good.
                if confirmed && first.attempt.verdict != Verdict::Refused(errcode::EXPIRED) {
                    first.refused_for_good(&first.token, confirmed, &first.attempt.reply);
                }
                Err(Skipped::SameToken)
            }
        }
    }

    /// Sends a refused call the second and last time. Its reply is passed on whatever it is.
    async fn send_again(
        &self,
        mut first: FirstSend<'_>,
        refusal: Refusal,
        replay: &ReplayToken,
    ) -> Result<(Outcome, Reply), ProxyError> {
        let token = &replay.token;
        let call = first.call;
        let metrics = &call.account.metrics;
        let body = std::mem::replace(&mut first.body, BufferedBody::ready(""));
        if let Some(pacing) = &call.account.pacing {
            pacing.debit(call.endpoint.path());
        }
        let second = self.send_with(call, body, token, Turn::Replay).await;
        if let Err(failure) = &second
            && failure.nothing_sent()
        {
            metrics.skipped(Skipped::NotSent);
            return Ok((Outcome::Refused, first.attempt.reply));
        }
        call.sends.replayed();
        let mut second = second.inspect_err(|_| metrics.replay(Outcome::Failed))?;
        let outcome = self.record(call, &first.open, token, &second);
        if outcome == Outcome::Refused {
            metrics.refusal();
            call.account.keeper.refused_again(token, refusal);
            first.refused_for_good(token, replay.confirmed, &second.reply);
        }
        metrics.replay(outcome);
        mark(&mut second.reply, Mark::Replayed);
        Ok((outcome, second.reply))
    }

    /// Notes what a reply says about the token, and how the call ended.
    fn record(
        &self,
        call: &Call<'_>,
        open: &OpenCall<'_>,
        token: &Token,
        attempt: &Attempt,
    ) -> Outcome {
        match attempt.verdict {
            Verdict::Accepted => {
                if attempt.reply.status().is_success() {
                    call.account.keeper.accepted(token);
                    call.account.metrics.problems.accepted();
                    open.accepted(token);
                    call.account.refused_endpoints.forget(call.endpoint.path());
                }
                Outcome::Accepted
            }
            Verdict::Errcode(_) => Outcome::Errcode,
            Verdict::Refused(_) => Outcome::Refused,
            Verdict::UpstreamError => Outcome::UpstreamError,
        }
    }

    /// A refused call whose body is gone: the app reads the refusal once there is another token, so that its next
    /// try has that.
    async fn not_replayable(
        &self,
        call: &Call<'_>,
        open: &OpenCall<'_>,
        refused: &Arc<Token>,
        first: Attempt,
    ) -> (Outcome, Reply) {
        call.account.metrics.skipped(Skipped::NotHeld);
        let path = call.endpoint.path();
        let id = || CallId::of(call.query, &[]);
        let known = call.account.refused_endpoints.known(path, refused, id);
        if known != Outlook::Hopeless {
            let refusal = Refusal {
                path: PathId::of(path),
                worked: open.worked(),
                suspect: known != Outlook::Nothing,
                weak: false,
            };
            // A failure is told where it happens, and an app that hangs up does not cancel the fetch.
            let replaced = call.account.keeper.replay_token(refused, refusal);
            let _ = timeout(SETTLE_LIMIT, replaced).await;
        }
        (Outcome::Refused, first.reply)
    }

    /// The cached refusal for a hopeless call, if there have been too many. While other calls to the endpoint are
    /// open, it may turn out to work.
    fn cached_refusal(
        &self,
        call: &Call<'_>,
        token: &Token,
        body: &BufferedBody<RequestBody>,
        open: &OpenCall<'_>,
    ) -> Option<Reply> {
        if open.has_others() {
            return None;
        }
        let refused = &call.account.refused_endpoints;
        let path = call.endpoint.path();
        let answer = refused.cached_refusal(path, token, || call_id(call, body))?;
        let mut reply = Reply::new(BufferedBody::ready(answer.body));
        *reply.status_mut() = answer.status;
        *reply.headers_mut() = answer.headers;
        reply.extensions_mut().extend(answer.extensions);
        mark(&mut reply, Mark::Remembered);
        Some(reply)
    }
}

impl FirstSend<'_> {
    fn known(&self) -> Outlook {
        let path = self.call.endpoint.path();
        let refused = &self.call.account.refused_endpoints;
        refused.known(path, &self.token, || self.id)
    }

    /// Opens the problem of a hopeless call. How often it occurs is counted where calls end.
    fn report_hopeless(&self) {
        let problems = &self.call.account.metrics.problems;
        if !problems.open_kinds().contains(&Kind::EndpointRefused) {
            let reply = &self.attempt.reply;
            self.call.note_problem(Kind::EndpointRefused, reply);
        }
    }

    /// The evidence against the token.
    fn refusal(&self) -> Refusal {
        Refusal {
            path: PathId::of(self.call.endpoint.path()),
            worked: self.open.worked(),
            suspect: self.known() != Outlook::Nothing,
            weak: has_own_token(self.call, &self.body),
        }
    }

    /// Remembers that this call was refused with `token`, and will be again. `confirmed` says whether that is known
    /// to be the token to use.
    fn refused_for_good(&self, token: &Arc<Token>, confirmed: bool, reply: &Reply) {
        let (call, worked) = (self.call, self.open.worked());
        // A token that nobody confirmed may be dead; then an endpoint that worked is not to blame.
        if !confirmed && worked {
            return;
        }
        let Some(answer) = cached(reply) else {
            return;
        };
        let refused = RefusedCall {
            call: self.id,
            token: token.clone(),
            confirmed,
            worked,
            may_work: self.open.worked_with(token) || self.open.has_others_now(),
        };
        let path = call.endpoint.path();
        if call.account.refused_endpoints.add(path, &refused, answer) {
            call.note_problem(Kind::EndpointRefused, reply);
        }
    }
}

/// The id of a call that can be replayed.
fn call_id(call: &Call<'_>, body: &BufferedBody<RequestBody>) -> CallId {
    CallId::of(call.query, body.whole().map_or(&[], |body| body))
}

/// Whether the call has an `access_token` in a form body. WeChat reads it as a parameter, and refuses the call.
fn has_own_token(call: &Call<'_>, body: &BufferedBody<RequestBody>) -> bool {
    const FORM: &str = "application/x-www-form-urlencoded";
    let is_form = call.head.headers.get(CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        value.len() >= FORM.len() && value[..FORM.len()].eq_ignore_ascii_case(FORM.as_bytes())
    });
    let form = body.whole().filter(|_| is_form);
    let form = form.and_then(|body| std::str::from_utf8(body).ok());
    form.is_some_and(|form| values(Some(form), "access_token").next().is_some())
}

/// The most of a refusal's body that is kept. WeChat's has some hundred bytes.
const LONGEST_REFUSAL: usize = 4096;

/// What is kept of a refusal.
fn cached(reply: &Reply) -> Option<CachedRefusal> {
    let body = reply.body().whole()?;
    if body.len() > LONGEST_REFUSAL {
        return None;
    }
    // A slice would keep the whole buffer into which it was read.
    let body = Bytes::copy_from_slice(body);
    Some(CachedRefusal {
        status: reply.status(),
        headers: reply.headers().clone(),
        extensions: reply.extensions().clone(),
        body,
    })
}
