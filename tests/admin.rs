//! The admin port: probes and status for operators, and nothing for anybody else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{net::UdpSocket, time::Duration};

use futures_util::future::join_all;
use support::{APPID, Reply, Sidecar, Wechat, app::rest};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

#[tokio::test]
async fn it_has_started_when_the_first_fetch_has_ended_and_is_ready_with_a_token() {
    let (wechat, closed) = (Wechat::calm().await, Wechat::calm().await);
    for fake in [&wechat, &closed] {
        fake.change(|behaviour| behaviour.token_delay = Duration::from_secs(1));
    }
    closed.change(|behaviour| behaviour.token_errcode = Some(40164));
    let fine = Sidecar::unready(&wechat, &[], &[]).await;
    let mut failing = Sidecar::unready(&closed, &[], &[]).await;
    for sidecar in [&fine, &failing] {
        assert_eq!(statuses(sidecar).await, [200, 200, 503, 503]);
    }
    failing.line("no new token").await;
    assert_eq!(statuses(&failing).await, [200, 200, 200, 503]);
    let reason = failing.admin("/readyz").await.text();
    assert!(
        reason.contains("40164") && reason.contains("whitelist"),
        "{reason}"
    );
    assert_eq!(failing.metric("wechat_sidecar_ready").await, 0.0);
    let code = format!(
        "wechat_sidecar_errcodes_total{{account=\"{APPID}\",endpoint=\"own_request\",errcode=\"40164\"}}"
    );
    assert!(failing.metric(&code).await >= 1.0);
    fine.until_ready().await;
    assert_eq!(statuses(&fine).await, [200, 200, 200, 200]);
    assert_eq!(fine.metric("wechat_sidecar_ready").await, 1.0);
    assert_eq!(
        fine.admin(&format!("/readyz?account={APPID}")).await.status,
        200
    );
    assert_eq!(fine.admin("/readyz?account=wxother").await.status, 404);
    // Readiness does not depend on the connection to WeChat: the token in hand still works.
    wechat.stop();
    assert_eq!(statuses(&fine).await, [200, 200, 200, 200]);
    for other in ["/", "/readyz/", "/nothing", "/cgi-bin/user/get"] {
        assert_eq!(
            fine.admin(other).await.status,
            if other == "/" { 200 } else { 404 }
        );
    }
    // The port for calls has no such page.
    assert_ne!(fine.get("/livez").await.status, 200);
}

#[tokio::test]
async fn accounts_are_described_and_no_token_is_shown() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let reply = sidecar.admin("/accounts").await;
    let address = sidecar.url.strip_prefix("http://").unwrap();
    assert_eq!(reply.json()["listen"], serde_json::json!([address]));
    let account = &reply.json()["accounts"][0];
    assert_eq!(
        (account["appid"].as_str(), account["has_token"].as_bool()),
        (Some(APPID), Some(true))
    );
    assert!(
        account["token_expires_seconds"].as_u64().unwrap() > 7000
            && account["token_age_seconds"].is_u64()
    );
    assert!(account["last_error"].is_null());
    assert!(
        !reply.text().contains(&wechat.token()[..20]) && !reply.text().contains(support::SECRET)
    );
    wechat.change(|behaviour| behaviour.token_errcode = Some(40125));
    let mut failing = Sidecar::unready(&wechat, &[], &[]).await;
    failing.line("no new token").await;
    let account = &failing.admin("/accounts").await.json()["accounts"][0];
    assert!(
        account["last_error"].as_str().unwrap().contains("40125") && account["has_token"] == false,
        "{account}"
    );
}

#[tokio::test]
async fn the_log_level_changes_while_it_runs() {
    let wechat = Wechat::calm().await;
    let mut sidecar = Sidecar::start(&wechat).await;
    assert_eq!(sidecar.admin("/log-level").await.text(), "trace\n");
    assert_eq!(put(&sidecar, "warn").await.status, 200);
    for bad in ["loud", "", "warn\nx", &"x".repeat(5000)] {
        assert_eq!(put(&sidecar, bad).await.status, 400, "{bad}");
    }
    assert_eq!(sidecar.admin("/log-level").await.text(), "warn\n");
    // Each turned down call is a line at the level debug.
    let lines = |sidecar: &Sidecar| sidecar.log().matches("a call was turned down").count();
    assert_eq!(sidecar.get("/a//b").await.status, 400);
    assert_eq!(put(&sidecar, " debug ").await.status, 200);
    sidecar.line("the log level was changed").await;
    assert_eq!(lines(&sidecar), 0);
    assert_eq!(sidecar.get("/a//b").await.status, 400);
    sidecar.line("a call was turned down").await;
}

#[tokio::test]
async fn a_stranger_reads_probes_and_metrics_at_most() {
    let wechat = Wechat::calm().await;
    let open = [
        "--admin",
        "0.0.0.0:0",
        "--enable-shutdown",
        "--enable-revoke",
    ];
    let (local, open) = (
        Sidecar::start(&wechat).await,
        Sidecar::with(&wechat, &open).await,
    );
    let probes = ["/livez", "/readyz", "/startupz", "/healthz", "/metrics"];
    for header in [
        "Host: evil.example",
        "Host: localhost\r\nOrigin: null",
        "Host: localhost\r\nX-Forwarded-For: 1.2.3.4",
        "Host: localhost\r\nSec-Fetch-Site: cross-site",
    ] {
        for path in probes
            .into_iter()
            .chain(["/accounts", "/log-level", "/revoke", "/shutdown"])
        {
            assert_eq!(
                status(&local, "GET", path, header, "127.0.0.1").await,
                403,
                "{path} {header}"
            );
            let expected = if probes.contains(&path) { 200 } else { 403 };
            assert_eq!(
                status(&open, "GET", path, header, "127.0.0.1").await,
                expected,
                "{path} {header}"
            );
        }
        for path in ["/shutdown", "/revoke"] {
            assert_eq!(status(&open, "POST", path, header, "127.0.0.1").await, 403);
        }
    }
    // A peer at an address other than loopback is refused, whatever its Host header says.
    let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = udp.connect("192.0.2.1:9").and_then(|()| udp.local_addr());
    if let Ok(own) = own.map(|own| own.ip()).map_err(drop).and_then(|ip| {
        if ip.is_loopback() {
            Err(())
        } else {
            Ok(ip.to_string())
        }
    }) {
        for (method, path) in [
            ("GET", "/accounts"),
            ("GET", "/log-level"),
            ("PUT", "/log-level"),
            ("POST", "/shutdown"),
            ("POST", "/quitquitquit"),
            ("POST", "/revoke"),
        ] {
            assert_eq!(
                status(&open, method, path, "Host: localhost", &own).await,
                403,
                "{path}"
            );
        }
        assert_eq!(
            status(&open, "GET", "/metrics", &format!("Host: {own}"), &own).await,
            200
        );
    }
    assert_eq!(
        status(&open, "GET", "/accounts", "Host: localhost", "127.0.0.1").await,
        200
    );
    assert_eq!(
        status(&local, "POST", "/shutdown", "Host: localhost", "127.0.0.1").await,
        403
    );
    assert_eq!(
        status(&local, "GET", "/shutdown", "Host: localhost", "127.0.0.1").await,
        405
    );
    assert_eq!(statuses(&local).await, [200; 4]);
}

#[tokio::test]
async fn peers_that_never_read_do_not_shut_the_probes_out() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let mut peers = Vec::new();
    for _ in 0..64 {
        let mut peer = TcpStream::connect(sidecar.admin.strip_prefix("http://").unwrap())
            .await
            .unwrap();
        // These are far more replies than the system buffers for a peer.
        let calls = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(4000);
        let _ = timeout(Duration::from_millis(50), peer.write_all(calls.as_bytes())).await;
        peers.push(peer);
    }
    // A new connection, as a kubelet makes.
    let live = status(&sidecar, "GET", "/livez", "Host: localhost", "127.0.0.1");
    assert_eq!(
        timeout(Duration::from_secs(25), live)
            .await
            .expect("no answer"),
        200
    );
}

#[tokio::test]
async fn a_peer_that_asks_again_and_again_is_told_when_its_connection_ends() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let address = sidecar.admin.strip_prefix("http://").unwrap();
    let mut peer = TcpStream::connect(address).await.unwrap();
    let asking = async {
        loop {
            let call = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
            peer.write_all(call).await.unwrap();
            let mut reply = Vec::new();
            while !reply.ends_with(b"\r\n\r\nok\n") {
                assert_ne!(peer.read_buf(&mut reply).await.unwrap(), 0);
            }
            if String::from_utf8_lossy(&reply).contains("connection: close") {
                return peer.read_u8().await;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let ended = timeout(Duration::from_secs(10), asking).await;
    let ended = ended.expect("it goes on").unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn each_reply_of_the_admin_port_has_its_mark() {
    let wechat = Wechat::calm().await;
    wechat.change(|behaviour| behaviour.token_errcode = Some(40125));
    let sidecar = Sidecar::unready(&wechat, &[], &[]).await;
    for (target, status) in [
        ("/", 200),
        ("/livez", 200),
        ("/metrics", 200),
        ("/accounts", 200),
        ("/readyz", 503),
        ("/readyz?account=x", 404),
        ("/shutdown", 405),
        ("/nothing", 404),
    ] {
        let reply = sidecar.admin(target).await;
        assert_eq!((reply.status, reply.marks()), (status, vec!["admin"]));
    }
    assert_eq!(put(&sidecar, "loud").await.marks(), ["admin"]);
    let admin = format!("{}/livez", sidecar.admin);
    let request = sidecar.client.get(admin).header("origin", "null");
    let reply = sidecar.send(request).await;
    assert_eq!((reply.status, reply.marks()), (403, vec!["admin"]));
}

#[tokio::test]
async fn a_question_at_the_port_for_calls_is_no_success_and_nothing_is_sent() {
    let wechat = Wechat::calm().await;
    wechat.change(|behaviour| {
        let admin = ("x-wechat-sidecar".to_owned(), "admin".to_owned());
        behaviour.extra_headers = vec![admin];
    });
    for flags in [&["--enable-shutdown"][..], &["--error-status", "200"]] {
        let mut sidecar = Sidecar::with(&wechat, flags).await;
        let calls = sidecar.url.strip_prefix("http://").unwrap().to_owned();
        for words in [
            &["health"][..],
            &["wait", "--timeout", "1s"],
            &["wait", "--started", "--timeout", "1s"],
            &["shutdown"],
            &["revoke", "--yes"],
        ] {
            let mut command = support::sidecar::command();
            let output = command.args(["--admin", &calls]).args(words).output();
            let output = output.await.unwrap();
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
            assert!(said.contains("port for calls"), "{words:?}: {said}");
        }
        sidecar.line("the question is for the admin port").await;
        // Calls that hyper reads are refused as well.
        for way in [
            "GET /livez HTTP/1.1\r\nConnection: close",
            "POST /shutdown HTTP/1.0",
        ] {
            let question =
                format!("{way}\r\nHost: localhost\r\nX-Wechat-Sidecar: for-admin\r\n\r\n");
            assert!(sidecar.raw(question).await.contains("990403"), "{way}");
        }
        assert_eq!(wechat.calls().len(), 0);
        // A reply of WeChat's cannot claim to come from an admin port.
        assert_eq!(sidecar.get("/livez").await.marks(), Vec::<&str>::new());
        wechat.clear();
    }
}

/// The statuses of `/livez`, `/healthz`, `/startupz` and `/readyz`.
async fn statuses(sidecar: &Sidecar) -> [u16; 4] {
    let probes = ["/livez", "/healthz", "/startupz", "/readyz"].map(|probe| sidecar.admin(probe));
    let replies = join_all(probes).await;
    [0, 1, 2, 3].map(|at: usize| replies[at].status)
}

async fn put(sidecar: &Sidecar, level: &str) -> Reply {
    let request = sidecar
        .client
        .put(format!("{}/log-level", sidecar.admin))
        .body(level.to_owned());
    sidecar.send(request).await
}

/// The reply of the admin port at `address`.
async fn status(sidecar: &Sidecar, method: &str, path: &str, headers: &str, address: &str) -> u16 {
    let (_, port) = sidecar.admin.rsplit_once(':').unwrap();
    let mut stream = TcpStream::connect(format!("{address}:{port}"))
        .await
        .unwrap();
    let call = format!(
        "{method} {path} HTTP/1.1\r\n{headers}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(call.as_bytes()).await.unwrap();
    rest(stream).await[9..12].parse().unwrap()
}

#[tokio::test]
async fn wait_started_ends_with_the_first_token_request_however_that_ends() {
    let mut command = support::sidecar::with_account();
    command.args(["--upstream", "http://127.0.0.1:1"]);
    let sidecar = Sidecar::spawn(command, None).await;
    let admin = sidecar.admin.strip_prefix("http://").unwrap().to_owned();
    let wait = async |flags: &[&str]| {
        let mut command = support::sidecar::command();
        command.args(["--admin", &admin, "wait"]).args(flags);
        command.output().await.unwrap()
    };
    let started = wait(&["--started", "--timeout", "30s"]).await;
    assert_eq!(String::from_utf8_lossy(&started.stdout), "started\n");
    assert_eq!(started.status.code(), Some(0));
    let ready = wait(&["--timeout", "300ms"]).await;
    assert_eq!(ready.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ready.stdout).starts_with("not ready after 300ms"));
}
