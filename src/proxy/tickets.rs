//! Answers calls for tickets from the cache.

use http::Method;
use http_body::Body;
use serde_json::{Value, json};

use super::{
    Answered, Mark, Proxy, Unanswered,
    error::{ProxyError, json_reply},
    route::Call,
    status_header::mark,
    target::values,
};
use crate::{
    body::request_body::RequestBody,
    metrics::{Handed, Outcome, Ticket},
    token::{keeper::NoToken, source::TokenError, ticket},
};

impl Proxy {
    /// The ticket that `call` asks for, if such tickets are cached.
    pub(super) fn ticket_wanted(&self, call: &Call<'_>, body: &RequestBody) -> Option<Ticket> {
        if !self.options.keep_tickets || call.head.method != Method::GET || !body.is_end_stream() {
            return None;
        }
        let types = values(call.query, "type");
        call.account.tickets.requested(call.endpoint.path(), types)
    }

    /// Answers a call for `ticket` as WeChat would, except that `expires_in` is true.
    pub(super) async fn with_ticket(
        &self,
        call: &Call<'_>,
        ticket: Ticket,
    ) -> Result<Answered, Unanswered> {
        let account = &call.account;
        let held = account.tickets.holds(ticket);
        let got = account.tickets.get(ticket).await;
        let handed = match (&got, held) {
            (Ok(_), true) => Handed::Held,
            (Ok(_), false) => Handed::Waited,
            (Err(_), _) => Handed::Failed,
        };
        account.metrics.ticket(ticket, handed);
        let (outcome, answer) = match got {
            Ok(ticket) => {
                let answer = json!({
                    "errcode": 0,
                    "errmsg": "ok",
                    "ticket": ticket.value().expose(),
                    "expires_in": ticket::expires_in(&ticket),
                });
                (Outcome::Local, answer)
            }
            Err(none) => (
                Outcome::Errcode,
                error_of(none).map_err(Unanswered::before_body)?,
            ),
        };
        let mut reply = json_reply(answer);
        mark(&mut reply, Mark::Local);
        Ok(Answered {
            outcome,
            reply,
            // The call has no body.
            replayable: true,
        })
    }
}

/// WeChat's own error, which may be a moment old or come from another replica, or our own failure.
fn error_of(none: NoToken) -> Result<Value, ProxyError> {
    let NoToken { error, retry_after } = none;
    match error {
        TokenError::Errcode { code, message, .. } => {
            Ok(json!({ "errcode": code, "errmsg": message }))
        }
        TokenError::Elsewhere(error) => {
            let error = *error;
            error_of(NoToken { error, retry_after })
        }
        TokenError::WithoutToken(error) => {
            let error = *error;
            Err(ProxyError::NoToken(NoToken { error, retry_after }))
        }
        error @ (TokenError::Unreachable(_)
        | TokenError::Invalid(_)
        | TokenError::Unusable(_)
        | TokenError::TimedOut
        | TokenError::Store(_)
        | TokenError::ForeignValue(_)
        | TokenError::BudgetSpent(_)
        | TokenError::ForcedSpent(_)
        | TokenError::Panicked) => Err(ProxyError::NoTicket(NoToken { error, retry_after })),
    }
}
