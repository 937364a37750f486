//! What the access log and the collector of traces are told of a call.

use super::{Reply, route::Call};
use crate::{
    body::buffered::BufferedBody, log::access::AnsweredCall, metrics::Outcome, record::CallRecord,
    wechat::errcode,
};

/// Tells `record` what became of a call. `call` is missing if it was turned down before it had an account.
#[cold]
pub(super) fn record(
    mut record: Box<CallRecord>,
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
        is_apps_fault: outcome == Outcome::Rejected,
        status: reply.status().as_u16(),
        errcode,
        rid: rid.map(str::to_owned),
    });
    let spans = call.filter(|_| record.wants_sends());
    let spans = spans
        .map(|call| call.sends.take_spans())
        .unwrap_or_default();
    let sends = call.map(|call| call.sends.summary()).unwrap_or_default();
    record.sent(sends, spans);
    record.add_bytes(reply.body().start().len());
    match reply.body_mut() {
        BufferedBody::Whole(_) => record.complete(),
        BufferedBody::Partial { rest, .. } => rest.record(record),
    }
}
