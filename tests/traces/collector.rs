//! A trace collector that takes OTLP over HTTP, and reads it by the messages that OpenTelemetry publishes.

#![allow(unreachable_pub)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

use crate::support::PATIENCE;

/// How it answers.
#[derive(Clone, Copy, Default)]
pub struct Manners {
    /// Instead of 200.
    pub status: Option<u16>,
    /// How many spans it says it rejected.
    pub rejects: i64,
    /// It reads, and never answers.
    pub hangs: bool,
}

#[derive(Default)]
struct Seen {
    manners: Manners,
    connections: usize,
    requests: Vec<Vec<u8>>,
    /// The bodies that were taken.
    taken: Vec<ExportTraceServiceRequest>,
}

#[derive(Clone)]
pub struct Collector {
    pub url: String,
    seen: Arc<Mutex<Seen>>,
}

impl Collector {
    pub async fn start() -> Self {
        Self::at("127.0.0.1:0").await
    }

    pub async fn at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self { url, seen }
    }

    pub fn behave(&self, manners: Manners) {
        self.seen.lock().unwrap().manners = manners;
    }

    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// Every byte of every request.
    pub fn bytes(&self) -> Vec<u8> {
        self.seen.lock().unwrap().requests.concat()
    }

    /// The head of the first request.
    pub fn head(&self) -> String {
        let seen = self.seen.lock().unwrap();
        let text = String::from_utf8_lossy(&seen.requests[0]).into_owned();
        text.split("\r\n\r\n").next().unwrap().to_owned()
    }

    pub fn requests(&self) -> usize {
        self.seen.lock().unwrap().requests.len()
    }

    /// What is said of the process.
    pub fn resource(&self) -> HashMap<String, String> {
        let seen = self.seen.lock().unwrap();
        let resource = seen.taken[0].resource_spans[0].resource.clone();
        let attributes = resource.unwrap().attributes;
        attributes
            .iter()
            .map(|one| (one.key.clone(), shown(one)))
            .collect()
    }

    /// The spans that were taken.
    pub fn spans(&self) -> Vec<Span> {
        let seen = self.seen.lock().unwrap();
        let resources = seen.taken.iter().flat_map(|one| &one.resource_spans);
        let scopes = resources.flat_map(|one| &one.scope_spans);
        scopes.flat_map(|one| one.spans.clone()).collect()
    }

    /// Waits for so many spans of calls, and returns them.
    pub async fn calls(&self, count: usize) -> Vec<Span> {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut spans = self.spans();
            spans.retain(|span| span.kind() == SpanKind::Server);
            if spans.len() >= count {
                assert_eq!(spans.len(), count, "{spans:#?}");
                return spans;
            }
            assert!(Instant::now() < end, "only {spans:#?}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The spans below `parent`, in the order of their beginnings.
    pub fn below(&self, parent: &Span) -> Vec<Span> {
        let mut spans = self.spans();
        spans.retain(|span| span.parent_span_id == parent.span_id);
        spans.sort_by_key(|span| span.start_time_unix_nano);
        spans
    }
}

/// The attribute called `name`, as text; empty if it is missing.
pub fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|one| one.key == name);
    found.map(shown).unwrap_or_default()
}

pub fn is_error(span: &Span) -> bool {
    span.status
        .as_ref()
        .is_some_and(|status| status.code() == StatusCode::Error)
}

fn shown(attribute: &KeyValue) -> String {
    match &attribute.value {
        Some(AnyValue {
            value: Some(Value::StringValue(text)),
            ..
        }) => text.clone(),
        Some(AnyValue {
            value: Some(Value::IntValue(number)),
            ..
        }) => number.to_string(),
        Some(AnyValue {
            value: Some(Value::BoolValue(truth)),
            ..
        }) => truth.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Seen>>) {
    let mut read = Vec::new();
    loop {
        let Some((request, body_at)) = request(&mut stream, &mut read).await else {
            return;
        };
        let manners = seen.lock().unwrap().manners;
        let status = manners.status.unwrap_or(200);
        {
            let mut seen = seen.lock().unwrap();
            if status == 200 && !manners.hangs {
                let body = ExportTraceServiceRequest::decode(&request[body_at..]);
                seen.taken.push(body.unwrap());
            }
            seen.requests.push(request);
        }
        if manners.hangs {
            return std::future::pending().await;
        }
        let partial_success = (manners.rejects > 0).then(|| ExportTracePartialSuccess {
            rejected_spans: manners.rejects,
            error_message: "HUNTER2".to_owned(),
        });
        let body = ExportTraceServiceResponse { partial_success }.encode_to_vec();
        let length = body.len();
        let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n\r\n");
        let reply = [head.as_bytes(), &body].concat();
        if stream.write_all(&reply).await.is_err() {
            return;
        }
    }
}

/// The next request, and where its body begins.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<(Vec<u8>, usize)> {
    loop {
        let head = read.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let end = head + 4 + length.map_or(0, |length| length.parse::<usize>().unwrap());
            if read.len() >= end {
                return Some((read.drain(..end).collect(), head + 4));
            }
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}
