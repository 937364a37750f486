//! Tests of the token sources of accounts.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use super::{Given, SECRET};
use crate::account::SourceOptions;

const ACCOUNT: &str = "[[accounts]]\nappid = 'wx1'\n";

fn of(more: &str) -> Given {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let given = super::given()
        .env("WECHAT_APPID", "")
        .env("WECHAT_SECRET", "");
    given.file(&format!("{ACCOUNT}{more}"))
}

fn source(more: &str) -> SourceOptions {
    let account = of(more).load().accounts.remove(0);
    assert!(account.secret.is_none());
    account.source.clone()
}

/// A header file that only its owner can read.
fn header(line: &str) -> PathBuf {
    let name = format!("header-{}-{}", std::process::id(), fastrand::u64(..));
    let path = std::env::temp_dir().join(name);
    fs::write(&path, line).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn a_file_or_a_server_needs_no_secret() {
    for more in [
        "token.source = 'file'\ntoken.file = '/x/y'",
        "[accounts.token]\nsource = 'file'\nfile = '/x/y'",
        "token = { source = 'file', file = '/x/y' }",
    ] {
        assert_eq!(source(more), SourceOptions::File("/x/y".into()));
    }
    let SourceOptions::Http(usual) =
        source("token.source = 'http'\ntoken.url = 'http://h/x?key=K'")
    else {
        panic!()
    };
    assert_eq!(usual.url.expose(), "http://h/x?key=K");
    assert_eq!(
        (&*usual.token_pointer, &*usual.expires_pointer),
        ("/access_token", "/expires_in")
    );
    assert!(usual.header.is_none());
    let path = header("X-Key: k\n");
    let all = format!(
        "[accounts.token]\nsource = 'http'\nurl = 'https://h'\nheader_file = '{}'\ntoken_pointer = '/data/0'\nexpires-pointer = ''",
        path.display()
    );
    let SourceOptions::Http(options) = source(&all) else {
        panic!()
    };
    assert_eq!(options.header.as_ref().unwrap().held().expose(), "X-Key: k");
    assert_eq!(
        (&*options.token_pointer, &*options.expires_pointer),
        ("/data/0", "")
    );
    assert_ne!(options, usual);
    assert_eq!(
        source(&all),
        source(&all),
        "a reading again changes nothing"
    );
    fs::remove_file(&path).unwrap();
}

#[test]
fn only_wechats_own_classic_tokens_cause_a_warning() {
    let classic = "token_api = 'classic'\n";
    let given = of(&format!(
        "{classic}token.source = 'file'\ntoken.file = '/x'"
    ));
    assert_eq!(given.load().warnings, Vec::<String>::new());
    let given = of(&format!("{classic}secret = '{SECRET}'"));
    assert_eq!(given.load().warnings.len(), 1);
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_without_its_value() {
    let path = header("HUNTER2");
    let header = format!("token.header_file = '{}'", path.display());
    let server = "token.source = 'http'\ntoken.url = 'http://h'\n";
    for (more, says) in [
        (
            "token.source = 'HUNTER2'",
            "line 3: the value is none of wechat, file, http",
        ),
        (
            "token.source = 'file'",
            "line 3: this account has no token.file",
        ),
        (
            "token.source = 'http'",
            "line 3: this account has no token.url",
        ),
        (
            "token.file = '/HUNTER2'",
            "it takes token.source = \"file\"",
        ),
        (
            "token.source = 'file'\ntoken.file = '/x'\ntoken.url = 'http://HUNTER2'",
            "line 5: it takes token.source = \"http\"",
        ),
        (
            "token.source = 'http'\ntoken.url = 'HUNTER2'",
            "line 4: the value is not a URL",
        ),
        (
            "token.source = 'http'\ntoken.url = 'http://u:HUNTER2@h'",
            "put an Authorization line into token.header_file",
        ),
        (
            &format!("{server}{header}"),
            "the file does not hold one line",
        ),
        (
            &format!("{server}token.header_file = '/HUNTER2'"),
            "the file cannot be used",
        ),
        (
            &format!("{server}token.token_pointer = 'HUNTER2'"),
            "line 5: the value is not a JSON pointer",
        ),
        (
            &format!("{server}token.expire_pointer = '/HUNTER2'"),
            "did you mean token.expires_pointer?",
        ),
    ] {
        let error = of(more).error();
        assert!(
            error.contains(says) && !error.contains("HUNTER2"),
            "{more}: {error}"
        );
    }
    fs::remove_file(&path).unwrap();
}
