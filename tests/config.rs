//! The command line as an operator meets it: what it accepts, what it refuses, and what it never repeats.
#![allow(clippy::unwrap_used)]

use std::{
    ffi::OsStr,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use wechat_sidecar::{
    COMMIT, VERSION,
    config::keys::{Key, ValueKind, keys},
    fake::{APPID, SECRET, Wechat},
};

/// The result of a run.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    /// The output on stdout and stderr.
    text: String,
}

/// A command with an account, and with nothing else of this process's environment.
fn sidecar(args: &[&str]) -> Command {
    let mut command = bare(args);
    command
        .env("WECHAT_APPID", APPID)
        .env("WECHAT_SECRET", SECRET);
    command
}

fn bare(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wechat-sidecar"));
    command.env_clear().args(args);
    command
}

/// Runs the command to its end. A sidecar that starts to serve by mistake is killed.
fn run(command: &mut Command) -> Run {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    for _ in 0..2_000 {
        if child.try_wait().unwrap().is_some() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    // This fails if it has ended.
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code(),
        text: String::from_utf8([output.stdout, output.stderr].concat()).unwrap(),
    }
}

impl Run {
    #[track_caller]
    fn says(&self, code: i32, words: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(
            self.text.contains(words),
            "{words:?} is missing in {self:?}"
        );
        assert!(
            !self.text.contains("HUNTER2") && !self.text.contains(SECRET),
            "{self:?}"
        );
    }
}

/// A file that is removed when this is dropped.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> Self {
        let name = format!("sidecar-{}-{}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Runs `check` against WeChat at `url`. No sidecar is running, unless `more` sets another admin port.
fn check(url: &str, more: &[&str]) -> Run {
    let mut command = sidecar(&["check", "--listen", "127.0.0.1:0", "--upstream", url]);
    run(command
        .args(more)
        .env("WECHAT_SIDECAR_ADMIN", nowhere().to_string()))
}

/// An address on which no process listens.
fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// An admin port that replies with `answer(method and path, number of earlier requests)` until the process ends.
fn admin(answer: fn(&str, usize) -> (u16, &'static str)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (before, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut head = [0; 1024];
            let length = stream.read(&mut head).unwrap();
            let head = String::from_utf8_lossy(&head[..length]).into_owned();
            assert!(
                head.to_ascii_lowercase()
                    .contains(&format!("host: localhost:{}", address.port()))
            );
            let target = head.split(" HTTP/").next().unwrap();
            let (status, body) = answer(target, before);
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} x\r\nX-Wechat-Sidecar: admin\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
            .unwrap();
        }
    });
    address.to_string()
}

/// A server that is not an admin port and replies with `headers`. Returns its address, and the requests that it gets.
fn stranger(headers: &'static str) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, questions) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 1024];
            let length = stream.read(&mut head).unwrap();
            let line = String::from_utf8_lossy(&head[..length]);
            let _ = asked.send(line.lines().next().unwrap_or_default().to_owned());
            let reply = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 7\r\n\r\nHUNTER2");
            stream.write_all(reply.as_bytes()).unwrap();
        }
    });
    (address.to_string(), questions)
}

#[test]
fn version_and_help_are_on_stdout() {
    let version = run(&mut bare(&["--version"]));
    assert_eq!(version.code, Some(0));
    assert_eq!(
        version.text,
        format!("wechat-sidecar {VERSION} (commit {COMMIT})\n")
    );
    let help = bare(&["--help"]).output().unwrap();
    assert!(help.status.success() && help.stderr.is_empty());
    let help = String::from_utf8(help.stdout).unwrap();
    for key in keys() {
        assert!(help.contains(&format!("--{}", key.name)), "{}", key.name);
        assert!(help.contains(key.default_text()), "{}", key.name);
    }
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let file = File::new("admin = '127.0.0.1:1'\nreplay_limit = '1KiB'");
    let asked = |command: &mut Command| run(command).text;
    let config = ["health", "--config", file.path()];
    assert!(asked(&mut bare(&config)).contains("127.0.0.1:1:"));
    let env = |command: &mut Command| asked(command.env("WECHAT_SIDECAR_ADMIN", "127.0.0.1:2"));
    assert!(env(&mut bare(&config)).contains("127.0.0.1:2:"));
    assert!(env(bare(&config).args(["--admin", "127.0.0.1:3"])).contains("127.0.0.1:3:"));
    let by_environment = &mut bare(&["health"]);
    by_environment.env("WECHAT_SIDECAR_CONFIG", file.path());
    assert!(asked(by_environment).contains("127.0.0.1:1:"));
}

#[test]
fn what_is_unknown_is_named() {
    run(&mut sidecar(&["--lisen", "x"])).says(64, "--lisen");
    run(&mut sidecar(&["chekc"])).says(64, "chekc");
    let file = File::new("\nlisen = 'HUNTER2'");
    let wrong = run(&mut sidecar(&["--config", file.path()]));
    wrong.says(
        64,
        &format!(
            "lisen in {}, line 2: there is no such key; did you mean listen?",
            file.path()
        ),
    );
    let mut odd = sidecar(&["check", "--upstream", "http://127.0.0.1:1"]);
    odd.env("WECHAT_SIDECAR_LISEN", "HUNTER2")
        .env("WECHAT_SIDECAR_PORT", "tcp://x");
    let odd = run(&mut odd);
    odd.says(1, "warning: WECHAT_SIDECAR_LISEN is ignored");
    assert!(!odd.text.contains("WECHAT_SIDECAR_PORT"));
    let mut quoted = sidecar(&["check", "--upstream", "http://127.0.0.1:1"]);
    let quoted = run(quoted.env("WECHAT_SECRET", "'HUNTER2'"));
    quoted.says(1, "warning: WECHAT_SECRET: the secret has quotes around it");
    assert!(!quoted.text.contains("HUNTER2"));
}

#[test]
fn a_bad_value_is_refused_wherever_it_stands() {
    const BAD: &str = "no such thing!";
    for key in keys() {
        let flag = format!("--{}={BAD}", key.name);
        run(&mut sidecar(&["check", &flag])).says(64, &format!("--{}: ", key.name));
        let variable = key.variable();
        run(sidecar(&["check"]).env(&variable, BAD)).says(64, &format!("{variable}: "));
        let file = File::new(&format!("{} = '{BAD}'", key.name));
        let place = format!("{} in {}, line 1: ", key.name, file.path());
        run(&mut sidecar(&["check", "--config", file.path()])).says(64, &place);
    }
    run(&mut bare(&["wait", "--timeout", BAD])).says(64, "--timeout: ");
}

#[test]
fn a_right_value_is_what_the_error_shows() {
    for key in keys().iter().filter(|key| shows_example(key)) {
        let wrong = run(&mut sidecar(&["check", &format!("--{}=!", key.name)]));
        wrong.says(64, &format!("for example {}", key.example));
    }
}

/// Whether errors about `key` show its example. They do not for a path, which has no wrong form.
fn shows_example(key: &Key) -> bool {
    !key.placeholder.contains("FILE") || key.kind == ValueKind::Switch
}

#[test]
fn a_password_in_a_url_is_refused_and_never_repeated() {
    const URL: &str = "http://user:HUNTER2@127.0.0.1:1";
    for key in ["upstream", "egress-proxy"] {
        let variable = format!("WECHAT_SIDECAR_{}", key.to_uppercase().replace('-', "_"));
        let file = File::new(&format!("{key} = '{URL}'"));
        for command in [
            &mut sidecar(&["check", &format!("--{key}"), URL]),
            sidecar(&["check"]).env(variable, URL),
            &mut sidecar(&["check", "--config", file.path()]),
        ] {
            run(command).says(64, "a URL takes no user or password");
        }
    }
    for key in keys() {
        let wrong = run(&mut sidecar(&["check", &format!("--{}={URL}", key.name)]));
        wrong.says(64, key.name);
    }
    run(&mut sidecar(&[URL])).says(64, "[hidden]");
}

#[test]
fn a_broken_file_is_not_quoted() {
    for file in [
        "listen = 'HUNTER2",
        "\nHUNTER2",
        "listen = HUNTER2",
        "a = ['HUNTER2'",
        "secret = 'HUNTER2'",
        "upstream = { a = 'HUNTER2' }",
        "upstream = 'a' 'HUNTER2'",
        "upstream = \"\\qHUNTER2\"",
        "[[accounts]]\nsecret = 'HUNTER2'",
        "upstream = 1\nupstream = 'HUNTER2'",
    ] {
        let file = File::new(file);
        run(&mut sidecar(&["--config", file.path()])).says(64, file.path());
    }
}

#[test]
fn listening_beyond_loopback_is_refused_with_a_reason() {
    let wide = run(&mut sidecar(&["--listen", "0.0.0.0:0"]));
    wide.says(64, "--listen: 0.0.0.0:0 can be reached from other machines");
    let unguarded = &["--listen", "[::]:0", "--unsafe-listen"];
    run(&mut sidecar(unguarded)).says(64, "--caller-key-file");
}

#[test]
fn a_token_never_leaves_this_machine_in_plain_text() {
    let plain = "http://127.0.0.1:9";
    let proxy = &[
        "--upstream",
        plain,
        "--egress-proxy",
        "http://192.0.2.2:3128",
    ];
    run(&mut sidecar(proxy)).says(64, "--egress-proxy: ");
    let elsewhere = &["--upstream", plain, "--upstream-address", "192.0.2.2"];
    run(&mut sidecar(elsewhere)).says(64, "--upstream-address: ");
    run(&mut sidecar(&["--upstream", "http://192.0.2.2"])).says(64, "--upstream: ");
}

#[test]
fn an_account_is_needed_to_serve_and_to_check() {
    for subcommand in ["serve", "check"] {
        run(&mut bare(&[subcommand])).says(64, "WECHAT_APPID: it must be set");
        run(bare(&[subcommand]).env("WECHAT_APPID", APPID)).says(64, "WECHAT_SECRET_FILE: ");
        let both = &mut sidecar(&[subcommand]);
        run(both.env("WECHAT_SECRET_FILE", "/HUNTER2")).says(64, "keep one of them");
    }
}

#[test]
fn nothing_running_is_a_plain_failure() {
    let admin = nowhere().to_string();
    let problem = format!("no sidecar can be reached at {admin}");
    run(&mut bare(&["health", "--admin", &admin])).says(1, &problem);
    run(&mut bare(&["shutdown", "--admin", &admin])).says(1, &problem);
    let wait = &mut bare(&["wait", "--timeout", "300ms", "--admin", &admin]);
    run(wait).says(1, &format!("not ready after 300ms: {problem}"));
}

#[test]
fn a_running_sidecar_is_asked() {
    let ready = admin(|target, before| match (target, before) {
        ("GET /readyz", 2) => (200, "ready"),
        _ => (503, "no token yet\nHUNTER2"),
    });
    run(&mut bare(&["wait", "--admin", &ready])).says(0, "ready");
    run(&mut bare(&["health", "--admin", &ready]))
        .says(1, "not alive: HTTP status 503, no token yet");
    let locked = admin(|target, _| match target {
        "GET /livez" => (200, ""),
        _ => (403, ""),
    });
    run(&mut bare(&["health", "--admin", &locked])).says(0, "alive");
    run(&mut bare(&["shutdown", "--admin", &locked])).says(1, "--enable-shutdown");
    let open = admin(|target, _| match target {
        "POST /shutdown" => (202, ""),
        _ => (404, ""),
    });
    run(&mut bare(&["shutdown", "--admin", &open])).says(0, "stopping");
}

#[test]
fn a_typo_in_the_file_does_not_make_a_working_sidecar_look_ill() {
    let working = admin(|target, _| match target {
        "GET /livez" | "GET /readyz" | "GET /startupz" | "GET /" | "POST /shutdown" => (200, ""),
        _ => (404, ""),
    });
    let asked: [(&[&str], &str); 4] = [
        (&["health"], "alive"),
        (&["wait"], "ready"),
        (&["wait", "--started"], "started"),
        (&["shutdown"], "stopping"),
    ];
    for file in [
        format!("lisen = 1\nadmin = '{working}'"),
        format!("admin = '{working}'\nlisten = 'HUNTER2'\nworkers = true"),
        format!("admin = '{working}'\n[[accounts]]\nappsecret = 'HUNTER2'"),
        format!("listen = ['HUNTER2\nadmin = '{working}'"),
    ] {
        let file = File::new(&file);
        run(&mut sidecar(&["check", "--config", file.path()])).says(64, file.path());
        for (words, done) in asked {
            let flag = run(bare(words).args(["--config", file.path()]));
            flag.says(0, done);
            assert_eq!(flag.text, format!("{done}\n"));
            run(bare(words).env("WECHAT_SIDECAR_CONFIG", file.path())).says(0, done);
        }
    }
    let not_unicode = OsStr::from_bytes(b"\xff");
    for (words, done) in asked {
        let environment = &mut bare(words);
        environment
            .env("WECHAT_SIDECAR_ADMIN", &working)
            .env("WECHAT_SIDECAR_CONFIG", "/no/such/file")
            .env("WECHAT_SIDECAR_LISTEN", "no such thing!")
            .env("WECHAT_SIDECAR_LISEN", "x")
            .env("WECHAT_SIDECAR_UPSTREAM", not_unicode)
            .env("WECHAT_SECRET", not_unicode);
        let run = run(environment);
        run.says(0, done);
        assert_eq!(run.text, format!("{done}\n"));
    }
    // Flags of this command itself are still checked.
    run(&mut bare(&["health", "--admin", "x"])).says(64, "--admin: ");
    run(bare(&["health"]).env("WECHAT_SIDECAR_ADMIN", "x")).says(64, "WECHAT_SIDECAR_ADMIN: ");
    run(&mut bare(&["health", "--lisen", "x"])).says(64, "--lisen");
}

#[test]
fn a_file_that_hides_the_admin_port_is_told_of_and_the_default_is_asked() {
    let hidden = File::new("admin = 'HUNTER2'");
    for file in [hidden.path(), "/no/such/file", "/"] {
        for words in [&["health"][..], &["wait", "--timeout", "100ms"]] {
            let run = run(bare(words).args(["--config", file]));
            assert_ne!(run.code, Some(64), "{run:?}");
            let told = "; asking 127.0.0.1:7081, the default of --admin";
            assert!(run.text.contains(told), "{run:?}");
            assert!(!run.text.contains("HUNTER2"), "{run:?}");
        }
    }
}

#[test]
fn another_server_is_no_sidecar_and_is_not_told_to_stop() {
    for (headers, what) in [
        ("", "is no sidecar's admin port: see --admin"),
        // Some servers send request headers back.
        (
            "X-Wechat-Sidecar: for-admin\r\n",
            "is no sidecar's admin port",
        ),
        (
            "X-Wechat-Sidecar: admin\r\nX-Wechat-Sidecar: error\r\n",
            "is no sidecar's",
        ),
        (
            "X-Wechat-Sidecar: error\r\n",
            "is a sidecar's port for calls, not its admin port",
        ),
    ] {
        let (server, asked) = stranger(headers);
        run(&mut bare(&["health", "--admin", &server])).says(1, what);
        let wait = ["wait", "--timeout", "1s", "--admin", &server];
        run(&mut bare(&wait)).says(1, what);
        run(&mut bare(&["shutdown", "--admin", &server])).says(1, what);
        check(&format!("http://{}", nowhere()), &["--admin", &server]).says(1, "warning: ");
        let asked: Vec<String> = asked.try_iter().collect();
        assert!(asked.len() > 3, "{asked:?}");
        assert!(
            asked.iter().all(|line| line.starts_with("GET /")),
            "{asked:?}"
        );
    }
}

#[test]
fn check_says_why_wechat_cannot_be_reached() {
    let checked = check(&format!("http://{}", nowhere()), &[]);
    let problem = "FAILED: WeChat cannot be reached: 127.0.0.1 cannot be connected";
    checked.says(1, problem);
    checked.says(1, "ok: no sidecar can be reached at");
    for line in checked.text.lines() {
        let known = ["ok: ", "warning: ", "FAILED: "];
        assert!(known.iter().any(|start| line.starts_with(start)), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_asks_for_a_token_only_where_that_harms_nobody() {
    let wechat = Wechat::calm().await;
    let url = wechat.url();
    let check = |more: &[&str]| check(&url, more);
    check(&[]).says(0, "ok: WeChat issues a token");
    assert_eq!(wechat.token_requests().len(), 1);
    check(&["--token-api", "classic"]).says(0, "no token was requested: with the classic API");
    assert_eq!(wechat.token_requests().len(), 1);
    check(&["--token-api", "classic", "--mint"]).says(0, "ok: WeChat issues a token");
    assert_eq!(wechat.token_requests().len(), 2);
    let running = admin(|target, _| match target {
        "GET /readyz" => (200, ""),
        _ => (
            200,
            r#"{"accounts":[{"appid":"wx0123456789abcdef","token_expires_seconds":60}]}"#,
        ),
    });
    check(&["--admin", &running]).says(0, "for another 60 s; none was requested");
    assert_eq!(wechat.token_requests().len(), 2);
    wechat.change(|behaviour| behaviour.token_errcode = Some(40164));
    check(&[]).says(1, "errcode 40164");
    let requests = wechat.token_requests();
    assert!(requests.iter().all(|request| !request.force_refresh));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_is_wrong_with_a_certificate() {
    let wechat = Wechat::start_tls().await;
    let url = wechat.url();
    let check = |more: &[&str]| check(&url, more);
    check(&[]).says(1, "is issued by");
    let ca = File::new(&wechat.ca_pem().unwrap());
    check(&["--upstream-ca", ca.path()]).says(0, "ok: WeChat issues a token");
    let none = File::new("HUNTER2");
    check(&["--upstream-ca", none.path()]).says(64, "--upstream-ca: it holds no certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_which_port_is_taken_and_goes_on_to_accounts_with_an_upstream_of_their_own() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let wechat = Wechat::calm().await;
    check(&wechat.url(), &["--listen", &address]).says(1, &format!("FAILED: listen: {address}"));
    let accounts = File::new(&format!(
        "[[accounts]]\nappid = 'wx0000000000000001'\nsecret = '{SECRET}'\ndefault = true\n\
         [[accounts]]\nappid = '{APPID}'\nsecret = '{SECRET}'\nupstream = '{}'\n",
        wechat.url()
    ));
    let mut command = bare(&["check", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let down = format!("http://{}", nowhere());
    let checked = run(command.args(["--upstream", &down, "--config", accounts.path()]));
    checked.says(1, "FAILED: WeChat cannot be reached");
    checked.says(1, "ok: WeChat issues a token to wx0123456789abcdef");
}
