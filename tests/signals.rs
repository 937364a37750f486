//! A signal counts from the first moment of the process on, whatever it is doing.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use support::{
    APPID, PATIENCE, SECRET, Sidecar, Wechat,
    sidecar::{command, temporary},
    signal,
};
use tokio::{
    process::Command,
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

/// A named pipe that nobody writes to. Who reads it waits.
fn pipe(name: &str) -> PathBuf {
    let path = temporary(name);
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    path
}

/// The program, which waits for its AppSecret at its start.
fn waiting(secret: &Path) -> Command {
    let mut command = command();
    command
        .env("WECHAT_APPID", APPID)
        .env("WECHAT_SECRET_FILE", secret);
    command
}

/// Waits until the process has taken these signals over.
async fn until_caught(pid: u32, signals: &[u32]) {
    let wanted = signals
        .iter()
        .fold(0, |bits, signal| bits | 1 << (signal - 1));
    let started = Instant::now();
    loop {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
        if caught & wanted == wanted {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{status}");
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn sigterm_and_sigint_end_a_sidecar_that_is_still_reading_its_configuration() {
    for (name, number) in [("-TERM", 15), ("-INT", 2)] {
        let secret = pipe("secret");
        let mut command = waiting(&secret);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let pid = child.id().unwrap();
        until_caught(pid, &[number]).await;
        signal::send(pid, name);
        let ended = timeout(PATIENCE, child.wait()).await.expect("it goes on");
        assert_eq!(ended.unwrap().code(), Some(0));
        fs::remove_file(secret).unwrap();
    }
}

#[tokio::test]
async fn sighup_does_not_end_a_sidecar_that_is_still_reading_its_configuration() {
    let wechat = Wechat::calm().await;
    let secret = pipe("secret");
    let mut command = waiting(&secret);
    command.args(["--upstream", &wechat.url()]);
    let writer = secret.clone();
    let feeder = spawn_blocking(move || {
        // This waits until the program reads.
        let mut pipe = fs::File::options().write(true).open(&writer).unwrap();
        // The next one reads a file.
        let file = temporary("secret-file");
        fs::write(&file, SECRET).unwrap();
        fs::rename(file, writer).unwrap();
        move || pipe.write_all(SECRET.as_bytes()).unwrap()
    });
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let mut sidecar = Sidecar::begin(command, Some(wechat));
    until_caught(sidecar.pid(), &[1, 15]).await;
    sidecar.signal("-HUP");
    let feed = timeout(PATIENCE, feeder)
        .await
        .expect("it does not read")
        .unwrap();
    spawn_blocking(feed).await.unwrap();
    sidecar.until_listening().await;
    // It was not forgotten.
    sidecar
        .line("SIGHUP: reading the configuration again")
        .await;
    sidecar.until_ready().await;
    sidecar.signal("-TERM");
    assert_eq!(sidecar.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_signal_ends_a_command_that_serves_nobody() {
    let secret = pipe("secret");
    let mut command = waiting(&secret);
    let mut child = command.arg("check").spawn().unwrap();
    signal::send(child.id().unwrap(), "-TERM");
    let ended = timeout(PATIENCE, child.wait()).await.expect("it goes on");
    assert_eq!(ended.unwrap().code(), None);
    fs::remove_file(secret).unwrap();
}
