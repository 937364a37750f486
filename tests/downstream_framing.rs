//! Calls with ambiguous framing never reach WeChat, and calls that are odd but sound do.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use support::{App, PATIENCE, Sidecar, Wechat};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

/// After this time, a connection without a call is parked.
const A_REST: Duration = Duration::from_millis(600);

const SEND: &str = "/cgi-bin/message/custom/send";

#[tokio::test]
async fn framing_that_two_servers_could_read_in_two_ways_is_refused() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.clear();
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "transfer-encoding: CHUNKED\r\nX: y\r\ncontent-length: 0",
        "Transfer-Encoding: chunked\r\nContent-Length: nonsense",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\r\n chunked",
        "X: folded\r\n  line\r\nContent-Length: 5",
        " X: y\r\nContent-Length: 5",
        "no colon\r\nContent-Length: 5",
        "X: a\0b\r\nContent-Length: 5",
        "Host: localhost\r\nConnection: close\r\nContent-Length: 5",
    ] {
        let call = format!("POST {SEND} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n0\r\n\r\n");
        for size in [call.len(), 1, 7] {
            refused(&sidecar, call.as_bytes(), size, headers).await;
        }
    }
    for call in [
        "POST /x HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "POST /x HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /x y HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /x HTTP/1.2\r\nHost: localhost\r\n\r\n",
        "POST /x\r\n\r\n",
        "P(ST /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /x\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\r\n\r\n",
    ] {
        refused(&sidecar, call.as_bytes(), call.len(), call).await;
    }
    assert!(
        wechat.calls().is_empty() && wechat.malformed().is_empty() && wechat.cut_short().is_empty()
    );
}

#[tokio::test]
async fn a_coding_that_would_have_to_be_undone_is_refused() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.clear();
    for headers in [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: identity, chunked",
    ] {
        let call = format!(
            "POST {SEND} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
        );
        refused(&sidecar, call.as_bytes(), call.len(), headers).await;
    }
    assert!(wechat.calls().is_empty());
}

#[tokio::test]
async fn a_content_length_is_seen_even_where_its_head_began_in_the_call_before() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.clear();
    let firsts = [
        "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
        "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ];
    let pauses = [Duration::ZERO, A_REST];
    let cases = pauses
        .iter()
        .flat_map(|pause| firsts.map(|first| (*pause, first)));
    for (pause, first) in cases {
        let mut app = App::to(&sidecar).await;
        let beginning =
            format!("{first}POST {SEND} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n");
        app.send(beginning).await;
        assert_eq!(app.reply().await.status, 200);
        // This is long enough for the connection to be parked.
        sleep(pause).await;
        app.send("Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
            .await;
        let reply = app.reply().await;
        assert!(
            reply.status == 400 && reply.text().contains("990400"),
            "{reply}"
        );
    }
    assert_eq!(wechat.calls().len(), 6);
}

#[tokio::test]
async fn ends_of_lines_behind_a_body_do_not_count_as_the_next_call() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    for (pause, ends) in [(Duration::ZERO, "\r\n"), (A_REST, "\r\n\r\n")] {
        let mut app = App::to(&sidecar).await;
        app.send(format!(
            "POST {SEND} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}{ends}"
        ))
        .await;
        assert_eq!(app.reply().await.status, 200);
        sleep(pause).await;
        app.send(format!(
            "POST {SEND} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
        ))
        .await;
        let reply = app.reply().await;
        assert_eq!(reply.status, 200, "{reply}");
    }
}

#[tokio::test]
async fn a_head_that_nobody_can_read_is_answered_with_the_status_that_was_asked_for() {
    let wechat = Wechat::calm().await;
    for (flag, status) in [("http", " 400 "), ("200", " 200 ")] {
        let sidecar = Sidecar::with(&wechat, &["--error-status", flag]).await;
        let reply = sidecar.raw("GET /x y HTTP/1.1\r\n\r\n").await;
        assert!(
            reply[8..].starts_with(status) && reply.contains("990400"),
            "{reply}"
        );
    }
}

#[tokio::test]
async fn what_comes_right_behind_a_call_is_the_next_one_whatever_its_framing() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.clear();
    let head = format!("POST {SEND} HTTP/1.1\r\nHost: localhost\r\n");
    let plain = format!("{head}Content-Length: 2\r\n\r\n{{}}");
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n");
    let last = format!("{head}Connection: close\r\nContent-Length: 2\r\n\r\n{{}}");
    let mut app = App::to(&sidecar).await;
    app.send(format!("{plain}{chunked}{plain}{plain}{last}"))
        .await;
    for at in 0..5 {
        let reply = app.reply().await;
        assert_eq!(reply.status, 200, "{at}: {reply}");
    }
    assert_eq!(wechat.calls().len(), 5);
    assert!(wechat.calls().iter().all(|call| call.body == "{}"));
}

#[tokio::test]
async fn a_chunked_call_may_follow_calls_that_did_not_wait_for_each_other() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let get = "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let head = format!("POST {SEND} HTTP/1.1\r\nHost: localhost\r\n");
    let plain = format!("{head}Content-Length: 2\r\n\r\n{{}}");
    let chunked =
        format!("{head}Transfer-Encoding: chunked\r\n\r\n2;x\r\n{{}}\r\n0\r\nX: 1\r\n\r\n");
    for calls in [
        vec![get, get, get],
        vec![&plain, get, get],
        vec![&chunked, get],
        vec![get, &chunked, &plain],
        vec![&chunked, &chunked, get, &chunked],
    ] {
        let all = calls.concat();
        for size in [all.len(), 50] {
            wechat.clear();
            let mut app = App::to(&sidecar).await;
            for piece in all.as_bytes().chunks(size) {
                app.send(piece).await;
                tokio::task::yield_now().await;
            }
            for call in &calls {
                let reply = app.reply().await;
                assert_eq!(reply.status, 200, "{calls:?} {size}: {call}: {reply}");
            }
            for pause in [Duration::from_millis(100), A_REST] {
                sleep(pause).await;
                app.send(&chunked).await;
                let reply = app.reply().await;
                assert_eq!(reply.status, 200, "{calls:?} {size} {pause:?}: {reply}");
            }
            let calls = wechat.calls();
            let posts = calls.iter().filter(|call| call.method == "POST");
            assert!(posts.clone().count() >= 2);
            assert!(posts.into_iter().all(|call| call.body == "{}"));
        }
    }
}

#[tokio::test]
async fn a_client_that_speaks_another_protocol_is_answered_and_told_of_at_once() {
    let wechat = Wechat::calm().await;
    for (bytes, says) in [
        (
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\x10\0\0"[..],
            "it is HTTP/2",
        ),
        (b"PRI * HTTP/2.0\r\n", "it is HTTP/2"),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", "it is TLS"),
    ] {
        let mut sidecar = Sidecar::start(&wechat).await;
        // The app goes on waiting for an answer.
        let mut app = App::to(&sidecar).await;
        app.send(bytes).await;
        let reply = app.reply().await;
        assert_eq!(reply.status, 400, "{reply}");
        assert!(
            reply.text().contains("990400") && reply.text().contains(says),
            "{reply}"
        );
        let mut rest = Vec::new();
        let ended = timeout(PATIENCE, app.0.read_to_end(&mut rest)).await;
        assert!(ended.is_ok() && rest.is_empty());
        let line = sidecar.line("calls are turned down").await;
        assert!(line.contains("WARN") && line.contains(says), "{line}");
        let counted =
            "wechat_sidecar_calls_total{account=\"\",endpoint=\"other\",outcome=\"rejected\"}";
        assert_eq!(sidecar.metric(counted).await, 1.0);
    }
}

#[tokio::test]
async fn a_byte_that_may_not_stand_in_a_target_is_named() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.clear();
    for (target, byte) in [
        (&b"/x?name=\xd5\xc5&QUERY"[..], "0xD5"),
        (b"/\xd5\xc5", "0xD5"),
        (b"/x y?QUERY", "0x20"),
        (b"/x?q=<QUERY>", "0x3C"),
        (b"/x\x7f", "0x7F"),
    ] {
        for size in [1000, 1] {
            let call = [b"GET ", target, b" HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat();
            let mut app = App::to(&sidecar).await;
            for piece in call.chunks(size) {
                if app.try_send(piece).await.is_err() {
                    break;
                }
            }
            let reply = app.reply().await;
            let text = reply.text();
            assert!(
                text.contains(&format!("raw byte {byte}: percent-encode it")),
                "{reply}"
            );
            assert!(reply.status == 400 && !text.contains("QUERY"), "{reply}");
        }
    }
    assert!(wechat.calls().is_empty());
}

#[tokio::test]
async fn calls_in_bursts_are_all_answered_while_many_others_wait() {
    let wechat = Wechat::calm().await;
    wechat.change(|behaviour| behaviour.stall = true);
    let mut command = support::sidecar::with_account();
    command.args([
        "--upstream",
        &wechat.url(),
        "--max-connections",
        "3000",
        "--workers",
        "1",
    ]);
    let sidecar = Sidecar::spawn(command, None).await;
    // With many connections, each is parked sooner.
    let mut waiting = Vec::new();
    for _ in 0..400 {
        let mut app = App::to(&sidecar).await;
        app.send(format!("GET {SEND} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        waiting.push(app);
    }
    let call = format!(
        "POST /cgi-bin/../x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 600\r\n\r\n{}",
        "x".repeat(600)
    );
    let mut app = App::to(&sidecar).await;
    for burst in 0..20 {
        app.send(call.repeat(100)).await;
        for at in 0..100 {
            let reply = app.reply().await;
            assert!(
                reply.text().contains("dot segment"),
                "{burst} {at}: {reply}"
            );
        }
    }
}

#[tokio::test]
async fn a_reply_arrives_whole_though_the_app_sent_more_than_its_last_call() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.change(|behaviour| behaviour.reply_delay = Duration::from_millis(200));
    for (last, more) in [("Connection: close\r\n", "\r\n"), ("", "no HTTP\r\n\r\n")] {
        let mut app = App::to(&sidecar).await;
        app.send(format!(
            "GET /big?size=3000000 HTTP/1.1\r\nHost: localhost\r\n{last}\r\n"
        ))
        .await;
        sleep(Duration::from_millis(50)).await;
        app.send(more).await;
        app.send(vec![b'x'; 100_000]).await;
        // The app reads only when the sidecar has sent what the socket takes.
        sleep(Duration::from_millis(500)).await;
        assert_eq!(app.reply().await.body.len(), 3_000_000, "{last}{more}");
    }
    // Bytes that arrive after the whole reply was sent do not keep the app from reading it.
    let mut app = App::to(&sidecar).await;
    app.send("GET /big?size=200000 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    sleep(Duration::from_millis(500)).await;
    app.send("\r\n").await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(app.reply().await.body.len(), 200_000);
}

#[tokio::test]
async fn an_app_that_hangs_up_ends_its_call_and_no_other() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let call = format!("POST {SEND} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}");
    // The end of the stream behind a second call does not cancel the first one.
    let mut app = App::to(&sidecar).await;
    app.send(format!("{call}{call}")).await;
    app.0.shutdown().await.unwrap();
    for _ in 0..2 {
        assert_eq!(app.reply().await.status, 200);
    }
    let closed = timeout(PATIENCE, app.0.read(&mut [0; 1])).await;
    assert_eq!(closed.expect("it is kept").unwrap(), 0);
    drop(app);
    wechat.clear();
    wechat.change(|behaviour| behaviour.stall = true);
    let mut app = App::to(&sidecar).await;
    app.send(&call).await;
    wechat.wait_for_calls(1).await;
    drop(app);
    // WeChat would have 15 s for its reply.
    let ended = sidecar.becomes("wechat_sidecar_connections{side=\"app\"}", 0.0);
    timeout(Duration::from_secs(3), ended)
        .await
        .expect("the call goes on");
}

#[tokio::test]
async fn a_connection_that_rested_takes_up_its_next_call_wherever_that_was_cut() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let call = format!("POST {SEND} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}");
    for cut in [0, 1, 20, call.len() - 3] {
        let mut app = App::to(&sidecar).await;
        // The connection is also parked before its first call.
        sleep(A_REST).await;
        app.send(format!("{call}{}", &call[..cut])).await;
        assert_eq!(app.reply().await.status, 200, "{cut}");
        sleep(A_REST).await;
        app.send(&call[cut..]).await;
        assert_eq!(app.reply().await.status, 200, "{cut}");
        // Now it is parked, and then told to end.
        sleep(A_REST).await;
    }
    let mut app = App::to(&sidecar).await;
    sleep(A_REST).await;
    sidecar.signal("-TERM");
    let closed = timeout(PATIENCE, app.0.read(&mut [0; 1])).await;
    assert_eq!(closed.expect("it is kept").unwrap(), 0);
}

#[tokio::test]
async fn a_body_is_not_taken_for_the_head_however_reads_are_cut() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.clear();
    // These are the sizes that hyper reads at once.
    for size in [8192, 16_384, 32_768] {
        let head = format!(
            "POST {SEND} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nX: "
        );
        let pad = "x".repeat(size - head.len() - 4);
        let call = format!("{head}{pad}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n");
        refused(&sidecar, call.as_bytes(), call.len(), "a long head").await;
    }
    assert!(wechat.calls().is_empty());
    // An upload may contain parts with a Content-Length of their own.
    let part = "--b\r\nContent-Disposition: form-data; name=\"media\"\r\nContent-Length: 1\r\n\r\nx\r\n--b--\r\n";
    for size in [8192, 16_384, 32_768] {
        let head =
            format!("POST {SEND} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nX: ");
        let pad = "x".repeat(size - head.len() - 4);
        let mut app = App::to(&sidecar).await;
        for _ in 0..2 {
            app.send(format!(
                "{head}{pad}\r\n\r\n{:x}\r\n{part}\r\n0\r\n\r\n",
                part.len()
            ))
            .await;
            let reply = app.reply().await;
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
    }
    assert!(
        wechat
            .calls()
            .iter()
            .all(|call| &*call.body == part.as_bytes())
    );
}

#[tokio::test]
async fn a_broken_body_is_refused_and_sends_nothing() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.clear();
    for body in [
        "zz\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n",
        "\r\n",
        "ffffffffffffffffff\r\n{}",
        "2\r\n{}XX0\r\n\r\n",
        "2 2\r\n{}\r\n0\r\n\r\n",
        "2\n{}\n0\n\n",
    ] {
        let call = format!(
            "POST {SEND} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        );
        let reply = sidecar.raw(call).await;
        assert!(
            reply.starts_with("HTTP/1.1 400") && reply.contains("990408"),
            "{body:?}: {reply}"
        );
    }
    // The app hangs up in the middle of the body that it declared.
    let mut app = App::to(&sidecar).await;
    app.send(format!(
        "POST {SEND} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{{}}"
    ))
    .await;
    drop(app);
    assert_eq!(sidecar.post(SEND, "{}").await.errcode(), Some(0));
    assert_eq!(wechat.calls().len(), 1);
    assert!(wechat.cut_short().is_empty());
}

#[tokio::test]
async fn a_javas_offer_to_upgrade_is_answered_as_plain_http() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.clear();
    let mut app = App::to(&sidecar).await;
    for _ in 0..2 {
        app.send(format!("POST {SEND} HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 2\r\nHost: localhost\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c\r\nUser-Agent: Java-http-client/21\r\n\r\n{{}}")).await;
        let reply = app.reply().await;
        assert!(
            reply.status == 200 && reply.text().contains("\"errcode\":0"),
            "{}",
            reply.head
        );
    }
    for call in wechat.calls() {
        for name in ["connection", "upgrade", "http2-settings"] {
            assert_eq!(call.header(name), None);
        }
        assert_eq!(
            (&*call.body, call.header("user-agent")),
            (&b"{}"[..], Some("Java-http-client/21"))
        );
    }
}

#[tokio::test]
async fn connection_names_away_any_header_but_those_that_frame_the_call() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.clear();
    let reply = sidecar.raw(format!("POST {SEND} HTTP/1.1\r\nHost: localhost\r\nConnection: content-length, host\r\nConnection: X-One\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\nProxy-Authorization: Basic eDp5\r\nKeep-Alive: 5\r\nTE: trailers\r\nConnection: x-two , close\r\nContent-Length: 2\r\n\r\n{{}}")).await;
    assert!(reply.contains("\"errcode\":0"), "{reply}");
    let call = &wechat.calls()[0];
    let names: Vec<_> = call
        .headers
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    assert_eq!(
        names
            .iter()
            .filter(|name| *name == "content-length" || *name == "host")
            .count(),
        2,
        "{names:?}"
    );
    for gone in [
        "connection",
        "x-one",
        "x-two",
        "proxy-authorization",
        "keep-alive",
        "te",
    ] {
        assert!(!names.iter().any(|name| name == gone), "{gone}");
    }
    assert_eq!(
        (&*call.body, call.header("x-three")),
        (&b"{}"[..], Some("3"))
    );
}

#[tokio::test]
async fn an_app_is_told_to_continue_only_when_its_body_is_wanted() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--replay-limit", "1MiB"]).await;
    wechat.clear();
    let head = |host: &str, length: usize| {
        format!(
            "POST {SEND} HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    // The first body is held, the second one is streamed.
    for length in [2, 2 << 20] {
        let mut app = App::to(&sidecar).await;
        app.send(head("localhost", length)).await;
        assert_eq!(app.reply().await.status, 100);
        app.send([b"{".to_vec(), vec![b' '; length - 2], b"}".to_vec()].concat())
            .await;
        assert_eq!(
            app.reply().await.text(),
            "{\"errcode\":0,\"errmsg\":\"ok\"}"
        );
    }
    assert!(
        wechat
            .calls()
            .iter()
            .all(|call| call.header("expect").is_none())
    );
    wechat.stop();
    wechat.wait_until(|wechat| wechat.connections() == 0).await;
    for (host, length, status) in [
        ("evil.example", 2, "403"),
        ("evil.example", 2 << 20, "403"),
        ("localhost", 2 << 20, "502"),
    ] {
        // If the sidecar waited for the body, it would take 5 s.
        let reply = timeout(Duration::from_secs(3), sidecar.raw(head(host, length)))
            .await
            .expect("it waits for a body that it did not ask for");
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{reply}");
    }
}

#[tokio::test]
async fn a_chunked_upload_leaves_with_a_length_and_arrives_whole() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.clear();
    let body: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    for size in [1000, 65_536, 300_000] {
        let mut app = App::to(&sidecar).await;
        app.send(format!("PUT {SEND} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: Chunked\r\nTrailer: X-Sum\r\n\r\n")).await;
        for chunk in body.chunks(size) {
            app.send(
                [
                    format!("{:X};ext=\"a\"\r\n", chunk.len()).as_bytes(),
                    chunk,
                    b"\r\n",
                ]
                .concat(),
            )
            .await;
        }
        app.send("000\r\nX-Sum: 1\r\n\r\n").await;
        assert_eq!(app.reply().await.status, 200);
        // The connection can carry another call.
        app.send("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!(app.reply().await.status, 200);
    }
    for call in wechat.calls().iter().filter(|call| call.method == "PUT") {
        assert_eq!(
            (
                call.header("content-length"),
                call.header("transfer-encoding")
            ),
            (Some("300000"), None)
        );
        assert!(call.header("trailer").is_none() && call.header("x-sum").is_none());
        assert!(call.body == body);
    }
}

async fn refused(sidecar: &Sidecar, call: &[u8], size: usize, what: &str) {
    let mut app = App::to(sidecar).await;
    for piece in call.chunks(size) {
        // The call may be refused before all of it is sent.
        if app.try_send(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let reply = app.reply().await;
    assert!(
        (400..500).contains(&reply.status) && reply.head.contains("X-Wechat-Sidecar: error"),
        "{what:?}: {} {}",
        reply.head,
        reply.text()
    );
    assert!(
        reply.text().contains("990400"),
        "{what:?}: {}",
        reply.text()
    );
    let mut rest = String::new();
    let closed = timeout(PATIENCE, app.0.read_to_string(&mut rest))
        .await
        .unwrap_or_else(|_| panic!("{what:?} stays open"));
    assert!(closed.is_err() || rest.is_empty(), "{what:?}: {rest}");
}
