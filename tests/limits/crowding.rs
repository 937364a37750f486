//! Many calls share few connections, or WeChat answers and does not read.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::{
    HELD, OVERHEAD, SEND,
    support::{
        App, PATIENCE, Sidecar, Wechat,
        scripted::{Script, before},
        wechat::EarlyReply,
    },
};

#[tokio::test]
async fn calls_that_wait_for_a_connection_take_the_one_that_becomes_free() {
    let wechat = Wechat::calm().await;
    let flags = [
        "--max-upstream",
        "1",
        "--workers",
        "1",
        "--upstream-timeout",
        "5s",
    ];
    let sidecar = Sidecar::with(&wechat, &flags).await;
    wechat.change(|behaviour| behaviour.reply_delay = Duration::from_millis(300));
    let replies = join_all((0..5).map(|_| sidecar.post(SEND, "x"))).await;
    assert!(
        replies.iter().all(|reply| reply.errcode() == Some(0)),
        "{replies:?}"
    );
    assert!(
        wechat.accepted() <= 2,
        "one for the token, one for the calls"
    );
}

#[tokio::test]
async fn a_connection_whose_call_was_answered_early_is_not_waited_for() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--workers", "1"]).await;
    wechat.change(|behaviour| behaviour.early_reply = EarlyReply::ThenStopReading);
    let large = sidecar.post(SEND, vec![b'x'; 15 << 20]).await;
    assert_eq!(large.status, 200, "{}", large.text());
    wechat.change(|behaviour| behaviour.early_reply = EarlyReply::Never);
    let next = timeout(PATIENCE, sidecar.post(SEND, "x")).await;
    assert_eq!(next.expect("it hangs").errcode(), Some(0));
}

#[tokio::test]
async fn what_wechat_has_not_read_yet_still_takes_room() {
    let sidecar = before(Script::Stops, &["--replay-memory", "32MiB"]).await;
    // This endpoint takes a token of its own, so the sidecar keeps no copy for a replay.
    let calls = (0..20).map(|_| sidecar.post("/wxa/component/foo", vec![b'x'; 14 << 20]));
    let measuring = async {
        sidecar
            .becomes(HELD, f64::from(28 << 20) + 2.0 * OVERHEAD)
            .await;
        sidecar.rss()
    };
    let rss = tokio::select! {
        rss = measuring => rss,
        _ = join_all(calls) => panic!("nobody answers them"),
    };
    assert!(rss < 150 * 1024, "{rss} KiB");
}

#[tokio::test]
async fn a_connection_at_rest_holds_no_buffers_however_many_calls_it_carried() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--workers", "1"]).await;
    let call = "GET /cgi-bin/user/get HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut apps = Vec::new();
    // The heap has already grown to the size that a few calls take.
    let mut before = 0;
    for at in 0..900 {
        let mut app = App::to(&sidecar).await;
        for _ in 0..2 {
            app.send(call).await;
            assert_eq!(app.reply().await.status, 200);
        }
        apps.push(app);
        if at == 300 {
            before = sidecar.rss();
        }
    }
    let each = (sidecar.rss() - before) / 600;
    assert!(each < 14, "{each} KiB a connection");
}
