//! Replies of every shape arrive whole, in order and with their end.

mod support;

use support::{
    App, PATIENCE, Sidecar, Wechat,
    scripted::{Script, before},
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
        assert!(!reply.contains("content-length: 3"), "{script}: {reply}");
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
        head.starts_with("HTTP/1.1 200") && head.contains("content-length: 123456\r\n"),
        "{head}"
    );
    for status in [204, 304] {
        wechat.change(|behaviour| behaviour.status = Some(status));
        app.send("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let head = app.head().await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}")) && !head.contains("transfer-encoding"),
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
        assert!(head.contains(&format!("connection: {says}\r\n")), "{head}");
        assert_eq!(head.contains("content-length: "), kept, "{head}");
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
        (
            call.header("x-b"),
            call.header("cookie"),
            call.header("accept-encoding")
        ),
        (Some(""), Some("c=1"), Some("identity"))
    );
}

#[tokio::test]
async fn a_location_that_quotes_the_target_tells_no_token() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let token = wechat.token();
    let location = format!("https://mp.weixin.qq.com/x?a=1&access_token={token}&next=%2F{token}");
    wechat.change(|behaviour| {
        behaviour.status = Some(302);
        behaviour.extra_headers = vec![("Location".into(), location)];
    });
    let reply = sidecar.get("/x").await;
    assert_eq!(reply.status, 302);
    assert_eq!(
        reply.header("location"),
        Some("https://mp.weixin.qq.com/x?a=1&next=%2F")
    );
}
