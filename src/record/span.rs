//! What is known of a call and of each of its sends, until it is exported.

use std::time::SystemTime;

use http::Method;
use tokio::time::{Duration, Instant};

use super::trace_context::TraceContext;
use crate::log::access::{AnsweredCall, SendSummary};

/// A call.
#[derive(Debug)]
pub struct CallSpan {
    pub(super) context: TraceContext,
    pub(super) time: SpanTime,
    /// `None` if HTTP does not know it: then it may be anything, and long.
    method: Option<Method>,
    /// Whether the app's connection has TLS.
    pub(super) is_tls: bool,
    /// The account's id, if it is known.
    pub(super) account: Option<String>,
    /// The label of the endpoint, if that is in our tables. Another path is not told: it may hold anything.
    pub(super) endpoint: Option<&'static str>,
    /// What became of it; `None` while it is not answered.
    pub(super) answered: Option<AnsweredCall>,
    pub(super) summary: SendSummary,
    pub(super) sends: Vec<SendSpan>,
    is_complete: bool,
}

/// One send of a call to WeChat, until the head of the reply.
#[derive(Debug)]
pub struct SendSpan {
    pub(super) time: SpanTime,
    pub(super) attempt: u32,
    /// The host and the port it went to, if it went to any.
    pub(super) server: Option<(String, u16)>,
    pub(super) status: Option<u16>,
    /// The errcode of the reply, unless it is 0.
    pub(super) errcode: Option<i64>,
    /// Why there is no reply.
    failure: Option<&'static str>,
}

/// When something began, and how long it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpanTime {
    /// By the clock that spans are drawn by.
    began_at: SystemTime,
    /// The clock may be set meanwhile, so durations are those of this one.
    began: Instant,
    took: Duration,
}

impl SpanTime {
    fn begin() -> Self {
        Self {
            began_at: SystemTime::now(),
            began: Instant::now(),
            took: Duration::ZERO,
        }
    }

    fn end(&mut self) {
        self.took = self.began.elapsed();
    }

    /// Its beginning and its end, in nanoseconds since 1970.
    pub(super) fn unix_nanos(self) -> (u64, u64) {
        let since = self.began_at.duration_since(SystemTime::UNIX_EPOCH);
        let began = since.unwrap_or_default();
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        (nanos(began), nanos(began + self.took))
    }
}

impl CallSpan {
    pub(super) fn begin(method: &Method, context: TraceContext, is_tls: bool) -> Box<Self> {
        Box::new(Self {
            context,
            time: SpanTime::begin(),
            method: is_known(method).then(|| method.clone()),
            is_tls,
            account: None,
            endpoint: None,
            answered: None,
            summary: SendSummary::default(),
            sends: Vec::new(),
            is_complete: false,
        })
    }

    pub(super) fn routed(&mut self, account: &str, endpoint: Option<&'static str>) {
        self.account = Some(account.to_owned());
        self.endpoint = endpoint;
    }

    pub(super) fn sent(&mut self, summary: SendSummary, sends: Vec<SendSpan>) {
        self.summary = summary;
        self.sends = sends;
    }

    pub(super) fn answered(&mut self, answered: AnsweredCall) {
        self.answered = Some(answered);
    }

    pub(super) fn complete(&mut self) {
        self.is_complete = true;
    }

    pub(super) fn end(&mut self) {
        self.time.end();
    }

    /// Its method, as spans tell it.
    pub(super) fn method(&self) -> &str {
        self.method.as_ref().map_or("_OTHER", Method::as_str)
    }

    /// Its name: the method, and the endpoint if that is known.
    pub(super) fn name(&self) -> String {
        let method = self.method.as_ref().map_or("HTTP", Method::as_str);
        match self.endpoint {
            Some(endpoint) => format!("{method} {endpoint}"),
            None => method.to_owned(),
        }
    }

    /// How it ended, in a word.
    pub(super) fn outcome(&self) -> &'static str {
        match &self.answered {
            None => "app_gone",
            Some(answered) if self.is_complete => answered.outcome,
            Some(_) => "reply_cut",
        }
    }

    /// What went wrong, if anything did. As HTTP has it, what is the app's own mistake is no error of the server's.
    pub(super) fn error_type(&self) -> Option<String> {
        let Some(answered) = self.answered.as_ref().filter(|_| self.is_complete) else {
            return Some(self.outcome().to_owned());
        };
        if answered.is_well || answered.is_apps_fault {
            return None;
        }
        let errcode = answered.errcode.filter(|code| *code != 0);
        Some(errcode.map_or(answered.outcome.to_owned(), |code| code.to_string()))
    }
}

impl SendSpan {
    /// The send with this number begins. The first one has 1.
    pub fn begin(attempt: u32) -> Self {
        Self {
            time: SpanTime::begin(),
            attempt,
            server: None,
            status: None,
            errcode: None,
            failure: None,
        }
    }

    /// It went to this host.
    pub fn went_to(&mut self, host: &str, port: u16) {
        self.server = Some((host.to_owned(), port));
    }

    /// The head of the reply came with this status, or none will, for this reason.
    pub fn ended(&mut self, reply: Result<u16, &'static str>) {
        self.time.end();
        self.status = reply.ok();
        self.failure = reply.err();
    }

    /// The reply has this errcode.
    pub fn has_errcode(&mut self, errcode: i64) {
        self.errcode = Some(errcode);
    }

    /// What went wrong, if anything did.
    pub(super) fn error_type(&self) -> Option<String> {
        let code = self.errcode.map(|code| code.to_string());
        let status = self.status.filter(|status| *status >= 400);
        let failure = self.failure.map(str::to_owned);
        failure.or(code).or(status.map(|status| status.to_string()))
    }
}

/// Whether HTTP knows the method.
fn is_known(method: &Method) -> bool {
    let known = [
        Method::CONNECT,
        Method::DELETE,
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::PATCH,
        Method::POST,
        Method::PUT,
        Method::TRACE,
    ];
    known.contains(method)
}
