//! The connection to WeChat: certificates, addresses, proxies and a rotated secret.
#![allow(clippy::unwrap_used)]

mod support;

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::future::join_all;
use support::{
    SECRET, Sidecar, Wechat,
    egress::{Egress, tells},
    scripted::before_renewed_keys,
    sidecar::{self, written},
    wechat::Setup,
};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

/// A path whose calls take no token of ours.
const TOKENLESS: &str = "/sns/userinfo?access_token=users-own-token&openid=o1";
const PASSWORD: &str = "correct:horse battery";

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_gets_no_call_and_no_secret() {
    let wechat = Wechat::start_tls().await;
    let trusting = Sidecar::start(&wechat).await;
    assert_eq!(trusting.get("/cgi-bin/user/get").await.json()["total"], 2);
    wechat.clear();
    let url = format!("https://localhost:{}", wechat.addr().port());
    let doubting = of(&wechat, &["--upstream", &url]).await;
    let other = ca(&Wechat::start_tls().await);
    let misled = of(&wechat, &["--upstream", &url, "--upstream-ca", &other]).await;
    let ours = ca(&wechat);
    let url = format!("https://wrong.example:{}", wechat.addr().port());
    let misnamed = of(
        &wechat,
        &[
            "--upstream",
            &url,
            "--upstream-address",
            "127.0.0.1",
            "--upstream-ca",
            &ours,
        ],
    )
    .await;
    for sidecar in [doubting, misled, misnamed] {
        let call = sidecar.get(TOKENLESS).await;
        assert_eq!(
            (call.status, call.errcode()),
            (502, Some(990_502)),
            "{}",
            call.text()
        );
        let token = sidecar.get("/cgi-bin/user/get").await;
        assert_eq!((token.status, token.errcode()), (503, Some(990_503)));
        for reply in [call, token] {
            assert!(reply.text().contains("certificate"), "{}", reply.text());
        }
    }
    assert!(
        wechat.calls().is_empty()
            && wechat.token_requests().is_empty()
            && wechat.malformed().is_empty()
    );
}

#[tokio::test]
async fn an_address_takes_the_place_of_dns_and_of_nothing_else() {
    let wechat = tls().await;
    let url = format!("https://api.weixin.qq.com:{}", wechat.addr().port());
    let sidecar = of(
        &wechat,
        &[
            "--upstream",
            &url,
            "--upstream-address",
            "127.0.0.1",
            "--upstream-ca",
            &ca(&wechat),
        ],
    )
    .await;
    sidecar.until_ready().await;
    assert_eq!(sidecar.get("/cgi-bin/user/get").await.json()["total"], 2);
    let host = url.strip_prefix("https://");
    assert_eq!(wechat.calls()[0].header("host"), host);
    assert_eq!(wechat.token_requests()[0].call.header("host"), host);
}

#[tokio::test]
async fn where_nothing_could_be_sent_the_app_may_try_again() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.stop();
    wechat.wait_until(|wechat| wechat.connections() == 0).await;
    for request in [
        sidecar.get("/x").await,
        sidecar.post("/x", "y").await,
        sidecar.get(TOKENLESS).await,
    ] {
        assert_eq!(
            (request.status, request.errcode(), request.marks()),
            (502, Some(990_502), vec!["error"])
        );
        assert!(
            request.text().contains("nothing was sent"),
            "{}",
            request.text()
        );
    }
    let unknown = of(&wechat, &["--upstream", "https://no-such-host.invalid"]).await;
    let reply = unknown.get(TOKENLESS).await;
    assert!(
        (reply.status, reply.errcode()) == (502, Some(990_502))
            && reply.text().contains("cannot be resolved"),
        "{}",
        reply.text()
    );
    // This listener accepts TCP, and never answers the TLS handshake.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", silent.local_addr().unwrap().port());
    let waiting = of(&wechat, &["--upstream", &url, "--connect-timeout", "500ms"]).await;
    let reply = waiting.get(TOKENLESS).await;
    assert_eq!(
        (reply.status, reply.errcode()),
        (502, Some(990_502)),
        "{}",
        reply.text()
    );
}

#[tokio::test]
async fn calls_and_token_requests_go_through_the_egress_proxy() {
    for scheme in ["http", "socks5"] {
        let wechat = tls().await;
        let proxy = Egress::to(wechat.addr(), scheme, Some(PASSWORD)).await;
        let url = format!("https://api.weixin.qq.com:{}", wechat.addr().port());
        let file = written("credentials", &format!("user:{PASSWORD}\n"));
        let flags = [
            "--upstream",
            &url,
            "--egress-proxy",
            &proxy.url,
            "--egress-proxy-credentials-file",
            &file,
            "--upstream-ca",
            &ca(&wechat),
        ];
        let sidecar = of(&wechat, &flags).await;
        sidecar.until_ready().await;
        assert_eq!(
            sidecar.post("/cgi-bin/menu/create", "{}").await.errcode(),
            Some(0)
        );
        assert_eq!(
            (wechat.calls().len(), wechat.token_requests().len()),
            (1, 1)
        );
        let seen = proxy.asked();
        assert!(
            seen.len() == 2 && seen.iter().all(|target| *target == url["https://".len()..]),
            "{scheme}: {seen:?}"
        );
        assert_eq!(wechat.accepted(), 2);
        assert!(!tells(&sidecar.log(), PASSWORD));
    }
}

#[tokio::test]
async fn a_proxy_that_turns_us_away_is_named_and_its_password_is_not() {
    let wechat = tls().await;
    let url = format!("https://api.weixin.qq.com:{}", wechat.addr().port());
    for scheme in ["http", "socks5"] {
        let proxy = Egress::to(wechat.addr(), scheme, Some("another")).await;
        let file = written("credentials", &format!("user:{PASSWORD}\n"));
        let closed = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        for proxy in [proxy.url.clone(), format!("{scheme}://{closed}")] {
            let flags = [
                "--upstream",
                &url,
                "--egress-proxy",
                &proxy,
                "--egress-proxy-credentials-file",
                &file,
            ];
            let sidecar = of(&wechat, &flags).await;
            let reply = sidecar.get(TOKENLESS).await;
            assert_eq!(
                (reply.status, reply.errcode()),
                (502, Some(990_502)),
                "{}",
                reply.text()
            );
            assert!(reply.text().contains("egress proxy"), "{}", reply.text());
            let token = sidecar.get("/x").await;
            assert_eq!((token.status, token.errcode()), (503, Some(990_503)));
            let all = sidecar.log()
                + &reply.text()
                + &token.text()
                + &sidecar.admin("/accounts").await.text();
            assert!(!tells(&all, PASSWORD), "{all}");
        }
    }
    assert_eq!(wechat.accepted(), 0);
}

#[tokio::test]
async fn the_default_host_has_a_stand_in_when_it_cannot_be_connected() {
    for down_at_start in [true, false] {
        let wechat = tls().await;
        let proxy = Egress::to(wechat.addr(), "http", None).await;
        proxy
            .default_is_down
            .store(down_at_start, Ordering::Relaxed);
        let flags = ["--egress-proxy", &proxy.url, "--upstream-ca", &ca(&wechat)];
        let sidecar = of(&wechat, &flags).await;
        sidecar.until_ready().await;
        proxy.default_is_down.store(true, Ordering::Relaxed);
        wechat.clear();
        for _ in 0..3 {
            assert_eq!(sidecar.get("/cgi-bin/user/get").await.json()["total"], 2);
            wechat.close_idle();
        }
        let calls = wechat.calls();
        let hosts: Vec<_> = calls.iter().map(|call| call.header("host")).collect();
        assert_eq!(hosts, [Some("api2.weixin.qq.com"); 3]);
        // A host that is known to be down is skipped.
        let asked = proxy.asked();
        let first = asked
            .iter()
            .filter(|target| *target == "api.weixin.qq.com:443");
        assert_eq!(
            first.count(),
            if down_at_start { 1 } else { 2 },
            "{asked:?}"
        );
    }
}

#[tokio::test]
async fn a_rotated_secret_heals_a_failing_sidecar_soon() {
    let wechat = Wechat::calm().await;
    let file = written("secret", "no longer the secret\n");
    let mut sidecar = Sidecar::unready(&wechat, &[], &[("WECHAT_SECRET_FILE", &file)]).await;
    sidecar.line("no new token").await;
    let reply = sidecar.get("/x").await;
    assert_eq!(
        (reply.status, reply.header("x-wechat-sidecar-errcode")),
        (503, Some("40125"))
    );
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let started = Instant::now();
    sidecar.until_ready().await;
    assert!(
        started.elapsed() < Duration::from_secs(11),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(sidecar.get("/x").await.errcode(), Some(0));
}

#[tokio::test]
async fn a_secret_rotated_while_the_old_one_is_on_its_way_counts_too() {
    let wechat = Wechat::calm().await;
    wechat.change(|behaviour| behaviour.token_delay = Duration::from_secs(6));
    let file = written("secret", "no longer the secret\n");
    let sidecar = Sidecar::unready(&wechat, &[], &[("WECHAT_SECRET_FILE", &file)]).await;
    // The request with the old secret has been sent.
    wechat.wait_until(|wechat| wechat.connections() == 1).await;
    wechat.wait_for_token_requests(1).await;
    std::fs::write(&file, SECRET).unwrap();
    wechat.change(|behaviour| behaviour.token_delay = Duration::ZERO);
    let started = Instant::now();
    sidecar.until_ready().await;
    // That is the rest of that request, and the time until a change is noticed.
    assert!(
        started.elapsed() < Duration::from_secs(6 + 11),
        "{:?}",
        started.elapsed()
    );
}

/// A sidecar with these flags and a log at trace level. `--upstream` is among the flags, or the default.
async fn of(wechat: &Wechat, flags: &[&str]) -> Sidecar {
    let mut command = sidecar::with_account();
    command.args(["--log-level", "trace"]).args(flags);
    Sidecar::spawn(command, Some(wechat.clone())).await
}

async fn tls() -> Wechat {
    let (tls, refusal_chance) = (true, 0.0);
    Wechat::with(Setup {
        tls,
        refusal_chance,
        ..Setup::default()
    })
    .await
}

fn ca(wechat: &Wechat) -> String {
    written("ca.pem", &wechat.ca_pem().unwrap())
}

#[tokio::test]
async fn when_wechat_cannot_be_reached_a_thousand_calls_hear_so_at_once() {
    // This listener accepts connections, and never answers a handshake.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok(connection) = silent.accept().await {
            kept.push(connection);
        }
    });
    let mut command = sidecar::with_account();
    command.args([
        "--upstream",
        &url,
        "--connect-timeout",
        "2s",
        "--workers",
        "2",
    ]);
    let sidecar = Sidecar::spawn(command, None).await;
    let started = Instant::now();
    let calls = (0..1200).map(|_| sidecar.get(TOKENLESS));
    for reply in join_all(calls).await {
        assert_eq!(reply.errcode(), Some(990_502), "{}", reply.text());
    }
    // If they failed a few at a time, it would take ten seconds.
    assert!(
        started.elapsed() < Duration::from_secs(7),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn connections_are_kept_warm_for_the_first_call_after_a_quiet_time() {
    const OPEN: &str = "wechat_sidecar_connections{side=\"upstream\"}";
    const MADE: &str = "wechat_sidecar_upstream_connects_total{outcome=\"made\"}";
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--keep-warm", "2", "--workers", "1"]).await;
    sidecar.becomes(OPEN, 2.0).await;
    // Two for calls, and the token request's.
    sidecar.becomes(MADE, 3.0).await;
    assert_eq!(sidecar.get("/cgi-bin/user/get").await.json()["total"], 2);
    assert_eq!(sidecar.metric(MADE).await, 3.0, "a call opened another one");
    // WeChat closes them. They are opened again, and no call gets a closed one.
    wechat.close_idle();
    sidecar.becomes(MADE, 5.0).await;
    assert_eq!(sidecar.post("/x", "y").await.status, 200);
    assert_eq!(sidecar.metric(MADE).await, 5.0);
}

/// Bytes that are not a reply arrive on an idle connection. The reply to the next call must still wake its task.
#[tokio::test]
async fn keys_that_wechat_renews_between_two_calls_hold_up_neither() {
    let (later, limit) = (Duration::from_millis(30), Duration::from_secs(5));
    let sidecar = before_renewed_keys(later, &["--upstream-timeout", "20s"]).await;
    for _ in 0..10 {
        let began = Instant::now();
        // A parked connection of an app has a timer, which would wake the call as well.
        let call = sidecar.client.get(format!("{}{TOKENLESS}", sidecar.url));
        let reply = sidecar.send(call.header("Connection", "close")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(began.elapsed() < limit, "{:?}", began.elapsed());
        // The server renews its keys meanwhile.
        sleep(later * 4).await;
    }
}
