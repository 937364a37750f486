//! The admin port: probes, metrics and status for an operator, and nothing for anybody else.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::{HashMap, HashSet},
    net::UdpSocket,
    time::Duration,
};

use futures_util::future::join_all;
use support::{APPID, Reply, Sidecar, Wechat};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const SEND: &str = "/cgi-bin/user/info/updateremark";
const PATIENCE: Duration = Duration::from_secs(30);

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
    failing.line("no token").await;
    assert_eq!(statuses(&failing).await, [200, 200, 200, 503]);
    let reason = failing.admin("/readyz").await.text();
    assert!(
        reason.contains("40164") && reason.contains("whitelist"),
        "{reason}"
    );
    assert_eq!(failing.metric("wechat_sidecar_ready").await, 0.0);
    fine.until_ready().await;
    assert_eq!(statuses(&fine).await, [200, 200, 200, 200]);
    assert_eq!(fine.metric("wechat_sidecar_ready").await, 1.0);
    assert_eq!(
        fine.admin(&format!("/readyz?account={APPID}")).await.status,
        200
    );
    assert_eq!(fine.admin("/readyz?account=wxother").await.status, 503);
    // The way to WeChat is no part of it: the token in hand serves on.
    wechat.stop();
    assert_eq!(statuses(&fine).await, [200, 200, 200, 200]);
    for other in ["/", "/readyz/", "/nothing", "/cgi-bin/user/get"] {
        assert_eq!(
            fine.admin(other).await.status,
            if other == "/" { 200 } else { 404 }
        );
    }
    // And it is on no path of the calls' port.
    assert_ne!(fine.get("/livez").await.status, 200);
}

#[tokio::test]
async fn the_metrics_page_is_what_prometheus_reads() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.rotate();
    sidecar.post(SEND, "x").await;
    sidecar.get("/unknown/path?query=1").await;
    sidecar
        .raw("GET /a//b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    let reply = sidecar.admin("/metrics").await;
    assert_eq!(
        reply.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let (mut kinds, mut helps, mut samples) = (HashMap::new(), HashSet::new(), HashSet::new());
    let mut family = String::new();
    let page = reply.text();
    assert!(page.ends_with('\n'));
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap().to_owned();
            assert!(
                help.len() > family.len() + 1 && helps.insert(family.clone()),
                "{line}"
            );
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(
                name == family && ["counter", "gauge", "histogram"].contains(&kind),
                "{line}"
            );
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert!(
                kinds.insert(name.to_owned(), kind.to_owned()).is_none(),
                "{line}"
            );
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
            let name = series.split('{').next().unwrap();
            let histogram = kinds[&family] == "histogram";
            let belongs = name == family
                || histogram
                    && ["_bucket", "_sum", "_count"]
                        .iter()
                        .any(|end| name == format!("{family}{end}"));
            assert!(belongs && name.starts_with("wechat_sidecar_"), "{line}");
            assert!(samples.insert(series.to_owned()), "twice: {line}");
            let labels = series.strip_prefix(name).unwrap();
            assert!(
                labels.is_empty() || labels.starts_with('{') && labels.ends_with("\"}"),
                "{line}"
            );
        }
    }
    assert_eq!(kinds.len(), helps.len());
    for hidden in ["unknown/path", "query", "a//b"] {
        assert!(!page.contains(hidden));
    }
    let buckets: Vec<f64> = page
        .lines()
        .filter(|line| line.contains("_bucket{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(
        buckets.is_sorted() && buckets.last() == Some(&3.0),
        "{buckets:?}"
    );
}

#[tokio::test]
async fn counters_tell_what_happened() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--replay-limit", "1KiB"]).await;
    let account =
        |name: &str, labels: &str| format!("wechat_sidecar_{name}{{account=\"{APPID}\"{labels}}}");
    let call = |outcome: &str| {
        account(
            "calls_total",
            &format!(",endpoint=\"{SEND}\",outcome=\"{outcome}\""),
        )
    };
    sidecar.post(SEND, "accepted").await;
    wechat.rotate();
    sidecar.post(SEND, "replayed").await;
    wechat.change(|behaviour| behaviour.refuse_next = 1);
    sidecar.post(SEND, vec![b'x'; 2000]).await;
    wechat.change(|behaviour| behaviour.body = Some(("a/b".into(), "{\"errcode\":45009}".into())));
    sidecar.post(SEND, "errcode").await;
    wechat.change(|behaviour| behaviour.body = Some(("a/b".into(), "{\"errcode\":123456}".into())));
    sidecar.post(SEND, "other").await;
    sidecar.get("/cgi-bin/token").await;
    wechat.stop();
    wechat.wait_until(|wechat| wechat.connections() == 0).await;
    sidecar.post(SEND, "failed").await;
    for (sample, value) in [
        (call("accepted"), 2.0),
        (call("refused"), 1.0),
        (call("errcode"), 2.0),
        (call("failed"), 1.0),
        (
            account(
                "calls_total",
                ",endpoint=\"/cgi-bin/token\",outcome=\"local\"",
            ),
            1.0,
        ),
        (account("errcodes_total", ",errcode=\"45009\""), 1.0),
        (account("errcodes_total", ",errcode=\"40001\""), 2.0),
        (account("errcodes_total", ",errcode=\"other\""), 1.0),
        (account("refusals_total", ""), 2.0),
        (account("replays_total", ",outcome=\"accepted\""), 1.0),
        (
            account("replays_skipped_total", ",reason=\"not_held\""),
            1.0,
        ),
        (account("bodies_not_held_total", ""), 1.0),
        (
            account("token_fetches_total", ",cause=\"missing\",outcome=\"new\""),
            1.0,
        ),
        (
            account("token_fetches_total", ",cause=\"refusal\",outcome=\"new\""),
            1.0,
        ),
        (
            "wechat_sidecar_upstream_connects_total{outcome=\"failed\"}".to_owned(),
            1.0,
        ),
    ] {
        assert_eq!(
            sidecar.metric(&sample).await,
            value,
            "{sample}\n{}",
            sidecar.admin("/metrics").await.text()
        );
    }
    assert!(
        (7000.0..=7200.0).contains(&sidecar.metric(&account("token_expires_seconds", "")).await)
    );
}

#[tokio::test]
async fn at_most_64_endpoints_have_a_label() {
    let table = include_str!("../src/endpoint/table.tsv");
    let paths = table
        .lines()
        .filter_map(|line| line.strip_suffix("\taccess_token"))
        .take(100);
    let wechat = Wechat::calm().await;
    let sidecar = &Sidecar::start(&wechat).await;
    for path in paths {
        sidecar.get(path).await;
        sidecar.get(&path.to_ascii_uppercase()).await;
    }
    join_all((0..100).map(|n| async move { sidecar.get(&format!("/unknown/{n}")).await })).await;
    let page = sidecar.admin("/metrics").await.text();
    let labels: HashSet<_> = page
        .lines()
        .filter_map(|line| line.split_once("endpoint=\"")?.1.split('"').next())
        .collect();
    assert_eq!(
        (labels.len(), labels.contains("other")),
        (65, true),
        "{labels:?}"
    );
}

#[tokio::test]
async fn accounts_are_described_and_no_token_is_shown() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let reply = sidecar.admin("/accounts").await;
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
    failing.line("no token").await;
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
    // Each turned down call is a line at the level info.
    let lines = |sidecar: &Sidecar| sidecar.log().matches("turned down").count();
    assert_eq!(sidecar.get("/a//b").await.status, 400);
    assert_eq!(put(&sidecar, " info ").await.status, 200);
    sidecar.line("the log level was changed").await;
    assert_eq!(lines(&sidecar), 0);
    assert_eq!(sidecar.get("/a//b").await.status, 400);
    sidecar.line("turned down").await;
}

#[tokio::test]
async fn a_stranger_reads_probes_and_metrics_at_most() {
    let wechat = Wechat::calm().await;
    let (local, open) = (
        Sidecar::start(&wechat).await,
        Sidecar::with(&wechat, &["--admin", "0.0.0.0:0", "--enable-shutdown"]).await,
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
            .chain(["/accounts", "/log-level", "/shutdown"])
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
        assert_eq!(
            status(&open, "POST", "/shutdown", header, "127.0.0.1").await,
            403
        );
    }
    // A peer on another address than loopback, whatever it calls itself.
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
        // Far more replies than the system keeps for a peer.
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

/// What `/livez`, `/healthz`, `/startupz` and `/readyz` answer.
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

/// What the admin port answers at `address`.
async fn status(sidecar: &Sidecar, method: &str, path: &str, headers: &str, address: &str) -> u16 {
    let (_, port) = sidecar.admin.rsplit_once(':').unwrap();
    let mut stream = TcpStream::connect(format!("{address}:{port}"))
        .await
        .unwrap();
    let call = format!(
        "{method} {path} HTTP/1.1\r\n{headers}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(call.as_bytes()).await.unwrap();
    let mut reply = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut reply))
        .await
        .unwrap()
        .unwrap();
    reply[9..12].parse().unwrap()
}
