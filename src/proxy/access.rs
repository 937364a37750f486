//! What the access log and the collector of traces are told of a call.

use tokio::time::Duration;

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
    record.answered(AnsweredCall {
        outcome: outcome.label(),
        is_well: matches!(outcome, Outcome::Accepted | Outcome::Local),
        is_apps_fault: outcome == Outcome::Rejected,
        status: reply.status().as_u16(),
        errcode: body.and_then(|body| errcode::errcode(body)),
        rid: body.and_then(|body| errcode::rid(body)).map(str::to_owned),
        attempts: call.map_or(0, |call| call.sends.count()),
        is_replayed: call.is_some_and(|call| call.sends.is_replayed()),
        upstream: call.map_or(Duration::ZERO, |call| call.sends.time()),
    });
    if let Some(call) = call.filter(|_| record.wants_sends()) {
        record.sent(call.sends.take_spans());
    }
    record.add_bytes(reply.body().start().len());
    match reply.body_mut() {
        BufferedBody::Whole(_) => record.complete(),
        BufferedBody::Partial { rest, .. } => rest.record(record),
    }
}
