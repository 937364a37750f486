//! `call` makes one call with the account's token, through the sidecar or without one, and shows no secret.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs::{self, File},
    io::Read,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    thread,
    time::Duration,
};

use bytes::Bytes;
use support::{
    APPID, PATIENCE, Redis, SECRET, Sidecar, Wechat,
    sidecar::{command, temporary, with_account, written},
    wechat::Setup,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::Command,
    time::{sleep, timeout},
};

/// What became of a call.
#[derive(Debug)]
struct Called {
    code: i32,
    stdout: Vec<u8>,
    stderr: String,
}

impl Called {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// Panics unless it went well and said nothing on stderr.
    #[track_caller]
    fn is_silent(&self) {
        assert_eq!((self.code, &*self.stderr), (0, ""), "{self:?}");
    }
}

/// A call through `sidecar`.
fn through(sidecar: &Sidecar, args: &[&str]) -> Command {
    let mut command = command();
    let admin = sidecar.admin.strip_prefix("http://").unwrap();
    command.args(["call", "--admin", admin]).args(args);
    command
}

/// A call in front of `wechat` where no sidecar runs.
fn alone(wechat: &Wechat, args: &[&str]) -> Command {
    let mut command = with_account();
    command.args([
        "call",
        "--admin",
        "127.0.0.1:1",
        "--upstream",
        &wechat.url(),
    ]);
    command.args(args);
    command
}

/// Runs it to its end. It shows no token of `wechat` and no secret.
async fn run(wechat: &Wechat, mut command: Command) -> Called {
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let called = Called {
        code: output.status.code().unwrap(),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    let all = String::from_utf8_lossy(&called.stdout).into_owned() + &called.stderr;
    for secret in wechat
        .all_tokens()
        .iter()
        .map(String::as_str)
        .chain([SECRET])
    {
        assert!(!all.contains(secret), "{all}");
    }
    called
}

/// Runs it with stdout and stderr on a terminal. Returns its exit code and what the terminal shows.
async fn on_a_terminal(mut command: Command) -> (i32, String) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let mut options = File::options();
    let options = options.read(true).write(true);
    let slave = options.open(name.to_str().unwrap()).unwrap();
    command.stdout(slave.try_clone().unwrap()).stderr(slave);
    let mut child = command.spawn().unwrap();
    // The terminal ends when nobody holds its other side.
    drop(command);
    let reader = thread::spawn(move || {
        let (mut master, mut shown) = (File::from(master), Vec::new());
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = master.read(&mut buffer) {
            shown.extend_from_slice(&buffer[..read]);
        }
        String::from_utf8_lossy(&shown).into_owned()
    });
    let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    (
        status.code().unwrap(),
        reader.join().unwrap().replace("\r\n", "\n"),
    )
}

/// Runs it, and returns the most memory in KiB that it took.
async fn memory_of(mut command: Command) -> (ExitStatus, u64) {
    let mut child = command.spawn().unwrap();
    let path = format!("/proc/{}/status", child.id().unwrap());
    let mut most = 0;
    loop {
        let status = fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        most = most.max(kib.unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            return (status, most);
        }
        sleep(Duration::from_millis(2)).await;
    }
}

/// A file with 50 MiB in which no part is like another.
fn large_file() -> (PathBuf, Bytes) {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut bytes = vec![0; 50 << 20];
    rng.fill(&mut bytes);
    let path = temporary("large.mp4");
    fs::write(&path, &bytes).unwrap();
    (path, bytes.into())
}

#[tokio::test]
async fn a_get_takes_its_parameters_and_its_reply_goes_into_a_pipe_as_it_is() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let body = br#"{"total":1.10,  "a":"\u5fae"}"#;
    wechat.change(|fake| fake.body = Some(("application/json".to_owned(), body[..].into())));
    let args = ["/cgi-bin/user/get?x=1", "next_openid=a&b=微 信", "empty="];
    let called = run(&wechat, through(&sidecar, &args)).await;
    called.is_silent();
    assert_eq!(called.stdout, body);
    let call = wechat.calls().pop().unwrap();
    assert_eq!(
        (&*call.method, call.header("content-length")),
        ("GET", None)
    );
    let mut query = call.query();
    query.retain(|(name, _)| name != "access_token");
    let pairs = [("x", "1"), ("next_openid", "a&b=微 信"), ("empty", "")];
    assert_eq!(
        query,
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );

    let head = run(&wechat, through(&sidecar, &["/a", "-i"])).await;
    assert!(head.text().starts_with("HTTP/1.1 200 OK\r\n"), "{head:?}");
    assert!(
        head.text()
            .ends_with("\r\n\r\n{\"total\":1.10,  \"a\":\"\\u5fae\"}"),
        "{head:?}"
    );
}

#[tokio::test]
async fn a_body_comes_from_the_command_line_a_file_or_stdin_and_has_a_length() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let json = " {\"a\":\n1}\r\n";
    let file = format!("@{}", written("body.json", json));
    for (data, stdin, body, media_type) in [
        ("a=b", "", "a=b", "application/x-www-form-urlencoded"),
        ("[1]", "", "[1]", "application/json"),
        ("", "", "", "application/x-www-form-urlencoded"),
        (&file, "", json, "application/json"),
        ("@-", json, json, "application/json"),
    ] {
        let mut command = through(&sidecar, &["/x", "-d", data]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(stdin.as_bytes())
            .await
            .unwrap();
        let output = child.wait_with_output().await.unwrap();
        assert!(output.status.success(), "{data}: {output:?}");
        let call = wechat.calls().pop().unwrap();
        assert_eq!(
            (&*call.method, &call.body[..]),
            ("POST", body.as_bytes()),
            "{data}"
        );
        let length = body.len().to_string();
        assert_eq!(call.header("content-length"), Some(&*length), "{data}");
        assert_eq!(call.header("content-type"), Some(media_type), "{data}");
        assert_eq!(call.header("transfer-encoding"), None);
    }
    let given = [
        "/x",
        "-d",
        "{}",
        "-X",
        "PUT",
        "-H",
        "content-type: a/b",
        "-H",
        "x-a:  1 ",
    ];
    run(&wechat, through(&sidecar, &given)).await.is_silent();
    let call = wechat.calls().pop().unwrap();
    assert_eq!(
        (&*call.method, call.header("content-type")),
        ("PUT", Some("a/b"))
    );
    assert_eq!(call.header("x-a"), Some("1"));
    run(&wechat, through(&sidecar, &["/x", "-X", "POST"]))
        .await
        .is_silent();
    let call = wechat.calls().pop().unwrap();
    assert_eq!(call.header("content-length"), Some("0"));
}

#[tokio::test]
async fn a_file_is_uploaded_in_a_form_and_comes_back_the_same() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let picture: Vec<u8> = (0..=255).collect();
    let path = temporary("photo.jpg");
    fs::write(&path, &picture).unwrap();
    let media = format!("media=@{}", path.display());
    let args = [
        "/cgi-bin/media/upload",
        "type=image",
        "-F",
        "a=b",
        "-F",
        &media,
    ];
    let called = run(&wechat, through(&sidecar, &args)).await;
    called.is_silent();
    let reply: serde_json::Value = serde_json::from_slice(&called.stdout).unwrap();
    let id = format!("media_id={}", reply["media_id"].as_str().unwrap());
    let (to, target) = (temporary("back"), ["/cgi-bin/media/get", &id, "-i", "-o"]);
    let args = [&target[..], &[to.to_str().unwrap()]].concat();
    let called = run(&wechat, through(&sidecar, &args)).await;
    called.is_silent();
    assert_eq!(fs::read(to).unwrap(), picture);
    assert!(
        called.text().contains("content-type: image/jpeg\r\n"),
        "{called:?}"
    );
    assert!(called.text().contains("photo.jpg\"\r\n"), "{called:?}");
}

#[tokio::test]
async fn fifty_megabytes_pass_in_each_direction_and_are_not_held() {
    const MOST_KIB: u64 = 30 * 1024;
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let (path, bytes) = large_file();
    let form = format!("media=@{}", path.display());
    let data = format!("@{}", path.display());
    for from in [&["-F", &*form][..], &["-d", &*data], &["-d", "@-"]] {
        let mut command = through(&sidecar, &[&["/x"], from].concat());
        let mut feeder = None;
        if from[1] == "@-" {
            // A pipe tells no length.
            let mut cat = std::process::Command::new("cat");
            let mut cat = cat.arg(&path).stdout(Stdio::piped()).spawn().unwrap();
            command.stdin(cat.stdout.take().unwrap());
            feeder = Some(cat);
        }
        command.stdout(Stdio::null());
        let (status, kib) = memory_of(command).await;
        feeder.iter_mut().for_each(|cat| drop(cat.wait()));
        assert!(status.success(), "{from:?}");
        assert!(kib > 1024 && kib < MOST_KIB, "{from:?}: {kib} KiB");
        let body = wechat.calls().pop().unwrap().body;
        let start = match from[0] {
            "-F" => body.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4,
            _ => 0,
        };
        assert!(body[start..].starts_with(&bytes), "{from:?}");
        wechat.clear();
    }
    wechat.change(|fake| fake.body = Some(("video/mp4".to_owned(), bytes.clone())));
    let to = temporary("back.mp4");
    let args = ["/cgi-bin/media/get", "-o", to.to_str().unwrap()];
    let (status, kib) = memory_of(through(&sidecar, &args)).await;
    assert!(
        status.success() && kib > 1024 && kib < MOST_KIB,
        "{kib} KiB"
    );
    assert!(fs::read(&to).unwrap() == bytes);
    for file in [path, to] {
        fs::remove_file(file).unwrap();
    }
}

#[tokio::test]
async fn a_terminal_shows_indented_json_and_progress_and_no_binary() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    for (body, code, shown) in [
        (
            &b"{\"b\":1.10,\"a\":[]}"[..],
            0,
            "{\n  \"b\": 1.10,\n  \"a\": []\n}\n",
        ),
        (b"plain {", 0, "plain {\n"),
        (b"\xff\xd8\xff", 1, "write it to a file with -o FILE\n"),
        (b"a\x1b[2J", 1, "write it to a file with -o FILE\n"),
    ] {
        wechat.change(|fake| fake.body = Some(("image/jpeg".to_owned(), body.into())));
        let found = on_a_terminal(through(&sidecar, &["/a"])).await;
        assert!(found.0 == code && found.1.ends_with(shown), "{found:?}");
        let is_all = code == 1 || found.1 == shown;
        assert!(is_all && !found.1.contains('\x1b'), "{found:?}");
    }
    // A long one is printed as it comes, letters that are cut in two included, and no further than to what is no text.
    let letters = "微".repeat(600_000);
    for (more, code, shown) in [("", 0, "微"), ("\u{9b}2J", 1, "with -o FILE\n")] {
        let body = Bytes::from(format!("{letters}{more}"));
        wechat.change(|fake| fake.body = Some(("text/plain".to_owned(), body.clone())));
        let found = on_a_terminal(through(&sidecar, &["/a"])).await;
        let end: String = found.1.chars().rev().take(100).collect();
        assert!(
            found.0 == code && found.1.ends_with(shown),
            "{} {end}",
            found.0
        );
        assert!(!found.1.contains('\u{9b}') && found.1.matches('微').count() > 300_000);
    }
    let large = Bytes::from(vec![b'x'; 3 << 20]);
    wechat.change(|fake| fake.body = Some(("text/plain".to_owned(), large.clone())));
    let to = temporary("large");
    let from = written("large", &"x".repeat(2 << 20));
    let args = ["/a", "-d", &format!("@{from}"), "-o", to.to_str().unwrap()];
    let (code, shown) = on_a_terminal(through(&sidecar, &args)).await;
    assert_eq!(
        (code, fs::metadata(&to).unwrap().len()),
        (0, 3 << 20),
        "{shown}"
    );
    assert!(
        shown.contains("sent 2.0 MiB in ") && shown.contains("received 3.0 MiB in "),
        "{shown}"
    );
    let called = run(&wechat, through(&sidecar, &args)).await;
    called.is_silent();
}

#[tokio::test]
async fn an_error_code_is_explained_and_fails() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.change(|fake| fake.errcode = Some(40003));
    let called = run(&wechat, through(&sidecar, &["/a"])).await;
    assert_eq!(called.code, 1);
    assert!(called.text().contains("40003"), "{called:?}");
    let explained = called.stderr.contains("errcode 40003 from WeChat: ");
    assert!(
        explained && called.stderr.lines().count() == 1,
        "{called:?}"
    );
    let mut chinese = through(&sidecar, &["/a"]);
    chinese.env("LANG", "zh_CN.UTF-8");
    let called = run(&wechat, chinese).await;
    assert!(
        called.stderr.contains("errcode 40003（微信）："),
        "{called:?}"
    );
    wechat.change(|fake| (fake.errcode, fake.status) = (None, Some(500)));
    let called = run(&wechat, through(&sidecar, &["/a"])).await;
    assert_eq!(called.code, 1);
    assert!(called.stderr.contains("HTTP status 500"), "{called:?}");
    let ours = run(&wechat, through(&sidecar, &["/a", "-X", "TRACE"])).await;
    assert_eq!(ours.code, 1);
    assert!(ours.stderr.contains("from wechat-sidecar"), "{ours:?}");
}

#[tokio::test]
async fn the_account_is_named_and_a_caller_key_is_sent() {
    const OTHER: &str = "wxfedcba9876543210";
    let wechat = Wechat::with(Setup {
        refusal_chance: 0.0,
        accounts: vec![
            (APPID.to_owned(), SECRET.to_owned()),
            (OTHER.to_owned(), SECRET.to_owned()),
        ],
        ..Setup::default()
    })
    .await;
    let config = format!(
        "[[accounts]]\nname=\"alpha\"\nappid=\"{APPID}\"\nsecret=\"{SECRET}\"\n\
         [[accounts]]\nname=\"beta\"\nappid=\"{OTHER}\"\nsecret=\"{SECRET}\"\n"
    );
    let config = written("accounts.toml", &config);
    let key = written("key", "HUNTER2-HUNTER2-HUNTER2");
    let flags = [
        "--upstream",
        &wechat.url(),
        "--config",
        &config,
        "--caller-key-file",
        &key,
    ];
    let mut serving = command();
    serving.args(flags);
    let sidecar = Sidecar::spawn(serving, Some(wechat.clone())).await;
    sidecar.until_ready().await;
    let with_key = |args: &[&str]| {
        let mut command = through(&sidecar, &["/a", "--caller-key-file", &key]);
        command.args(args);
        command
    };
    for (account, appid) in [("beta", OTHER), (OTHER, OTHER), (APPID, APPID)] {
        run(&wechat, with_key(&["--account", account]))
            .await
            .is_silent();
        let token = wechat.calls().pop().unwrap().token;
        assert_eq!(token, Some(wechat.token_of(appid)), "{account}");
        // The engine in this process selects in the same way.
        let mut command = alone(&wechat, &["/a", "--config", &config, "--account", account]);
        command.env_clear();
        run(&wechat, command).await.is_silent();
        let token = wechat.calls().pop().unwrap().token;
        assert_eq!(token, Some(wechat.token_of(appid)), "{account}");
    }
    let before = wechat.calls().len();
    for command in [
        with_key(&[]),
        with_key(&["--account", "c"]),
        through(&sidecar, &["/a", "--account", "alpha"]),
    ] {
        let called = run(&wechat, command).await;
        assert_eq!(called.code, 1, "{called:?}");
        let all = format!("{}{}", called.text(), called.stderr);
        assert!(
            called.stderr.contains("from wechat-sidecar") && !all.contains("HUNTER2"),
            "{all}"
        );
    }
    for (args, words) in [
        (
            &["/a"][..],
            "name one with --account: alpha (wx0123456789abcdef), beta",
        ),
        (&["/a", "--account", "c"], "no account is called so"),
    ] {
        let mut command = alone(&wechat, args);
        command.args(["--config", &config]).env_clear();
        let called = run(&wechat, command).await;
        assert!(
            called.code == 1 && called.stderr.contains(words),
            "{called:?}"
        );
    }
    assert_eq!(wechat.calls().len(), before);
}

#[tokio::test]
async fn a_unix_socket_is_called_as_well() {
    let wechat = Wechat::calm().await;
    let socket = temporary("socket");
    let mut serving = with_account();
    let listen = format!("unix:{}", socket.display());
    serving.args(["--upstream", &wechat.url(), "--listen", &listen]);
    let sidecar = Sidecar::spawn(serving, Some(wechat.clone())).await;
    let called = run(&wechat, through(&sidecar, &["/a", "-v"])).await;
    assert_eq!(called.code, 0, "{called:?}");
    assert!(called.stderr.contains(&listen), "{called:?}");
}

#[tokio::test]
async fn where_an_admin_port_does_not_say_the_way_the_configuration_does() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = listener.local_addr().unwrap().to_string();
    // As if this machine were not the sidecar's.
    let reply = "HTTP/1.1 403 Forbidden\r\nx-wechat-sidecar: admin\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno";
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(reply.as_bytes()).await;
        }
    });
    let listen = sidecar.url.strip_prefix("http://").unwrap();
    let config = written(
        "listen.toml",
        &format!("listen = ['{listen}']\nadmin = '{admin}'\n"),
    );
    for flags in [
        &["--admin", &*admin, "--listen", listen][..],
        &["--config", &config],
    ] {
        let mut command = command();
        command.args(["call", "/a"]).args(flags);
        run(&wechat, command).await.is_silent();
    }
    assert_eq!(wechat.calls().len(), 2);
}

#[tokio::test]
async fn a_replay_and_the_way_are_told_to_whoever_asks() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    for flag in [&[][..], &["-v"]] {
        wechat.expire();
        let called = run(&wechat, through(&sidecar, &[&["/a"], flag].concat())).await;
        assert_eq!(called.code, 0, "{called:?}");
        let told = called.stderr.contains("sent once more");
        let way = called.stderr.contains("through the sidecar at 127.0.0.1:");
        assert_eq!(
            (told, way),
            (!flag.is_empty(), !flag.is_empty()),
            "{called:?}"
        );
    }
}

#[tokio::test]
async fn without_a_sidecar_this_process_makes_the_call() {
    let wechat = Wechat::calm().await;
    let called = run(
        &wechat,
        alone(&wechat, &["/cgi-bin/menu/create", "-d", "{}", "-v"]),
    )
    .await;
    assert_eq!(called.code, 0, "{called:?}");
    assert!(called.stderr.contains("no sidecar runs"), "{called:?}");
    let call = wechat.calls().pop().unwrap();
    assert_eq!(
        (call.token, &call.body[..]),
        (Some(wechat.token()), &b"{}"[..])
    );
    assert_eq!(wechat.token_requests().len(), 1);
    // What takes no token causes no request for one.
    wechat.clear();
    let login = ["/sns/jscode2session", "js_code=x"];
    run(&wechat, alone(&wechat, &login)).await;
    assert_eq!(
        (wechat.calls().len(), wechat.token_requests().len()),
        (1, 0)
    );
    let mut nobody = command();
    nobody.args(["call", "/a", "--admin", "127.0.0.1:1"]);
    let called = run(&wechat, nobody).await;
    assert_eq!(called.code, 64);
    assert!(
        called
            .stderr
            .contains("no sidecar can be reached at 127.0.0.1:1"),
        "{called:?}"
    );
}

#[tokio::test]
async fn a_classic_token_is_requested_only_when_that_is_asked_for() {
    let wechat = Wechat::calm().await;
    let classic = ["/a", "--token-api", "classic"];
    let called = run(&wechat, alone(&wechat, &classic)).await;
    assert_eq!((called.code, called.text()), (1, ""));
    assert!(
        called.stderr.contains("start the sidecar, or add --mint"),
        "{called:?}"
    );
    assert_eq!(
        (wechat.token_requests().len(), wechat.calls().len()),
        (0, 0)
    );
    let login = ["/sns/jscode2session", "js_code=x", "--token-api", "classic"];
    run(&wechat, alone(&wechat, &login)).await;
    assert_eq!(
        wechat.calls().pop().unwrap().parameter("secret").as_deref(),
        Some(SECRET)
    );
    assert_eq!(wechat.token_requests().len(), 0);
    let minted = run(
        &wechat,
        alone(&wechat, &[&classic[..], &["--mint"]].concat()),
    )
    .await;
    minted.is_silent();
    assert_eq!(wechat.token_requests().len(), 1);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_classic_token_of_the_store_is_used_and_never_replaced() {
    let (wechat, redis) = (Wechat::calm().await, Redis::start());
    let url = redis.url();
    let flags = ["--token-api", "classic", "--store", &*url];
    let sidecar = Sidecar::with(&wechat, &flags).await;
    let with_store = |path| alone(&wechat, &[&[path], &flags[..]].concat());
    run(&wechat, with_store("/a")).await.is_silent();
    assert_eq!(wechat.token_requests().len(), 1);
    wechat.change(|fake| fake.refuse_always = vec!["/b".to_owned()]);
    let called = run(&wechat, with_store("/b")).await;
    assert_eq!(called.code, 1);
    assert_eq!(wechat.token_requests().len(), 1, "{called:?}");
    drop(sidecar);
}

#[tokio::test]
async fn a_call_ends_within_its_time_and_a_reply_that_breaks_off_fails() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.change(|fake| fake.stall = true);
    let args = ["/a", "secret=HUNTER2", "--timeout", "300ms"];
    let called = run(&wechat, through(&sidecar, &args)).await;
    assert!(
        called.code == 1 && called.stderr.contains("not done after 300ms"),
        "{called:?}"
    );
    assert!(!called.stderr.contains("HUNTER2"), "{called:?}");
    wechat.change(|fake| {
        fake.stall = false;
        fake.hang_up = support::wechat::HangUp::MidBody;
    });
    let called = run(&wechat, through(&sidecar, &args)).await;
    assert_eq!(called.code, 1, "{called:?}");
    assert!(!called.stderr.contains("HUNTER2"), "{called:?}");
    let wrong_port = sidecar.url.strip_prefix("http://").unwrap();
    let mut command = with_account();
    command.args(["call", "/a", "secret=HUNTER2", "--admin", wrong_port]);
    let called = run(&wechat, command).await;
    assert!(
        called.code == 1 && called.stderr.contains("port for calls"),
        "{called:?}"
    );
}

#[tokio::test]
async fn what_makes_no_call_is_wrong_usage_and_is_not_repeated() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let missing = format!("@/nowhere/{}", std::process::id());
    for (args, code, words) in [
        (&["HUNTER2"][..], 64, "begins with a slash"),
        (&["https://HUNTER2/x"], 64, "begins with a slash"),
        (&["/x", "a=b", "HUNTER2"], 64, "parameter 2"),
        (&["/x", "-H", "HUNTER2"], 64, "number 1"),
        (&["/x", "-H", "Content-Length: 1"], 64, "length"),
        (&["/x", "-F", "HUNTER2"], 64, "number 1"),
        (&["/x", "-X", "HUNTER2 "], 64, "no method"),
        (&["/x", "--timeout", "HUNTER2"], 64, "--timeout"),
        (
            &["/x", "-d", "HUNTER2", "-F", "HUNTER2=a"],
            64,
            "cannot be used",
        ),
        (&["/cgi-bin/token", "secret=HUNTER2"], 64, "token request"),
        (&["/x", "-d", &missing], 1, "No such file"),
        (&["/x", "-d", "@/"], 1, "directory"),
        (&["/x", "-o", "/nowhere/x"], 1, "/nowhere/x: "),
    ] {
        let called = run(&wechat, through(&sidecar, args)).await;
        assert!(
            called.code == code && called.stderr.contains(words),
            "{args:?} {called:?}"
        );
        assert!(
            !called.stderr.contains("HUNTER2") && called.stdout.is_empty(),
            "{called:?}"
        );
    }
}
