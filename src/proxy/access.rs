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
    record.answered(AnsweredCall {
        outcome: outcome.label(),
        is_well: matches!(outcome, Outcome::Accepted | Outcome::Local),
        status: reply.status().as_u16(),
        errcode: body.and_then(|body| errcode::errcode(body)),
        rid: body.and_then(|body| errcode::rid(body)).map(str::to_owned),
        attempts: call.map_or(0, |call| call.sends.count()),
        upstream: call.map_or(Duration::ZERO, |call| call.sends.time()),
    });
    record.add_bytes(reply.body().start().len());
    match reply.body_mut() {
        BufferedBody::Whole(_) => record.complete(),
        BufferedBody::Partial { rest, .. } => rest.record(record),
    }
}
