//! The command `fake` as a process.

use std::process::Stdio;

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
    time::timeout,
};

use super::{PATIENCE, sidecar::command, signal};

/// A running fake, and its first line on stdout. It is killed when this is dropped.
pub struct FakeProcess {
    child: Child,
    pub line: String,
}

impl FakeProcess {
    pub async fn start(args: &[&str]) -> Self {
        let mut fake = command();
        fake.arg("fake")
            .args(["--listen", "127.0.0.1:0"])
            .args(args);
        let mut child = fake.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap();
        let line = line.unwrap().expect("it prints where it listens");
        Self { child, line }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.line).unwrap()
    }

    pub fn url(&self) -> String {
        self.json()["url"].as_str().unwrap().to_owned()
    }

    /// Its exit code after SIGTERM.
    pub async fn end(mut self) -> Option<i32> {
        signal::send(self.child.id().unwrap(), "-TERM");
        timeout(PATIENCE, self.child.wait())
            .await
            .unwrap()
            .unwrap()
            .code()
    }
}
