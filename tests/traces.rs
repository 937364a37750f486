//! Traces: a span a call and one for each of its sends, by OTLP, with nothing of a query, a token or a header in it.
#![allow(clippy::unwrap_used)]

#[path = "traces/collector.rs"]
mod collector;
mod support;

use std::time::Duration;

use collector::{Collector, Manners, attribute, is_error};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use support::{
    APPID, App, PATIENCE, SECRET, Sidecar, Wechat,
    app::post,
    sidecar::{self, written},
    wechat::HangUp,
};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

const GET: &str = "/cgi-bin/user/get";
const MENU: &str = "/cgi-bin/menu/create";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

async fn traced(wechat: &Wechat, collector: &Collector, more: &[&str]) -> Sidecar {
    let flags = [&["--otlp-endpoint", &collector.url], more].concat();
    Sidecar::with(wechat, &flags).await
}

/// Calls `target` as a part of a trace.
async fn within(sidecar: &Sidecar, target: &str, flags: &str) -> sidecar::Reply {
    let call = sidecar.client.get(format!("{}{target}", sidecar.url));
    let parent = format!("00-{TRACE}-{PARENT}-{flags}");
    sidecar.send(call.header("traceparent", parent)).await
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_call_continues_the_trace_of_its_caller_and_says_what_became_of_it() {
    let (wechat, collector) = (Wechat::calm().await, Collector::start().await);
    let sidecar = traced(&wechat, &collector, &[]).await;
    within(&sidecar, &format!("{GET}?next_openid=PRIVATE"), "01").await;
    let call = collector.calls(1).await.remove(0);
    assert_eq!(
        (hex(&call.trace_id), hex(&call.parent_span_id)),
        (TRACE.into(), PARENT.into())
    );
    assert_eq!(
        (call.name.as_str(), call.flags),
        ("GET /cgi-bin/user/get", 0x301)
    );
    assert!(!is_error(&call), "{call:?}");
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("http.route", GET),
        ("url.path", GET),
        ("url.scheme", "http"),
        ("error.type", ""),
        ("wechat.account", APPID),
        ("wechat.attempts", "1"),
        ("wechat.errcode", ""),
        ("wechat.outcome", "accepted"),
        ("wechat.replayed", "false"),
    ] {
        assert_eq!(attribute(&call, name), value, "{name}");
    }
    let sends = collector.below(&call);
    let [send] = &sends[..] else {
        panic!("{sends:?}")
    };
    assert_eq!(
        (send.kind(), hex(&send.trace_id)),
        (SpanKind::Client, TRACE.into())
    );
    let port = wechat.addr().port().to_string();
    for (name, value) in [
        ("server.address", "127.0.0.1"),
        ("server.port", &port),
        ("http.response.status_code", "200"),
        ("http.request.resend_count", ""),
    ] {
        assert_eq!(attribute(send, name), value, "{name}");
    }
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert!(u128::from(call.end_time_unix_nano) <= now.as_nanos());
    assert!(now.as_nanos() - u128::from(call.start_time_unix_nano) < 60_000_000_000);
    assert!(call.start_time_unix_nano <= send.start_time_unix_nano);
    assert!(send.start_time_unix_nano < send.end_time_unix_nano);
    assert!(send.end_time_unix_nano <= call.end_time_unix_nano);
    assert_eq!(wechat.calls()[0].header("traceparent"), None);
    let head = collector.head().to_ascii_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    assert!(
        head.contains("content-type: application/x-protobuf"),
        "{head}"
    );
    let resource = collector.resource();
    assert_eq!(resource["service.name"], "wechat-sidecar");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn a_caller_that_does_not_sample_gets_no_span_and_one_without_a_trace_begins_one() {
    let (wechat, collector) = (Wechat::calm().await, Collector::start().await);
    let sidecar = traced(&wechat, &collector, &[]).await;
    within(&sidecar, GET, "00").await;
    sidecar.get(GET).await;
    let call = sidecar.client.get(format!("{}{GET}", sidecar.url));
    sidecar
        .send(call.header("traceparent", format!("00-{TRACE}-{PARENT}")))
        .await;
    let calls = collector.calls(2).await;
    for call in &calls {
        assert_ne!(hex(&call.trace_id), TRACE);
        assert_eq!((call.trace_id.len(), call.span_id.len()), (16, 8));
        assert!(call.parent_span_id.is_empty(), "{call:?}");
    }
    assert_ne!(calls[0].trace_id, calls[1].trace_id);
}

#[tokio::test]
async fn a_replay_is_two_sends_of_one_call() {
    let (wechat, collector) = (Wechat::calm().await, Collector::start().await);
    let sidecar = traced(&wechat, &collector, &[]).await;
    wechat.rotate();
    sidecar.post(MENU, "{}").await;
    let call = collector.calls(1).await.remove(0);
    assert_eq!(attribute(&call, "wechat.replayed"), "true");
    assert_eq!(attribute(&call, "wechat.attempts"), "2");
    assert_eq!(attribute(&call, "wechat.errcode"), "0");
    assert!(!is_error(&call));
    let sends = collector.below(&call);
    let [first, second] = &sends[..] else {
        panic!("{sends:?}")
    };
    assert_eq!(attribute(first, "wechat.errcode"), "40001");
    assert_eq!(attribute(first, "error.type"), "40001");
    assert!(is_error(first) && !is_error(second));
    assert_eq!(attribute(second, "http.request.resend_count"), "1");
}

#[tokio::test]
async fn a_call_that_fails_is_an_error_of_its_kind_and_one_that_is_rejected_is_not() {
    let (wechat, collector) = (Wechat::calm().await, Collector::start().await);
    let sidecar = traced(&wechat, &collector, &["--upstream-timeout", "1s"]).await;
    let answer = "{\"errcode\":45009,\"errmsg\":\"limit rid: 1-2-3\"}";
    wechat.change(|behaviour| behaviour.body = Some(("a/b".into(), answer.into())));
    sidecar.get(GET).await;
    wechat.change(|behaviour| {
        behaviour.body = None;
        behaviour.stall = true;
    });
    sidecar.get(GET).await;
    let foreign = sidecar.client.get(format!("{}{GET}", sidecar.url));
    sidecar.send(foreign.header("Host", "evil.example")).await;
    assert!(sidecar.raw("GET / HTTP/9\r\n\r\n").await.contains("400"));
    let calls = collector.calls(3).await;
    let [limited, late, rejected] = &calls[..] else {
        panic!("{calls:?}")
    };
    assert_eq!(attribute(limited, "wechat.rid"), "1-2-3");
    for (call, outcome, error, status) in [
        (limited, "errcode", "45009", "200"),
        (late, "failed", "990504", "504"),
        (rejected, "rejected", "", "403"),
    ] {
        assert_eq!(attribute(call, "wechat.outcome"), outcome);
        assert_eq!(attribute(call, "error.type"), error, "{outcome}");
        assert_eq!(attribute(call, "http.response.status_code"), status);
        assert_eq!(is_error(call), !error.is_empty(), "{outcome}");
    }
    let sends = collector.below(late);
    assert_eq!(attribute(&sends[0], "error.type"), "timeout");
    assert!(collector.below(rejected).is_empty());
    assert_eq!(attribute(rejected, "url.path"), "");
}

#[tokio::test]
async fn a_reply_that_breaks_off_and_an_app_that_goes_away_are_told() {
    let (wechat, collector) = (Wechat::calm().await, Collector::start().await);
    let sidecar = traced(&wechat, &collector, &[]).await;
    let body = ("image/jpeg".to_owned(), vec![0xff; 300_000].into());
    let media = "/cgi-bin/media/get";
    wechat.change(|behaviour| {
        behaviour.body_at.insert(media.into(), body);
        behaviour.hang_up = HangUp::MidBody;
    });
    let reply = sidecar.client.get(format!("{}{media}", sidecar.url)).send();
    assert!(reply.await.unwrap().bytes().await.is_err());
    let cut = collector.calls(1).await.remove(0);
    assert_eq!(attribute(&cut, "wechat.outcome"), "reply_cut");
    assert_eq!(attribute(&cut, "http.response.status_code"), "200");
    wechat.change(|behaviour| {
        behaviour.hang_up = HangUp::Never;
        behaviour.stall = true;
    });
    wechat.clear();
    let mut app = App::to(&sidecar).await;
    app.send(post(MENU, "Content-Length: 2")).await;
    app.send("{}").await;
    wechat.wait_for_calls(1).await;
    drop(app);
    let gone = collector.calls(2).await.remove(1);
    assert_eq!(attribute(&gone, "error.type"), "app_gone");
    assert!(is_error(&cut) && is_error(&gone));
}

#[tokio::test]
async fn nothing_private_reaches_the_collector_and_no_variable_of_the_app_counts() {
    let (wechat, collector) = (Wechat::calm().await, Collector::start().await);
    let file = written(
        "otlp-headers",
        "Authorization: Bearer KEY-1\n\nX-Scope: team\n",
    );
    let other = Collector::start().await;
    let mut command = sidecar::with_account();
    command
        .args(["--upstream", &wechat.url(), "--log-level", "trace"])
        .args(["--otlp-endpoint", &format!("{}/own?key=1", collector.url)])
        .args(["--otlp-headers-file", &file])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &other.url)
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-leak=PRIVATE")
        .env("OTEL_RESOURCE_ATTRIBUTES", "a=PRIVATE")
        .env("OTEL_SERVICE_NAME", "PRIVATE")
        .env("OTEL_SDK_DISABLED", "true")
        .env("OTEL_TRACES_SAMPLER", "always_off");
    let sidecar = Sidecar::spawn(command, Some(wechat.clone())).await;
    sidecar.until_ready().await;
    sidecar.get(&format!("{GET}?next_openid=PRIVATE")).await;
    sidecar.get("/PRIVATE/path?access_token=PRIVATE").await;
    wechat.rotate();
    sidecar
        .post(&format!("{MENU}?a=PRIVATE"), "{\"a\":\"PRIVATE\"}")
        .await;
    sidecar
        .get("/sns/jscode2session?js_code=PRIVATE&grant_type=authorization_code")
        .await;
    sidecar.get("/cgi-bin/token?appid=x&secret=PRIVATE").await;
    let strange = sidecar
        .client
        .request("PRIVATE".parse().unwrap(), format!("{}{GET}", sidecar.url));
    let strange = strange
        .header("baggage", "PRIVATE")
        .header("tracestate", "p=PRIVATE");
    sidecar.send(strange).await;
    let calls = collector.calls(6).await;
    assert!(
        calls
            .iter()
            .any(|call| call.name == "GET" && attribute(call, "url.path").is_empty())
    );
    assert!(
        calls.iter().any(|call| call.name.starts_with("HTTP")
            && attribute(call, "http.request.method") == "_OTHER")
    );
    let head = collector.head();
    assert!(head.starts_with("POST /own?key=1 HTTP/1.1\r\n"), "{head}");
    for header in ["authorization: Bearer KEY-1", "x-scope: team"] {
        assert!(head.contains(header), "{head}");
    }
    let bytes = String::from_utf8_lossy(&collector.bytes()).into_owned();
    for private in wechat
        .all_tokens()
        .iter()
        .map(String::as_str)
        .chain(["PRIVATE", "x-leak", SECRET])
    {
        assert!(!bytes.contains(private), "{private}: {bytes}");
    }
    assert_eq!(other.connections(), 0);
    // A rotated key is used before long.
    std::fs::write(&file, "Authorization: Bearer KEY-2").unwrap();
    let end = Instant::now() + PATIENCE;
    while !String::from_utf8_lossy(&collector.bytes()).contains("KEY-2") {
        assert!(Instant::now() < end);
        sidecar.get(GET).await;
        sleep(Duration::from_millis(200)).await;
    }
    assert!(!sidecar.log().contains("KEY-"));
}

#[tokio::test]
async fn a_collector_that_is_away_costs_no_call_and_is_told_once() {
    let wechat = Wechat::calm().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let url = format!("http://{address}/v1/traces?key=HUNTER2");
    let mut sidecar = Sidecar::with(&wechat, &["--otlp-endpoint", &url]).await;
    for _ in 0..20 {
        assert_eq!(sidecar.get(GET).await.status, 200);
    }
    let line = sidecar.line("traces do not reach the collector").await;
    assert!(
        line.contains("could not be reached") && line.contains("Connection refused"),
        "{line}"
    );
    sidecar
        .becomes(
            "wechat_sidecar_problem{account=\"\",kind=\"traces_lost\"",
            1.0,
        )
        .await;
    let collector = Collector::at(&address).await;
    sidecar.get(GET).await;
    // None is lost.
    collector.calls(21).await;
    sidecar
        .becomes(
            "wechat_sidecar_problem{account=\"\",kind=\"traces_lost\"",
            0.0,
        )
        .await;
    sidecar
        .line("over: traces do not reach the collector")
        .await;
    let told = sidecar
        .log()
        .matches(": traces do not reach the collector")
        .count();
    assert_eq!(
        told,
        2,
        "that it began, and that it is over:\n{}",
        sidecar.log()
    );
    assert!(!sidecar.log().contains("HUNTER2"));
}

#[tokio::test]
async fn spans_that_a_collector_does_not_want_are_told_and_not_sent_again() {
    let (wechat, collector) = (Wechat::calm().await, Collector::start().await);
    let mut sidecar = traced(&wechat, &collector, &[]).await;
    collector.behave(Manners {
        status: Some(401),
        ..Manners::default()
    });
    sidecar.get(GET).await;
    sidecar.line("the collector answered HTTP status 401").await;
    collector.behave(Manners {
        rejects: 2,
        ..Manners::default()
    });
    sidecar.get(GET).await;
    collector.calls(1).await;
    assert_eq!(collector.requests(), 2);
    let end = Instant::now() + PATIENCE;
    loop {
        let status = sidecar.admin("/accounts").await.text();
        if status.contains("rejected spans that it had read") {
            break;
        }
        assert!(Instant::now() < end, "{status}");
        sleep(Duration::from_millis(50)).await;
    }
    assert!(!sidecar.log().contains("HUNTER2"));
}

#[tokio::test]
async fn the_last_spans_are_sent_at_the_end_and_a_collector_that_hangs_does_not_hold_it_up() {
    let (wechat, collector) = (Wechat::calm().await, Collector::start().await);
    let mut sidecar = traced(&wechat, &collector, &[]).await;
    sidecar.get(GET).await;
    sidecar.signal("-TERM");
    assert!(sidecar.ended().await.success());
    assert_eq!(collector.calls(1).await.len(), 1);
    let hanging = Collector::start().await;
    hanging.behave(Manners {
        hangs: true,
        ..Manners::default()
    });
    let mut sidecar = traced(&wechat, &hanging, &[]).await;
    for _ in 0..20 {
        assert_eq!(sidecar.get(GET).await.status, 200);
    }
    let end = Instant::now() + PATIENCE;
    while hanging.requests() == 0 {
        assert!(Instant::now() < end);
        sleep(Duration::from_millis(10)).await;
    }
    let stopped = Instant::now();
    sidecar.signal("-TERM");
    assert!(sidecar.ended().await.success());
    let took = stopped.elapsed();
    assert!((1.5..4.5).contains(&took.as_secs_f64()), "{took:?}");
}

#[tokio::test]
async fn without_the_key_nothing_is_sent_anywhere() {
    let (wechat, collector) = (Wechat::calm().await, Collector::start().await);
    let mut command = sidecar::with_account();
    command
        .args(["--upstream", &wechat.url()])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)
        .env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &collector.url);
    let mut sidecar = Sidecar::spawn(command, Some(wechat.clone())).await;
    sidecar.until_ready().await;
    within(&sidecar, GET, "01").await;
    sidecar.signal("-TERM");
    assert!(sidecar.ended().await.success());
    assert_eq!(collector.connections(), 0);
}
