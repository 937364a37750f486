//! A sidecar with a local CA, and the subcommand `ca`.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use tokio::time::timeout;

use super::{
    Made, empty,
    support::{
        PATIENCE, Sidecar, Wechat,
        sidecar::{command, with_account},
        wechat::{CORPID, SECRET},
    },
};

/// The flags for a CA in `dir`, and for files of trust beside it.
fn flags(dir: &Path) -> [String; 4] {
    let trust = dir.join("trust").display().to_string();
    let dir = dir.display().to_string();
    ["--ca-dir".to_owned(), dir, "--trust-dir".to_owned(), trust]
}

/// What `ca` prints.
fn ca(args: &[&str], more: &[String]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wechat-sidecar"));
    command.env_clear().arg("ca").args(args).args(more);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_killed_sidecar_starts_again_with_the_same_root() {
    let (wechat, dir) = (Wechat::start().await, empty("killed"));
    let flags = flags(&dir);
    let mut roots = Vec::new();
    for _ in 0..2 {
        let flags = flags.each_ref().map(String::as_str);
        let sidecar = Sidecar::with(&wechat, &flags).await;
        roots.push(fs::read_to_string(dir.join("trust/ca.crt")).unwrap());
        sidecar.signal("-KILL");
    }
    assert_eq!(roots[0], roots[1]);
    assert_eq!(text(&ca(&[], &flags).stdout), roots[0]);
    assert_eq!(text(&ca(&[], &flags[..2]).stdout), roots[0]);
}

#[tokio::test]
async fn a_sidecar_without_a_folder_says_that_apps_must_restart_with_it() {
    let (wechat, dir) = (Wechat::start().await, empty("memory"));
    let trust = dir.join("trust").display().to_string();
    let mut sidecar = Sidecar::with(&wechat, &["--trust-dir", &trust]).await;
    sidecar.line("restart the apps that trust it").await;
    let first = fs::read_to_string(dir.join("trust/ca.crt")).unwrap();
    drop(sidecar);
    let _sidecar = Sidecar::with(&wechat, &["--trust-dir", &trust]).await;
    let both = fs::read_to_string(dir.join("trust/ca.crt")).unwrap();
    assert!(both.len() > first.len() && both.ends_with(&first));
}

#[tokio::test]
async fn a_host_that_a_reload_adds_is_a_problem_until_it_is_gone() {
    let (wechat, dir) = (Wechat::start().await, empty("reload"));
    let account = format!(
        "[[accounts]]\nappid = '{}'\nsecret = '{SECRET}'\n",
        super::support::APPID
    );
    let upstream = wechat.url();
    let wecom = format!(
        "[[accounts]]\nappid = '{CORPID}'\nkind = 'wecom'\nsecret = 'x'\nupstream = '{upstream}'\n"
    );
    let file = dir.join("two.toml");
    fs::write(&file, &account).unwrap();
    let mut command = command();
    command
        .arg("--config")
        .arg(&file)
        .args(["--upstream", &upstream]);
    command.args(flags(&dir));
    let mut sidecar = Sidecar::spawn(command, Some(wechat)).await;
    fs::write(&file, account.clone() + &wecom).unwrap();
    sidecar.signal("-HUP");
    let problem = sidecar.line("ca_host").await;
    assert!(problem.contains("qyapi.weixin.qq.com"), "{problem}");
    assert!(
        problem.contains("restart the sidecar and the apps"),
        "{problem}"
    );
    fs::write(&file, &account).unwrap();
    sidecar.signal("-HUP");
    let is_over = |line: &&str| line.contains("ca_host") && line.contains("over: ");
    for _ in 0..400 {
        if sidecar.log().lines().any(|line| is_over(&line)) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{}", sidecar.log());
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_a_wrong_configuration() {
    let made = Made::new("unusable");
    fs::write(made.ca_dir().join("ca/issuing.key"), "nonsense").unwrap();
    let [ca_dir, dir, trust_dir, trust] = flags(&made.dir);
    let missing = made.dir.join("none.pem").display().to_string();
    let key = made.ca_dir().join("ca/issuing.key").display().to_string();
    for (flags, problems) in [
        (
            [ca_dir, dir].to_vec(),
            ["--ca-dir: ", "issuing.key holds no key"],
        ),
        (
            vec![
                "--trust-also".to_owned(),
                made.trusted("ca.crt").display().to_string(),
            ],
            ["--trust-also: ", "no --trust-dir"],
        ),
        (
            vec![
                trust_dir.clone(),
                trust.clone(),
                "--trust-also".to_owned(),
                missing,
            ],
            ["--trust-also: ", "cannot be read"],
        ),
        (
            vec![trust_dir, trust, "--trust-also".to_owned(), key],
            ["--trust-also: ", "it holds no certificate"],
        ),
    ] {
        let mut command = with_account();
        command.args(flags).args(["--admin", "127.0.0.1:0"]);
        let output = timeout(PATIENCE, command.output()).await;
        let output = output.expect("an end").unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(
            problems.iter().all(|problem| said.contains(problem)),
            "{said}"
        );
    }
}

#[test]
fn variables_name_the_real_files_and_say_what_they_replace() {
    let made = Made::new("variables");
    let dir = made.dir.join("trust").display().to_string();
    let java = made.printed(&["ca", "--for", "java"]);
    let expected = format!(
        "export JAVA_TOOL_OPTIONS=\"${{JAVA_TOOL_OPTIONS:+$JAVA_TOOL_OPTIONS }}-Djavax.net.ssl.trustStore={dir}/truststore.jks\"\n"
    );
    assert!(
        java.starts_with("# JAVA_TOOL_OPTIONS replaces") && java.ends_with(&expected),
        "{java}"
    );
    let python = made.printed(&["ca", "--for", "python"]);
    assert!(python.contains(&format!("SSL_CERT_DIR=\"{dir}/hashed:/etc/ssl/certs\"\n")));
    for variable in wechat_sidecar::ca::clients::VARIABLES {
        let lines = made.printed(&["ca", "--for", variable.client]);
        let is_path = |part: &&str| part.starts_with(&dir);
        let values = lines
            .lines()
            .filter_map(|line| line.strip_prefix("export "));
        for value in values {
            let path = value.split(['=', ':', '"']).find(is_path).unwrap();
            assert!(Path::new(path).exists(), "{path}");
        }
    }
}

#[test]
fn a_mistake_is_told() {
    for (args, code, problem) in [
        (
            &["--for", "cobol", "--trust-dir", "/x"][..],
            64,
            "none of java, node",
        ),
        (&["--for", "node"], 64, "--trust-dir: "),
        (&[], 64, "--trust-dir: neither"),
        (&["--trust-dir", "relative"], 64, "absolute path"),
        (&["--trust-dir", "/a:b"], 64, "absolute path"),
        (
            &["--trust-dir", "/does/not/exist"],
            1,
            "/does/not/exist/ca.crt cannot be read",
        ),
    ] {
        let output = ca(args, &[]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(problem), "{args:?}: {said}");
    }
}

#[tokio::test]
async fn files_that_are_removed_are_written_again_and_a_folder_that_cannot_be_is_a_problem() {
    let (wechat, dir) = (Wechat::start().await, empty("removed"));
    let flags = flags(&dir);
    let flags = flags.each_ref().map(String::as_str);
    let mut sidecar = Sidecar::with(&wechat, &flags).await;
    let trust = dir.join("trust");
    let root = fs::read_to_string(trust.join("ca.crt")).unwrap();
    fs::remove_dir_all(trust.join("hashed")).unwrap();
    sidecar.line("were gone, and were written again").await;
    assert!(trust.join("hashed/ca.crt").exists());

    fs::remove_dir_all(&trust).unwrap();
    fs::write(&trust, "in the way").unwrap();
    let problem = "wechat_sidecar_problem{account=\"\",kind=\"trust_files\"}";
    sidecar.becomes(problem, 1.0).await;
    fs::remove_file(&trust).unwrap();
    sidecar.becomes(problem, 0.0).await;
    assert_eq!(fs::read_to_string(trust.join("ca.crt")).unwrap(), root);
}
