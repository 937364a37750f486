//! The local CA: apps that trust its root are served, nobody else can be played by it, and a restart changes nothing.
#![allow(clippy::unwrap_used)]

mod support;

#[path = "local_ca/folders.rs"]
mod folders;
#[path = "local_ca/forged.rs"]
mod forged;
#[path = "local_ca/handshakes.rs"]
mod handshakes;
#[path = "local_ca/languages.rs"]
mod languages;
#[path = "local_ca/running.rs"]
mod running;
#[path = "local_ca/trust_files.rs"]
mod trust_files;

use std::{fs, path::PathBuf, process::Command};

use wechat_sidecar::{
    ca::{Authority, Options, trust_dir},
    wechat::hosts,
};

/// A CA in a folder, with the files that apps trust.
struct Made {
    dir: PathBuf,
    authority: Authority,
}

impl Made {
    /// Makes it for WeChat's hosts.
    fn new(name: &str) -> Self {
        let dir = empty(name);
        let authority = Authority::open(&options(&dir)).unwrap();
        let trust = trust_dir::Options {
            dir: dir.join("trust"),
            also: None,
        };
        trust_dir::write(&trust, authority.root()).unwrap();
        Self { dir, authority }
    }

    fn ca_dir(&self) -> PathBuf {
        self.dir.clone()
    }

    fn trusted(&self, file: &str) -> PathBuf {
        self.dir.join("trust").join(file)
    }

    /// What the program prints that has this configuration.
    fn printed(&self, args: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wechat-sidecar"));
        command.env_clear().args(args);
        command.arg("--ca-dir").arg(&self.dir);
        command.arg("--trust-dir").arg(self.trusted(""));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A folder of this test that is empty.
fn empty(name: &str) -> PathBuf {
    let dir = support::sidecar::temporary(&format!("ca-{name}"));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn options(dir: &std::path::Path) -> Options {
    Options {
        dir: Some(dir.to_owned()),
        hosts: hosts::WECHAT.map(str::to_owned).to_vec(),
    }
}

/// What `openssl` prints, and whether it succeeds.
fn openssl(args: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(args).output();
    let output = output.expect("openssl, which every Debian has");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}
