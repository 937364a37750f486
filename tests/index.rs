//! The table in tests/README.md lists every file, and a test that `cargo test` ignores says what it needs.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder, with their text.
fn rust_below(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found
}

/// The attributes of each test in `text`, and the test itself.
fn tests(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let found = text
        .split("\n#[test]\n")
        .flat_map(|part| part.split("\n#[tokio::test"));
    found.skip(1).filter_map(|test| {
        let test = test.split_once("\n}\n").map_or(test, |(test, _)| test);
        Some(test.split_at(test.find("fn ")?))
    })
}

#[test]
fn every_file_of_tests_is_in_the_table_and_nothing_else_is() {
    let readme = fs::read_to_string(root().join("tests/README.md")).unwrap();
    let table = readme.split("\n## ").next().unwrap();
    let cells = table
        .lines()
        .filter_map(|line| line.strip_suffix(" |")?.rsplit(" | ").next());
    let mut listed: Vec<&str> = cells
        .filter_map(|cell| cell.split('`').nth(1))
        .filter(|name| name.ends_with(".rs"))
        .collect();
    listed.sort_unstable();
    let mut files: Vec<String> = fs::read_dir(root().join("tests"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".rs"))
        .collect();
    files.sort_unstable();
    assert_eq!(listed, files);
}

#[test]
fn an_ignored_test_says_what_it_needs() {
    let ignore = concat!("#[ig", "nore");
    let mut ignored = 0;
    for (path, text) in ["tests", "src"].into_iter().flat_map(rust_below) {
        for (_, rest) in text.match_indices(ignore).map(|(at, _)| text.split_at(at)) {
            let reason = rest.strip_prefix(ignore).unwrap();
            let says = reason.starts_with(" = \"needs ");
            let line = rest.lines().next().unwrap();
            assert!(says, "{}: {line}", path.display());
            ignored += 1;
        }
    }
    assert!(ignored > 10, "only {ignored} are ignored");
}

#[test]
fn a_test_with_a_real_redis_is_ignored_where_there_is_none() {
    let redis = concat!("Redis", "::");
    let mut with_redis = 0;
    for (path, text) in rust_below("tests") {
        for (attributes, test) in tests(&text) {
            if test.contains(redis) {
                let name = test.lines().next().unwrap();
                let ignored = attributes.contains("\"needs redis-server");
                assert!(ignored, "{}: {name}", path.display());
                with_redis += 1;
            }
        }
    }
    assert!(with_redis > 10, "only {with_redis} take a Redis");
}

#[test]
fn no_doc_test_runs_only_where_ignored_tests_do() {
    let ignored = concat!("``", "`ignore");
    for (path, text) in rust_below("src") {
        let name = path.display();
        assert!(
            !text.contains(ignored),
            "{name}: `text` or `no_run` says it better"
        );
    }
}

/// Patterns of `exclude` in Cargo.toml mean any folder of that name, unless they begin with a slash.
#[test]
fn the_published_crate_has_every_source() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["package", "--list", "--allow-dirty", "--offline"]);
    let output = cargo.current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let published = String::from_utf8(output.stdout).unwrap();
    let published: Vec<&Path> = published.lines().map(Path::new).collect();
    for (file, _) in rust_below("src") {
        let file = file.strip_prefix(root()).unwrap();
        assert!(published.contains(&file), "{}", file.display());
    }
    let stays = ["target", "k8s", "packaging", ".github", "examples/node"];
    let strange = published
        .iter()
        .find(|file| stays.iter().any(|folder| file.starts_with(folder)));
    assert_eq!(strange, None);
}
