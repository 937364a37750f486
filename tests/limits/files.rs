//! The limit of open files: what is lowered for it, and what still works when it is reached.

use rustix::process::{Pid, Resource, getrlimit, prlimit};
use tokio::process::Command;

use super::support::{
    Sidecar, Wechat,
    sidecar::{command, with_account},
};

/// The same command with at most so many open files.
fn limited(files: u32, command: &Command) -> Command {
    let command = command.as_std();
    let mut limited = Command::new("sh");
    limited
        .args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .kill_on_drop(true);
    limited
}

#[tokio::test]
async fn with_64_files_and_100_idle_apps_calls_probes_and_metrics_still_answer() {
    let wechat = Wechat::calm().await;
    let mut command = with_account();
    command.args(["--upstream", &wechat.url(), "--workers", "2"]);
    let mut sidecar = Sidecar::spawn(limited(64, &command), Some(wechat)).await;
    let line = sidecar.line("the limit of open files is 64").await;
    assert!(
        line.contains("--max-connections is lowered from 4096"),
        "{line}"
    );
    sidecar.until_ready().await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(sidecar.connect().await);
    }
    let call = "GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for _ in 0..3 {
        let reply = sidecar.raw(call).await;
        assert!(reply.contains("\"errcode\":0"), "{reply}");
        for path in ["/livez", "/readyz", "/metrics", "/accounts"] {
            assert_eq!(sidecar.admin(path).await.status, 200, "{path}");
        }
    }
    let errors = "wechat_sidecar_upstream_connects_total{outcome=\"failed\"}";
    assert_eq!(sidecar.metric(errors).await, 0.0);
}

#[tokio::test]
async fn when_no_more_files_may_be_opened_the_admin_port_says_so_and_check_fails() {
    let wechat = Wechat::calm().await;
    let mut sidecar = Sidecar::start(&wechat).await;
    let pid = sidecar.pid();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count();
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(open as u64);
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    prlimit(pid, Resource::Nofile, limit).unwrap();
    let mut apps = Vec::new();
    for _ in 0..20 {
        apps.push(sidecar.connect().await);
    }
    sidecar.line("connections of apps cannot be accepted").await;
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(sidecar.admin(path).await.status, 200, "{path}");
    }
    let mut check = command();
    check.args(["check", "--upstream", &wechat.url()]);
    check.args(["--admin", sidecar.admin.strip_prefix("http://").unwrap()]);
    check.env("WECHAT_APPID", super::APPID);
    check.env("WECHAT_SECRET", super::support::SECRET);
    let output = check.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("connections of apps cannot be accepted"),
        "{said}"
    );
}
