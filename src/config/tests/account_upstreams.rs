//! Tests of the upstreams that accounts have of their own.

use super::Given;
use crate::config::*;

const WECHAT: &str = "[[accounts]]\nappid = 'wx1'\nsecret = 's'\n";
const WECOM: &str = "[[accounts]]\nkind = 'wecom'\ncorpid = 'ww1'\nname = 'app'\nsecret = 's'\n";

fn of(table: &str, more: &str) -> Given {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let given = super::given()
        .env("WECHAT_APPID", "")
        .env("WECHAT_SECRET", "");
    given.file(&format!("{table}{more}"))
}

fn upstream(given: &Given) -> Option<String> {
    let upstream = given.load().accounts[0].upstream.clone();
    upstream.map(|upstream| {
        assert_eq!(upstream.origins.len(), 1);
        upstream.origins[0].to_string()
    })
}

#[test]
fn an_account_uses_the_common_upstream_unless_it_is_wecoms_or_has_its_own() {
    for (table, more, shown) in [
        (WECHAT, "", None),
        (
            WECHAT,
            "upstream = 'https://h:8443'",
            Some("https://h:8443"),
        ),
        (WECOM, "", Some("https://qyapi.weixin.qq.com:443")),
        (WECOM, "upstream = 'https://h/wx'", Some("https://h:443/wx")),
        (
            WECOM,
            "upstream = 'http://h:18888'\nupstream_plain_http = true",
            Some("http://h:18888"),
        ),
        (WECOM, "upstream = 'http://[::1]:1'", Some("http://[::1]:1")),
    ] {
        assert_eq!(upstream(&of(table, more)).as_deref(), shown, "{more}");
    }
}

#[test]
fn accounts_with_equal_upstreams_share_one_and_upstream_address_does_not_apply_to_wecom() {
    let two = format!(
        "{WECOM}[[accounts]]\nkind = 'wecom'\ncorpid = 'ww1'\nname = 'other'\nsecret = 't'\n"
    );
    let given = of("", &two)
        .flag(Id::UpstreamAddress, "127.0.0.1")
        .flag(Id::Upstream, "https://127.0.0.1:1");
    let config = given.load();
    let upstreams: Vec<_> = config
        .accounts
        .iter()
        .map(|a| a.upstream.clone().unwrap())
        .collect();
    assert!(upstreams[0].same_target(&upstreams[1]) && !upstreams[0].same_target(&config.connect));
    let resolve = upstreams[0].dns.resolve("localhost.invalid");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    assert!(
        runtime.block_on(resolve).is_err(),
        "the address is WeChat's"
    );
}

#[test]
fn a_plain_http_upstream_takes_its_own_key_and_goes_through_no_proxy() {
    let plain = "upstream = 'http://qyapi.corp:18888/wx'\nupstream_plain_http = true";
    let given = of(WECOM, plain).flag(Id::EgressProxy, "http://proxy:3128");
    let config = given.load();
    assert!(config.connect.egress.is_some());
    assert!(
        config.accounts[0]
            .upstream
            .as_ref()
            .unwrap()
            .egress
            .is_none()
    );
    for (more, says) in [
        (
            "upstream = 'http://HUNTER2:1/wx'",
            "upstream_plain_http = true if",
        ),
        (
            "upstream = 'https://user:HUNTER2@h'",
            "takes no user or password",
        ),
        ("upstream = 'https://h/a/../HUNTER2'", "plain segments"),
        (
            "upstream = 'https://h'\nupstream_plain_http = true",
            "upstream is https: drop this key",
        ),
        (
            "upstream_plain_http = true",
            "no upstream that it could be about",
        ),
        (
            "upstream_ca_file = '/HUNTER2'",
            "no upstream that it could be about",
        ),
        (
            "upstream = 'https://h'\nupstream_ca_file = '/HUNTER2'",
            "cannot be read",
        ),
        (
            "upstream = 'http://h'\nupstream_plain_http = true\nupstream_ca_file = '/HUNTER2'",
            "shows no certificate",
        ),
        ("token_api = 'stable'", "WeCom has one token API"),
    ] {
        let error = of(WECOM, more).error();
        assert!(
            error.contains(says) && !error.contains("HUNTER2"),
            "{error}"
        );
    }
}

#[test]
fn a_token_is_not_kept_when_the_upstream_changes() {
    let account = |more| of(WECOM, more).load().accounts.remove(0);
    let one = account("upstream = 'https://one'");
    assert!(one.same_tokens(&account("upstream = 'https://one/'")));
    for other in [
        "upstream = 'https://two'",
        "upstream = 'https://one/wx'",
        "",
    ] {
        assert!(!one.same_tokens(&account(other)), "{other}");
    }
}
