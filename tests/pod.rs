//! The injected pod runs: app and sidecar are processes that are started, probed and ended as the kubelet does it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

/// This is longer than the test takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// The path of a file that must exist. `remedy` is the command that creates it.
fn existing(path: PathBuf, remedy: &str) -> PathBuf {
    assert!(
        path.exists(),
        "{} is missing: {remedy} makes it",
        path.display()
    );
    path
}

#[tokio::test]
#[ignore = "needs Linux, root that may make network namespaces, iproute2, Python with wechatpy, and what the apps of https_clients need"]
async fn an_injected_pod_starts_serves_and_ends_as_kubernetes_has_it() {
    let sidecar = Path::new(env!("CARGO_BIN_EXE_wechat-sidecar"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let target = target.expect("a target folder");
    let python = existing(target.join("sdk/venv/bin/python"), "tests/run");

    let mut script = Command::new("python3");
    script
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pod/run_pod.py"))
        .args([Path::new("--sidecar"), sidecar])
        .args([Path::new("--python"), &python])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(PATIENCE, script.output()).await;
    let output = output.expect("it hangs").expect("it cannot be started");
    let said = String::from_utf8_lossy(&output.stdout);
    let problems = String::from_utf8_lossy(&output.stderr);
    println!("{said}{problems}");
    assert!(output.status.success(), "see above");
}
