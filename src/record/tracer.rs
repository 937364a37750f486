//! The queue between the calls that end and the exporter of their spans. It never makes a call wait.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use super::span::CallSpan;

/// How many calls wait at most. If there are more, the oldest is lost: after an outage the latest say most.
const MAX_QUEUED: usize = 2048;

/// How many are exported at once.
const BATCH: usize = 512;

/// Hands the spans of calls over to who exports them. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Arc<SpanQueue>);

#[derive(Debug, Default)]
struct SpanQueue {
    ended: Mutex<VecDeque<Box<CallSpan>>>,
    dropped: AtomicU64,
    /// Is told when a batch is there, and not of each call: a worker would wake the exporter's thread each time.
    batch_ready: Notify,
}

impl Tracer {
    pub(super) fn push(&self, span: Box<CallSpan>) {
        let mut ended = self.lock();
        let oldest = (ended.len() >= MAX_QUEUED).then(|| ended.pop_front());
        ended.push_back(span);
        let is_batch = ended.len() == BATCH;
        drop(ended);
        if oldest.is_some() {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if is_batch {
            self.0.batch_ready.notify_one();
        }
    }

    /// The next calls to export, the oldest first. `None` if there are none.
    pub fn take_batch(&self) -> Option<Vec<Box<CallSpan>>> {
        let mut ended = self.lock();
        let count = ended.len().min(BATCH);
        let batch: Vec<_> = ended.drain(..count).collect();
        (count > 0).then_some(batch)
    }

    /// Returns when there is a whole batch.
    pub async fn batch_ready(&self) {
        self.0.batch_ready.notified().await;
    }

    /// How many calls were lost because nobody took them in time.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Box<CallSpan>>> {
        self.0.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use http::Method;

    use super::{super::trace_context::TraceContext, *};

    #[test]
    fn the_queue_is_bounded_and_loses_the_oldest() {
        let tracer = Tracer::default();
        let span = |method| CallSpan::begin(&method, TraceContext::default(), false);
        tracer.push(span(Method::GET));
        for _ in 0..BATCH {
            tracer.push(span(Method::POST));
        }
        assert!(tracer.batch_ready().now_or_never().is_some());
        for _ in 0..MAX_QUEUED {
            tracer.push(span(Method::POST));
        }
        assert_eq!(tracer.dropped(), 1 + BATCH as u64);
        let batches: Vec<_> = std::iter::from_fn(|| tracer.take_batch()).collect();
        let sizes: Vec<_> = batches.iter().map(Vec::len).collect();
        assert_eq!(sizes, [BATCH; MAX_QUEUED / BATCH]);
        let mut spans = batches.iter().flatten();
        assert!(spans.all(|span| span.name() == "POST"));
    }

    #[test]
    fn a_call_that_waits_for_the_collector_is_small_whatever_its_method() {
        let method = Method::from_bytes(&[b'A'; 20_000]).unwrap();
        let span = CallSpan::begin(&method, TraceContext::default(), false);
        assert_eq!((span.name().as_str(), span.method()), ("HTTP", "_OTHER"));
        assert!(format!("{span:?}").len() < 2000);
    }
}
