//! A peer that stops in the middle, app or WeChat, is given up, and a slow one is not.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt},
    time::{Instant, sleep},
};

use super::{
    SEND,
    support::{
        App, Sidecar, Wechat,
        app::post,
        scripted::{Script, before},
        wechat::HangUp,
    },
};

#[tokio::test]
async fn a_body_that_stops_is_given_up_and_a_slow_one_is_not() {
    let wechat = Wechat::calm().await;
    let flags = [
        "--idle-timeout",
        "1s",
        "--upstream-timeout",
        "1s",
        "--replay-limit",
        "1KiB",
    ];
    let sidecar = &Sidecar::with(&wechat, &flags).await;
    let call = |framing: &'static str, pieces: usize| async move {
        let mut app = App::to(sidecar).await;
        app.send(post(SEND, framing)).await;
        for _ in 0..pieces {
            let piece = if framing.contains("chunked") {
                "5\r\nhello\r\n"
            } else {
                "hello"
            };
            app.send(piece).await;
            // The app is slow: in all, it takes longer than both timeouts.
            sleep(Duration::from_millis(250)).await;
        }
        if framing.contains("chunked") && pieces == 8 {
            app.send("0\r\n\r\n").await;
        }
        app.reply().await
    };
    // The first body is held, the second is held without a length, and the third is streamed.
    let slow = join_all([
        call("Content-Length: 40", 8),
        call("Transfer-Encoding: chunked", 8),
        call("X: y\r\nContent-Length: 40", 8),
    ]);
    let stopped = join_all([
        call("Content-Length: 40", 1),
        call("Transfer-Encoding: chunked", 1),
        call("Content-Length: 4000", 1),
    ]);
    let (slow, stopped) = tokio::join!(slow, stopped);
    assert!(
        slow.iter()
            .all(|reply| reply.text().contains("\"errcode\":0")),
        "{slow:?}"
    );
    assert!(
        stopped
            .iter()
            .all(|reply| reply.head.starts_with("HTTP/1.1 400") && reply.text().contains("990408")),
        "{stopped:?}"
    );
    let mut app = App::to(sidecar).await;
    app.send(post(SEND, "Content-Length: 4000")).await;
    for _ in 0..16 {
        app.send([b' '; 250]).await;
        sleep(Duration::from_millis(100)).await;
    }
    assert!(app.reply().await.text().contains("\"errcode\":0"));
}

#[tokio::test]
async fn a_wechat_that_stops_is_given_up() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(
        &wechat,
        &["--idle-timeout", "1s", "--upstream-timeout", "2s"],
    )
    .await;
    wechat.change(|behaviour| behaviour.stall_body = true);
    let small = sidecar.get("/cgi-bin/user/get").await;
    assert_eq!((small.status, small.errcode()), (504, Some(990_504)));
    assert!(broken(&sidecar, "/big").await);
    wechat.change(|behaviour| (behaviour.stall_body, behaviour.hang_up) = (false, HangUp::MidBody));
    let small = sidecar.get("/cgi-bin/user/get").await;
    assert_eq!((small.status, small.errcode()), (502, Some(990_500)));
    for chunked in [false, true] {
        wechat.change(|behaviour| behaviour.chunked_replies = chunked);
        assert!(broken(&sidecar, "/big").await);
    }
    wechat.change(|behaviour| (behaviour.hang_up, behaviour.stall) = (HangUp::Never, true));
    let started = Instant::now();
    assert_eq!(sidecar.get("/x").await.errcode(), Some(990_504));
    assert!(started.elapsed() >= Duration::from_secs(2));
    // The server reads the head of the call, and then nothing more.
    let sidecar = before(Script::Stops, &["--idle-timeout", "2s"]).await;
    let reply = sidecar.post("/sns/userinfo", vec![b' '; 17 << 20]).await;
    assert_eq!((reply.status, reply.errcode()), (504, Some(990_504)));
}

#[tokio::test]
async fn an_app_that_stops_reading_is_cut_off() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--idle-timeout", "1s"]).await;
    let mut app = App::to(&sidecar).await;
    app.send("GET /big?size=30000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    app.0.fill_buf().await.unwrap();
    sidecar
        .becomes("wechat_sidecar_connections{side=\"app\"}", 0.0)
        .await;
    let mut rest = Vec::new();
    assert!(app.0.read_to_end(&mut rest).await.is_err() || rest.len() < 30_000_000);
    sidecar
        .becomes("wechat_sidecar_connections{side=\"upstream\"}", 0.0)
        .await;
}

/// Whether the app can notice that a reply is not complete.
async fn broken(sidecar: &Sidecar, target: &str) -> bool {
    let reply = sidecar
        .client
        .get(format!("{}{target}", sidecar.url))
        .send()
        .await
        .unwrap();
    reply.status() == 200 && reply.bytes().await.is_err()
}
