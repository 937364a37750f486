//! `check` finds what is wrong before an app does, as lines and as one JSON document, and shows no secret.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::Output,
    time::{Duration, SystemTime},
};

use serde_json::Value;
use support::{
    APPID, SECRET, Sidecar, Wechat,
    egress::Egress,
    sidecar::{command, temporary, with_account, written},
    wechat::Setup,
};
use tokio::{
    net::TcpListener,
    process::Command,
    time::{Instant, timeout},
};
use wechat_sidecar::cli::check::Check;

/// What a run of `check --json` found.
#[derive(Debug)]
struct Found {
    code: i32,
    findings: Vec<Value>,
}

impl Found {
    /// The findings of this check, each as its severity and its sentence with advice.
    fn of(&self, check: &str) -> Vec<(&str, String)> {
        let of_it = self.findings.iter().filter(|one| one["check"] == check);
        of_it
            .map(|one| {
                let advice = one["advice"].as_str().unwrap_or_default();
                let text = format!("{}: {advice}", one["sentence"].as_str().unwrap());
                (one["severity"].as_str().unwrap(), text)
            })
            .collect()
    }

    /// Panics unless a finding of this check says so.
    #[track_caller]
    fn says(&self, check: &str, severity: &str, words: &str) -> &Value {
        let said = |one: &&Value| {
            let text = format!("{} {}", one["sentence"], one["advice"]);
            one["check"] == check && one["severity"] == severity && text.contains(words)
        };
        let found = self.findings.iter().find(said);
        found.unwrap_or_else(|| panic!("{check}, {severity}, {words:?} is missing: {self:#?}"))
    }
}

/// Makes the command `check` before `wechat`, with these flags and the account that the fake knows. No sidecar runs
/// beside it, unless they say so.
fn before(wechat: &Wechat, flags: &[&str]) -> impl Fn() -> Command + use<> {
    let url = wechat.url();
    let flags = [&["--upstream", &url], flags].concat();
    let flags: Vec<String> = flags.into_iter().map(str::to_owned).collect();
    move || {
        let mut command = with_account();
        alone(&mut command, &flags);
        command
    }
}

/// The same with the accounts of a file.
fn with_accounts(wechat: &str, config: &str) -> impl Fn() -> Command + use<> {
    let flags = ["--upstream", wechat, "--config", config].map(str::to_owned);
    move || {
        let mut command = command();
        alone(&mut command, &flags);
        command
    }
}

/// Adds `check` and these flags.
fn alone(command: &mut Command, flags: &[String]) {
    command
        .args(["check", "--listen", "127.0.0.1:0"])
        .args(flags);
    if !flags.iter().any(|flag| flag == "--admin") {
        command.args(["--admin", "127.0.0.1:0"]);
    }
}

/// Runs it twice, as lines and as JSON. Neither shows a secret, and both say the same.
async fn run(make: impl Fn() -> Command, secrets: &[&str]) -> Found {
    let Output { status, stdout, .. } = make().output().await.unwrap();
    let lines = String::from_utf8(stdout).unwrap();
    let output = make().arg("--json").output().await.unwrap();
    let Output { stdout, stderr, .. } = output;
    let json = String::from_utf8(stdout).unwrap();
    for secret in secrets.iter().chain([&SECRET]) {
        let text = format!("{lines}{json}{}", String::from_utf8_lossy(&stderr));
        assert!(!text.contains(secret), "{text}");
    }
    let document: Value = serde_json::from_str(&json).unwrap_or_else(|_| panic!("{json}"));
    assert_eq!(json.lines().count(), 1, "{json}");
    assert_eq!(output.status, status);
    let code = status.code().unwrap();
    assert_eq!(document["ok"], code == 0, "{json}");
    let findings = document["findings"].as_array().unwrap().clone();
    // A figure may have changed.
    let severities = |word: &str, severity: &str| {
        let lines = lines.lines().filter(|line| line.starts_with(word)).count();
        let is_so = |one: &&Value| one["severity"] == severity;
        (lines, findings.iter().filter(is_so).count())
    };
    if code != 64 {
        for (word, severity) in [("FAILED: ", "failed"), ("warning: ", "warning")] {
            let (lines, objects) = severities(word, severity);
            assert_eq!(lines, objects, "{json}");
        }
    }
    Found { code, findings }
}

#[tokio::test]
async fn folders_of_the_local_ca_that_cannot_be_written_are_found_before_a_start_fails() {
    let wechat = Wechat::calm().await;
    let (dir, file) = (temporary("folders"), written("file", ""));
    fs::create_dir(&dir).unwrap();
    let ca = dir.join("new/ca").display().to_string();
    let trust = dir.join("new/trust").display().to_string();
    let good = run(
        before(&wechat, &["--ca-dir", &ca, "--trust-dir", &trust]),
        &[],
    )
    .await;
    good.says("file", "ok", "ca-dir: it can be used");
    good.says("file", "ok", "trust-dir: it can be used");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "something is left");
    let below = format!("{file}/trust");
    for trust in [&file, &below] {
        let bad = run(before(&wechat, &["--trust-dir", trust]), &[]).await;
        bad.says("file", "failed", "trust-dir: ");
        bad.says("file", "failed", &format!("{file} cannot be written"));
        assert_ne!(bad.code, 0);
    }
    let dangling = dir.join("dangling").display().to_string();
    std::os::unix::fs::symlink("/nowhere/at/all", &dangling).unwrap();
    let bad = run(before(&wechat, &["--ca-dir", &dangling]), &[]).await;
    bad.says("file", "failed", "dangling cannot be written");
}

/// The command with the secret in a file.
fn in_file(mut command: Command, path: &str) -> Command {
    command.env_remove("WECHAT_SECRET");
    command.env("WECHAT_SECRET_FILE", path);
    command
}

fn chmod(path: &str, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn each_finding_has_the_same_keys_and_a_known_name() {
    let wechat = Wechat::calm().await;
    let good = run(before(&wechat, &[]), &[]).await;
    assert_eq!(good.code, 0, "{good:#?}");
    wechat.stop();
    let bad = run(before(&wechat, &[]), &[]).await;
    assert_eq!(bad.code, 1, "{bad:#?}");
    let wrong = run(
        before(&wechat, &["--egress-proxy", "http://u:HUNTER2@h"]),
        &["HUNTER2"],
    )
    .await;
    assert_eq!((wrong.code, wrong.findings.len()), (64, 1), "{wrong:#?}");
    wrong.says("configuration", "failed", "--egress-proxy: ");
    let known: Vec<&str> = Check::ALL.iter().map(|check| check.name()).collect();
    for finding in [good.findings, bad.findings, wrong.findings].concat() {
        let keys: Vec<&String> = finding.as_object().unwrap().keys().collect();
        let all = [
            "check", "severity", "subject", "sentence", "advice", "details",
        ];
        assert_eq!(keys, all);
        assert!(
            known.contains(&finding["check"].as_str().unwrap()),
            "{finding}"
        );
        assert!(finding["details"].is_object(), "{finding}");
        assert_ne!(finding["subject"], "", "{finding}");
    }
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_told_with_its_date() {
    for (days, severity) in [(10, "warning"), (30, "ok")] {
        let setup = Setup {
            tls: true,
            tls_days: Some(days),
            refusal_chance: 0.0,
            ..Setup::default()
        };
        let wechat = Wechat::with(setup).await;
        let ca = written("ca.pem", &wechat.ca_pem().unwrap());
        let found = run(before(&wechat, &["--upstream-ca", &ca]), &[]).await;
        assert_eq!(found.code, 0, "{found:#?}");
        found.says("tls", "ok", "is connected in ");
        let certificate = found.says("certificate", severity, "fake WeChat root");
        assert_eq!(certificate["details"]["days"], days - 1);
        let unknown = run(before(&wechat, &[]), &[]).await;
        unknown.says("tls", "failed", "which is not trusted");
    }
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_told_by_the_date_of_a_reply() {
    let wechat = Wechat::calm().await;
    for (seconds, severity, code) in [(0, "ok", 0), (60, "warning", 0), (600, "failed", 1)] {
        let date = SystemTime::now() - Duration::from_secs(seconds);
        let date = httpdate::fmt_http_date(date);
        wechat.change(|behaviour| behaviour.extra_headers = vec![("Date".to_owned(), date)]);
        let found = run(before(&wechat, &[]), &[]).await;
        assert_eq!(found.code, code, "{found:#?}");
        found.says("clock", severity, "the clock of this machine ");
    }
    wechat.change(|behaviour| behaviour.extra_headers.clear());
    let found = run(before(&wechat, &[]), &[]).await;
    assert_eq!(found.of("clock"), []);
}

#[tokio::test]
async fn a_file_that_others_can_read_is_told_by_its_mode() {
    let wechat = Wechat::calm().await;
    let secret = written("secret", SECRET);
    let key = written("caller-key", "HUNTER2-HUNTER2");
    let check = async || {
        let check = before(&wechat, &["--caller-key-file", &key]);
        run(|| in_file(check(), &secret), &["HUNTER2"]).await
    };
    for (mode, severity, words) in [
        (0o600, "ok", "(WECHAT_SECRET_FILE) can be read"),
        (0o640, "warning", "can read it: chmod 600 it"),
        (
            0o604,
            "warning",
            "everybody on this machine can read it: chmod 600 it",
        ),
    ] {
        chmod(&secret, mode);
        chmod(&key, 0o600);
        let found = check().await;
        assert_eq!(found.code, 0, "{found:#?}");
        let files = found.of("file");
        let said = files
            .iter()
            .any(|(s, text)| *s == severity && text.contains(words));
        assert!(said, "{mode:o} {files:?}");
        let told = found.findings.iter().filter(|one| {
            let sentence = one["sentence"].as_str().unwrap();
            one["severity"] == "warning" && sentence.contains("can read")
        });
        assert_eq!(
            told.count(),
            usize::from(severity == "warning"),
            "{found:#?}"
        );
    }
    chmod(&secret, 0o600);
    chmod(&key, 0o602);
    check().await.says("file", "warning", "chmod o-w");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_told_with_its_owner() {
    let wechat = Wechat::calm().await;
    let secret = written("secret", SECRET);
    chmod(&secret, 0o000);
    let check = before(&wechat, &[]);
    let check = || in_file(check(), &secret);
    let is_root = fs::read(&secret).is_ok();
    if is_root {
        let found = run(check, &[]).await;
        assert_eq!(found.code, 0, "{found:#?}");
        let words = "nobody may read it by its mode, only root can";
        found.says("file", "warning", words);
    }
    let as_nobody = || {
        let mut command = check();
        if is_root {
            command.uid(65534);
        }
        command
    };
    let found = run(as_nobody, &[]).await;
    assert_eq!(found.code, 64, "{found:#?}");
    found.says(
        "configuration",
        "failed",
        "with the mode 0000, and this process to the user",
    );
}

#[tokio::test]
async fn an_ip_that_is_not_on_the_whitelist_is_named() {
    let wechat = Wechat::calm().await;
    wechat.change(|behaviour| behaviour.token_errcode = Some(40164));
    let found = run(before(&wechat, &[]), &[]).await;
    assert_eq!(found.code, 1);
    let finding = found.says("whitelist", "failed", "开发接口管理 → IP白名单");
    assert_eq!(finding["details"]["ip"], "114.221.21.30");
    assert_eq!(finding["details"]["errcode"], 40164);
    assert_eq!(finding["subject"], APPID);
    let sentence = finding["sentence"].as_str().unwrap();
    assert!(
        sentence.starts_with("114.221.21.30 is not on the IP whitelist of"),
        "{sentence}"
    );
    assert_eq!(found.of("token"), []);
}

#[tokio::test]
async fn the_problems_of_the_sidecar_beside_it_are_told() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let admin = sidecar.admin.strip_prefix("http://").unwrap();
    let check = async || run(before(&wechat, &["--admin", admin]), &[&wechat.token()]).await;
    let found = check().await;
    assert_eq!((found.code, found.of("problem")), (0, vec![]), "{found:#?}");
    found.says("sidecar", "ok", "is ready");
    found.says("token", "ok", "the running sidecar holds a token");
    wechat.change(|behaviour| behaviour.errcode = Some(45009));
    sidecar.get("/cgi-bin/user/get").await;
    let found = check().await;
    assert_eq!(found.code, 1, "{found:#?}");
    let problem = found.says("problem", "failed", "a quota of calls is used up");
    assert_eq!(problem["details"]["kind"], "calls_quota");
    assert_eq!(problem["details"]["last_errcode"], 45009);
    assert_eq!(problem["subject"], APPID);
    assert!(problem["advice"].as_str().unwrap().contains("call it less"));
}

#[tokio::test]
async fn with_a_proxy_hosts_are_reached_through_it_alone() {
    const PASSWORD: &str = "HUNTER2:x y";
    let setup = Setup {
        tls: true,
        refusal_chance: 0.0,
        ..Setup::default()
    };
    let wechat = Wechat::with(setup).await;
    let egress = Egress::to(wechat.addr(), "http", Some(PASSWORD)).await;
    let ca = written("ca.pem", &wechat.ca_pem().unwrap());
    let check = async |password: &str| {
        let file = written("proxy", &format!("user:{password}"));
        chmod(&file, 0o600);
        let flags = [
            "--upstream-ca",
            &ca,
            "--egress-proxy",
            &egress.url,
            "--egress-proxy-credentials-file",
            &file,
        ];
        let flags = flags.map(str::to_owned);
        let make = || {
            let mut command = with_account();
            alone(&mut command, &flags);
            command
        };
        run(make, &[password, "HUNTER2"]).await
    };
    let found = check(PASSWORD).await;
    assert_eq!(found.code, 0, "{found:#?}");
    assert_eq!(found.of("dns"), []);
    let through = found.says(
        "tls",
        "ok",
        "api.weixin.qq.com:443 through the egress proxy http://",
    );
    assert_eq!(through["subject"], "api.weixin.qq.com");
    found.says(
        "tls",
        "ok",
        "api2.weixin.qq.com:443 through the egress proxy http://",
    );
    found.says("connect", "ok", "the egress proxy 127.0.0.1:");
    let found = check("HUNTER2-wrong").await;
    assert_eq!(found.code, 1);
    found.says("connect", "failed", "look at the proxy, its credentials");
}

#[tokio::test]
async fn a_host_that_is_silent_does_not_hold_it_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let accounts: String = (0..30)
        .map(|at| {
            let default = if at == 0 { "default = true\n" } else { "" };
            format!("[[accounts]]\nappid = 'wx{at:016}'\nsecret = '{SECRET}'\n{default}")
        })
        .collect();
    let config = written("silent.toml", &accounts);
    chmod(&config, 0o600);
    let mut command = with_accounts(&url, &config)();
    let started = Instant::now();
    let output = timeout(support::PATIENCE, command.output()).await.unwrap();
    let lines = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(started.elapsed() < Duration::from_secs(15), "{lines}");
    assert!(
        lines.contains("FAILED: WeChat cannot be reached: WeChat did not answer"),
        "{lines}"
    );
    // All accounts together have one line about that.
    let untold = lines
        .lines()
        .filter(|line| line.contains("no token was requested"));
    assert_eq!(untold.count(), 1, "{lines}");
    let complete = lines
        .lines()
        .filter(|line| line.contains("the configuration is complete"));
    assert_eq!(complete.count(), 20, "{lines}");
    assert!(
        lines.contains("more findings of the check configuration are fine"),
        "{lines}"
    );
}

#[tokio::test]
async fn of_many_accounts_every_one_that_fails_is_named() {
    let appids: Vec<String> = (0..25).map(|at| format!("wx{at:016}")).collect();
    let setup = Setup {
        accounts: appids
            .iter()
            .map(|id| (id.clone(), SECRET.to_owned()))
            .collect(),
        refusal_chance: 0.0,
        ..Setup::default()
    };
    let wechat = Wechat::with(setup).await;
    wechat.change(|behaviour| {
        for appid in &appids[22..] {
            behaviour.token_errcode_of.insert(appid.clone(), 40125);
        }
    });
    let table = |id: &String| format!("[[accounts]]\nappid = '{id}'\nsecret = '{SECRET}'\n");
    let config = written("many.toml", &appids.iter().map(table).collect::<String>());
    chmod(&config, 0o600);
    let make = with_accounts(&wechat.url(), &config);
    let output = make().output().await.unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let count = |words: &str| lines.lines().filter(|line| line.contains(words)).count();
    assert_eq!(count("ok: WeChat issues a token to"), 20, "{lines}");
    assert_eq!(
        count("ok: 2 more findings of the check token are fine"),
        1,
        "{lines}"
    );
    for appid in &appids[22..] {
        assert_eq!(
            count(&format!("FAILED: no token for {appid}: ")),
            1,
            "{lines}"
        );
    }
    let found = run(make, &[]).await;
    assert_eq!((found.code, found.of("token").len()), (1, 25));
}

#[tokio::test]
async fn a_token_that_another_program_ended_is_told_where_one_can_be_tried() {
    let wechat = Wechat::calm().await;
    let path = temporary("token");
    let token = wechat.token();
    let written_token = serde_json::json!({"access_token": token, "expires_in": 7200});
    fs::write(&path, written_token.to_string()).unwrap();
    let path = path.to_str().unwrap();
    chmod(path, 0o600);
    let config = written(
        "token-file.toml",
        &format!(
            "[[accounts]]\nappid = '{APPID}'\ntoken_api = 'classic'\n[accounts.token]\nsource = 'file'\nfile = '{path}'\n"
        ),
    );
    let check = async || run(with_accounts(&wechat.url(), &config), &[&token]).await;
    let found = check().await;
    assert_eq!((found.code, found.of("revoked")), (0, vec![]), "{found:#?}");
    wechat.rotate();
    let found = check().await;
    let refused = found.says("revoked", "warning", "/cgi-bin/token or force_refresh");
    assert_eq!(refused["details"]["errcode"], 40001);
    assert_eq!(wechat.token_requests().len(), 0);
    // Without a token nothing is tried, and none is requested.
    let found = run(before(&wechat, &["--token-api", "classic"]), &[]).await;
    found.says("revoked", "ok", "cannot be known without one");
    assert_eq!(wechat.token_requests().len(), 0);
}
