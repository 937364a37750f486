//! What single steps of a call cost: the look-up of its endpoint, the head to send, the peek into the reply.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use wechat_sidecar::{
    body::{self, buffered::BufferedBody},
    client::{self, UpstreamRequest},
    wechat::{api::Api, endpoint::Endpoint, errcode},
};

// These three are no one's to call but the proxy's, so their files are compiled once more, for this alone,
// together with their tests, which have no harness here.
#[allow(dead_code, unreachable_pub, unused_imports)]
#[path = "../src/proxy/headers.rs"]
mod headers;
#[allow(dead_code, unreachable_pub, unused_imports)]
#[path = "../src/proxy/private_headers.rs"]
mod private_headers;
#[allow(dead_code, unreachable_pub, unused_imports)]
#[path = "../src/proxy/target.rs"]
mod target;

// What they take from their neighbours.
const STATUS_HEADER: HeaderName = HeaderName::from_static("x-wechat-sidecar");

mod guard {
    pub(super) const KEY: &str = "x-wechat-sidecar-key";
    pub(super) const APPID: &str = "x-wechat-appid";
}

mod error {
    pub(super) const WECHAT_ERRCODE: http::HeaderName =
        http::HeaderName::from_static("x-wechat-sidecar-errcode");
}

/// As long as one of WeChat's.
const TOKEN: &str = "92_0123456789abcdefghijABCDEFGHIJ0123456789abcdefghijABCDEFGHIJ0123456789abcdefghijABCDEFGHIJ\
                     0123456789abcdefghijABCDEFGHIJ0123456789abcdefghij";

fn endpoint(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("endpoint");
    for (name, path) in [
        ("in the table", "/cgi-bin/message/custom/send"),
        ("in no table", "/cgi-bin/something/quite/new"),
        ("encoded", "/cgi-bin/%6dessage/custom/send/"),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let path = black_box(path.as_bytes());
                Endpoint::of(Api::Wechat, path).map(|endpoint| endpoint.row())
            });
        });
    }
    group.finish();
}

fn targets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("target");
    for (name, query) in [
        ("without a query", None),
        ("with a query", Some("type=image&lang=zh_CN")),
        (
            "with the placeholder",
            Some("access_token=sidecar-wx0123456789abcdef&type=image"),
        ),
    ] {
        group.bench_function(name, |bencher| {
            let mut whole = Vec::with_capacity(1024);
            bencher.iter(|| {
                whole.clear();
                let path = black_box("/cgi-bin/message/custom/send");
                let edit = target::Edit::Token(TOKEN);
                target::write(&mut whole, "", path, black_box(query), edit);
                whole.len()
            });
        });
    }
    group.finish();
}

fn headers(criterion: &mut Criterion) {
    let came: HeaderMap = [
        (header::HOST, "127.0.0.1:7080"),
        (header::USER_AGENT, "python-requests/2.32.3"),
        (header::ACCEPT_ENCODING, "gzip, deflate"),
        (header::ACCEPT, "*/*"),
        (header::CONNECTION, "keep-alive"),
        (header::CONTENT_TYPE, "application/json"),
        (header::CONTENT_LENGTH, "200"),
    ]
    .map(|(name, value)| (name, HeaderValue::from_static(value)))
    .into_iter()
    .collect();
    let private = private_headers::PrivateHeaders::default();
    let mut group = criterion.benchmark_group("headers");
    group.bench_function("of a call", |bencher| {
        bencher.iter(|| {
            let body = BufferedBody::ready([b'x'; 200].as_slice());
            let call = UpstreamRequest::new(&Method::POST, body, |target| target.push(b'/'));
            let mut call = call.expect("a call");
            let private = Some(&private);
            headers::request_headers(&Method::POST, black_box(&came), private, &mut call);
            call
        });
    });
    let reply: HeaderMap = [
        (header::CONTENT_TYPE, "application/json; encoding=utf-8"),
        (header::CONTENT_LENGTH, "62"),
        (header::DATE, "Tue, 24 Nov 2026 12:00:00 GMT"),
        (header::CONNECTION, "keep-alive"),
    ]
    .map(|(name, value)| (name, HeaderValue::from_static(value)))
    .into_iter()
    .collect();
    group.bench_function("of a reply", |bencher| {
        bencher.iter_batched_ref(
            || reply.clone(),
            headers::reply_headers,
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn peek(criterion: &mut Criterion) {
    let openids: Vec<String> = (0..62)
        .map(|number| format!("\"oBench{number:022}\""))
        .collect();
    let list = format!(
        r#"{{"total":62,"count":62,"data":{{"openid":[{}]}}}}"#,
        openids.join(",")
    );
    let picture = vec![0xff; 4096];
    let mut group = criterion.benchmark_group("peek");
    for (name, reply) in [
        (
            "accepted, 62 B",
            br#"{"errcode":0,"errmsg":"ok","msgid":1234567890123456,"type":0 }"#.as_slice(),
        ),
        (
            "refused",
            br#"{"errcode":42001,"errmsg":"access_token expired rid: 65f0-1b2c-3d4e"}"#,
        ),
        ("list, 2 KiB", list.as_bytes()),
        ("picture, 4 KiB", &picture),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let reply = black_box(reply);
                errcode::can_carry(reply).map(|_| errcode::Verdict::of(Api::Wechat, reply))
            });
        });
    }
    group.finish();
}

criterion_group!(steps, endpoint, targets, headers, peek);
criterion_main!(steps);
