//! What the access log is told of a call.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::time::Duration;

use super::{Reply, route::Call};
use crate::{
    body::buffered::BufferedBody,
    log::access::{AccessRecord, AnsweredCall},
    metrics::Outcome,
    wechat::errcode,
};

/// How often a call was sent, and how long WeChat took.
#[derive(Debug, Default)]
pub(super) struct Sends {
    count: AtomicU32,
    micros: AtomicU64,
}

impl Sends {
    /// Counts a send.
    pub(super) fn begin(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// WeChat took so long until its reply, or until it was given up.
    pub(super) fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// How often the call was sent.
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// How long WeChat took in all.
    pub(super) fn time(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}

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
        outcome,
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
