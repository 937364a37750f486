//! What patterns match, and that no disguise of a path slips past them.

use proptest::prelude::*;

use super::*;
use crate::wechat::{api::Api, endpoint::Endpoint};

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap_or_else(|problem| panic!("{text} {problem}"))
}

fn rules(allow: &[&str], deny: &[&str]) -> Rules {
    let patterns = |texts: &[&str]| texts.iter().map(|text| pattern(text)).collect();
    Rules {
        allow: patterns(allow),
        deny: patterns(deny),
    }
}

#[test]
fn a_star_stays_in_its_segment_and_two_go_on() {
    for (text, path, matches) in [
        ("/cgi-bin/menu/delete", "/cgi-bin/menu/delete", true),
        ("/cgi-bin/menu/delete", "/cgi-bin/menu/deleted", false),
        ("/cgi-bin/menu/delete", "/cgi-bin/menu", false),
        ("/CGI-bin/Menu/*", "/cgi-bin/menu/delete", true),
        ("/cgi-bin/menu/*", "/cgi-bin/menu/a/b", false),
        ("/cgi-bin/menu/*", "/cgi-bin/menu", false),
        ("/cgi-bin/*/delete", "/cgi-bin/menu/delete", true),
        ("/cgi-bin/*/delete", "/cgi-bin/a/b/delete", false),
        ("/cgi-bin/menu/del*", "/cgi-bin/menu/del", true),
        ("/cgi-bin/menu/*l*e", "/cgi-bin/menu/delete", true),
        ("/cgi-bin/**", "/cgi-bin/a/b/c", true),
        ("/cgi-bin/**", "/cgi-bin", false),
        ("**", "/", true),
        ("**/delete", "/a/b/delete", true),
        ("**/delete", "/a/b/undelete", false),
        ("/**/delete/**", "/a/delete/b/c", true),
        ("*", "/", false),
        ("/", "/", true),
    ] {
        assert_eq!(
            pattern(text).matches(path.as_bytes()),
            matches,
            "{text} {path}"
        );
    }
}

#[test]
fn what_can_match_nothing_is_refused() {
    let long = format!("/{}", "x".repeat(LONGEST));
    for text in [
        "",
        "cgi-bin/*",
        "/a/",
        "/a//b",
        "/a?b=1",
        "/a%62",
        "/a b",
        "/a;b",
        "/a.b",
        "/ä",
        "/a/***",
        "preset:",
        "preset:all",
        &long,
    ] {
        assert!(Pattern::parse(text).is_err(), "{text}");
    }
}

#[test]
fn deny_beats_allow_and_what_allow_has_not_is_forbidden() {
    let rules = rules(&["/cgi-bin/menu/*"], &["/cgi-bin/menu/delete"]);
    assert_eq!(rules.check(b"/cgi-bin/menu/get"), Ok(()));
    let denied = rules.check(b"/cgi-bin/menu/delete").unwrap_err();
    assert_eq!(
        denied.to_string(),
        "this endpoint is forbidden by deny = \"/cgi-bin/menu/delete\" of this account"
    );
    assert_eq!(
        rules.check(b"/cgi-bin/user/get"),
        Err(Forbidden::NotAllowed)
    );
    assert_eq!(Rules::default().check(b"/cgi-bin/a;b%\xff"), Ok(()));
}

#[test]
fn the_preset_forbids_what_hurts_the_account_and_leaves_the_rest() {
    let rules = rules(&[], &[ACCOUNT_WIDE]);
    for path in [
        "/cgi-bin/clear_quota",
        "/cgi-bin/menu/delete",
        "/wxa/release",
        "/cgi-bin/department/delete",
    ] {
        let denied = rules.check(path.as_bytes()).unwrap_err().to_string();
        assert!(denied.contains(ACCOUNT_WIDE), "{denied}");
    }
    for path in [
        "/cgi-bin/menu/create",
        "/cgi-bin/message/custom/send",
        "/",
        "/sns/userinfo",
    ] {
        assert_eq!(rules.check(path.as_bytes()), Ok(()), "{path}");
    }
}

#[test]
fn a_long_path_is_soon_read() {
    let many = "/**a**a**a**a**b";
    let path = format!("/{}", "a".repeat(60_000));
    assert!(!pattern(many).matches(path.as_bytes()));
}

/// Ways to write a character of a path.
fn written(byte: u8, how: u8) -> String {
    match how % 4 {
        0 => format!("%{byte:02x}"),
        1 => format!("%{byte:02X}"),
        2 => char::from(byte).to_ascii_uppercase().to_string(),
        _ => char::from(byte).to_string(),
    }
}

proptest! {
    /// Whatever a server may take for /cgi-bin/menu/delete is that, or is refused.
    #[test]
    fn no_disguise_slips_past(hows in prop::collection::vec(any::<u8>(), 20), tail in "(/|;|;x=1|%3b|%20|%09|%00|\\.|/\\.|/%2e|%2f|//|\\\\|%5c|%252f|%c0%af)?", at in 0..20usize, inside in "(/\\.|/\\.\\.|;a|%3b|/|%2f|%5c|%00)?") {
        let rules = rules(&[], &["/cgi-bin/menu/delete"]);
        let mut raw = String::new();
        for (place, (byte, how)) in "/cgi-bin/menu/delete".bytes().zip(hows).enumerate() {
            if place == at && place > 0 {
                raw.push_str(&inside);
            }
            raw.push_str(&if byte == b'/' { "/".to_owned() } else { written(byte, how) });
        }
        raw.push_str(&tail);
        let disguised = !inside.is_empty() && at > 0;
        if let Ok(endpoint) = Endpoint::of(Api::Wechat, raw.as_bytes()) {
            let checked = rules.check_endpoint(&endpoint);
            // A slash put inside a word makes another path of it, which is nobody's.
            let is_another = disguised && inside == "/";
            prop_assert!(checked.is_err() || is_another, "{raw}");
        }
    }
}
