//! Tests of accounts that are selected by a real token.

use super::*;

/// A token of WeChat's form.
fn real(beginning: &str) -> String {
    format!("{beginning}{}", "_-aZ09".repeat(23))
}

/// Makes `token` the current one of the account called `name`.
fn give(accounts: &Accounts, name: &str, token: &str) {
    let Lookup::One(account) = accounts.find(name) else {
        panic!("{name}")
    };
    let history = account.keeper.history().unwrap();
    history.put(&Secret::new(token));
}

const MARKED: [(&str, &str); 2] = [("wx1", "*"), ("wx2", "crm")];
const X: &str = "/cgi-bin/x";

#[tokio::test]
async fn a_token_that_an_account_has_or_had_names_it() {
    for all in [&MARKED, &TWO] {
        let accounts = accounts(all);
        let told = |target: &str| told(&accounts, target, &[], None, None);
        for token in ["short", &real("old"), &real("new")] {
            give(&accounts, "wx2", token);
        }
        for token in ["short", &real("old"), &real("new"), "%73hort"] {
            let found = told(&format!("{X}?a=1&access_token={token}&b"));
            assert_eq!(found, format!("wx2 token {X}"));
        }
        let twice = format!("{X}?access_token=dummy&access_token={}", real("new"));
        assert_eq!(told(&twice), format!("wx2 token {X}"));
    }
}

#[tokio::test]
async fn a_token_of_another_account_than_the_one_that_is_named_is_a_contradiction() {
    let accounts = accounts(&TWO);
    let (one, two) = (real("one"), real("two"));
    give(&accounts, "wx1", &one);
    give(&accounts, "wx2", &two);
    let told =
        |target: &str, headers: &[&str], listener| told(&accounts, target, headers, listener, None);
    let ways = |token: &str| {
        [
            (format!("{X}?access_token={token}"), &["wx1"][..], None),
            (format!("/orders{X}?access_token={token}"), &[], None),
            (
                format!("{X}?access_token={token}&access_token=sidecar-wx1"),
                &[],
                None,
            ),
            (format!("{X}?access_token={token}"), &[], Some("wx1")),
        ]
    };
    for (target, headers, listener) in ways(&two) {
        assert_eq!(told(&target, headers, listener), "990406", "{target}");
    }
    // A token of the same account, or of no account, does not contradict the name.
    for token in [&one, &real("unknown")] {
        for (target, headers, listener) in ways(token) {
            let told = told(&target, headers, listener);
            assert!(
                told.starts_with("wx1 ") && !told.contains("token"),
                "{told}"
            );
        }
    }
    let both = format!("{X}?access_token={one}&access_token={two}");
    assert_eq!(told(&both, &[], None), "990406");
}

#[tokio::test]
async fn what_looks_real_and_is_nobodys_is_over_and_a_dummy_is_the_defaults() {
    let marked = accounts(&MARKED);
    let told = |accounts: &Accounts, target: &str| told(accounts, target, &[], None, None);
    let with = |token: &str| format!("{X}?access_token={token}");
    let default = format!("wx1 default {X}");
    assert_eq!(told(&marked, &with(&"x".repeat(100))), "42001");
    assert_eq!(told(&marked, &with(&real("unknown"))), "42001");
    let encoded = real("unknown").replace('_', "%5F");
    assert_eq!(told(&marked, &with(&encoded)), "42001");
    for dummy in [
        "",
        "dummy",
        &"x".repeat(99),
        &real("not/its"),
        &real("alphabet."),
    ] {
        assert_eq!(told(&marked, &with(dummy)), default, "{dummy}");
    }
    // The SDK recovers without a default, too, because it then sends its AppID.
    let unmarked = accounts(&TWO);
    assert_eq!(told(&unmarked, &with(&real("unknown"))), "42001");
    assert_eq!(told(&unmarked, &with("dummy")), "990406");
    // With one account, every token is accepted.
    let one = accounts(&TWO[..1]);
    assert_eq!(told(&one, &with(&real("unknown"))), default);
}

#[tokio::test]
async fn a_token_says_nothing_where_the_endpoint_takes_another() {
    let accounts = accounts(&MARKED);
    let (two, unknown) = (real("two"), real("unknown"));
    give(&accounts, "wx2", &two);
    let told = |target: &str| told(&accounts, target, &[], None, None);
    for path in [
        "/sns/userinfo",
        "/cgi-bin/component/api_query_auth",
        "/cgi-bin/clear_quota/v2",
        "/sns/oauth2/refresh_token",
        "/cgi-bin/token",
        "/sns/jscode2session",
    ] {
        for token in [&two, &unknown] {
            let found = told(&format!("{path}?access_token={token}"));
            assert_eq!(found, format!("wx1 default {path}"));
        }
        let other = told(&format!(
            "{path}?component_access_token={two}&suite_access_token={two}"
        ));
        assert_eq!(other, format!("wx1 default {path}"));
    }
    // An error in the path comes first.
    for path in ["/cgi-bin/../x", "/wx0123456789abcdef/cgi-bin/user/get"] {
        for token in [&two, &unknown] {
            let found = told(&format!("{path}?access_token={token}"));
            assert_eq!(found, format!("wx1 default {path}"));
        }
    }
}

#[tokio::test]
async fn at_wecom_a_token_says_nothing() {
    let (two, unknown) = (real("two"), real("unknown"));
    let wechats = accounts(&CORP);
    give(&wechats, "wx2", &two);
    let with = |token: &str| format!("{X}?access_token={token}");
    for token in [&two, &unknown] {
        for header in ["contacts", "app"] {
            let found = told(&wechats, &with(token), &[header], None, None);
            assert_eq!(found, format!("{header} header {X}"));
        }
        // The corpid alone belongs to two accounts.
        assert_eq!(told(&wechats, &with(token), &["ww1"], None, None), "990406");
    }
    let wecoms = accounts(&[("ww1", "*app"), ("wx2", "")]);
    give(&wecoms, "wx2", &two);
    let told = |target: &str| told(&wecoms, target, &[], None, None);
    assert_eq!(told(&with(&unknown)), format!("app default {X}"));
    // A token of a WeChat account does not select a corp.
    assert_eq!(told(&with(&two)), format!("wx2 token {X}"));
}

#[tokio::test]
async fn a_token_of_two_accounts_is_whoevers_is_named() {
    let accounts = accounts(&[("wx1", "*"), ("wx2", ""), ("wx3", "")]);
    let shared = real("shared");
    give(&accounts, "wx2", &shared);
    give(&accounts, "wx3", &shared);
    let with = format!("{X}?access_token={shared}");
    let found = |headers: &[&str]| told(&accounts, &with, headers, None, None);
    assert_eq!(found(&["wx2"]), format!("wx2 header {X}"));
    assert_eq!(found(&["wx3"]), format!("wx3 header {X}"));
    assert_eq!(found(&["wx1"]), "990406");
    assert!(found(&[]).ends_with(&format!(" token {X}")));
}
