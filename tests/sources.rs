//! Tokens that something else keeps fresh, in a file or on a server of the operator's own.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    APPID, PATIENCE, Sidecar, Wechat,
    sidecar::{command, temporary, written},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

const CALL: &str = "/cgi-bin/user/get";

/// A sidecar with the token source that `token` describes, and without a secret.
async fn sidecar(wechat: &Wechat, token: &str) -> Sidecar {
    let file = format!("[[accounts]]\nappid = '{APPID}'\n[accounts.token]\n{token}\n");
    let config = written("sources.toml", &file);
    let mut command = command();
    command.args([
        "--log-level",
        "trace",
        "--upstream",
        &wechat.url(),
        "--config",
        &config,
    ]);
    Sidecar::spawn(command, Some(wechat.clone())).await
}

fn of_file(path: &Path) -> String {
    format!("source = 'file'\nfile = '{}'", path.display())
}

/// Replaces the file by a rename, as careful programs do.
fn put(path: &Path, text: &str) {
    let aside = path.with_extension("aside");
    fs::write(&aside, text).unwrap();
    fs::rename(&aside, path).unwrap();
}

/// Checks that the app sees no error, whatever happens to tokens.
async fn works(sidecar: &Sidecar) {
    let reply = sidecar.get(CALL).await;
    assert_eq!(
        (reply.status, reply.json()["total"].as_u64()),
        (200, Some(2)),
        "{}",
        reply.text()
    );
}

/// Waits until the sidecar is not ready for this `reason`.
async fn not_ready(sidecar: &Sidecar, reason: &str) {
    let started = Instant::now();
    loop {
        let reply = sidecar.admin("/readyz").await;
        if reply.status == 503 && reply.text().contains(reason) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{}", reply.text());
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_file_is_followed_and_wechat_is_asked_for_nothing() {
    let wechat = Wechat::start().await;
    // A spurious refusal would cause a replay, which this test does not expect.
    wechat.change(|behaviour| behaviour.refusal_chance = 0.0);
    let path = temporary("token");
    let sidecar = sidecar(&wechat, &of_file(&path)).await;
    let missing = format!("token.file {} cannot be read: No such file", path.display());
    not_ready(&sidecar, &missing).await;
    let reply = sidecar.get(CALL).await;
    assert_eq!((reply.status, reply.errcode()), (503, Some(990503)));
    assert!(reply.text().contains("token.file"), "{}", reply.text());

    put(&path, &format!("{}\n", wechat.token()));
    sidecar.until_ready().await;
    works(&sidecar).await;

    // The next token is read before WeChat refuses the old one.
    wechat.expire();
    let next = wechat.token();
    put(
        &path,
        &json!({"access_token": next, "expires_in": 7200}).to_string(),
    );
    sidecar.becomes("wechat_sidecar_token_fetches_total{account=\"wx0123456789abcdef\",cause=\"renewal\",outcome=\"shared\"}", 1.0).await;
    works(&sidecar).await;
    assert_eq!(sidecar.metric("wechat_sidecar_replays_total").await, 0.0);
    assert_eq!(wechat.token_requests().len(), 0);
    let accounts = sidecar.admin("/accounts").await.json();
    assert_eq!(accounts["accounts"][0]["token_fetches_today"], 0);
}

#[tokio::test]
async fn a_refusal_rereads_the_file_and_waits_for_who_is_writing_it() {
    let wechat = Wechat::calm().await;
    let path = temporary("token");
    put(&path, &wechat.token());
    let sidecar = sidecar(&wechat, &of_file(&path)).await;
    sidecar.until_ready().await;
    for late in [0, 300, 900] {
        wechat.expire();
        let writing = async {
            sleep(Duration::from_millis(late)).await;
            // This is no rename: the file is empty in between.
            fs::write(&path, "").unwrap();
            sleep(Duration::from_millis(50)).await;
            fs::write(&path, wechat.token()).unwrap();
        };
        tokio::join!(writing, works(&sidecar), works(&sidecar), works(&sidecar));
    }
    assert_eq!(wechat.token_requests().len(), 0);
}

#[tokio::test]
async fn a_token_that_stays_refused_reaches_the_app_and_the_next_one_heals_at_once() {
    let wechat = Wechat::calm().await;
    let path = temporary("token");
    put(&path, &wechat.token());
    let sidecar = sidecar(&wechat, &of_file(&path)).await;
    sidecar.until_ready().await;
    wechat.expire();
    for _ in 0..3 {
        assert_eq!(sidecar.get(CALL).await.errcode(), Some(42001));
    }
    put(&path, &wechat.token());
    let started = Instant::now();
    while sidecar.get(CALL).await.errcode().is_some() {
        assert!(started.elapsed() < Duration::from_secs(10));
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_old_token_that_is_refused_is_not_used_again_and_the_reason_is_said() {
    let wechat = Wechat::calm().await;
    let path = temporary("token");
    put(&path, &wechat.token());
    let file = fs::File::options().append(true).open(&path).unwrap();
    let times = fs::FileTimes::new();
    let then = std::time::SystemTime::now() - Duration::from_secs(7300);
    file.set_times(times.set_modified(then)).unwrap();
    let mut sidecar = sidecar(&wechat, &of_file(&path)).await;
    // The token may be valid for longer than usual.
    sidecar.until_ready().await;
    works(&sidecar).await;
    wechat.expire();
    assert_eq!(sidecar.get(CALL).await.errcode(), Some(42001));
    sidecar.line("holds a token that WeChat refuses").await;
    put(&path, &wechat.token());
    let started = Instant::now();
    while sidecar.get(CALL).await.errcode().is_some() {
        assert!(started.elapsed() < Duration::from_secs(10));
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_file_that_breaks_leaves_the_last_good_token_in_use() {
    let wechat = Wechat::calm().await;
    let path = temporary("token");
    put(&path, &wechat.token());
    let mut sidecar = sidecar(&wechat, &of_file(&path)).await;
    sidecar.until_ready().await;
    let problem =
        format!("wechat_sidecar_problem{{account=\"{APPID}\",kind=\"token_request_failed\"}}");
    for (broken, says) in [
        (Some(""), "is empty; the cause says"),
        (
            Some("{\"access_token\":\"HUNTER2"),
            "begins like JSON and is none; keeping",
        ),
        (None, "cannot be read: No such file"),
    ] {
        match broken {
            Some(text) => put(&path, text),
            None => fs::remove_file(&path).unwrap(),
        }
        let line = sidecar.line(says).await;
        assert!(line.contains(path.to_str().unwrap()), "{line}");
        works(&sidecar).await;
        assert_eq!(sidecar.admin("/readyz").await.status, 200);
        sidecar.becomes(&problem, 1.0).await;
    }
    put(&path, &wechat.token());
    sidecar.becomes(&problem, 0.0).await;
    assert!(!sidecar.log().contains("HUNTER2"));
}

#[tokio::test]
async fn a_secret_that_kubernetes_mounts_is_followed_through_its_links() {
    let wechat = Wechat::calm().await;
    let volume = temporary("volume");
    let put = |folder: &str, token: &str| {
        fs::create_dir_all(volume.join(folder)).unwrap();
        fs::write(volume.join(folder).join("token"), token).unwrap();
        std::os::unix::fs::symlink(folder, volume.join("..next")).unwrap();
        fs::rename(volume.join("..next"), volume.join("..data")).unwrap();
    };
    put("..1", &wechat.token());
    std::os::unix::fs::symlink("..data/token", volume.join("token")).unwrap();
    let sidecar = sidecar(&wechat, &of_file(&volume.join("token"))).await;
    sidecar.until_ready().await;
    works(&sidecar).await;
    wechat.expire();
    put("..2", &wechat.token());
    fs::remove_dir_all(volume.join("..1")).unwrap();
    sidecar.becomes("wechat_sidecar_token_fetches_total{account=\"wx0123456789abcdef\",cause=\"renewal\",outcome=\"shared\"}", 1.0).await;
    works(&sidecar).await;
    assert_eq!(sidecar.metric("wechat_sidecar_refusals_total").await, 0.0);
}

#[tokio::test]
async fn a_login_takes_the_secret_that_such_an_account_need_not_have() {
    let wechat = Wechat::calm().await;
    let path = temporary("token");
    put(&path, &wechat.token());
    let sidecar = sidecar(&wechat, &of_file(&path)).await;
    let reply = sidecar
        .get("/sns/jscode2session?js_code=c&grant_type=authorization_code")
        .await;
    assert_eq!((reply.status, reply.errcode()), (403, Some(990405)));
    assert!(reply.text().contains("secret_file"), "{}", reply.text());
    assert_eq!(wechat.calls().len(), 0);
}

/// A server of tokens. It answers every request with the same status and body.
struct Server {
    url: String,
    answer: watch::Sender<(u16, String)>,
    heads: watch::Receiver<Vec<String>>,
    accepting: JoinHandle<()>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start(answer: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (answer, answers) = watch::channel((200, answer.to_string()));
        let (seen, heads) = watch::channel(Vec::new());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap() > 0
                {
                }
                seen.send_modify(|seen| seen.push(String::from_utf8_lossy(&head).into_owned()));
                count.fetch_add(1, Ordering::SeqCst);
                let (status, body) = answers.borrow().clone();
                let more = if status == 302 {
                    "location: /elsewhere\r\n"
                } else {
                    ""
                };
                let length = body.len();
                let reply = format!(
                    "HTTP/1.1 {status} X\r\nconnection: close\r\n{more}content-length: {length}\r\n\r\n{body}"
                );
                let _ = stream.write_all(reply.as_bytes()).await;
            }
        });
        Self {
            url,
            answer,
            heads,
            accepting,
            asked,
        }
    }

    fn answer(&self, status: u16, body: impl Into<String>) {
        self.answer.send_replace((status, body.into()));
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn token(wechat: &Wechat) -> String {
    json!({"access_token": wechat.token(), "expires_in": 7200}).to_string()
}

#[tokio::test]
async fn a_server_is_asked_again_when_its_token_is_refused_and_wechat_for_nothing() {
    let wechat = Wechat::calm().await;
    let answer = json!({"data": {"tok/en": wechat.token()}, "left": ["3600"]});
    let server = Server::start(&answer).await;
    let header = written("header", "Authorization: Bearer HUNTER2\n");
    let sidecar = sidecar(
        &wechat,
        &format!(
            "source = 'http'\nurl = '{}/token?key=HUNTER3'\nheader_file = '{header}'\n\
             token_pointer = '/data/tok~1en'\nexpires_pointer = '/left/0'",
            server.url
        ),
    )
    .await;
    sidecar.until_ready().await;
    works(&sidecar).await;
    let head = server.heads.borrow()[0].clone();
    assert!(
        head.starts_with("GET /token?key=HUNTER3 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains("authorization: Bearer HUNTER2\r\n"), "{head}");
    let expires = sidecar.metric("wechat_sidecar_token_expires_seconds").await;
    assert!((3500.0..=3600.0).contains(&expires), "{expires}");

    fs::write(&header, "X-Other: HUNTER2").unwrap();
    wechat.expire();
    let answer = json!({"data": {"tok/en": wechat.token()}, "left": [60]});
    server.answer(200, answer.to_string());
    let calls = (0..20).map(|_| works(&sidecar));
    futures_util::future::join_all(calls).await;
    assert_eq!(server.asked(), 2);
    let head = server.heads.borrow()[1].clone();
    assert!(head.contains("x-other: HUNTER2\r\n"), "{head}");

    assert_eq!(wechat.token_requests().len(), 0);
    let accounts = sidecar.admin("/accounts").await.json();
    assert_eq!(accounts["accounts"][0]["token_fetches_today"], 0);
    let log = sidecar.log();
    assert!(!log.contains("HUNTER"), "{log}");
}

#[tokio::test]
async fn a_server_that_fails_leaves_the_token_in_hand_and_is_asked_ever_more_seldom() {
    let wechat = Wechat::calm().await;
    let server = Server::start(&json!({})).await;
    server.answer(302, "HUNTER2");
    let sidecar = sidecar(
        &wechat,
        &format!("source = 'http'\nurl = '{}/HUNTER2'", server.url),
    )
    .await;
    not_ready(&sidecar, "token.url answered HTTP status 302").await;
    for (status, body, says) in [
        (
            200,
            "{\"errcode\":40164,\"errmsg\":\"HUNTER2\"}".to_owned(),
            "and errcode 40164, in which there is no text at token.token_pointer",
        ),
        (200, "x".repeat(100_000), "far too large"),
    ] {
        server.answer(status, body);
        not_ready(&sidecar, says).await;
    }
    assert!(
        server
            .heads
            .borrow()
            .iter()
            .all(|head| !head.contains("/elsewhere"))
    );
    server.answer(200, token(&wechat));
    sidecar.until_ready().await;
    works(&sidecar).await;

    // The server keeps answering the same token. The app reads the refusal, and the server is not asked for each
    // call.
    wechat.expire();
    let asked = server.asked();
    for _ in 0..10 {
        assert_eq!(sidecar.get(CALL).await.errcode(), Some(42001));
    }
    assert!(server.asked() - asked <= 6, "{}", server.asked() - asked);
    // The server is still polled from time to time.
    server.answer(200, token(&wechat));
    sidecar.becomes("wechat_sidecar_token_fetches_total{account=\"wx0123456789abcdef\",cause=\"renewal\",outcome=\"shared\"}", 1.0).await;
    works(&sidecar).await;
    let log = sidecar.log();
    assert!(!log.contains("HUNTER"), "{log}");
}

#[tokio::test]
async fn check_says_where_tokens_come_from() {
    let wechat = Wechat::calm().await;
    let path: PathBuf = temporary("token");
    put(
        &path,
        &json!({"access_token": wechat.token(), "expires_in": 100}).to_string(),
    );
    let file = format!(
        "[[accounts]]\nappid = '{APPID}'\ntoken_api = 'classic'\n[accounts.token]\n{}\n",
        of_file(&path)
    );
    let config = written("check.toml", &file);
    let mut check = command();
    check.args([
        "check",
        "--upstream",
        &wechat.url(),
        "--config",
        &config,
        "--admin",
        "127.0.0.1:0",
        "--listen",
        "127.0.0.1:0",
    ]);
    let output = check.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("with tokens from a file"), "{said}");
    assert!(
        said.contains("the file holds a token for wx0123456789abcdef; it lives"),
        "{said}"
    );
    fs::write(&path, "").unwrap();
    let output = check.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        !output.status.success() && said.contains("token.file") && said.contains("is empty"),
        "{said}"
    );
}
