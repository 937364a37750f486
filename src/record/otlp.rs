//! OpenTelemetry's wire format (OTLP, protobuf): spans by the semantic conventions of HTTP.
//!
//! The messages are the few that spans take, so that one small crate is linked in. OpenTelemetry's SDK would bring a
//! queue on a thread of its own, which tells nobody what it lost, and read a dozen `OTEL_…` variables: those that are set
//! for the app beside the sidecar, with the collector's credentials among them. `tests/traces.rs` reads what is written
//! here with the messages that OpenTelemetry publishes.

mod messages;

use bytes::Bytes;
use prost::Message;
use ring::rand::{SecureRandom, SystemRandom};

use super::{
    span::{CallSpan, SendSpan},
    trace_context::{SpanId, TraceId},
};
use messages::{
    AnyValue, AttributeValue, ExportRequest, ExportResponse, KeyValue, ResourceMessage,
    ResourceSpans, ScopeMessage, ScopeSpans, SpanMessage, StatusMessage,
};

/// The name of the service and of the instrumentation.
const SERVICE: &str = "wechat-sidecar";

/// `SPAN_KIND_SERVER`.
const SERVER: i32 = 2;
/// `SPAN_KIND_CLIENT`.
const CLIENT: i32 = 3;
/// `STATUS_CODE_ERROR`.
const ERROR: i32 = 2;

/// Sampled, and it is known whether the parent is remote.
const LOCAL_PARENT: u32 = 0x101;
/// The parent is remote, too.
const REMOTE_PARENT: u32 = 0x301;

/// The body of a request that exports `calls` from this machine.
pub fn request(calls: &[Box<CallSpan>], host_name: &str) -> Bytes {
    let random = SystemRandom::new();
    let spans = calls.iter().flat_map(|call| spans(call, &random));
    let request = ExportRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(ResourceMessage {
                attributes: vec![
                    text("service.name", SERVICE),
                    text("service.version", crate::VERSION),
                    text("host.name", host_name),
                ],
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(ScopeMessage {
                    name: SERVICE.to_owned(),
                    version: crate::VERSION.to_owned(),
                }),
                spans: spans.collect(),
            }],
        }],
    };
    request.encode_to_vec().into()
}

/// How many spans the collector rejected, by the body of its reply. A reply that cannot be read rejects none.
pub fn rejected(reply: &[u8]) -> u64 {
    let reply = ExportResponse::decode(reply).unwrap_or_default();
    let rejected = reply.partial_success.map(|partial| partial.rejected_spans);
    rejected
        .and_then(|count| count.try_into().ok())
        .unwrap_or(0)
}

/// The spans of a call: its own, and one for each send.
fn spans(call: &CallSpan, random: &SystemRandom) -> Vec<SpanMessage> {
    let (trace, parent) = call.context.parent.unzip();
    let trace: TraceId = trace.unwrap_or_else(|| fresh(random));
    let id: SpanId = fresh(random);
    let sends = call.sends.iter().map(|send| SpanMessage {
        parent_span_id: id.to_vec(),
        flags: LOCAL_PARENT,
        ..of_send(call, send)
    });
    let own = SpanMessage {
        span_id: id.to_vec(),
        parent_span_id: parent.map(Vec::from).unwrap_or_default(),
        flags: if parent.is_some() {
            REMOTE_PARENT
        } else {
            LOCAL_PARENT
        },
        ..of_call(call)
    };
    let mut spans: Vec<_> = std::iter::once(own).chain(sends).collect();
    for span in &mut spans {
        span.trace_id = trace.to_vec();
        if span.span_id.is_empty() {
            span.span_id = fresh::<8>(random).to_vec();
        }
    }
    spans
}

/// The span of the call as its app sees it, without ids.
fn of_call(call: &CallSpan) -> SpanMessage {
    let mut attributes = vec![
        text("http.request.method", call.method()),
        text("url.scheme", if call.is_tls { "https" } else { "http" }),
        text("wechat.outcome", call.outcome()),
    ];
    for name in ["http.route", "url.path"] {
        attributes.extend(call.endpoint.map(|endpoint| text(name, endpoint)));
    }
    attributes.extend(call.account.as_deref().map(|id| text("wechat.account", id)));
    if let Some(answered) = &call.answered {
        attributes.extend([
            number("http.response.status_code", answered.status),
            number("wechat.attempts", call.summary.count),
            boolean("wechat.replayed", call.summary.is_replayed),
        ]);
        attributes.extend(answered.errcode.map(|code| number("wechat.errcode", code)));
        attributes.extend(answered.rid.as_deref().map(|rid| text("wechat.rid", rid)));
    }
    let error = call.error_type();
    finished(
        call.time.unix_nanos(),
        attributes,
        error,
        SpanMessage {
            name: call.name(),
            kind: SERVER,
            ..SpanMessage::default()
        },
    )
}

/// The span of one send, without ids. It has no `url.full`, in which the token would be.
fn of_send(call: &CallSpan, send: &SendSpan) -> SpanMessage {
    let mut attributes = vec![text("http.request.method", call.method())];
    attributes.extend(call.endpoint.map(|endpoint| text("url.template", endpoint)));
    if let Some((host, port)) = &send.server {
        attributes.extend([text("server.address", host), number("server.port", *port)]);
    }
    let status = send.status;
    attributes.extend(status.map(|status| number("http.response.status_code", status)));
    if send.attempt > 1 {
        attributes.push(number("http.request.resend_count", send.attempt - 1));
    }
    attributes.extend(send.errcode.map(|code| number("wechat.errcode", code)));
    finished(
        send.time.unix_nanos(),
        attributes,
        send.error_type(),
        SpanMessage {
            name: call.name(),
            kind: CLIENT,
            ..SpanMessage::default()
        },
    )
}

fn finished(
    (start, end): (u64, u64),
    mut attributes: Vec<KeyValue>,
    error: Option<String>,
    span: SpanMessage,
) -> SpanMessage {
    let status = error.as_ref().map(|_| StatusMessage { code: ERROR });
    attributes.extend(error.map(|error| text("error.type", &error)));
    SpanMessage {
        start_time_unix_nano: start,
        end_time_unix_nano: end,
        attributes,
        status,
        ..span
    }
}

/// A random id. Replicas begin at the same time, so a generator that is seeded by the time will not do.
fn fresh<const N: usize>(random: &SystemRandom) -> [u8; N] {
    let mut id = [0; N];
    if random.fill(&mut id).is_err() {
        fastrand::fill(&mut id);
    }
    id
}

fn text(key: &str, text: &str) -> KeyValue {
    attribute(key, AttributeValue::Text(text.to_owned()))
}

fn number(key: &str, number: impl Into<i64>) -> KeyValue {
    attribute(key, AttributeValue::Number(number.into()))
}

fn boolean(key: &str, boolean: bool) -> KeyValue {
    attribute(key, AttributeValue::Truth(boolean))
}

fn attribute(key: &str, value: AttributeValue) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
    }
}
