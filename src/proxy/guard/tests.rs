//! Tests of which calls are accepted.

use http::Request;

use super::*;

fn check(guard: &GuardOptions, exposure: Exposure, uri: &str, headers: &[(&str, &str)]) -> bool {
    let mut call = Request::builder().uri(uri);
    for (name, value) in headers {
        call = call.header(*name, *value);
    }
    guard
        .check(&call.body(()).unwrap().into_parts().0, exposure, &|_| false)
        .is_ok()
}

#[test]
fn a_name_that_a_page_made_up_is_no_host() {
    let guard = GuardOptions::default();
    for host in [
        "localhost",
        "LOCALHOST:7080",
        "127.0.0.1:7080",
        "[::1]:7080",
        "api.weixin.qq.com",
        "api.weixin.qq.com.",
        "127.9.9.9",
    ] {
        assert!(
            check(&guard, Exposure::Loopback, "/x", &[("host", host)]),
            "{host}"
        );
    }
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "",
        "10.0.0.1",
        "a b",
    ] {
        assert!(
            !check(&guard, Exposure::Loopback, "/x", &[("host", host)]),
            "{host}"
        );
        assert!(
            !check(
                &guard,
                Exposure::Open,
                &format!("http://{}/x", host.replace([' ', '@'], "-") + "z"),
                &[("host", host)]
            ),
            "{host}"
        );
    }
    assert!(!check(&guard, Exposure::Loopback, "/x", &[]));
    assert!(!check(
        &guard,
        Exposure::Loopback,
        "/x",
        &[("host", "localhost"), ("host", "localhost")]
    ));
    assert!(check(
        &guard,
        Exposure::Open,
        "/x",
        &[("host", "sidecar.internal")]
    ));
    let allowed = GuardOptions {
        allow_hosts: vec!["sidecar.internal".into()],
        ..guard
    };
    assert!(check(
        &allowed,
        Exposure::Loopback,
        "/x",
        &[("host", "sidecar.internal:80")]
    ));
}

#[test]
fn the_whole_url_may_name_wechat_and_nobody_else() {
    let guard = GuardOptions::default();
    for (url, fine) in [
        ("http://api.weixin.qq.com/x", true),
        ("http://file.api.weixin.qq.com/x", true),
        ("https://api2.weixin.qq.com/x", true),
        ("http://localhost:7080/x", true),
        ("http://api.weixin.qq.com.evil.example/x", false),
        ("http://qyapi.weixin.qq.com/x", false),
        ("http://169.254.169.254/x", false),
    ] {
        assert_eq!(
            check(
                &guard,
                Exposure::Unix,
                url,
                &[("host", "api.weixin.qq.com")]
            ),
            fine,
            "{url}"
        );
    }
}

#[test]
fn a_method_that_could_quote_the_token_is_refused() {
    for (method, is_trace) in [
        ("TRACE", true),
        ("trace", true),
        ("TRACK", true),
        ("Track", true),
        ("TRACKS", false),
        ("get", false),
        ("PATCH", false),
    ] {
        let call = Request::builder().method(method).uri("/x");
        let call = call.header("host", "localhost").body(());
        let (head, ()) = call.unwrap().into_parts();
        let checked = GuardOptions::default().check(&head, Exposure::Loopback, &|_| false);
        let refused = matches!(checked, Err(ProxyError::Malformed(Malformed::Trace)));
        assert_eq!(refused, is_trace, "{method}");
        assert_eq!(checked.is_ok(), !is_trace, "{method}");
    }
}

#[test]
fn a_target_is_a_path_or_a_whole_url_of_http() {
    let guard = GuardOptions::default();
    for (target, fine) in [
        ("http://localhost/x", true),
        ("HTTPS://localhost", true),
        ("localhost:7080", false),
        ("localhost", false),
        ("ftp://localhost/x", false),
        ("ws://localhost/x", false),
    ] {
        let call = Request::builder().uri(target).header("host", "localhost");
        let (head, ()) = call.body(()).unwrap().into_parts();
        let checked = guard.check(&head, Exposure::Loopback, &|_| false);
        let refused = matches!(checked, Err(ProxyError::Malformed(Malformed::Target)));
        assert_eq!((checked.is_ok(), refused), (fine, !fine), "{target}");
    }
}

#[test]
fn what_is_meant_for_the_admin_port_is_no_call() {
    let guard = GuardOptions {
        allow_forwarded: true,
        ..GuardOptions::default()
    };
    let host = ("host", "localhost");
    for (said, on_a_port_for_calls) in [
        (&["for-admin"][..], false),
        (&["replayed", "for-admin"], false),
        // An app may send back the header of a reply.
        (&["replayed"], true),
    ] {
        let said = said.iter().map(|said| ("x-wechat-sidecar", *said));
        let headers: Vec<_> = [host].into_iter().chain(said).collect();
        for exposure in [Exposure::Loopback, Exposure::Open, Exposure::Unix] {
            let passes = check(&guard, exposure, "/livez", &headers);
            assert_eq!(passes, on_a_port_for_calls, "{headers:?}");
        }
        assert!(check(&guard, Exposure::Admin, "/livez", &headers));
    }
    assert!(!check(
        &guard,
        Exposure::Admin,
        "/livez",
        &[("host", "a.example")]
    ));
}

#[test]
fn browsers_and_other_proxies_are_turned_away() {
    let guard = GuardOptions::default();
    let host = ("host", "localhost");
    for (header, fine) in [
        (("origin", "https://evil.example"), false),
        (("origin", "null"), false),
        (("sec-fetch-site", "cross-site"), false),
        (("sec-fetch-site", "same-site"), false),
        (("sec-fetch-site", "none"), true),
        (("x-forwarded-for", "1.2.3.4"), false),
        (("forwarded", "for=1.2.3.4"), false),
        (("x-real-ip", "1.2.3.4"), true),
    ] {
        for exposure in [Exposure::Loopback, Exposure::Open, Exposure::Unix] {
            assert_eq!(
                check(&guard, exposure, "/x", &[host, header]),
                fine,
                "{header:?}"
            );
        }
    }
    let behind = GuardOptions {
        allow_forwarded: true,
        ..guard
    };
    assert!(check(
        &behind,
        Exposure::Open,
        "/x",
        &[host, ("x-forwarded-for", "1.2.3.4")]
    ));
}
