//! Clients of other languages, with nothing changed but the variables that `ca --for` prints.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tokio::task::spawn_blocking;
use wechat_sidecar::net::tls::ServerCertificates;

use super::{
    Made,
    forged::{FORGERIES, serve},
};

/// Has a client call a server of the CA and the servers of a thief, and checks whom it trusts.
async fn trusts_wechats_hosts_alone(made: &Made, mut client: Command) {
    let mut targets = Vec::new();
    for forgery in &FORGERIES {
        let port = forgery.make(&made.ca_dir()).serve().await;
        targets.push(format!("{}:{port}", forgery.host));
    }
    let own = serve(made.authority.config()).await;
    targets.push(format!("api.weixin.qq.com:{own}"));
    targets.push(format!("file.api.weixin.qq.com:{own}"));
    client.args(targets).stdin(Stdio::null());
    let output = spawn_blocking(move || client.output().unwrap())
        .await
        .unwrap();
    let (said, problems) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let expected = FORGERIES.map(|forgery| forgery.is_allowed);
    let expected = expected.into_iter().chain([true, true]);
    let said: Vec<&str> = said.lines().collect();
    let accepted: Vec<bool> = said.iter().map(|line| *line == "accepted").collect();
    assert_eq!(accepted, Vec::from_iter(expected), "{said:?} {problems}");
    let is_about_it = |line: &&str| {
        let line = line.to_lowercase();
        ["certif", "x509", "pkix", "subtree"]
            .iter()
            .any(|word| line.contains(word))
    };
    let refused = said.iter().filter(|line| line.starts_with("refused"));
    assert!(refused.clone().all(is_about_it), "{said:?}");
}

/// A program with nothing in its environment but what `ca --for` prints.
fn program(made: &Made, language: &str, path: impl AsRef<Path>) -> Command {
    let lines = made.printed(&["ca", "--for", language]);
    let script = format!("{lines}exec \"$0\" \"$@\"");
    let mut command = Command::new("/bin/sh");
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .args(["-c", &script]);
    command.arg(path.as_ref());
    command
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/local_ca")
        .join(name)
}

#[tokio::test]
#[ignore = "needs Python 3"]
async fn python_trusts_wechats_hosts_alone() {
    let made = Made::new("python");
    let mut client = program(&made, "python", "/usr/bin/env");
    client.arg("python3").arg(script("client.py"));
    trusts_wechats_hosts_alone(&made, client).await;
}

#[tokio::test]
#[ignore = "needs Node.js"]
async fn node_trusts_wechats_hosts_alone() {
    let made = Made::new("node");
    let mut client = program(&made, "node", "/usr/bin/env");
    client.arg("node").arg(script("client.js"));
    trusts_wechats_hosts_alone(&made, client).await;
}

#[tokio::test]
#[ignore = "needs curl"]
async fn curl_trusts_wechats_hosts_alone() {
    let made = Made::new("curl");
    let mut client = program(&made, "curl", "/bin/sh");
    client.arg(script("client.sh"));
    trusts_wechats_hosts_alone(&made, client).await;
}

#[tokio::test]
#[ignore = "needs Go"]
async fn go_trusts_wechats_hosts_alone() {
    let made = Made::new("go");
    let program_file = made.dir.join("client");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program_file)
        .arg(script("client.go"))
        .env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go"))
        .env("GOFLAGS", "-mod=mod")
        .status();
    assert!(built.unwrap().success());
    trusts_wechats_hosts_alone(&made, program(&made, "go", program_file)).await;
}

#[tokio::test]
#[ignore = "needs a JDK"]
async fn java_trusts_wechats_hosts_alone() {
    let made = Made::new("java");
    let hosts = made.dir.join("hosts");
    let named = FORGERIES.map(|forgery| format!("127.0.0.1 {}\n", forgery.host));
    fs::write(
        &hosts,
        named.concat() + "127.0.0.1 file.api.weixin.qq.com\n",
    )
    .unwrap();
    let mut client = program(&made, "java", "/usr/bin/java");
    client.arg(format!("-Djdk.net.hosts.file={}", hosts.display()));
    client.arg(script("Client.java"));
    trusts_wechats_hosts_alone(&made, client).await;
}
