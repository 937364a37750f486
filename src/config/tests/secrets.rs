//! Secrets as people save them.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use super::{Given, SECRET, given};
use crate::config::Config;

/// A file that only its owner can read.
fn file(bytes: &str) -> PathBuf {
    let name = format!("secret-{}-{}", std::process::id(), fastrand::u64(..));
    let path = std::env::temp_dir().join(name);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn secret_of(config: &Config) -> String {
    let secret = config.accounts[0].secret.as_ref().unwrap();
    secret.held().expose().to_owned()
}

/// What is said of a secret with these bytes, in the environment, in its file, and in a file of accounts.
fn loaded(bytes: &str) -> [(Config, &'static str); 3] {
    let path = file(bytes);
    let in_file = given()
        .env("WECHAT_SECRET", "")
        .env("WECHAT_SECRET_FILE", path.to_str().unwrap())
        .load();
    fs::remove_file(&path).unwrap();
    let table = format!("[[accounts]]\nappid = 'wx1'\nsecret = '''{bytes}'''\n");
    let mut in_table: Given = given().file(&table);
    in_table.0.env.clear();
    let in_variable = given().env("WECHAT_SECRET", bytes).load();
    [
        (in_variable, "WECHAT_SECRET:"),
        (in_file, "WECHAT_SECRET_FILE:"),
        (in_table.load(), "secret in "),
    ]
}

#[test]
fn white_space_and_byte_order_marks_around_a_secret_are_no_part_of_it() {
    for bytes in [
        SECRET.to_owned(),
        format!("\u{feff}{SECRET}\n"),
        format!(" \n{SECRET} \n\n"),
    ] {
        for (config, place) in loaded(&bytes) {
            assert_eq!(secret_of(&config), SECRET, "{place}{bytes:?}");
            assert_eq!(config.warnings, Vec::<String>::new());
        }
    }
}

#[test]
fn a_secret_that_looks_odd_is_used_and_its_look_is_a_warning() {
    for (bytes, look) in [
        (format!("\"{SECRET}\""), "has quotes around it"),
        (format!("SECRET={SECRET}"), "looks like KEY=value"),
        (
            "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYK".to_owned(),
            "looks like base64",
        ),
        ("HUNTER2".to_owned(), "is not 32 hexadecimal digits"),
    ] {
        for (config, place) in loaded(&bytes) {
            assert_eq!(secret_of(&config), bytes);
            let [warning] = &config.warnings[..] else {
                panic!("{place}{:?}", config.warnings)
            };
            let says = format!(": the secret {look}");
            assert!(
                warning.starts_with(place) && warning.contains(&says),
                "{warning}"
            );
            for hidden in [SECRET, "HUNTER2", "MDEy"] {
                assert!(!warning.contains(hidden), "{warning}");
            }
        }
    }
}
