//! Bounds: bodies, memory, connections and patience, whatever apps and WeChat do.
#![allow(clippy::unwrap_used)]

mod support;

use std::{future::Future, time::Duration};

use futures_util::future::join_all;
use support::{
    APPID, SECRET, Sidecar, Wechat, sidecar,
    wechat::{EarlyReply, HangUp},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

const SEND: &str = "/cgi-bin/user/info/updateremark";
const HELD: &str = "wechat_sidecar_held_bytes";
const PATIENCE: Duration = Duration::from_secs(30);

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
        app.send(post(&format!("{expect}\r\nTransfer-Encoding: chunked")))
            .await;
        if expect.starts_with('E') {
            assert!(app.reply().await.starts_with("HTTP/1.1 100"));
        }
        // More than the system keeps for either side.
        let chunk = [&b"10000\r\n"[..], &[b'z'; 0x10000], b"\r\n"].concat();
        for _ in 0..320 {
            app.send(&chunk).await;
        }
        app.send("0\r\n\r\n").await;
        let reply = app.reply().await;
        let advice = ["HTTP/1.1 413", "990413", "Content-Length"];
        assert!(advice.iter().all(|text| reply.contains(text)), "{reply}");
    }
    assert!(wechat.calls().is_empty() && wechat.cut_short().is_empty());
    sidecar.becomes(HELD, 0.0).await;
}

#[tokio::test]
async fn without_room_a_declared_body_streams_and_another_is_asked_to_come_back() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(
        &wechat,
        &["--replay-limit", "300KiB", "--replay-memory", "320KiB"],
    )
    .await;
    let mut first = App::to(&sidecar).await;
    first.send(post("Content-Length: 300000")).await;
    sidecar.becomes(HELD, 300_000.0).await;
    wechat.clear();

    let declared = sidecar.post(SEND, vec![b'd'; 100_000]).await;
    assert_eq!(
        (declared.errcode(), declared.marks()),
        (Some(0), vec!["not-replayable"])
    );
    let mut app = App::to(&sidecar).await;
    app.send(post("Transfer-Encoding: chunked")).await;
    app.send([&b"186a0\r\n"[..], &[b'c'; 100_000], b"\r\n0\r\n\r\n"].concat())
        .await;
    let reply = app.reply().await;
    assert!(
        reply.starts_with("HTTP/1.1 503")
            && reply.contains("990501")
            && reply.contains("retry-after: 1\r\n"),
        "{reply}"
    );
    assert_eq!(wechat.calls().len(), 1);

    first.send(vec![b'f'; 300_000]).await;
    assert!(first.reply().await.contains("\"errcode\":0"));
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
    // The app gives up, in the middle of its body and while it waits.
    for sent in [100_000, 200_000] {
        wechat.clear();
        let mut app = App::to(&sidecar).await;
        app.send(post("Content-Length: 200000")).await;
        app.send(&body()[..sent]).await;
        if sent == 200_000 {
            wechat.wait_for_calls(1).await;
        }
        sidecar.becomes(HELD, 200_000.0).await;
        drop(app);
        sidecar.becomes(HELD, 0.0).await;
    }
    sidecar
        .becomes("wechat_sidecar_connections{side=\"upstream\"}", 0.0)
        .await;
}

#[tokio::test]
async fn fifty_apps_that_declare_much_and_drip_do_not_fill_the_memory() {
    let (sidecar, _) = before(Upstream::Reads).await;
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
            // Those that are turned away meanwhile do not matter.
            for _ in 0..80 {
                let _ = app.0.get_mut().write_all(&chunk).await;
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
    sidecar.line("all connections are in use").await;
    let mut third = App::to(&sidecar).await;
    third
        .send(post("Content-Length: 1\r\nConnection: close") + "x")
        .await;
    assert!(
        timeout(Duration::from_millis(300), third.0.fill_buf())
            .await
            .is_err()
    );
    assert!(wechat.calls().is_empty());
    drop(one);
    assert!(third.reply().await.contains("\"errcode\":0"));
    drop((two, third));
    assert_eq!(sidecar.get("/x").await.status, 200);
}

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
        app.send(post(framing)).await;
        for _ in 0..pieces {
            let piece = if framing.contains("chunked") {
                "5\r\nhello\r\n"
            } else {
                "hello"
            };
            app.send(piece).await;
            // The pace of a slow app, and longer in all than either time-out.
            sleep(Duration::from_millis(250)).await;
        }
        if framing.contains("chunked") && pieces == 8 {
            app.send("0\r\n\r\n").await;
        }
        app.reply().await
    };
    // Held, held without a length, and streamed.
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
        slow.iter().all(|reply| reply.contains("\"errcode\":0")),
        "{slow:?}"
    );
    assert!(
        stopped
            .iter()
            .all(|reply| reply.starts_with("HTTP/1.1 400") && reply.contains("990408")),
        "{stopped:?}"
    );
    let mut app = App::to(sidecar).await;
    app.send(post("Content-Length: 4000")).await;
    for _ in 0..16 {
        app.send([b' '; 250]).await;
        sleep(Duration::from_millis(100)).await;
    }
    assert!(app.reply().await.contains("\"errcode\":0"));
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
    // It takes the call's head and then nothing more.
    let (sidecar, _) = before(Upstream::Stops).await;
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
            // Broken off where nobody reads it.
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
        // It may be cut off before it is through.
        let _ = app.0.get_mut().write_all(call.as_bytes()).await;
        let reply = app.reply().await;
        let line = &call[..40];
        assert!(
            ["414", "431"].contains(&&reply[9..12]) && reply.contains("990400"),
            "{line}: {reply}"
        );
    }
    let large = format!(
        "GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: {}\r\n\r\n",
        "x".repeat(50_000)
    );
    assert!(sidecar.raw(large).await.contains("\"errcode\":0"));
}

/// Whether the app can tell that a reply is not whole.
async fn broken(sidecar: &Sidecar, target: &str) -> bool {
    let reply = sidecar
        .client
        .get(format!("{}{target}", sidecar.url))
        .send()
        .await
        .unwrap();
    reply.status() == 200 && reply.bytes().await.is_err()
}

fn post(headers: &str) -> String {
    format!("POST {SEND} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n")
}

#[derive(Clone, Copy, PartialEq)]
enum Upstream {
    /// Takes everything and says nothing.
    Reads,
    /// Takes a little and nothing more.
    Stops,
}

/// A sidecar without a token, for paths that take none of ours.
async fn before(upstream: Upstream) -> (Sidecar, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = vec![0; 1 << 16];
                while matches!(stream.read(&mut bytes).await, Ok(1..))
                    && upstream == Upstream::Reads
                {}
                std::future::pending::<()>().await;
            });
        }
    });
    let mut command = sidecar::command();
    command.args([
        "--idle-timeout",
        "2s",
        "--upstream",
        &format!("http://{address}"),
    ]);
    command
        .env("WECHAT_APPID", APPID)
        .env("WECHAT_SECRET", SECRET);
    (
        Sidecar::spawn(command, None).await,
        TcpStream::connect(address).await.unwrap(),
    )
}

trait Becomes {
    fn becomes(&self, sample: &str, value: f64) -> impl Future<Output = ()>;
}

impl Becomes for Sidecar {
    /// Waits until a metric has this value.
    async fn becomes(&self, sample: &str, value: f64) {
        let started = Instant::now();
        loop {
            let now = self.metric(sample).await;
            if now == value {
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{sample} is {now}, not {value}"
            );
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A connection of an app's.
struct App(BufReader<TcpStream>);

impl App {
    async fn to(sidecar: &Sidecar) -> Self {
        Self(BufReader::new(sidecar.connect().await))
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).await.unwrap();
    }

    /// A reply with a length, head and all.
    async fn reply(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = timeout(PATIENCE, self.0.read_line(&mut head))
                .await
                .expect("no reply");
            assert_ne!(
                read.expect("the connection broke"),
                0,
                "closed after {head:?}"
            );
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        timeout(PATIENCE, self.0.read_exact(&mut body))
            .await
            .expect("no body")
            .unwrap();
        head + &String::from_utf8_lossy(&body)
    }
}
