//! The way to WeChat: certificates, addresses, proxies, a rotated secret; and replies of every shape.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use support::{APPID, SECRET, Sidecar, Wechat, sidecar, wechat::Setup};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    time::Instant,
};

/// A path that takes no token of ours, so that a call there needs none.
const TOKENLESS: &str = "/sns/userinfo?access_token=users-own-token&openid=o1";
const PASSWORD: &str = "correct:horse battery";

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_gets_no_call_and_no_secret() {
    let wechat = Wechat::start_tls().await;
    let trusting = Sidecar::start(&wechat).await;
    assert_eq!(trusting.get("/cgi-bin/user/get").await.json()["total"], 2);
    wechat.clear();
    let url = format!("https://localhost:{}", wechat.addr().port());
    let doubting = of(&wechat, &["--upstream", &url], &[]).await;
    let other = ca(&Wechat::start_tls().await);
    let misled = of(&wechat, &["--upstream", &url, "--upstream-ca", &other], &[]).await;
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
        &[],
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
        &[],
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
    let unknown = of(
        &wechat,
        &["--upstream", "https://no-such-host.invalid"],
        &[],
    )
    .await;
    let reply = unknown.get(TOKENLESS).await;
    assert!(
        (reply.status, reply.errcode()) == (502, Some(990_502))
            && reply.text().contains("cannot be resolved"),
        "{}",
        reply.text()
    );
    // A listener that never answers: the system connects, TLS waits.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", silent.local_addr().unwrap().port());
    let waiting = of(
        &wechat,
        &["--upstream", &url, "--connect-timeout", "500ms"],
        &[],
    )
    .await;
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
        let sidecar = of(&wechat, &flags, &[]).await;
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
            let sidecar = of(&wechat, &flags, &[]).await;
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
        let sidecar = of(&wechat, &flags, &[]).await;
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
        // Once it is known to be down it is passed over.
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
    sidecar.line("no token").await;
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
    // The request is out with the old secret.
    wechat.wait_until(|wechat| wechat.connections() == 1).await;
    wechat.wait_for_token_requests(1).await;
    std::fs::write(&file, SECRET).unwrap();
    wechat.change(|behaviour| behaviour.token_delay = Duration::ZERO);
    let started = Instant::now();
    sidecar.until_ready().await;
    // The end of that request, and the time in which a change is noticed.
    assert!(
        started.elapsed() < Duration::from_secs(6 + 11),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_reply_arrives_as_it_was_however_it_comes() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    for (chunked, split, interim) in [
        (false, false, true),
        (true, false, false),
        (false, true, false),
        (true, true, true),
    ] {
        wechat.change(|behaviour| {
            (
                behaviour.chunked_replies,
                behaviour.split_writes,
                behaviour.interim_100,
            ) = (chunked, split, interim);
        });
        for size in [0, 1, 4095, 4096, 4097, 3 << 20] {
            for json in [0, 1] {
                let reply = sidecar.get(&format!("/big?size={size}&json={json}")).await;
                let expected = if json == 1 { size.max(11) } else { size };
                assert_eq!(
                    (reply.status, reply.body.len()),
                    (200, expected),
                    "{chunked} {split} {json}"
                );
                assert!(
                    reply
                        .body
                        .iter()
                        .skip(9)
                        .rev()
                        .skip(2)
                        .all(|byte| *byte == b'x')
                );
            }
        }
    }
    for (script, body) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\nuntil the end",
            "until the end",
        ),
        ("HTTP/1.0 200 OK\r\n\r\n{\"errcode\":0}", "{\"errcode\":0}"),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            "{}",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "hello",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{  1}\r\n0\r\n\r\n",
            "{  1}",
        ),
    ] {
        let reply = scripted(script).await;
        assert!(
            reply.starts_with("HTTP/1.1 200") && reply.replace("\r\n0\r\n\r\n", "").ends_with(body),
            "{script}: {reply}"
        );
        assert!(!reply.contains("content-length: 3"), "{script}: {reply}");
    }
}

/// What an app reads when WeChat answers `script` and closes.
async fn scripted(script: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(script.as_bytes()).await;
        }
    });
    let mut command = sidecar::command();
    command
        .args(["--upstream", &url])
        .env("WECHAT_APPID", support::APPID)
        .env("WECHAT_SECRET", support::SECRET);
    let sidecar = Sidecar::spawn(command, None).await;
    // A path that takes no token of ours.
    sidecar.raw("GET /sns/userinfo?access_token=x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await
}

/// A sidecar with these flags, and a log at trace level; `--upstream` is among the flags or the default.
async fn of(wechat: &Wechat, flags: &[&str], environment: &[(&str, &str)]) -> Sidecar {
    let mut command = sidecar::command();
    command.args(["--log-level", "trace"]).args(flags);
    command
        .env("WECHAT_APPID", APPID)
        .env("WECHAT_SECRET", SECRET)
        .envs(environment.iter().copied());
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

fn written(name: &str, text: &str) -> String {
    let path = sidecar::temporary(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn ca(wechat: &Wechat) -> String {
    written("ca.pem", &wechat.ca_pem().unwrap())
}

/// Whether `text` has the password in it, as it is or as proxies want it.
fn tells(text: &str, password: &str) -> bool {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let basic = STANDARD.encode(format!("user:{password}"));
    [
        password,
        &basic,
        &password.replace(':', "%3A").replace(' ', "%20"),
    ]
    .iter()
    .any(|form| text.contains(*form))
}

/// A forward proxy.
struct Egress {
    url: String,
    /// The targets that it was asked for.
    asked: Mutex<Vec<String>>,
    /// WeChat's default host cannot be connected.
    default_is_down: AtomicBool,
}

impl Egress {
    /// One that leads to `wechat`, whoever is asked for, and knows `user` by this password.
    async fn to(wechat: SocketAddr, scheme: &str, password: Option<&'static str>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let egress = Arc::new(Self {
            url: format!("{scheme}://{}", listener.local_addr().unwrap()),
            asked: Mutex::default(),
            default_is_down: AtomicBool::new(false),
        });
        let (shared, socks) = (egress.clone(), scheme == "socks5");
        tokio::spawn(async move {
            while let Ok((app, _)) = listener.accept().await {
                let egress = shared.clone();
                tokio::spawn(async move { egress.serve(app, wechat, socks, password).await });
            }
        });
        egress
    }

    async fn serve(
        &self,
        mut app: TcpStream,
        wechat: SocketAddr,
        socks: bool,
        password: Option<&str>,
    ) -> Option<()> {
        let (target, yes) = if socks {
            let target = socks5(&mut app, password).await?;
            (target, &b"\x05\0\0\x01\0\0\0\0\0\0"[..])
        } else {
            let target = connect(&mut app, password).await?;
            (target, &b"HTTP/1.1 200 Established\r\nX: y\r\n\r\n"[..])
        };
        self.asked.lock().unwrap().push(target.clone());
        if target.starts_with("api.") && self.default_is_down.load(Ordering::Relaxed) {
            let refusal = b"HTTP/1.1 502 Bad Gateway\r\n\r\n";
            return app.write_all(refusal).await.ok();
        }
        app.write_all(yes).await.ok()?;
        let mut wechat = TcpStream::connect(wechat).await.ok()?;
        copy_bidirectional(&mut app, &mut wechat)
            .await
            .ok()
            .map(drop)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn connect(app: &mut TcpStream, password: Option<&str>) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(app.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    if password.is_some_and(|password| !tells(&head, password)) {
        app.write_all(
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
        )
        .await
        .ok()?;
        return None;
    }
    let target = head.strip_prefix("CONNECT ")?.split(' ').next()?;
    assert!(
        !head.contains("access_token") && !head.contains("/cgi-bin"),
        "{head}"
    );
    Some(target.to_owned())
}

async fn socks5(app: &mut TcpStream, password: Option<&str>) -> Option<String> {
    let mut greeting = vec![0; 2];
    app.read_exact(&mut greeting).await.ok()?;
    let mut methods = vec![0; greeting[1].into()];
    app.read_exact(&mut methods).await.ok()?;
    if let Some(password) = password {
        assert!(methods.contains(&2), "{methods:?}");
        app.write_all(&[5, 2]).await.ok()?;
        let (_version, user) = (app.read_u8().await.ok()?, field(app).await?);
        let right = user == "user" && field(app).await? == password;
        app.write_all(&[1, u8::from(!right)]).await.ok()?;
        if !right {
            return None;
        }
    } else {
        app.write_all(&[5, 0]).await.ok()?;
    }
    let mut request = [0; 4];
    app.read_exact(&mut request).await.ok()?;
    assert_eq!(
        request,
        [5, 1, 0, 3],
        "it asks for a name, and resolves none itself"
    );
    let name = field(app).await?;
    Some(format!("{name}:{}", app.read_u16().await.ok()?))
}

/// A text after its length.
async fn field(app: &mut TcpStream) -> Option<String> {
    let mut text = vec![0; app.read_u8().await.ok()?.into()];
    app.read_exact(&mut text).await.ok()?;
    String::from_utf8(text).ok()
}
