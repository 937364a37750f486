//! A call that takes our token: sent, and sent once more when WeChat refuses the token.

use std::{pin::pin, sync::Arc};

use super::{
    Answered, Mark, Proxy, Reply, Unanswered, error::ProxyError, forward::Attempt, route::Call,
    status_header::mark,
};
use crate::{
    account::refused_endpoints::{CachedRefusal, Evidence},
    body::{buffered::BufferedBody, request_body::RequestBody},
    metrics::{Outcome, Skipped},
    problems::Kind,
    token::{
        Token,
        keeper::{NoReplay, ReplayToken},
    },
    wechat::errcode::{self, Verdict},
};

impl Proxy {
    /// Answers a call that takes our token.
    pub(super) async fn with_token(
        &self,
        call: &Call<'_>,
        body: RequestBody,
    ) -> Result<Answered, Unanswered> {
        let keeper = &call.account.keeper;
        // Whoever must wait for a token waits without holding a body.
        let mut token = keeper.token().await?;
        let body = self.buffer(body).await?;
        let replayable = body.whole().is_some();
        let answered = |(outcome, reply)| Answered {
            outcome,
            reply,
            replayable,
        };
        let failed = |error| Unanswered { error, replayable };
        if !token.is_alive() {
            let renewed = keeper.token().await;
            token = renewed.map_err(|none| failed(none.into()))?;
        }
        if let Some(reply) = self.cached_refusal(call, &token) {
            return Ok(answered((Outcome::Remembered, reply)));
        }
        let spare = body.try_clone();
        let first = pin!(self.send_with(call, body, &token)).await;
        let first = first.map_err(|failure| failed(failure.into()))?;
        if !matches!(first.verdict, Verdict::Refused(_)) {
            return Ok(answered((self.record(call, &token, &first), first.reply)));
        }
        call.account.metrics.refusal();
        let Some(spare) = spare else {
            return Ok(answered(self.not_replayable(call, token, first.reply)));
        };
        match self.replay_token(call, &token, &first).await {
            Ok(second) => {
                let again = Box::pin(self.send_again(call, spare, &second, first.reply)).await;
                again.map(answered).map_err(failed)
            }
            Err(reason) => {
                call.account.metrics.skipped(reason);
                Ok(answered((Outcome::Refused, first.reply)))
            }
        }
    }

    /// The token to send a refused call with, once more.
    async fn replay_token(
        &self,
        call: &Call<'_>,
        refused: &Arc<Token>,
        first: &Attempt,
    ) -> Result<ReplayToken, Skipped> {
        let keeper = &call.account.keeper;
        let in_hand = keeper.in_hand().filter(|token| token.is_alive());
        let unchanged = in_hand.is_none_or(|token| token.is(refused));
        let path = call.endpoint.path();
        if unchanged && call.account.refused_endpoints.knows(path, refused) {
            return Err(Skipped::Hopeless);
        }
        match keeper.replay_token(refused).await {
            Ok(second) => Ok(second),
            Err(NoReplay::Failed(_)) => Err(Skipped::NoToken),
            Err(NoReplay::Same { confirmed }) => {
                // An expiry is about the token; all else may be about the endpoint, for good.
                if confirmed && first.verdict != Verdict::Refused(errcode::EXPIRED) {
                    self.give_up(call, refused, &first.reply, confirmed);
                }
                Err(Skipped::SameToken)
            }
        }
    }

    /// Sends a refused call the second and last time. Its reply is passed on whatever it is.
    async fn send_again(
        &self,
        call: &Call<'_>,
        body: BufferedBody<RequestBody>,
        replay: &ReplayToken,
        first: Reply,
    ) -> Result<(Outcome, Reply), ProxyError> {
        let token = &replay.token;
        let metrics = &call.account.metrics;
        let mut second = match self.send_with(call, body, token).await {
            Ok(attempt) => attempt,
            Err(failure) if failure.nothing_sent() => {
                metrics.skipped(Skipped::NoToken);
                return Ok((Outcome::Refused, first));
            }
            Err(failure) => {
                metrics.replay(Outcome::Failed);
                return Err(failure.into());
            }
        };
        let outcome = self.record(call, token, &second);
        if outcome == Outcome::Refused {
            metrics.refusal();
            let worked = call.account.accepted_endpoints.has(&call.endpoint);
            call.account.keeper.refused_again(token, worked);
            self.give_up(call, token, &second.reply, replay.confirmed);
        }
        metrics.replay(outcome);
        mark(&mut second.reply, Mark::Replayed);
        Ok((outcome, second.reply))
    }

    /// Remembers that the endpoint of this call refuses `token`, whether or not that is `confirmed` to
    /// be the one to use.
    fn give_up(&self, call: &Call<'_>, token: &Arc<Token>, reply: &Reply, confirmed: bool) {
        let worked = call.account.accepted_endpoints.has(&call.endpoint);
        // A token that nobody confirmed may be dead; then a path that worked is not to blame.
        if (confirmed || !worked)
            && let Some(answer) = answer_of(reply)
        {
            let evidence = Evidence { worked, confirmed };
            let path = call.endpoint.path();
            call.account
                .refused_endpoints
                .add(path, token, answer, evidence);
        }
        // Of a path that worked, it is the token that is refused.
        let kind = match confirmed || !worked {
            true => Kind::EndpointRefused,
            false => Kind::TokenRefused,
        };
        call.note_problem(kind, reply);
    }

    /// Notes what a reply says about the token, and how the call ended.
    fn record(&self, call: &Call<'_>, token: &Token, attempt: &Attempt) -> Outcome {
        match attempt.verdict {
            Verdict::Accepted => {
                if attempt.reply.status().is_success() {
                    call.account.keeper.accepted(token);
                    call.account.metrics.problems.accepted();
                    call.account.accepted_endpoints.note(&call.endpoint);
                    call.account.refused_endpoints.forget(call.endpoint.path());
                }
                Outcome::Accepted
            }
            Verdict::Errcode(_) => Outcome::Errcode,
            Verdict::Refused(_) => Outcome::Refused,
            Verdict::UpstreamError => Outcome::UpstreamError,
        }
    }

    /// A refused call whose body is gone: the app reads the refusal, and the next call does better.
    fn not_replayable(
        &self,
        call: &Call<'_>,
        refused: Arc<Token>,
        reply: Reply,
    ) -> (Outcome, Reply) {
        call.account.metrics.skipped(Skipped::NotHeld);
        let keeper = call.account.keeper.clone();
        tokio::spawn(async move {
            // A failure is logged where it happens.
            let _ = keeper.replace(&refused).await;
        });
        (Outcome::Refused, reply)
    }

    /// The refusal that a caller gets who loops on a path that refuses every token.
    fn cached_refusal(&self, call: &Call<'_>, token: &Token) -> Option<Reply> {
        let remembered = &call.account.refused_endpoints;
        let answer = remembered.cached_refusal(call.endpoint.path(), token)?;
        let mut reply = Reply::new(BufferedBody::ready(answer.body));
        *reply.status_mut() = answer.status;
        *reply.headers_mut() = answer.headers;
        mark(&mut reply, Mark::Remembered);
        Some(reply)
    }
}

/// What is kept of a refusal.
fn answer_of(reply: &Reply) -> Option<CachedRefusal> {
    let body = reply.body().whole()?.clone();
    Some(CachedRefusal {
        status: reply.status(),
        headers: reply.headers().clone(),
        body,
    })
}
