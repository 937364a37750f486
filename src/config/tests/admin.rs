//! Tests that the admin port is found whatever else is wrong.

use super::*;

/// Sources that only contain what a test sets.
fn nothing() -> Given {
    let mut given = given();
    given.0.env.clear();
    given
}

impl Given {
    /// The address of the admin port, and the reason why it is a guess.
    fn admin(&self) -> (String, Option<String>) {
        let AdminPort { address, doubt } =
            AdminPort::find(&self.0).unwrap_or_else(|error| panic!("{error}"));
        if let Some(doubt) = &doubt {
            assert!(!doubt.contains("HUNTER2"), "{doubt}");
        }
        (address.to_string(), doubt)
    }
}

fn found(address: &str) -> (String, Option<String>) {
    (address.to_owned(), None)
}

const DEFAULT: &str = "127.0.0.1:7081";

#[test]
fn the_admin_port_is_found_without_credentials() {
    assert_eq!(nothing().admin(), found(DEFAULT));
    let flag = |text: &str| nothing().flag(Id::Admin, text);
    assert_eq!(flag("[::]:9").admin(), found("[::1]:9"));
    assert_eq!(flag("10.0.0.1:9").admin(), found("10.0.0.1:9"));
    assert!(AdminPort::find(&flag("9").0).is_err());
    assert!(AdminPort::find(&nothing().env("WECHAT_SIDECAR_ADMIN", "9").0).is_err());
}

#[test]
fn no_other_mistake_hides_the_admin_port() {
    for file in [
        "lisen = 1\nadmin = '127.0.0.1:9'",
        "admin = '127.0.0.1:9'\nlisten = 1",
        "admin = '127.0.0.1:9'\n[listen]\nx = 1\n[replay]\nlimits = '1'",
        "config = 'x'\nreplay-limit = 1\nreplay_limit = 2\nadmin = '127.0.0.1:9'",
        "admin = '127.0.0.1:9'\naccounts = 1",
        "admin = '127.0.0.1:9'\n[[accounts]]\nadmin = 'x'\nappsecret = 'HUNTER2'",
        "[admin]\nurl = '127.0.0.1:9'\nother = 1",
        // These lines are not TOML.
        "admin = '127.0.0.1:9'\nHUNTER2",
        "listen = 'HUNTER2\nadmin = '127.0.0.1:9'",
        "listen = HUNTER2\n\nadmin = '127.0.0.1:9'",
        "listen = ['HUNTER2'\nadmin = '127.0.0.1:9'",
        "upstream = \"\"\"\nadmin = '127.0.0.1:9'\nHUNTER2",
        "a\nb =\n= c\nadmin = '127.0.0.1:9'\n[[accounts]\nsecret = 'HUNTER2",
        "workers = 1\nworkers = 2\nadmin = '127.0.0.1:9'",
        "admin = '127.0.0.1:9'\nupstream = \"\"\"\nHUNTER2",
        "\u{feff}admin = '127.0.0.1:9'\n\u{0}",
    ] {
        assert_eq!(nothing().file(file).admin(), found("127.0.0.1:9"), "{file}");
    }
    // This comment is in GBK.
    let given = nothing().file("");
    fs::write(&given.1, b"# \xb9\xdc\xc0\xed\nadmin = '127.0.0.1:9'").unwrap();
    assert_eq!(given.admin(), found("127.0.0.1:9"));
    let other = nothing()
        .env("WECHAT_SIDECAR_LISTEN", "x")
        .env("WECHAT_SIDECAR_LISEN", "x")
        .flag(Id::Workers, "x");
    assert_eq!(other.admin(), found(DEFAULT));
}

#[test]
fn a_file_without_the_admin_port_leaves_the_default() {
    for file in [
        "",
        "lisen = 1",
        "[[accounts]]\nadmin = '127.0.0.1:9'",
        "[listen]\nadmin = 'x'",
    ] {
        assert_eq!(nothing().file(file).admin(), found(DEFAULT), "{file}");
    }
}

#[test]
fn a_guess_says_why_and_repeats_nothing() {
    for (file, why) in [
        ("\nHUNTER2", "line 2: the file is not TOML"),
        (
            "upstream = [\n[a]\nadmin = '127.0.0.1:9'",
            "the file is not TOML",
        ),
        (
            "admin = 'HUNTER2'",
            "line 1: the value is not an IP address and a port",
        ),
        ("admin = 9", "the value is not an IP address"),
        ("admin = ['HUNTER2']", "a string is expected here"),
        ("admin = 127.0.0.1:9", "admin in "),
        (
            "\nadmin = '''127.0.0.1:9\n[[accounts]]\nsecret = 'HUNTER2'",
            "line 2: ",
        ),
    ] {
        let (address, doubt) = nothing().file(file).admin();
        let doubt = doubt.unwrap_or_default();
        assert_eq!(address, DEFAULT);
        let asks = "; asking 127.0.0.1:7081, the default of --admin";
        assert!(
            doubt.contains(why) && doubt.ends_with(asks),
            "{file}: {doubt}"
        );
    }
    let missing = nothing().env("WECHAT_SIDECAR_CONFIG", "/no/such/file");
    let (address, doubt) = missing.admin();
    assert_eq!(address, DEFAULT);
    let why = "WECHAT_SIDECAR_CONFIG: the file cannot be read: ";
    assert!(doubt.unwrap_or_default().starts_with(why));
    // A flag or a variable needs no file.
    assert_eq!(
        missing.env("WECHAT_SIDECAR_ADMIN", "127.0.0.1:9").admin(),
        found("127.0.0.1:9")
    );
    let broken = nothing().file("HUNTER2").flag(Id::Admin, "127.0.0.1:9");
    assert_eq!(broken.admin(), found("127.0.0.1:9"));
}
