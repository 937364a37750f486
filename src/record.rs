//! What is told of each call: a line for the access log, and spans for a trace collector.

pub mod otlp;
pub mod span;
mod trace_context;
mod tracer;

use http::{HeaderMap, Method};

use crate::log::access::{AccessLog, AccessRecord, AnsweredCall, SendSummary};
use span::{CallSpan, SendSpan};
use trace_context::TraceContext;
pub use tracer::Tracer;

/// Begins the records of calls. Clones tell the same log and the same collector.
#[derive(Clone, Debug)]
pub struct Recorder {
    access: Option<AccessLog>,
    tracer: Option<Tracer>,
}

/// A call, which is told of when this is dropped: when its reply has ended, or when the app has gone away.
#[derive(Debug)]
pub struct CallRecord {
    access: Option<Box<AccessRecord>>,
    /// `None` too for a call whose caller wants no spans of it.
    traced: Option<(Tracer, Box<CallSpan>)>,
}

impl Recorder {
    /// Tells those that are there. `None` if nobody is.
    pub fn new(access: Option<AccessLog>, tracer: Option<Tracer>) -> Option<Self> {
        (access.is_some() || tracer.is_some()).then_some(Self { access, tracer })
    }

    /// From now on calls that have no reply yet get none, since the process ends.
    pub fn calls_are_cut(&self) {
        if let Some(log) = &self.access {
            log.calls_are_cut();
        }
    }

    /// Begins the record of a call, if anybody is to be told of it. `method` is `None` if its head cannot be read; there
    /// is no span of such a call. `is_tls` says whether the app's connection has TLS.
    pub fn begin(
        &self,
        method: Option<&Method>,
        headers: &HeaderMap,
        is_tls: bool,
    ) -> Option<Box<CallRecord>> {
        let access = self.access.as_ref().map(|log| log.begin(method, headers));
        let traced = self
            .tracer
            .as_ref()
            .zip(method)
            .and_then(|(tracer, method)| {
                let context = TraceContext::of(headers);
                (!context.is_unsampled())
                    .then(|| (tracer.clone(), CallSpan::begin(method, context, is_tls)))
            });
        let is_told = access.is_some() || traced.is_some();
        is_told.then(|| Box::new(CallRecord { access, traced }))
    }
}

impl CallRecord {
    /// The call is one of this account, to the endpoint with this label, whose path is known or not.
    pub fn routed(&mut self, account: &str, endpoint: &'static str, is_known: bool) {
        if let Some(access) = &mut self.access {
            access.routed(account, endpoint);
        }
        if let Some((_, span)) = &mut self.traced {
            span.routed(account, is_known.then_some(endpoint));
        }
    }

    /// Whether its sends are to be told of, too.
    pub fn wants_sends(&self) -> bool {
        self.traced.is_some()
    }

    /// The call was sent so.
    pub fn sent(&mut self, sends: SendSummary, spans: Vec<SendSpan>) {
        if let Some((_, span)) = &mut self.traced {
            span.sent(sends, spans);
        }
        if let Some(access) = &mut self.access {
            access.sent(sends);
        }
    }

    /// The head of the reply goes to the app.
    pub fn answered(&mut self, answered: AnsweredCall) {
        if let Some((_, span)) = &mut self.traced {
            span.answered(answered.clone());
        }
        if let Some(access) = &mut self.access {
            access.answered(answered);
        }
    }

    /// So many more bytes of the reply's body go to the app.
    pub fn add_bytes(&mut self, bytes: usize) {
        if let Some(access) = &mut self.access {
            access.add_bytes(bytes);
        }
    }

    /// The reply came to its end.
    pub fn complete(&mut self) {
        if let Some(access) = &mut self.access {
            access.complete();
        }
        if let Some((_, span)) = &mut self.traced {
            span.complete();
        }
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        if let Some((tracer, mut span)) = self.traced.take() {
            span.end();
            tracer.push(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_says_whether_the_app_came_over_tls() {
        for (is_tls, scheme) in [(true, "https"), (false, "http")] {
            let tracer = Tracer::default();
            let recorder = Recorder::new(None, Some(tracer.clone())).unwrap();
            drop(recorder.begin(Some(&Method::GET), &HeaderMap::new(), is_tls));
            let request = otlp::request(&tracer.take_batch().unwrap(), "host");
            let text = String::from_utf8_lossy(&request);
            let (_, value) = text.split_once("url.scheme").unwrap();
            let value: String = value.chars().filter(|c| !c.is_control()).take(6).collect();
            assert!(
                value.starts_with(scheme) && (is_tls || !value.starts_with("https")),
                "{value}"
            );
        }
    }
}
