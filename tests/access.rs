//! Only the app beside the sidecar may call, and nobody may call through it.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    os::unix::{fs::PermissionsExt, net::UnixListener},
    process::Output,
    time::Duration,
};

use support::{PATIENCE, Reply, Sidecar, Wechat, app::rest, sidecar};
use tokio::{
    io::AsyncWriteExt,
    net::UnixStream,
    time::{Instant, sleep, timeout},
};

#[tokio::test]
async fn beyond_loopback_it_starts_only_when_told_so_twice() {
    for (flags, wanted) in [
        (
            &["--listen", "0.0.0.0:0"][..],
            "--unsafe-listen and --caller-key-file",
        ),
        (
            &["--listen", "[::]:0"],
            "--unsafe-listen and --caller-key-file",
        ),
        (
            &["--listen", "127.0.0.1:0", "--listen", "192.0.2.1:0"],
            "192.0.2.1:0",
        ),
        (
            &["--listen", "0.0.0.0:0", "--unsafe-listen"],
            "--caller-key-file",
        ),
        (
            &["--listen", "0.0.0.0:0", "--no-caller-key"],
            "--unsafe-listen",
        ),
    ] {
        let output = ended(flags).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(64) && said.contains(wanted),
            "{flags:?}: {said}"
        );
    }
}

#[tokio::test]
async fn a_caller_from_elsewhere_shows_the_key_and_wechat_never_sees_it() {
    let wechat = Wechat::calm().await;
    let file = sidecar::written("key", "the key\n");
    let flags = [
        "--listen",
        "0.0.0.0:0",
        "--unsafe-listen",
        "--caller-key-file",
        &file,
    ];
    let mut sidecar = Sidecar::with(&wechat, &flags).await;
    wechat.clear();
    for wrong in [
        &[][..],
        &[""],
        &["the ke"],
        &["the key "],
        &["the keyx"],
        &["THE KEY"],
        &["the key", "x"],
        &["the key", "the key"],
    ] {
        let reply = shown(&sidecar, wrong).await;
        // White space around the value of a header does not belong to it.
        let right = wrong == ["the key "];
        assert_eq!(
            (reply.status, reply.errcode()),
            if right {
                (200, None)
            } else {
                (403, Some(990_401))
            },
            "{wrong:?}"
        );
        assert!(!reply.text().contains("the key"));
    }
    assert_eq!(wechat.calls().len(), 1);
    assert_eq!(wechat.calls()[0].header("x-wechat-sidecar-key"), None);

    std::fs::write(&file, "another\n").unwrap();
    let started = Instant::now();
    while shown(&sidecar, &["another"]).await.status != 200 {
        assert!(started.elapsed() < Duration::from_secs(11), "not noticed");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(shown(&sidecar, &["the key"]).await.errcode(), Some(990_401));
    // If a rotation fails, the old key stays in force.
    std::fs::write(&file, "").unwrap();
    sidecar.line("a secret file cannot be read").await;
    assert_eq!(
        (
            shown(&sidecar, &["another"]).await.status,
            shown(&sidecar, &[""]).await.status
        ),
        (200, 403)
    );
    assert!(!sidecar.log().contains("the key") && !sidecar.log().contains("another"));
}

#[tokio::test]
async fn without_a_key_anybody_may_call_if_that_is_wanted() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(
        &wechat,
        &[
            "--listen",
            "0.0.0.0:0",
            "--unsafe-listen",
            "--no-caller-key",
        ],
    )
    .await;
    assert_eq!(get(&sidecar, &["Host: sidecar.internal"]).await, 200);
    assert_eq!(
        get(
            &sidecar,
            &["Host: sidecar.internal", "X-Forwarded-For: 1.2.3.4"]
        )
        .await,
        403
    );
    assert_eq!(
        get(
            &sidecar,
            &["Host: sidecar.internal", "Origin: https://evil.example"]
        )
        .await,
        403
    );
}

#[tokio::test]
async fn a_page_in_a_browser_cannot_call() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(
        &wechat,
        &[
            "--allow-host",
            "wechat.internal",
            "--allow-host",
            "10.1.2.3",
        ],
    )
    .await;
    wechat.clear();
    for host in [
        "localhost",
        "LocalHost:7080",
        "127.0.0.1",
        "[::1]:7080",
        "api.weixin.qq.com",
        "sh.api.weixin.qq.com:443",
        "wechat.internal:80",
        "10.1.2.3",
    ] {
        assert_eq!(
            get(&sidecar, &[&format!("Host: {host}")]).await,
            200,
            "{host}"
        );
    }
    let good = wechat.calls().len();
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "qyapi.weixin.qq.com",
        "user@localhost",
        "10.1.2.4",
        "localhost, evil.example",
        "xwechat.internal",
        "0.0.0.0",
        "2130706433",
    ] {
        assert_eq!(
            get(&sidecar, &[&format!("Host: {host}")]).await,
            403,
            "{host}"
        );
    }
    for header in [
        "Origin: https://evil.example",
        "Origin: null",
        "Origin: http://localhost",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Sec-Fetch-Site: x\r\nSec-Fetch-Site: none",
    ] {
        assert_eq!(
            get(&sidecar, &["Host: localhost", header]).await,
            403,
            "{header}"
        );
    }
    assert_eq!(
        get(&sidecar, &["Host: localhost", "Sec-Fetch-Site: none"]).await,
        200
    );
    // A preflight is refused like any other call, so a page cannot find out what is allowed.
    let preflight = sidecar.raw("OPTIONS /x HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nAccess-Control-Request-Method: POST\r\nConnection: close\r\n\r\n").await;
    assert!(
        preflight.starts_with("HTTP/1.1 403") && !preflight.contains("access-control"),
        "{preflight}"
    );
    assert_eq!(wechat.calls().len(), good + 1);
}

#[tokio::test]
async fn a_call_that_came_through_another_proxy_is_refused_unless_allowed() {
    let wechat = Wechat::calm().await;
    let (strict, lax) = (
        Sidecar::start(&wechat).await,
        Sidecar::with(&wechat, &["--allow-forwarded"]).await,
    );
    wechat.clear();
    for header in [
        "X-Forwarded-For: 1.2.3.4",
        "x-forwarded-for:",
        "Forwarded: for=1.2.3.4;proto=https",
    ] {
        assert_eq!(
            get(&strict, &["Host: localhost", header]).await,
            403,
            "{header}"
        );
        assert_eq!(
            get(&lax, &["Host: localhost", header]).await,
            200,
            "{header}"
        );
    }
    assert_eq!(wechat.calls().len(), 3);
    assert_eq!(
        get(&lax, &["Host: evil.example", "X-Forwarded-For: 1.2.3.4"]).await,
        403
    );
}

#[tokio::test]
async fn a_refusal_says_in_wechats_shape_what_to_do() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    for (header, advice) in [
        ("x-forwarded-for", "--allow-forwarded"),
        ("origin", "copies the headers of its own callers"),
        ("sec-fetch-site", "copies the headers of its own callers"),
        ("host", "--allow-host"),
    ] {
        let request = sidecar
            .client
            .get(format!("{}/x", sidecar.url))
            .header(header, "evil.example");
        let reply: Reply = sidecar.send(request).await;
        assert_eq!(
            (reply.status, reply.errcode(), reply.marks()),
            (403, Some(990_403), vec!["error"])
        );
        assert!(
            reply.text().contains(advice) && !reply.text().contains("evil.example"),
            "{}",
            reply.text()
        );
    }
}

#[tokio::test]
async fn localhost_is_reached_by_ipv4_and_by_ipv6() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--listen", "localhost:0"]).await;
    let (_, port) = sidecar.url.rsplit_once(':').unwrap();
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let url = format!("http://{host}:{port}/cgi-bin/user/get");
        let reply = sidecar.send(sidecar.client.get(url)).await;
        assert_eq!(reply.json()["total"], 2, "{host}: {}", reply.text());
    }
}

#[tokio::test]
async fn a_socket_in_the_file_system_serves_and_leaves_nothing_behind() {
    let wechat = Wechat::calm().await;
    let path = sidecar::temporary("app.sock");
    let listen = format!("unix:{}", path.display());
    // No process listens on it any more.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let mut sidecar =
        Sidecar::with(&wechat, &["--listen", "127.0.0.1:0", "--listen", &listen]).await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7, 0, "{mode:o}");
    for (headers, status) in [
        ("Host: any.name", "200"),
        ("Host: any.name\r\nX-Forwarded-For: 1.2.3.4", "403"),
        ("X: no host", "400"),
    ] {
        let mut app = UnixStream::connect(&path).await.unwrap();
        let call =
            format!("GET /cgi-bin/user/get HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n");
        app.write_all(call.as_bytes()).await.unwrap();
        let reply = rest(app).await;
        assert!(
            reply.starts_with(&format!("HTTP/1.1 {status}")),
            "{headers}: {reply}"
        );
    }
    assert_eq!(sidecar.get("/x").await.status, 200);
    // A second sidecar does not take the socket of a running one.
    let output = ended(&["--listen", &listen]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(UnixStream::connect(&path).await.is_ok());
    sidecar.signal("-TERM");
    assert!(sidecar.ended().await.success());
    assert!(!path.exists());
    // A file that is not a socket is not removed.
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(ended(&["--listen", &listen]).await.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

/// The status of a call with these headers.
async fn get(sidecar: &Sidecar, headers: &[&str]) -> u16 {
    let call = format!(
        "GET /cgi-bin/user/get HTTP/1.1\r\n{}\r\nConnection: close\r\n\r\n",
        headers.join("\r\n")
    );
    let reply = sidecar.raw(call).await;
    let status = reply[9..12].parse().unwrap();
    assert_eq!(
        status == 403,
        reply.contains("\"errcode\":990403"),
        "{headers:?}: {reply}"
    );
    status
}

/// The reply to a call that sends these keys.
async fn shown(sidecar: &Sidecar, keys: &[&str]) -> Reply {
    let mut request = sidecar
        .client
        .get(format!("{}/cgi-bin/user/get", sidecar.url));
    for key in keys {
        request = request.header("X-Wechat-Sidecar-Key", *key);
    }
    sidecar.send(request).await
}

/// A sidecar that cannot start.
async fn ended(flags: &[&str]) -> Output {
    let mut command = sidecar::with_account();
    command.args(["--admin", "127.0.0.1:0"]).args(flags);
    timeout(PATIENCE, command.output())
        .await
        .expect("it starts")
        .unwrap()
}
