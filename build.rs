//! Tells the program which commit it was built from, and leaves the C library's look-up of names out where it is linked in.

use std::{env, fs, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-env-changed=SIDECAR_BUILD_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let given = env::var("SIDECAR_BUILD_COMMIT").ok();
    let commit = given
        .or_else(of_crate)
        .or_else(of_git)
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=SIDECAR_BUILD_COMMIT={commit}");
    leave_getaddrinfo_out();
}

/// The commit of a crate that cargo has packed.
fn of_crate() -> Option<String> {
    let text = fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, behind) = text.split_once("\"sha1\"")?;
    behind.split('"').nth(1)?.get(..12).map(str::to_owned)
}

/// The commit of this folder, if the repository is its own: not that of a project which has a copy of it.
fn of_git() -> Option<String> {
    if !git(&["rev-parse", "--show-prefix"])?.is_empty() {
        return None;
    }
    // In a worktree they lie elsewhere. Cargo takes one that is not there for changed.
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Names are looked up by src/net/dns. Libraries link getaddrinfo in all the same, for resolvers that are not used here. In
/// a static program another function stands in for it: one that has no effect, and whose result is not 0, an error.
fn leave_getaddrinfo_out() {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|given| given.contains(value));
    if is("CARGO_CFG_TARGET_ENV", "musl") && is("CARGO_CFG_TARGET_FEATURE", "crt-static") {
        println!("cargo::rustc-link-arg-bins=-Wl,--undefined=getpid,--defsym=getaddrinfo=getpid");
    }
}
