//! What the access log is told of a call.

use tokio::time::Duration;

use super::{Reply, route::Call};
use crate::{
    body::buffered::BufferedBody,
    log::access::{AccessRecord, AnsweredCall},
    metrics::Outcome,
    wechat::errcode,
};

/// Tells `record` what became of a call. `call` is missing if it was turned down before it had an account.
#[cold]
pub(super) fn record(
    mut record: Box<AccessRecord>,
    call: Option<&Call<'_>>,
    outcome: Outcome,
    reply: &mut Reply,
) {
    // A longer reply has none that counts.
    let body = reply.body().whole();
    let errcode = body.and_then(|body| errcode::errcode(body));
    let is_error = errcode.is_some_and(|code| code != 0);
    // Where there is no error, what looks like a rid is data.
    let rid = body
        .filter(|_| is_error)
        .and_then(|body| errcode::rid(body));
    record.answered(AnsweredCall {
        outcome: outcome.label(),
        is_well: matches!(outcome, Outcome::Accepted | Outcome::Local) && !is_error,
        status: reply.status().as_u16(),
        errcode,
        rid: rid.map(str::to_owned),
    });
    let none = (0, Duration::ZERO);
    let (attempts, upstream) = call.map_or(none, |call| (call.sends.count(), call.sends.time()));
    record.sent(attempts, upstream);
    record.add_bytes(reply.body().start().len());
    match reply.body_mut() {
        BufferedBody::Whole(_) => record.complete(),
        BufferedBody::Partial { rest, .. } => rest.record(record),
    }
}
