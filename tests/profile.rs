//! The compiler uses the profile if it fits, and otherwise compiles as if there were none.
#![allow(clippy::unwrap_used)]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

const OPTIMISED: [&str; 3] = ["--crate-name=x", "-C", "opt-level=2"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The arguments that a copy of pgo/rustc passes to the compiler `is`, if it has a profile of the compiler
/// `profiled`, and the environment.
fn asked(
    profiled: Option<&str>,
    is: &str,
    sidecar_pgo: Option<&str>,
    arguments: &[&str],
) -> String {
    let pgo = Path::new(env!("CARGO_TARGET_TMPDIR")).join("a profile");
    let _ = fs::remove_dir_all(&pgo);
    fs::create_dir(&pgo).unwrap();
    fs::copy(root().join("pgo/rustc"), pgo.join("rustc")).unwrap();
    if let Some(profiled) = profiled {
        for profile in ["calls.profdata", "calls.musl.profdata"] {
            fs::write(pgo.join(profile), "counts").unwrap();
        }
        fs::write(pgo.join("rustc.version"), format!("{profiled}\n")).unwrap();
    }
    let compiler = pgo.join("compiler");
    let says = format!("if [[ $1 == -vV ]]; then echo '{is}'; exit; fi");
    let script = format!(
        "#!/usr/bin/env bash\n{says}\nprintf '%s|' \"$@\"\nprintf 'BIN-x='\nprintenv BIN-x\n"
    );
    fs::write(&compiler, script).unwrap();
    fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(pgo.join("rustc"));
    command.arg(&compiler).args(arguments);
    command.env("BIN-x", "1").env_remove("SIDECAR_PGO");
    if let Some(value) = sidecar_pgo {
        command.env("SIDECAR_PGO", value);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let output = String::from_utf8(output.stdout).unwrap();
    output.replace(pgo.to_str().unwrap(), "pgo")
}

#[test]
fn the_profile_is_handed_over_where_it_fits_and_nowhere_else() {
    let (this, other) = ("rustc 1.2.3", "rustc 1.2.4");
    let plain = "--crate-name=x|-C|opt-level=2|BIN-x=1\n";
    let with = |more: &str| plain.replace("BIN", &format!("{more}|BIN"));
    let used = with("-Cprofile-use=pgo/calls.profdata");
    assert_eq!(asked(Some(this), this, None, &OPTIMISED), used);
    assert_eq!(asked(Some(this), other, None, &OPTIMISED), plain);
    assert_eq!(asked(Some(this), this, Some("off"), &OPTIMISED), plain);
    assert_eq!(asked(None, "", None, &OPTIMISED), plain);
    let unoptimised = asked(Some(this), this, None, &["--crate-name=a b"]);
    assert_eq!(unoptimised, "--crate-name=a b|BIN-x=1\n");
    let counting = with("-Cprofile-generate=/a b");
    assert_eq!(asked(Some(this), this, Some("/a b"), &OPTIMISED), counting);
    // Each C library has a profile of its own, and other machines have none.
    let to = |target| {
        let arguments = [&OPTIMISED[..], &["--target", target]].concat();
        asked(Some(this), this, None, &arguments)
    };
    let musl = "-Cprofile-use=pgo/calls.musl.profdata|";
    assert!(to("x86_64-unknown-linux-musl").contains(musl));
    assert!(!to("aarch64-unknown-linux-musl").contains("profile-use"));
    assert!(!to("x86_64-unknown-linux-gnu").contains("profile-use"));
}

#[test]
fn images_are_built_with_the_compiler_that_the_profile_is_for() {
    let version = fs::read_to_string(root().join("pgo/rustc.version")).unwrap();
    let release = version
        .lines()
        .find_map(|line| line.strip_prefix("release: "));
    let image = format!("rust:{}-bookworm", release.unwrap());
    for file in ["Dockerfile", "docs/install.md", "docs/zh-CN/install.md"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let images = text.matches("rust:").count();
        assert!(
            images > 0 && images == text.matches(&image).count(),
            "{file}: {image}"
        );
    }
}
