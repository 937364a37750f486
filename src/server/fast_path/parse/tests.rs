//! Tests that each call parsed here is parsed by hyper to the same request.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

const POST: &str = "POST /x?a=%20b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";

/// A call that is all there, with its length.
fn whole(bytes: &[u8]) -> Option<(Request<Bytes>, usize)> {
    let plain = read(bytes).filter(|plain| plain.end <= bytes.len())?;
    Some((plain.call, plain.end))
}

#[test]
fn a_plain_call_is_read_once_all_of_it_is_here() {
    let all = format!("{POST}GET / HTTP/1.1\r\n");
    for cut in 0..POST.len() {
        assert!(whole(&POST.as_bytes()[..cut]).is_none(), "{cut}");
    }
    for end in POST.len()..all.len() {
        let (call, length) = whole(&all.as_bytes()[..end]).unwrap();
        assert_eq!(length, POST.len());
        assert_eq!(call.uri(), "/x?a=%20b");
        assert_eq!(call.body(), "hello");
    }
    let head = POST.len() - 5;
    for end in head..POST.len() {
        let begun = read(&POST.as_bytes()[..end]).unwrap();
        assert_eq!((begun.start, begun.end), (head, POST.len()));
        assert_eq!(
            (begun.call.uri().path(), begun.call.body()),
            ("/x", &Bytes::new())
        );
    }
}

#[test]
fn a_call_that_is_not_plain_is_left_to_hyper() {
    for line in [
        "GET / HTTP/1.0",
        "HEAD / HTTP/1.1",
        "CONNECT a:1 HTTP/1.1",
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked",
        "GET / HTTP/1.1\r\ntransfer-encoding: identity",
        "GET / HTTP/1.1\r\nExpect: 100-continue",
        "GET / HTTP/1.1\r\nUpgrade: h2c",
        "GET / HTTP/1.1\r\nConnection: close",
        "GET / HTTP/1.1\r\nConnection: keep-alive, x",
        "GET / HTTP/1.1\r\nConnection: x",
        "GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0",
        "GET / HTTP/1.1\r\nContent-Length: 0, 0",
        "GET / HTTP/1.1\r\nContent-Length: +0",
        "GET / HTTP/1.1\r\nContent-Length:",
        "GET / HTTP/1.1\r\nContent-Length: 99999999999999999999",
        "GET / HTTP/1.1\r\nContent-Length : 0",
        "GET / HTTP/1.1\r\nX: folded\r\n line",
        "GET /a b HTTP/1.1",
    ] {
        assert!(
            whole(format!("{line}\r\n\r\n").as_bytes()).is_none(),
            "{line}"
        );
    }
    let many = format!(
        "GET / HTTP/1.1\r\n{}\r\n",
        "x: y\r\n".repeat(MAX_HEADERS + 1)
    );
    assert!(whole(many.as_bytes()).is_none());
}

/// The first call that hyper parses in `bytes`.
async fn by_hyper(bytes: &[u8]) -> Option<Request<Bytes>> {
    let seen = Arc::new(Mutex::new(None));
    let service = service_fn(|call: Request<Incoming>| {
        let seen = seen.clone();
        async move {
            let (head, body) = call.into_parts();
            if let Ok(body) = body.collect().await {
                let call = Request::from_parts(head, body.to_bytes());
                seen.lock().unwrap().get_or_insert(call);
            }
            Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
        }
    });
    let (mut app, stream) = duplex(1 << 16);
    app.write_all(bytes).await.unwrap();
    app.shutdown().await.unwrap();
    let serving = http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut replies = Vec::new();
    let _ = tokio::join!(serving, app.read_to_end(&mut replies));
    drop(app);
    Arc::try_unwrap(seen).ok()?.into_inner().unwrap()
}

fn calls() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => Just("POST /cgi-bin/x?a=b HTTP/1.1\r\n"),
        1 => Just("\r\nGET http://api.weixin.qq.com/x HTTP/1.1\r\n"),
        1 => Just("OPTIONS * HTTP/1.1\r\n"),
        1 => Just("G:T // HTTP/1.1\n"),
        1 => Just("PUT /%zz?\"<>| HTTP/1.1\r\n"),
        1 => Just("GET x HTTP/1.1\r\n"),
        1 => Just("DELETE /#f HTTP/1.1\r\n"),
    ];
    let field = prop_oneof![
        3 => Just("Host: localhost\r\n"),
        3 => Just("Content-Length: 3\r\n"),
        2 => Just("CONTENT-LENGTH:\t4  \r\n"),
        1 => Just("Content-Length: 003\n"),
        2 => Just("Connection: Keep-Alive\r\n"),
        1 => Just("X-One: a\r\nx-one: b\r\n"),
        1 => Just("Cookie: \u{e9}\"\t;\r\n"),
        1 => Just("Empty:\r\n"),
        1 => Just("content_length: 9\r\n"),
        1 => Just("Transfer-Encoding: chunked\r\n"),
        1 => Just("Keep-Alive: 5\r\n"),
    ];
    let noise = proptest::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    (
        line,
        prop::collection::vec(field, 0..6),
        "[a-z{}\r\n]{0,9}",
        noise,
    )
        .prop_map(|(line, fields, body, noise)| {
            let mut bytes = format!("{line}{}\r\n{body}", fields.concat()).into_bytes();
            if let Some((at, byte)) = noise {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        })
}

proptest! {
    #[test]
    fn hyper_would_read_the_same(bytes in calls()) {
        if let Some((ours, length)) = whole(&bytes) {
            prop_assert!(length <= bytes.len());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let theirs = runtime.block_on(by_hyper(&bytes));
            let text = String::from_utf8_lossy(&bytes);
            let theirs = theirs.ok_or_else(|| TestCaseError::fail(format!("hyper reads no call in {text:?}")))?;
            prop_assert_eq!(ours.method(), theirs.method(), "{}", &text);
            prop_assert_eq!(ours.uri(), theirs.uri(), "{}", &text);
            prop_assert_eq!(ours.version(), theirs.version(), "{}", &text);
            prop_assert_eq!(ours.headers(), theirs.headers(), "{}", &text);
            prop_assert_eq!(ours.body(), theirs.body(), "{}", &text);
        }
    }
}
