//! Bodies, memory, connections and waiting times have limits, whatever apps and WeChat do.
#![allow(clippy::unwrap_used)]

#[path = "limits/crowding.rs"]
mod crowding;
// Only Linux lets one process lower the limit of another.
#[cfg(target_os = "linux")]
#[path = "limits/files.rs"]
mod files;
#[path = "limits/log.rs"]
mod log;
#[path = "limits/memory.rs"]
mod memory;
#[path = "limits/patience.rs"]
mod patience;
mod support;

use std::time::Duration;

use futures_util::future::join_all;
use support::{
    APPID, App, Sidecar, Wechat,
    app::post,
    scripted::{Script, before},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

const SEND: &str = "/cgi-bin/user/info/updateremark";
const HELD: &str = "wechat_sidecar_held_bytes";

/// What counts beside a large body.
const OVERHEAD: f64 = (8.0 + 8.0 + 256.0) * 1024.0;

#[tokio::test]
async fn a_body_above_the_limit_streams_and_only_the_next_call_is_healed() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--replay-limit", "64KiB"]).await;
    let body = vec![b'y'; (64 << 10) + 1];
    for (length, marks) in [(64 << 10, vec![]), (body.len(), vec!["not-replayable"])] {
        let reply = sidecar.post(SEND, body[..length].to_vec()).await;
        assert_eq!((reply.errcode(), reply.marks()), (Some(0), marks));
    }
    assert!(wechat.calls()[1].body == body);
    wechat.rotate();
    wechat.clear();
    let reply = sidecar.post(SEND, body.clone()).await;
    assert_eq!(
        (reply.errcode(), reply.marks()),
        (Some(40001), vec!["not-replayable"])
    );
    let fetched =
        format!("wechat_sidecar_token_fetches_total{{account=\"{APPID}\",cause=\"refusal\"");
    sidecar.becomes(&fetched, 1.0).await;
    // The fetch is counted shortly before the token is in hand. This waits for the token.
    sidecar.until_ready().await;
    let reply = sidecar.post(SEND, body.clone()).await;
    assert_eq!(
        (reply.errcode(), reply.marks()),
        (Some(0), vec!["not-replayable"])
    );
    assert_eq!(
        (wechat.calls().len(), wechat.token_requests().len()),
        (2, 1)
    );
    assert_eq!(
        sidecar.metric("wechat_sidecar_bodies_not_held_total").await,
        3.0
    );
    wechat.stop();
    wechat.wait_until(|wechat| wechat.connections() == 0).await;
    let reply = sidecar.post(SEND, body).await;
    assert_eq!(
        (reply.status, reply.marks()),
        (502, vec!["error", "not-replayable"])
    );
}

#[tokio::test]
async fn an_upload_without_a_length_that_is_too_large_is_told_so_even_if_the_app_reads_last() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--replay-limit", "1MiB"]).await;
    wechat.clear();
    for expect in ["X: y", "Expect: 100-continue"] {
        let mut app = App::to(&sidecar).await;
        let headers = format!("{expect}\r\nTransfer-Encoding: chunked");
        app.send(post(SEND, &headers)).await;
        if expect.starts_with('E') {
            assert!(app.reply().await.head.starts_with("HTTP/1.1 100"));
        }
        // This is more than the buffers of both sockets hold.
        let chunk = [&b"10000\r\n"[..], &[b'z'; 0x10000], b"\r\n"].concat();
        for _ in 0..320 {
            app.send(&chunk).await;
        }
        app.send("0\r\n\r\n").await;
        let reply = app.reply().await;
        assert!(reply.head.starts_with("HTTP/1.1 413"), "{reply}");
        let advice = ["990413", "Content-Length"];
        assert!(
            advice.iter().all(|text| reply.text().contains(text)),
            "{reply}"
        );
    }
    assert!(wechat.calls().is_empty() && wechat.cut_short().is_empty());
    sidecar.becomes(HELD, 0.0).await;
}

#[tokio::test]
async fn without_room_a_declared_body_streams_and_another_is_asked_to_come_back() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(
        &wechat,
        &["--replay-limit", "300KiB", "--replay-memory", "640KiB"],
    )
    .await;
    let mut first = App::to(&sidecar).await;
    first.send(post(SEND, "Content-Length: 300000")).await;
    sidecar.becomes(HELD, 300_000.0 + OVERHEAD).await;
    wechat.clear();

    let declared = sidecar.post(SEND, vec![b'd'; 100_000]).await;
    assert_eq!(
        (declared.errcode(), declared.marks()),
        (Some(0), vec!["not-replayable"])
    );
    let mut app = App::to(&sidecar).await;
    app.send(post(SEND, "Transfer-Encoding: chunked")).await;
    app.send([&b"186a0\r\n"[..], &[b'c'; 100_000], b"\r\n0\r\n\r\n"].concat())
        .await;
    let reply = app.reply().await;
    assert!(
        reply.head.starts_with("HTTP/1.1 503")
            && reply.text().contains("990501")
            && reply.head.contains("Retry-After: 1\r\n"),
        "{reply}"
    );
    assert_eq!(wechat.calls().len(), 1);

    first.send(vec![b'f'; 300_000]).await;
    assert!(first.reply().await.text().contains("\"errcode\":0"));
    sidecar.becomes(HELD, 0.0).await;
    let later = sidecar.post(SEND, vec![b'd'; 100_000]).await;
    assert!(later.marks().is_empty());
}

#[tokio::test]
async fn a_token_request_without_room_is_asked_to_come_back() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(
        &wechat,
        &["--replay-limit", "1KiB", "--replay-memory", "1KiB"],
    )
    .await;
    let body = format!("{{\"appid\":\"{APPID}\",\"pad\":\"{}\"}}", "x".repeat(2000));
    let reply = sidecar.post("/cgi-bin/stable_token", body).await;
    assert_eq!(
        (reply.status, reply.errcode()),
        (503, Some(990_501)),
        "{}",
        reply.text()
    );
}

#[tokio::test]
async fn what_was_held_is_let_go_however_a_call_ends() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--upstream-timeout", "1s"]).await;
    let body = || vec![b'b'; 200_000];
    wechat.change(|behaviour| behaviour.refuse_next = 1);
    assert_eq!(sidecar.post(SEND, body()).await.marks(), ["replayed"]);
    sidecar.becomes(HELD, 0.0).await;
    wechat.change(|behaviour| behaviour.stall = true);
    assert_eq!(sidecar.post(SEND, body()).await.status, 504);
    sidecar.becomes(HELD, 0.0).await;
    // The app hangs up in the middle of its body, and while it waits for the reply.
    for sent in [100_000, 200_000] {
        wechat.clear();
        let mut app = App::to(&sidecar).await;
        app.send(post(SEND, "Content-Length: 200000")).await;
        app.send(&body()[..sent]).await;
        if sent == 200_000 {
            wechat.wait_for_calls(1).await;
        }
        sidecar.reaches(HELD, 200_000.0).await;
        drop(app);
        sidecar.becomes(HELD, 0.0).await;
    }
    sidecar
        .becomes("wechat_sidecar_connections{side=\"upstream\"}", 0.0)
        .await;
}

#[tokio::test]
async fn fifty_apps_that_declare_much_and_drip_do_not_fill_the_memory() {
    let sidecar = before(Script::Reads, &["--idle-timeout", "2s"]).await;
    let at_rest = sidecar.rss();
    let apps = (0..50).map(|n| {
        let sidecar = &sidecar;
        async move {
            let mut app = App::to(sidecar).await;
            let framing = if n % 5 == 0 {
                "Transfer-Encoding: chunked"
            } else {
                "Content-Length: 16777216"
            };
            app.send(format!(
                "POST /sns/userinfo HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n"
            ))
            .await;
            let chunk = [&b"10000\r\n"[..], &[b'z'; 0x10000], b"\r\n"].concat();
            // Calls that are refused meanwhile do not matter.
            for _ in 0..80 {
                let _ = app.try_send(&chunk).await;
            }
            app
        }
    });
    let apps = join_all(apps).await;
    let grown = sidecar.rss().saturating_sub(at_rest) / 1024;
    assert!(grown < 100, "{grown} MiB more");
    assert!(sidecar.metric(HELD).await <= 64.0 * 1024.0 * 1024.0);
    drop(apps);
    sidecar.becomes(HELD, 0.0).await;
}

#[tokio::test]
async fn one_connection_too_many_waits_for_its_turn() {
    let wechat = Wechat::calm().await;
    let mut sidecar = Sidecar::with(&wechat, &["--max-connections", "2"]).await;
    let (one, two) = (App::to(&sidecar).await, App::to(&sidecar).await);
    sidecar
        .becomes("wechat_sidecar_connections{side=\"app\"}", 2.0)
        .await;
    let mut third = App::to(&sidecar).await;
    sidecar.line("all connections are in use").await;
    third
        .send(post(SEND, "Content-Length: 1\r\nConnection: close") + "x")
        .await;
    assert!(
        timeout(Duration::from_millis(300), third.0.fill_buf())
            .await
            .is_err()
    );
    assert!(wechat.calls().is_empty());
    drop(one);
    assert!(third.reply().await.text().contains("\"errcode\":0"));
    drop((two, third));
    assert_eq!(sidecar.get("/x").await.status, 200);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_told_so() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    for call in [
        format!(
            "GET /x HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
            "x".repeat(200_000)
        ),
        format!(
            "GET /x HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
            "x".repeat(1_000_000)
        ),
        format!(
            "GET /x?{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "x".repeat(200_000)
        ),
        format!(
            "GET /x HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
            "X: y\r\n".repeat(2000)
        ),
    ] {
        let mut app = App::to(&sidecar).await;
        // The sidecar may close the connection before all is sent.
        let _ = app.try_send(&call).await;
        let reply = app.reply().await;
        let line = &call[..40];
        assert!(
            [414, 431].contains(&reply.status) && reply.text().contains("990400"),
            "{line}: {reply}"
        );
    }
    let large = format!(
        "GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: {}\r\n\r\n",
        "x".repeat(50_000)
    );
    assert!(sidecar.raw(large).await.contains("\"errcode\":0"));
}

#[tokio::test]
async fn a_burst_of_connections_waits_in_the_systems_queue_and_none_is_lost() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    // The sidecar accepts nothing meanwhile.
    sidecar.signal("-STOP");
    let mut apps = Vec::new();
    for _ in 0..600 {
        apps.push(sidecar.connect().await);
    }
    sidecar.signal("-CONT");
    let answers = apps.into_iter().map(async |mut app| {
        let call =
            b"GET /cgi-bin/user/get HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        app.write_all(call).await.unwrap();
        let mut reply = Vec::new();
        app.read_to_end(&mut reply).await.unwrap();
        reply.starts_with(b"HTTP/1.1 200")
    });
    let answers = timeout(Duration::from_secs(20), join_all(answers)).await;
    assert!(answers.unwrap().into_iter().all(|fine| fine));
}
