//! Tests of how the account of a call is selected.

mod tokens;

use http::HeaderValue;
use tokio::time::Duration;

use super::*;
use crate::{
    account::{AccountFactory, Options},
    net::{
        connector::{ConnectOptions, Connector},
        dns::Resolver,
        origin::Origin,
        tls::load,
    },
    proxy::guard::{AppTls, Exposure},
    secret::{Secret, SecretSource},
    token::source::api,
};

/// Accounts that are never served. Two are WeChat's, and the first of these is called orders.
fn accounts(more: &[(&str, &str)]) -> Accounts {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let connect = ConnectOptions {
        origins: vec![Origin::parse("http://127.0.0.1:1").unwrap()],
        dns: Resolver::new(None),
        tls: load(None).unwrap(),
        egress: None,
        connect_timeout: Duration::from_secs(3),
    };
    let client = api::client(&connect, Arc::default()).unwrap();
    let connector = Arc::new(Connector::new(connect).unwrap());
    let factory = AccountFactory::new(client, connector, Duration::from_secs(1), Arc::default());
    let open = |(appid, name): &(&str, &str)| {
        let secret = Arc::new(SecretSource::fixed(Secret::new("s")));
        let mut options = Options::new(*appid, Some(secret));
        options.name = Some(name.trim_start_matches('*'))
            .filter(|name| !name.is_empty())
            .map(str::to_owned);
        options.default = name.starts_with('*');
        let mut account = Arc::new(options).open(&factory).unwrap();
        if appid.starts_with("ww") {
            account.api = Api::Wecom;
            Arc::make_mut(&mut account.options).api = Api::Wecom;
        }
        Arc::new(account)
    };
    let all = more.iter().map(open).collect();
    Accounts::new(all, factory.fingerprints().clone())
}

const TWO: [(&str, &str); 2] = [("wx1", "orders"), ("wx2", "")];
const CORP: [(&str, &str); 3] = [("ww1", "app"), ("ww1", "contacts"), ("wx2", "*")];

/// The result for a call: AppID (or name, for a corp), kind of hint and path; or the code of the error.
fn told(
    accounts: &Accounts,
    target: &str,
    headers: &[&str],
    listener: Option<&str>,
    in_body: Option<&str>,
) -> String {
    let mut map = HeaderMap::new();
    for value in headers {
        map.append(APPID, HeaderValue::from_str(value).unwrap());
    }
    let entrance = ListenerInfo {
        exposure: Exposure::Loopback,
        tls: AppTls::Absent,
        account: listener.map(Into::into),
    };
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(path, query)| (path, Some(query)));
    let target = (with_one_slash(path), query);
    let in_body = in_body.map_or(BodyAppid::Unread, |appid| {
        BodyAppid::Read(Some(appid).filter(|appid| !appid.is_empty()))
    });
    match select_account(target, &map, &entrance, accounts, in_body) {
        Ok(Some(found)) => format!("{} {} {}", found.account.id(), found.by.label(), found.path),
        Ok(None) => "body".to_owned(),
        Err(failure) => failure.code().to_string(),
    }
}

#[tokio::test]
async fn each_way_leads_to_the_account_that_it_names() {
    let accounts = accounts(&TWO);
    let x = "/cgi-bin/x";
    let with =
        |target: &str, headers: &[&str], listener| told(&accounts, target, headers, listener, None);
    for (name, of) in [("wx1", "wx1"), ("orders", "wx1"), ("wx2", "wx2")] {
        assert_eq!(with(x, &[name], None), format!("{of} header {x}"));
        let prefixed = format!("/{name}{x}");
        assert_eq!(with(&prefixed, &[], None), format!("{of} path {x}"));
        let carried = format!("{x}?a=1&access_token=sidecar-{name}&b=2");
        assert_eq!(with(&carried, &[], None), format!("{of} placeholder {x}"));
        assert_eq!(with(x, &[], Some(of)), format!("{of} listener {x}"));
        let asked = format!("/cgi-bin/token?appid={name}");
        assert_eq!(
            with(&asked, &[], None),
            format!("{of} appid /cgi-bin/token")
        );
        let login = format!("/sns/jscode2session?appid={name}");
        assert_eq!(
            with(&login, &[], None),
            format!("{of} appid /sns/jscode2session")
        );
    }
    for (target, found) in [
        ("//wx1//cgi-bin/x", "wx1 path /cgi-bin/x"),
        ("/wx1", "wx1 path /"),
        ("/wx1/", "wx1 path /"),
        ("/wx1/wx2/cgi-bin/x", "wx1 path /wx2/cgi-bin/x"),
        (
            "/cgi-bin/x?%61ccess_token=%73idecar-wx2",
            "wx2 placeholder /cgi-bin/x",
        ),
        (
            "/cgi-bin/x?access_token=sidecar-wx2&access_token=sidecar-wx2",
            "wx2 placeholder /cgi-bin/x",
        ),
        // These belong to no account, or say nothing.
        ("/cgi-bin/x", "990406"),
        ("/cgi-bin/x?access_token=real", "990406"),
        ("/%77x1/cgi-bin/x", "990406"),
        ("/WX1/cgi-bin/x", "990406"),
        ("/wx1%2fcgi-bin/x", "990406"),
        ("/cgi-bin/x?appid=wx1", "990406"),
        ("/cgi-bin/x?access_token=sidecar-", "990404"),
        ("/cgi-bin/x?access_token=sidecar-wx3", "990404"),
        ("/cgi-bin/token?appid=wx3", "40013"),
        ("/cgi-bin/token", "990406"),
    ] {
        assert_eq!(with(target, &[], None), found, "{target}");
    }
    assert_eq!(with(x, &["wx3"], None), "990404");
    assert_eq!(with(x, &[""], None), "990404");
    // Its account was removed.
    assert_eq!(with(x, &[], Some("wx3")), "990404");
}

#[tokio::test]
async fn two_ways_that_agree_are_one_and_two_that_do_not_are_none() {
    let accounts = accounts(&TWO);
    let ways: [(&str, &[&str], Option<&str>); 5] = [
        ("", &["wx1"], None),
        ("/orders", &[], None),
        ("?access_token=sidecar-wx1", &[], None),
        ("", &[], Some("wx1")),
        ("?appid=wx1", &[], None),
    ];
    let others: [(&str, &[&str], Option<&str>); 5] = [
        ("", &["wx2"], None),
        ("/wx2", &[], None),
        ("?access_token=sidecar-wx2", &[], None),
        ("", &[], Some("wx2")),
        ("?appid=wx2", &[], None),
    ];
    let both = |one: &(&str, &[&str], Option<&str>), two: &(&str, &[&str], Option<&str>)| {
        let words = [one.0, two.0];
        let prefix: String = words
            .iter()
            .filter(|word| word.starts_with('/'))
            .copied()
            .collect();
        let query: Vec<&str> = words
            .iter()
            .filter_map(|word| word.strip_prefix('?'))
            .collect();
        let target = format!("{prefix}/cgi-bin/token?{}", query.join("&"));
        let headers = [one.1, two.1].concat();
        told(&accounts, &target, &headers, one.2.or(two.2), None)
    };
    for (at, one) in ways.iter().enumerate() {
        for (other, two) in ways.iter().enumerate() {
            // The second of two segments is not an account.
            if at != 1 || other != 1 {
                assert!(both(one, two).starts_with("wx1 "), "{one:?} {two:?}");
            }
        }
        for (other, two) in others.iter().enumerate() {
            let same_place = (at == 1 && other == 1) || (at == 3 && other == 3);
            if !same_place {
                assert_eq!(both(one, two), "990406", "{one:?} {two:?}");
            }
        }
    }
    assert_eq!(told(&accounts, "/x", &["wx1", "wx2"], None, None), "990406");
}

#[tokio::test]
async fn a_request_for_a_stable_token_names_its_account_in_its_body() {
    let accounts = accounts(&TWO);
    let with =
        |target: &str, headers: &[&str], in_body| told(&accounts, target, headers, None, in_body);
    let stable = "/cgi-bin/stable_token";
    assert_eq!(with(stable, &[], None), "body");
    assert_eq!(with("/CGI-BIN/%73table_token/", &[], None), "body");
    assert_eq!(
        with(stable, &["wx2"], None),
        "wx2 header /cgi-bin/stable_token"
    );
    assert_eq!(
        with(stable, &[], Some("wx2")),
        "wx2 appid /cgi-bin/stable_token"
    );
    assert_eq!(with(stable, &[], Some("")), "990406");
    assert_eq!(with(stable, &[], Some("wx3")), "40013");
    assert_eq!(with("/cgi-bin/token", &[], None), "990406");
}

#[tokio::test]
async fn a_default_is_for_calls_that_say_nothing_and_one_account_is_the_default() {
    let marked = accounts(&CORP);
    let told = |accounts: &Accounts, target: &str| told(accounts, target, &[], None, None);
    assert_eq!(told(&marked, "/cgi-bin/x"), "wx2 default /cgi-bin/x");
    assert_eq!(
        told(&marked, "/cgi-bin/x?access_token=sidecar-wx9"),
        "990404"
    );
    let one = accounts(&TWO[..1]);
    assert_eq!(told(&one, "/cgi-bin/x"), "wx1 default /cgi-bin/x");
    assert_eq!(told(&one, "/orders/cgi-bin/x"), "wx1 path /cgi-bin/x");
    assert_eq!(told(&one, "/cgi-bin/x?access_token=sidecar-wx2"), "990404");
    // The token endpoint compares it.
    assert_eq!(
        told(&one, "/cgi-bin/token?appid=wx9"),
        "wx1 default /cgi-bin/token"
    );
    assert_eq!(
        told(&one, "/cgi-bin/stable_token"),
        "wx1 default /cgi-bin/stable_token"
    );
    assert_eq!(told(&accounts(&[]), "/cgi-bin/x"), "990406");
}

#[tokio::test]
async fn accounts_of_one_corp_go_by_their_names() {
    let accounts = accounts(&CORP);
    let with =
        |target: &str, headers: &[&str], listener| told(&accounts, target, headers, listener, None);
    let x = "/cgi-bin/x";
    assert_eq!(with(x, &["contacts"], None), "contacts header /cgi-bin/x");
    assert_eq!(with("/app/cgi-bin/x", &[], None), "app path /cgi-bin/x");
    assert_eq!(
        with("/cgi-bin/x?access_token=sidecar-app", &[], None),
        "app placeholder /cgi-bin/x"
    );
    for (target, headers) in [
        (x, &["ww1"][..]),
        ("/ww1/cgi-bin/x", &[]),
        ("/cgi-bin/x?access_token=sidecar-ww1", &[]),
        ("/cgi-bin/gettoken?corpid=ww1", &[]),
    ] {
        assert_eq!(with(target, headers, None), "990406", "{target}");
        // The other hints decide between them.
        let told = with(target, headers, Some("contacts"));
        assert!(told.starts_with("contacts listener "), "{told}");
        assert_eq!(with(target, headers, Some("wx2")), "990406");
    }
    assert_eq!(
        with("/cgi-bin/gettoken?corpid=app", &[], None),
        "app appid /cgi-bin/gettoken"
    );
}

#[test]
fn a_path_behind_a_strange_segment_was_meant_for_another_account() {
    for (path, meant) in [
        ("/shopping/cgi-bin/menu/get", true),
        ("/wx0123456789abcdef", true),
        ("/wx0123456789abcdef/new/api", true),
        ("/wx0123456789abcdeg/new/api", false),
        ("/new/api", false),
        ("/cgi-bin/new", false),
        ("/", false),
    ] {
        assert_eq!(is_meant_for_another(path.as_bytes()), meant, "{path}");
    }
}
