//! Replies of every shape arrive whole, in order and with their end.

mod support;

use std::io::ErrorKind;

use support::{
    App, PATIENCE, Sidecar, Wechat,
    scripted::{Script, before, before_what},
    wechat::EarlyReply,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

const SEND: &str = "/cgi-bin/user/info/updateremark";

#[tokio::test]
async fn a_reply_arrives_as_it_was_however_it_comes() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    for (chunked, split, interim) in [
        (false, false, true),
        (true, false, false),
        (false, true, false),
        (true, true, true),
    ] {
        wechat.change(|behaviour| {
            (
                behaviour.chunked_replies,
                behaviour.split_writes,
                behaviour.interim_100,
            ) = (chunked, split, interim);
        });
        for size in [0, 1, 4095, 4096, 4097, 3 << 20] {
            for json in [0, 1] {
                let reply = sidecar.get(&format!("/big?size={size}&json={json}")).await;
                let expected = if json == 1 { size.max(11) } else { size };
                assert_eq!(
                    (reply.status, reply.body.len()),
                    (200, expected),
                    "{chunked} {split} {json}"
                );
                assert!(
                    reply
                        .body
                        .iter()
                        .skip(9)
                        .rev()
                        .skip(2)
                        .all(|byte| *byte == b'x')
                );
            }
        }
    }
    for (script, body) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\nuntil the end",
            "until the end",
        ),
        ("HTTP/1.0 200 OK\r\n\r\n{\"errcode\":0}", "{\"errcode\":0}"),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            "{}",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "hello",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{  1}\r\n0\r\n\r\n",
            "{  1}",
        ),
    ] {
        let sidecar = before(Script::Says(script), &[]).await;
        // This path takes no token of ours.
        let reply = sidecar.raw("GET /sns/userinfo?access_token=x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        assert!(
            reply.starts_with("HTTP/1.1 200") && reply.replace("\r\n0\r\n\r\n", "").ends_with(body),
            "{script}: {reply}"
        );
        assert!(!reply.contains("Content-Length: 3"), "{script}: {reply}");
    }
}

#[tokio::test]
async fn replies_without_a_body_end_with_their_head() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let mut app = App::to(&sidecar).await;
    app.send("HEAD /big?size=123456 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let head = app.head().await;
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("Content-Length: 123456\r\n"),
        "{head}"
    );
    for status in [204, 304] {
        wechat.change(|behaviour| behaviour.status = Some(status));
        app.send("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let head = app.head().await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}")) && !head.contains("Transfer-Encoding"),
            "{head}"
        );
    }
    wechat.change(|behaviour| behaviour.status = None);
    app.send("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(
        app.reply().await.text(),
        "{\"errcode\":0,\"errmsg\":\"ok\"}"
    );
}

#[tokio::test]
async fn an_old_client_is_answered_without_chunks() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.change(|behaviour| behaviour.chunked_replies = true);
    for host in ["", "Host: localhost\r\n"] {
        let reply = sidecar
            .raw(format!("GET /big?size=20000 HTTP/1.0\r\n{host}\r\n"))
            .await;
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(" 200 ") && !head.contains("chunked"),
            "{head}"
        );
        assert_eq!(body, "x".repeat(20_000));
    }
    // HTTP/1.0 keeps a connection open only after a reply of known length.
    for (target, kept) in [("/big?size=20000", false), ("/x", true)] {
        let mut app = App::to(&sidecar).await;
        app.send(format!(
            "GET {target} HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n"
        ))
        .await;
        let head = app.head().await;
        let says = if kept { "keep-alive" } else { "close" };
        assert!(head.contains(&format!("Connection: {says}\r\n")), "{head}");
        assert_eq!(head.contains("Content-Length: "), kept, "{head}");
    }
    let reply = sidecar
        .raw("GET /x HTTP/1.0\r\nHost: evil.example\r\n\r\n")
        .await;
    assert!(reply.contains(" 403 "), "{reply}");
}

#[tokio::test]
async fn calls_that_do_not_wait_for_each_other_are_answered_in_order() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let mut app = App::to(&sidecar).await;
    let call = |size| {
        format!("POST /big?size={size} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc")
    };
    app.send((1..50).map(call).collect::<String>()).await;
    for size in 1..50 {
        assert_eq!(app.reply().await.body.len(), size);
    }
    for n in 0..100 {
        app.send(format!(
            "GET /cgi-bin/user/info?openid=o{n} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ))
        .await;
        assert!(app.reply().await.text().contains(&format!("\"o{n}\"")));
    }
    assert!(wechat.accepted() <= 3, "{}", wechat.accepted());
}

#[tokio::test]
async fn a_reply_that_comes_before_the_upload_is_through_can_be_read() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--replay-limit", "1MiB"]).await;
    for early in [EarlyReply::ThenRead, EarlyReply::ThenStopReading] {
        wechat.change(|behaviour| behaviour.early_reply = early);
        let (mut read, mut write) = sidecar.connect().await.into_split();
        let writing = tokio::spawn(async move {
            let head = format!(
                "POST {SEND} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16000000\r\n\r\n"
            );
            write.write_all(head.as_bytes()).await.unwrap();
            // The sidecar may stop reading, so this may fail.
            let _ = write.write_all(&vec![b' '; 16_000_000]).await;
            write
        });
        let mut reply = vec![0; 17];
        timeout(PATIENCE, read.read_exact(&mut reply))
            .await
            .expect("no reply")
            .unwrap();
        assert_eq!(reply, b"HTTP/1.1 200 OK\r\n");
        writing.abort();
    }
}

#[tokio::test]
async fn headers_pass_both_ways_but_for_those_of_one_connection() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.clear();
    let extra = [
        ("X-Wechat-Sidecar", "replayed"),
        ("X-Wechat-Sidecar-Errcode", "1"),
        ("Keep-Alive", "timeout=5"),
        ("X-Hop", "1"),
        ("Connection", "x-hop"),
        ("Proxy-Authenticate", "Basic"),
        ("Upgrade", "h2c"),
        ("Trailer", "X"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("logicret", "40001"),
    ];
    wechat.change(|behaviour| {
        behaviour.extra_headers = extra
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec()
    });
    let mut app = App::to(&sidecar).await;
    app.send("GET /x HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\nCookie: c=1\r\nX-B: \r\nX-A: 2, 3\r\nx-a: \u{e9} x\r\nAccept-Encoding: gzip, br\r\nX-Real-IP: 1.2.3.4\r\n\r\n").await;
    let head = app.reply().await.head.to_ascii_lowercase();
    for gone in [
        "x-wechat-sidecar",
        "keep-alive",
        "x-hop",
        "proxy-authenticate",
        "upgrade",
        "trailer",
        "connection",
    ] {
        assert!(!head.contains(gone), "{gone}: {head}");
    }
    assert!(
        head.contains("set-cookie: a=1\r\nset-cookie: b=2\r\n") && head.contains("logicret: 40001"),
        "{head}"
    );
    let call = &wechat.calls()[0];
    assert_eq!(
        call.header_all("x-a").collect::<Vec<_>>(),
        ["1", "2, 3", "\u{c3}\u{a9} x"]
    );
    assert_eq!(
        (call.header("x-b"), call.header("accept-encoding")),
        (Some(""), Some("identity"))
    );
}

/// Headers that are between an app and its own callers.
const PRIVATE: &str = "Authorization: Bearer BETWEEN\r\nbaggage: user=BETWEEN\r\nCookie: c=BETWEEN\r\nCookie: d=BETWEEN\r\nTraceParent: 00-BETWEEN-01\r\ntracestate: a=BETWEEN\r\nX-Real-IP: BETWEEN\r\n";

#[tokio::test]
async fn headers_between_an_app_and_its_own_callers_do_not_reach_tencent() {
    let wechat = Wechat::calm().await;
    let mut sidecar = Sidecar::start(&wechat).await;
    wechat.clear();
    // The second call is one for hyper, the third takes no token of ours.
    for call in [
        "GET /x HTTP/1.1\r\n",
        "GET /x HTTP/1.0\r\n",
        "GET /sns/userinfo?access_token=x HTTP/1.1\r\n",
    ] {
        let mut app = App::to(&sidecar).await;
        app.send(format!(
            "{call}Host: localhost\r\nX-Kept: 1\r\n{PRIVATE}\r\n"
        ))
        .await;
        assert_eq!(app.reply().await.status, 200);
    }
    let calls = wechat.calls();
    assert_eq!(calls.len(), 3);
    for call in calls {
        assert_eq!(call.header("x-kept"), Some("1"));
        let all = format!("{:?}", call.headers);
        assert!(!all.contains("BETWEEN"), "{all}");
    }
    for (name, _) in PRIVATE.lines().filter_map(|line| line.split_once(": ")) {
        let name = name.to_ascii_lowercase();
        sidecar.line(&format!("header=\"{name}\"")).await;
    }
    let told = sidecar.log();
    assert_eq!(told.matches("--forward-header").count(), 6, "{told}");
    assert!(!told.contains("BETWEEN"), "{told}");
}

#[tokio::test]
async fn a_header_is_sent_to_tencent_if_the_operator_says_so() {
    let wechat = Wechat::calm().await;
    let flags = [
        "--forward-header",
        "Traceparent",
        "--forward-header",
        "cookie",
    ];
    let sidecar = Sidecar::with(&wechat, &flags).await;
    wechat.clear();
    let mut app = App::to(&sidecar).await;
    app.send(format!(
        "GET /x HTTP/1.1\r\nHost: localhost\r\n{PRIVATE}\r\n"
    ))
    .await;
    assert_eq!(app.reply().await.status, 200);
    let call = &wechat.calls()[0];
    assert_eq!(call.header("traceparent"), Some("00-BETWEEN-01"));
    let cookies: Vec<_> = call.header_all("cookie").collect();
    assert_eq!(cookies, ["c=BETWEEN", "d=BETWEEN"]);
    for name in ["authorization", "baggage", "tracestate", "x-real-ip"] {
        assert_eq!(call.header(name), None);
    }
}

/// What a reply's names look like, each in a spelling of its own.
const SPELT: &str = "Content-disposition: attachment\r\nRetKey: 11\r\nlogicret: 40001\r\nETag: \"1\"\r\nSet-Cookie: a\r\nset-COOKIE: b\r\nX-Usual: 1\r\ndate: today\r\n";

#[tokio::test]
async fn names_of_headers_reach_the_app_as_wechat_spelt_them() {
    for framing in [
        "content-Length: 5\r\n\r\nhello",
        "Content-Length: 5\r\n\r\nhello",
        "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "CONNECTION: close\r\n\r\nhello",
    ] {
        let reply = format!("HTTP/1.1 200 OK\r\nServer: x\r\n{SPELT}{framing}");
        let sidecar = before(Script::Says(reply.leak()), &[]).await;
        // The first one is plain, the others are for hyper.
        for (method, headers) in [
            ("GET", ""),
            ("POST", "Transfer-Encoding: chunked\r\n"),
            ("GET", "Connection: close\r\n"),
            ("HEAD", ""),
        ] {
            let body = if method == "POST" {
                "2\r\n{}\r\n0\r\n\r\n"
            } else {
                ""
            };
            let mut app = App::to(&sidecar).await;
            let target = "/sns/userinfo?access_token=x";
            app.send(format!(
                "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{body}"
            ))
            .await;
            let head = app.head().await;
            let what = format!("{framing} {method} {headers}: {head}");
            assert!(
                head.starts_with("HTTP/1.1 200 OK\r\nServer: x\r\n"),
                "{what}"
            );
            for line in SPELT.lines() {
                assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {what}");
            }
            // A chunked reply that came at once leaves with a length.
            let (name, _) = framing.split_once(':').unwrap();
            let spelt = head.contains(&format!("\r\n{name}: "));
            assert!(spelt || !name.ends_with("Length"), "{what}");
        }
    }
}

#[tokio::test]
async fn a_remembered_refusal_has_its_names_too() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.change(|behaviour| {
        behaviour.refuse_always = vec!["/wxa/forbidden".into()];
        behaviour.extra_headers = vec![("RetKey".into(), "14".into())];
    });
    let mut app = App::to(&sidecar).await;
    for number in 0.. {
        app.send("GET /wxa/forbidden HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let reply = app.reply().await;
        assert!(reply.head.contains("\r\nRetKey: 14\r\n"), "{reply}");
        if reply.head.contains("\r\nX-Wechat-Sidecar: remembered\r\n") {
            break;
        }
        assert!(number < 1000, "{reply}");
    }
}

#[tokio::test]
async fn a_reply_without_a_body_states_no_length_whoever_writes_it() {
    for status in ["204 No Content", "304 Not Modified"] {
        for length in ["", "Content-Length: 0\r\n", "Content-Length: 5\r\n"] {
            let reply = format!("HTTP/1.1 {status}\r\nDate: today\r\n{length}\r\n");
            let sidecar = before(Script::Says(reply.leak()), &[]).await;
            for headers in ["", "Connection: close\r\n"] {
                let mut app = App::to(&sidecar).await;
                app.send(format!(
                    "GET /sns/userinfo?access_token=x HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"
                ))
                .await;
                let head = app.head().await.replace("Connection: close\r\n", "");
                assert_eq!(head, format!("HTTP/1.1 {status}\r\nDate: today\r\n\r\n"));
            }
        }
    }
}

#[tokio::test]
async fn an_old_client_is_reset_when_a_reply_of_unknown_length_is_cut() {
    let begun = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let whole = format!("{begun}0\r\n\r\n");
    let call = "GET /sns/userinfo?access_token=x HTTP/1.0\r\nHost: localhost\r\n\r\n";
    for (script, is_cut) in [(begun.to_owned(), true), (whole, false)] {
        let sidecar = before(Script::Says(script.leak()), &[]).await;
        let mut app = sidecar.connect().await;
        app.write_all(call.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        let ended = timeout(PATIENCE, app.read_to_end(&mut read));
        let ended = ended.await.expect("it stays open");
        let kind = ended.map_err(|error| error.kind()).err();
        assert_eq!(kind, is_cut.then_some(ErrorKind::ConnectionReset));
        let read = String::from_utf8(read).unwrap();
        assert!(read.ends_with("\r\n\r\nhello"), "{read}");
    }
    // So it is when the process is killed.
    let play = move |mut stream: tokio::net::TcpStream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(begun.as_bytes()).await;
        std::future::pending::<()>().await;
    };
    let sidecar = before_what(play, &[]).await;
    let mut app = sidecar.connect().await;
    app.write_all(call.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"hello") {
        read.push(
            timeout(PATIENCE, app.read_u8())
                .await
                .expect("no reply")
                .unwrap(),
        );
    }
    sidecar.signal("-KILL");
    let ended = timeout(PATIENCE, app.read_u8())
        .await
        .expect("it stays open");
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_location_that_quotes_the_target_tells_no_token_and_stays_otherwise() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let token = wechat.token();
    let encoded: String = token.bytes().map(|byte| format!("%25{byte:02x}")).collect();
    wechat.change(|behaviour| {
        behaviour.status = Some(302);
        let headers = [
            (
                "Location",
                format!("https://mp.weixin.qq.com/x?a=1&access_token={token}&next=%2F{token}"),
            ),
            (
                "Location",
                "/second?access_token=another&b=%E4%BD\u{e9}".to_owned(),
            ),
            ("Link", format!("</x?t={encoded}>; rel=next, <{token}>")),
            ("Set-Cookie", format!("at={token}; Path=/")),
        ];
        behaviour.extra_headers = headers.map(|(name, value)| (name.into(), value)).to_vec();
    });
    let mut app = App::to(&sidecar).await;
    app.send("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let reply = app.reply().await;
    assert_eq!(reply.status, 302);
    for line in [
        "Location: https://mp.weixin.qq.com/x?a=1&next=%2F",
        "Location: /second?access_token=another&b=%E4%BD\u{e9}",
        "Link: </x?t=>; rel=next, <>",
        "Set-Cookie: at=; Path=/",
    ] {
        assert!(
            reply.head.contains(&format!("\r\n{line}\r\n")),
            "{line}: {reply}"
        );
    }
}
