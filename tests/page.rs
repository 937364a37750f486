//! The status page, in a real Chromium: what it shows of any state, to any reader, and when the sidecar is gone.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use support::{APPID, Sidecar, Wechat};
use tokio::{process::Command, time::timeout};

/// This is longer than the test takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// The folder in which `tests/run` installs what drives the browser.
fn installed() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let path = target
        .expect("a target folder")
        .join("sdk/page/node_modules");
    assert!(
        path.exists(),
        "{} is missing: run tests/run, which installs it",
        path.display()
    );
    path
}

/// Runs `tests/page/check.mjs` with these arguments.
async fn check(arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/check.mjs");
    let mut command = Command::new("node");
    // PATH stays, because it is needed to find the command.
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("NODE_PATH", installed())
        .env("HOME", env!("CARGO_TARGET_TMPDIR"))
        .arg(script)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(PATIENCE, command.output())
        .await
        .expect("it hangs")
        .unwrap_or_else(|error| panic!("node cannot be started: {error}"));
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("ok"), "nothing was checked: {out}{err}");
}

#[tokio::test]
#[ignore = "needs Chromium and Node.js with playwright-core and axe-core"]
async fn any_reader_can_read_the_status_page_in_any_state() {
    check(&[]).await;
}

#[tokio::test]
#[ignore = "needs Chromium and Node.js with playwright-core and axe-core"]
async fn the_page_of_a_sidecar_in_trouble_shows_its_problem() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    sidecar.get("/cgi-bin/user/get").await;
    let body = "{\"errcode\":40164,\"errmsg\":\"invalid ip 203.0.113.30 rid: 1-2-3\"}";
    wechat.change(|behaviour| behaviour.body = Some(("a/b".into(), body.into())));
    sidecar.get("/cgi-bin/user/get").await;
    let url = format!("{}/", sidecar.admin);
    // The cause is not translated.
    check(&[&url, "203.0.113.30", APPID, "40164", "1-2-3"]).await;
}
