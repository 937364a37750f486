//! How often a call was sent, and how long WeChat took.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use http::Response;
use tokio::time::Duration;

use crate::{
    client::{ResponseBody, SendError},
    log::access::SendSummary,
    net::origin::Origin,
    record::span::SendSpan,
};

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Sends {
    count: AtomicU32,
    micros: AtomicU64,
    is_replayed: AtomicBool,
    /// How long it waited for its turn before that.
    paced_micros: AtomicU64,
    /// Its sends in detail, if somebody wants to know. One comes after the other, so nobody waits for the lock.
    spans: Option<Mutex<Vec<SendSpan>>>,
}

impl Sends {
    /// From now on all is noted of each send, if `wanted`.
    pub(super) fn trace(&mut self, wanted: bool) {
        self.spans = wanted.then(Mutex::default);
    }

    /// Counts a send.
    pub(super) fn begin(&self) {
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        self.note(|spans| spans.push(SendSpan::begin(before + 1)));
    }

    /// Takes back a send of which nothing went out.
    pub(super) fn take_back(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// WeChat took so long until its reply, or until it was given up.
    pub(super) fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// The call waited so long for its turn.
    pub(super) fn paced(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.paced_micros.store(micros, Ordering::Relaxed);
    }

    /// The last send has come to this. `origin` is where it went.
    pub(super) fn ended(
        &self,
        sent: &Result<Response<ResponseBody>, SendError>,
        origin: impl FnOnce() -> Option<Origin>,
    ) {
        self.note_last(|span| {
            if let Some(origin) = origin() {
                span.went_to(&origin.host, origin.port);
            }
            let status = |reply: &Response<_>| reply.status().as_u16();
            span.ended(sent.as_ref().map(status).map_err(SendError::label));
        });
    }

    /// The reply to the last send has this errcode.
    pub(super) fn has_errcode(&self, errcode: i64) {
        self.note_last(|span| span.has_errcode(errcode));
    }

    /// The call was sent once more after a refusal.
    pub(super) fn replayed(&self) {
        self.is_replayed.store(true, Ordering::Relaxed);
    }

    /// All of them together.
    pub(super) fn summary(&self) -> SendSummary {
        SendSummary {
            count: self.count.load(Ordering::Relaxed),
            is_replayed: self.is_replayed.load(Ordering::Relaxed),
            paced: Duration::from_micros(self.paced_micros.load(Ordering::Relaxed)),
            upstream: Duration::from_micros(self.micros.load(Ordering::Relaxed)),
        }
    }

    /// All that was noted.
    pub(super) fn take_spans(&self) -> Vec<SendSpan> {
        let mut taken = Vec::new();
        self.note(|spans| taken = std::mem::take(spans));
        taken
    }

    fn note_last(&self, note: impl FnOnce(&mut SendSpan)) {
        self.note(|spans| {
            if let Some(last) = spans.last_mut() {
                note(last);
            }
        });
    }

    fn note(&self, note: impl FnOnce(&mut Vec<SendSpan>)) {
        if let Some(spans) = &self.spans {
            note(&mut spans.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}
