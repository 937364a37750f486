//! Shutdown: the sidecar is not ready at once, calls in flight finish, and none takes longer than allowed.
#![allow(clippy::unwrap_used)]

mod support;

use std::{process::Output, time::Duration};

use support::{
    App, PATIENCE, Sidecar, Wechat,
    app::{post, rest},
    sidecar,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

const SEND: &str = "/cgi-bin/user/info/updateremark";

#[tokio::test]
async fn calls_in_flight_finish_and_no_new_ones_are_taken() {
    for signal in ["-TERM", "-INT"] {
        let wechat = Wechat::calm().await;
        let mut sidecar = Sidecar::start(&wechat).await;
        wechat.change(|behaviour| behaviour.reply_delay = Duration::from_millis(1500));
        // One call waits for its reply, one has sent half of its body, and one is reading a reply.
        let mut waiting = App::to(&sidecar).await;
        waiting.send(post(SEND, "Content-Length: 2")).await;
        waiting.send("{}").await;
        let mut sending = App::to(&sidecar).await;
        sending.send(post(SEND, "Content-Length: 4")).await;
        sending.send("{}").await;
        wechat.change(|behaviour| {
            behaviour.delay_at.insert("/big".into(), Duration::ZERO);
        });
        let mut reading = sidecar.connect().await;
        reading
            .write_all(b"GET /big?size=20000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(reading.read_u8().await.unwrap(), b'H');
        wechat.wait_for_calls(2).await;
        // Both are held, each with what its call takes.
        sidecar.reaches("wechat_sidecar_held_bytes", 24_000.0).await;

        sidecar.signal(signal);
        sidecar.line("stopping").await;
        assert_eq!(sidecar.admin("/readyz").await.status, 503);
        refuses(&sidecar).await;
        sending.send("  ").await;
        for app in [waiting, sending] {
            let reply = rest(app.0).await;
            assert!(
                reply.contains("connection: close\r\n")
                    && reply.ends_with("{\"errcode\":0,\"errmsg\":\"ok\"}"),
                "{reply}"
            );
        }
        assert!(rest(&mut reading).await.len() > 20_000_000);
        assert_eq!(sidecar.ended().await.code(), Some(0));
    }
}

#[tokio::test]
async fn connections_without_a_call_do_not_delay_the_end() {
    let wechat = Wechat::calm().await;
    let mut sidecar = Sidecar::start(&wechat).await;
    let never_used = sidecar.connect().await;
    let mut kept_alive = App::to(&sidecar).await;
    kept_alive.send(post(SEND, "Content-Length: 2")).await;
    kept_alive.send("{}").await;
    assert_eq!(kept_alive.reply().await.status, 200);
    sidecar.signal("-TERM");
    let started = Instant::now();
    assert_eq!(sidecar.ended().await.code(), Some(0));
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
    drop((never_used, kept_alive));
}

#[tokio::test]
async fn during_the_delay_calls_are_still_taken_though_it_is_not_ready() {
    let wechat = Wechat::calm().await;
    let mut sidecar = Sidecar::with(&wechat, &["--shutdown-delay", "2s"]).await;
    let mut old = sidecar.connect().await;
    old.write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 512];
    let length = old.read(&mut first).await.unwrap();
    assert!(!String::from_utf8_lossy(&first[..length]).contains("connection: close"));
    let started = Instant::now();
    sidecar.signal("-TERM");
    sidecar.line("stopping").await;
    assert_eq!(
        (
            sidecar.admin("/readyz").await.status,
            sidecar.admin("/livez").await.status
        ),
        (503, 200)
    );
    let reply = sidecar
        .raw("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert!(
        reply.contains("connection: close\r\n") && reply.contains("\"errcode\":0"),
        "{reply}"
    );
    old.write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let reply = rest(&mut old).await;
    assert!(reply.contains("connection: close\r\n"), "{reply}");
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "too slow a machine for this test"
    );
    assert_eq!(sidecar.ended().await.code(), Some(0));
    assert!(started.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn past_the_grace_it_ends_all_the_same_and_says_so() {
    let wechat = Wechat::calm().await;
    let mut sidecar = Sidecar::with(&wechat, &["--shutdown-grace", "1s"]).await;
    let _app = stalled(&wechat, &sidecar).await;
    let started = Instant::now();
    sidecar.signal("-TERM");
    sidecar.line("--shutdown-grace").await;
    assert_eq!(sidecar.ended().await.code(), Some(1));
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    for (flags, second) in [
        (&["--shutdown-delay", "1h"][..], "-TERM"),
        (&["--shutdown-grace", "1h"], "-INT"),
    ] {
        let wechat = Wechat::calm().await;
        let mut sidecar = Sidecar::with(&wechat, flags).await;
        let _app = stalled(&wechat, &sidecar).await;
        sidecar.signal("-TERM");
        sidecar.line("stopping").await;
        sidecar.signal(second);
        assert_eq!(sidecar.ended().await.code(), Some(1));
    }
}

#[tokio::test]
async fn signals_count_after_a_shutdown_over_http_too() {
    let wechat = Wechat::calm().await;
    let mut sidecar =
        Sidecar::with(&wechat, &["--enable-shutdown", "--shutdown-grace", "20s"]).await;
    let _app = stalled(&wechat, &sidecar).await;
    assert!(asked(&sidecar).await.status.success());
    sidecar.line("stopping").await;
    let started = Instant::now();
    while sidecar.is_running() && started.elapsed() < Duration::from_secs(10) {
        sidecar.signal("-TERM");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(sidecar.ended().await.code(), Some(1));
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "deaf for {:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn the_subcommand_stops_it_where_that_is_enabled() {
    let wechat = Wechat::calm().await;
    let mut willing = Sidecar::with(&wechat, &["--enable-shutdown"]).await;
    let output = asked(&willing).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(willing.ended().await.code(), Some(0));
    let output = asked(&willing).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");

    // The app that asks has no more calls to make, as in the pod of a Job, so there is no delay.
    let flags = ["--enable-shutdown", "--shutdown-delay", "1h"];
    let mut classic = Sidecar::with(&wechat, &flags).await;
    assert!(asked(&classic).await.status.success());
    assert_eq!(classic.ended().await.code(), Some(0));

    // The same holds for a sidecar that was told to stop before.
    let mut told = Sidecar::with(&wechat, &flags).await;
    told.signal("-TERM");
    told.line("stopping").await;
    assert!(asked(&told).await.status.success());
    assert_eq!(told.ended().await.code(), Some(0));

    let firm = Sidecar::start(&wechat).await;
    let output = asked(&firm).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("--enable-shutdown"));
    assert_eq!(firm.admin("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_fetch_or_a_waiting_call_does_not_hold_it_up() {
    let wechat = Wechat::calm().await;
    wechat.change(|behaviour| behaviour.token_stall = true);
    let mut sidecar = Sidecar::unready(&wechat, &[], &[]).await;
    wechat.wait_for_token_requests(1).await;
    sidecar.signal("-TERM");
    let started = Instant::now();
    assert_eq!(sidecar.ended().await.code(), Some(0));
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
}

/// Runs `wechat-sidecar shutdown`.
async fn asked(sidecar: &Sidecar) -> Output {
    let mut command = sidecar::command();
    command.args([
        "shutdown",
        "--admin",
        sidecar.admin.strip_prefix("http://").unwrap(),
    ]);
    timeout(PATIENCE, command.output())
        .await
        .expect("it hangs")
        .unwrap()
}

/// A call whose reply never comes.
async fn stalled(wechat: &Wechat, sidecar: &Sidecar) -> App {
    wechat.change(|behaviour| behaviour.stall = true);
    wechat.clear();
    let mut app = App::to(sidecar).await;
    app.send(post(SEND, "Content-Length: 2")).await;
    app.send("{}").await;
    wechat.wait_for_calls(1).await;
    app
}

/// Waits until no connection is accepted any more.
async fn refuses(sidecar: &Sidecar) {
    let address = sidecar.url.strip_prefix("http://").unwrap();
    let refused = async { while tokio::net::TcpStream::connect(address).await.is_ok() {} };
    timeout(PATIENCE, refused)
        .await
        .expect("connections are still accepted");
}

trait IsRunning {
    fn is_running(&self) -> bool;
}

impl IsRunning for Sidecar {
    /// Whether the admin port still accepts connections.
    fn is_running(&self) -> bool {
        let address = self.admin.strip_prefix("http://").unwrap();
        std::net::TcpStream::connect(address).is_ok()
    }
}
