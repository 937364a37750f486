//! When the log is not read, no call, probe or signal waits for it.

use std::{process::Stdio, time::Duration};

use futures_util::stream::{self, StreamExt};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout},
    time::timeout,
};

use crate::support::{
    Wechat,
    sidecar::{client, with_account},
    signal,
};

const LONG: Duration = Duration::from_secs(30);

/// A sidecar whose log is read only until its ports are known.
struct Unread {
    child: Child,
    log: BufReader<ChildStdout>,
    url: String,
    admin: String,
}

impl Unread {
    async fn start(wechat: &Wechat, flags: &[&str]) -> Self {
        let mut command = with_account();
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(["--upstream", &wechat.url()]).args(flags);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let mut address = async |word: &str| {
            let mut line = String::new();
            while !line.contains(word) {
                line.clear();
                assert!(log.read_line(&mut line).await.unwrap() > 0, "no {word}");
            }
            let (_, address) = line.split_once("address=").unwrap();
            format!("http://{}", address.trim())
        };
        let (url, admin) = (address(" listening").await, address(" admin").await);
        Self {
            child,
            log,
            url,
            admin,
        }
    }

    /// The status and the text of a reply, which must arrive.
    async fn get(&self, url: &str) -> (u16, String) {
        let reply = timeout(LONG, client().get(url).send()).await;
        let reply = reply.expect("the log is waited for").unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    }

    /// Makes `count` calls, each of which causes a line of the log. Their path has no `..` that the client would
    /// remove.
    async fn say(&self, count: usize) {
        let client = client();
        let calls = (0..count).map(|_| async {
            let call = client.get(format!("{}/a%2F..%2Fb", self.url)).send();
            let reply = timeout(LONG, call).await.expect("the log is waited for");
            assert_eq!(reply.unwrap().status(), 400);
        });
        stream::iter(calls)
            .buffer_unordered(16)
            .collect::<()>()
            .await;
    }

    async fn dropped(&self) -> u64 {
        let (_, page) = self.get(&format!("{}/metrics", self.admin)).await;
        let name = "wechat_sidecar_log_lines_dropped_total ";
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().parse().unwrap()
    }

    fn terminate(&self) {
        signal::send(self.child.id().unwrap(), "-TERM");
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_no_call_no_probe_and_no_signal() {
    let wechat = Wechat::calm().await;
    let mut sidecar = Unread::start(&wechat, &["--log-level", "trace"]).await;
    while sidecar.dropped().await == 0 {
        sidecar.say(500).await;
    }
    let probe = format!("{}/livez", sidecar.admin);
    assert_eq!(sidecar.get(&probe).await.0, 200);
    let call = format!("{}/cgi-bin/user/get", sidecar.url);
    assert_eq!(sidecar.get(&call).await.0, 200);
    sidecar.terminate();
    let ended = timeout(LONG, sidecar.child.wait()).await;
    assert!(ended.expect("never ended").unwrap().success());
}

#[tokio::test]
async fn what_was_dropped_is_told_of_when_somebody_reads_again_and_the_last_lines_are_written() {
    let wechat = Wechat::calm().await;
    let mut sidecar = Unread::start(&wechat, &["--log-level", "trace"]).await;
    while sidecar.dropped().await == 0 {
        sidecar.say(500).await;
    }
    let mut line = String::new();
    while !line.contains("log lines were dropped") {
        line.clear();
        let read = timeout(LONG, sidecar.log.read_line(&mut line)).await;
        assert!(read.expect("nothing is told").unwrap() > 0);
    }
    assert!(line.contains("WARN") && line.contains("lines="), "{line}");
    sidecar.terminate();
    let mut rest = String::new();
    let read = timeout(LONG, sidecar.log.read_to_string(&mut rest)).await;
    read.unwrap().unwrap();
    assert!(rest.contains("stopping"), "{rest}");
    assert!(timeout(LONG, sidecar.child.wait()).await.is_ok());
}
