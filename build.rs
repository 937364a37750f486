//! Tells the program which commit it was built from.

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-env-changed=SIDECAR_BUILD_COMMIT");
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/logs/HEAD");
    println!("cargo::rerun-if-changed=build.rs");
    let given = env::var("SIDECAR_BUILD_COMMIT").ok();
    let commit = given
        .or_else(of_git)
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=SIDECAR_BUILD_COMMIT={commit}");
}

fn of_git() -> Option<String> {
    let output = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}
