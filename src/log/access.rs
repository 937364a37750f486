//! The access log: a line a call, through the queue of the log, so that no call waits for it.

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::SystemTime,
};

use http::{HeaderMap, Method, header};
use serde_json::{Map, Value, json};
use tokio::time::{Duration, Instant};

use super::line_writer::{LineWriter, Priority};

/// See the [module](self). Clones share it.
#[derive(Clone, Debug)]
pub struct AccessLog(Arc<SharedAccessLog>);

#[derive(Debug)]
struct SharedAccessLog {
    writer: LineWriter,
    json: bool,
    sample: Sample,
    /// Whether the process ends before its calls have.
    cuts_calls: AtomicBool,
}

/// Which calls that went well get a line: an even part of them.
#[derive(Debug)]
struct Sample {
    /// The part, of 2³²; `None` for all.
    step: Option<u32>,
    sum: AtomicU32,
}

/// A call, which gets its line when this is dropped: when its reply has ended, or when the app has gone away.
#[derive(Debug)]
pub struct AccessRecord {
    log: AccessLog,
    began: Instant,
    /// `None` if the head cannot be read.
    method: Option<Method>,
    request_bytes: Option<u64>,
    /// What became of it; `None` while it is not answered.
    answered: Option<AnsweredCall>,
    /// How often it was sent, and how long WeChat took until the heads of its replies.
    sent: Option<SendSummary>,
    /// The account's id, if it is known.
    account: Option<String>,
    /// The label of the endpoint, if the account is known.
    endpoint: Option<&'static str>,
    reply_bytes: u64,
    /// Whether the reply came to its end.
    is_complete: bool,
}

/// The sends of a call.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendSummary {
    /// How often it was sent.
    pub count: u32,
    /// Whether it was sent once more after a refusal.
    pub is_replayed: bool,
    /// How long the call waited for its turn, by a rule of `pace`.
    pub paced: Duration,
    /// How long WeChat took until the heads of its replies.
    pub upstream: Duration,
}

/// What became of a call.
#[derive(Clone, Debug)]
pub struct AnsweredCall {
    /// How it ended, in a word.
    pub outcome: &'static str,
    /// Whether it went well, so that it may be left out.
    pub is_well: bool,
    /// Whether the app itself caused what went wrong.
    pub is_apps_fault: bool,
    /// The status of the reply.
    pub status: u16,
    /// The error code of the reply.
    pub errcode: Option<i64>,
    /// What WeChat's support asks for.
    pub rid: Option<String>,
}

impl AccessLog {
    /// A log of `part` of the calls that go well, from 0 to 1, and of all others.
    pub(super) fn new(writer: LineWriter, json: bool, part: f64) -> Self {
        let step = (part < 1.0).then(|| (part * 2f64.powi(32)).ceil() as u32);
        let sum = AtomicU32::new(0);
        Self(Arc::new(SharedAccessLog {
            writer,
            json,
            sample: Sample { step, sum },
            cuts_calls: AtomicBool::new(false),
        }))
    }

    /// From now on calls that have no reply yet get none, since the process ends.
    pub fn calls_are_cut(&self) {
        self.0.cuts_calls.store(true, Ordering::Relaxed);
    }

    /// Begins the record of a call.
    pub fn begin(&self, method: Option<&Method>, headers: &HeaderMap) -> Box<AccessRecord> {
        let length = headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        Box::new(AccessRecord {
            log: self.clone(),
            began: Instant::now(),
            method: method.cloned(),
            request_bytes: length,
            answered: None,
            sent: None,
            account: None,
            endpoint: None,
            reply_bytes: 0,
            is_complete: false,
        })
    }
}

impl Sample {
    fn takes_next(&self) -> bool {
        let Some(step) = self.step else { return true };
        let before = self.sum.fetch_add(step, Ordering::Relaxed);
        before.checked_add(step).is_none()
    }
}

impl AccessRecord {
    /// The call is one of this account, to the endpoint with this label.
    pub fn routed(&mut self, account: &str, endpoint: &'static str) {
        self.account = Some(account.to_owned());
        self.endpoint = Some(endpoint);
    }

    /// It was sent so.
    pub fn sent(&mut self, sends: SendSummary) {
        self.sent = Some(sends);
    }

    /// The head of the reply goes to the app.
    pub fn answered(&mut self, answered: AnsweredCall) {
        self.answered = Some(answered);
    }

    /// So many more bytes of the reply's body go to the app.
    pub fn add_bytes(&mut self, bytes: usize) {
        if self.method != Some(Method::HEAD) {
            self.reply_bytes += bytes as u64;
        }
    }

    /// The reply came to its end.
    pub fn complete(&mut self) {
        self.is_complete = true;
    }

    fn is_well(&self) -> bool {
        self.is_complete
            && self
                .answered
                .as_ref()
                .is_some_and(|answered| answered.is_well)
    }

    /// What is known of the call, in the order of the line. A field that does not apply is left out.
    fn fields(&self) -> Map<String, Value> {
        let seconds = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e6;
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                fields.insert(name.to_owned(), value);
            }
        };
        put("account", json!(self.account));
        let method = self.method.as_ref().map(Method::as_str);
        put(
            "method",
            json!(method.map(|name| name.get(..16).unwrap_or(name))),
        );
        put("endpoint", json!(self.endpoint));
        let outcome = match &self.answered {
            _ if !self.is_complete && self.log.0.cuts_calls.load(Ordering::Relaxed) => {
                "process_ended"
            }
            None => "app_gone",
            Some(answered) if self.is_complete => answered.outcome,
            Some(_) => "reply_cut",
        };
        put("outcome", json!(outcome));
        if let Some(answered) = &self.answered {
            put("status", json!(answered.status));
            put("errcode", json!(answered.errcode));
            put("rid", json!(answered.rid));
        }
        if let Some(sends) = self.sent {
            put("attempts", json!(sends.count));
            if !sends.paced.is_zero() {
                put("paced_seconds", json!(seconds(sends.paced)));
            }
            if sends.count > 0 && !sends.upstream.is_zero() {
                put("upstream_seconds", json!(seconds(sends.upstream)));
            }
        }
        put("seconds", json!(seconds(self.began.elapsed())));
        put("request_bytes", json!(self.request_bytes));
        put("reply_bytes", json!(self.reply_bytes));
        fields
    }

    fn line(&self) -> String {
        let time = humantime::format_rfc3339_micros(SystemTime::now());
        let fields = self.fields();
        if self.log.0.json {
            let mut line = json!({ "timestamp": time.to_string(), "level": "INFO", "message": "call", "target": "access" });
            if let Some(line) = line.as_object_mut() {
                line.extend(fields);
            }
            return format!("{line}\n");
        }
        let mut line = format!("{time}  INFO access: call");
        for (name, value) in fields {
            // Writing to a string does not fail.
            let _ = write!(line, " {name}={value}");
        }
        line.push('\n');
        line
    }
}

impl Drop for AccessRecord {
    fn drop(&mut self) {
        let log = &self.log.0;
        if !self.is_well() || log.sample.takes_next() {
            log.writer.push(self.line().as_bytes(), Priority::Ordinary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_an_even_part() {
        for (part, taken) in [(1.0, 1000), (0.1, 100), (0.25, 250), (0.0, 0)] {
            let step = (part < 1.0).then(|| (part * 2f64.powi(32)).ceil() as u32);
            let sum = AtomicU32::new(0);
            let sample = Sample { step, sum };
            let lines = (0..1000).filter(|_| sample.takes_next()).count();
            assert!(lines.abs_diff(taken) <= 1, "{part}: {lines}");
        }
    }
}
