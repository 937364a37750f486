//! What held calls cost: as much as is counted, and no more than may be held.

use futures_util::future::join_all;

use super::{
    HELD,
    support::{App, Sidecar, Wechat, app::post, sidecar::with_account},
};

/// How much larger the process may grow than what is counted. The program of the tests is not optimised.
const MARGIN: f64 = 1.5;

/// Has so many calls wait for WeChat's reply, each with a body of so many bytes. Returns by how much the process has
/// grown, and how much is counted, in bytes.
async fn held(calls: usize, length: usize) -> (f64, f64) {
    let wechat = Wechat::calm().await;
    let mut command = with_account();
    command.args(["--upstream", &wechat.url(), "--workers", "2"]);
    let sidecar = Sidecar::spawn(command, Some(wechat.clone())).await;
    sidecar.until_ready().await;
    wechat.change(|behaviour| behaviour.stall = true);
    let before = sidecar.rss();
    let apps = (0..calls).map(async |_| {
        let mut app = App::to(&sidecar).await;
        let framing = format!("Content-Length: {length}");
        app.send(post("/cgi-bin/menu/create", &framing)).await;
        app.send(vec![b'x'; length]).await;
        app
    });
    let _apps = join_all(apps).await;
    wechat.wait_for_calls(calls).await;
    let grown = (sidecar.rss() - before) as f64 * 1024.0;
    (grown, sidecar.metric(HELD).await)
}

#[tokio::test]
async fn held_calls_take_no_more_memory_than_is_counted() {
    for (calls, length) in [(300, 100_000), (900, 20_000)] {
        let (grown, counted) = held(calls, length).await;
        assert!(counted >= (calls * length) as f64, "{counted}");
        assert!(
            grown < counted * MARGIN,
            "{calls} calls of {length} bytes: {grown} grown, {counted} counted"
        );
    }
}
