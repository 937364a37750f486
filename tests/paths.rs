//! Which paths may be called and which credential each takes, however the target is written.

mod support;

use support::{APPID, App, SECRET, Sidecar, Wechat};

#[tokio::test]
async fn a_path_with_two_meanings_is_refused_and_a_doubled_first_slash_is_not() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.clear();
    for path in [
        "/cgi-bin/../x",
        "/./x",
        "/x/..",
        "/x/%2e%2E/y",
        "/.%2e/x",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a%00b",
        "/a//b",
        "/cgi-bin//token",
        "//x//y",
        "*",
        "/x/.;/y",
        "/%252e%252e/x",
    ] {
        let reply = sidecar
            .raw(format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            ))
            .await;
        if path.contains("%25") {
            assert!(reply.contains(" 200 "), "{path}: {reply}");
        } else {
            assert!(
                reply.starts_with("HTTP/1.1 400") && reply.contains("990400"),
                "{path}: {reply}"
            );
        }
    }
    assert_eq!(wechat.calls().len(), 1);
    wechat.clear();
    for path in ["//cgi-bin/user/get?a=//b", "///cgi-bin/user/get?a=//b"] {
        assert_eq!(sidecar.get(path).await.json()["total"], 2);
    }
    assert!(wechat.calls().iter().all(|call| {
        call.target
            .starts_with("/cgi-bin/user/get?a=//b&access_token=")
    }));
}

#[tokio::test]
async fn an_app_that_takes_the_sidecar_for_a_proxy_reaches_wechat_and_nobody_else() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.clear();
    for host in [
        "api.weixin.qq.com",
        "api2.weixin.qq.com",
        "sh.api.weixin.qq.com:80",
        "SZ.api.weixin.qq.com",
        "hk.api.weixin.qq.com",
        "file.api.weixin.qq.com",
    ] {
        let reply = sidecar.raw(format!("GET http://{host}/cgi-bin/user/get?a=1 HTTP/1.1\r\nHost: {host}\r\nProxy-Connection: keep-alive\r\nConnection: close\r\n\r\n")).await;
        assert!(reply.contains("\"total\":2"), "{host}: {reply}");
    }
    assert!(wechat.calls().iter().all(|call| {
        call.target
            .starts_with("/cgi-bin/user/get?a=1&access_token=")
            && call.header("proxy-connection").is_none()
    }));
    wechat.clear();
    for line in [
        "GET http://evil.example/ HTTP/1.1",
        "GET http://169.254.169.254/latest/meta-data HTTP/1.1",
        "GET http://api.weixin.qq.com@evil.example/ HTTP/1.1",
        "GET http://api.weixin.qq.com.evil.example/ HTTP/1.1",
        "GET http://qyapi.weixin.qq.com/ HTTP/1.1",
        "CONNECT api.weixin.qq.com:443 HTTP/1.1",
        "CONNECT localhost:22 HTTP/1.1",
    ] {
        let reply = sidecar
            .raw(format!(
                "{line}\r\nHost: api.weixin.qq.com\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert!(
            reply.starts_with("HTTP/1.1 403") && reply.contains("990403"),
            "{line}: {reply}"
        );
    }
    assert!(wechat.calls().is_empty());
}

#[tokio::test]
async fn a_login_needs_no_secret_in_the_app_and_another_appid_never_gets_ours() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.clear();
    let login = sidecar
        .get("/sns/jscode2session?js_code=one&grant_type=authorization_code")
        .await;
    assert!(login.json()["openid"].is_string(), "{}", login.text());
    let call = &wechat.calls()[0];
    assert_eq!(call.parameter("appid").as_deref(), Some(APPID));
    assert_eq!(call.parameter("secret").as_deref(), Some(SECRET));
    assert_eq!(call.token, None);

    wechat.clear();
    let target = format!(
        "/sns/jscode2session?appid={APPID}&secret=wrong&%73ecret=x&js_code=two&grant_type=authorization_code&access_token=sidecar-{APPID}"
    );
    assert!(sidecar.get(&target).await.json()["openid"].is_string());
    assert_eq!(
        wechat.calls()[0]
            .query()
            .iter()
            .filter(|(name, _)| name == "secret")
            .count(),
        1
    );

    wechat.clear();
    for target in [
        "/sns/jscode2session?appid=wxforeign&js_code=3",
        "/sns/oauth2/access_token?%61ppid=wxforeign&code=3",
        "/cgi-bin/token?grant_type=client_credential&appid=wxforeign&secret=x",
    ] {
        let reply = sidecar.get(target).await;
        assert_eq!(
            (reply.status, reply.errcode()),
            (200, Some(40013)),
            "{target}"
        );
        assert_eq!(reply.marks(), ["error"]);
    }
    assert!(wechat.calls().is_empty() && wechat.token_requests().is_empty());
}

#[tokio::test]
async fn a_token_of_the_callers_own_passes_untouched_and_its_refusal_is_not_ours() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.clear();
    let target = format!(
        "/sns/userinfo?access_token={}&openid=o1",
        wechat.user_token()
    );
    assert_ne!(sidecar.get(&target).await.errcode(), Some(40001));
    assert_eq!(wechat.calls()[0].target, target);

    let refused = sidecar
        .get("/sns/userinfo?access_token=stale-stale-stale-stale&openid=o1")
        .await;
    assert_eq!((refused.errcode(), refused.marks()), (Some(40001), vec![]));
    assert_eq!(
        (wechat.calls().len(), wechat.token_requests().len()),
        (2, 0)
    );

    let hint = sidecar
        .get(&format!(
            "/sns/userinfo?access_token=sidecar-{APPID}&openid=o1"
        ))
        .await;
    assert_eq!((hint.status, hint.errcode()), (400, Some(990_402)));
    assert!(!wechat.saw_placeholder());

    let none = sidecar
        .post(
            "/cgi-bin/component/api_component_token?access_token=mine&x=1",
            "{}",
        )
        .await;
    assert_eq!(none.status, 200);
    assert_eq!(
        wechat.calls()[2].target,
        "/cgi-bin/component/api_component_token?x=1"
    );
}

#[tokio::test]
async fn an_sdk_that_fetches_a_token_gets_a_placeholder_and_kicks_nobody() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.clear();
    let classic =
        format!("/cgi-bin/token?grant_type=client_credential&appid={APPID}&secret=whatever");
    let stable = format!(
        "{{\"grant_type\":\"client_credential\",\"appid\":\"{APPID}\",\"secret\":\"x\",\"force_refresh\":true}}"
    );
    for reply in [
        sidecar.get(&classic).await,
        sidecar.post("/cgi-bin/stable_token", stable).await,
    ] {
        assert_eq!(reply.json()["access_token"], format!("sidecar-{APPID}"));
        assert_eq!(reply.json()["expires_in"], 7200);
        assert_eq!(reply.marks(), ["local"]);
    }
    for disguise in [
        "/cgi-bin/%74oken",
        "//cgi-bin/token",
        "/cgi-bin/token/",
        "/CGI-BIN/TOKEN",
    ] {
        assert_eq!(sidecar.get(disguise).await.marks(), ["local"], "{disguise}");
    }
    assert!(wechat.token_requests().is_empty() && wechat.calls().is_empty());
    assert_eq!(
        sidecar
            .metric("wechat_sidecar_force_refresh_ignored_total")
            .await,
        1.0
    );
    let reply = sidecar
        .get(&format!("/cgi-bin/user/get?access_token=sidecar-{APPID}"))
        .await;
    assert!(reply.json()["total"].is_number(), "{}", reply.text());
    assert!(!wechat.saw_placeholder());
    let foreign = sidecar
        .post("/cgi-bin/stable_token", "{\"appid\":\"wxforeign\"}")
        .await;
    assert_eq!((foreign.status, foreign.errcode()), (200, Some(40013)));
}

#[tokio::test]
async fn the_token_endpoint_can_be_real_or_off() {
    let wechat = Wechat::calm().await;
    let real = Sidecar::with(&wechat, &["--token-endpoint", "real"]).await;
    let reply = real
        .get(&format!(
            "/cgi-bin/token?grant_type=client_credential&appid={APPID}"
        ))
        .await;
    assert_eq!(reply.json()["access_token"], wechat.token());
    let left = reply.json()["expires_in"].as_u64().unwrap();
    assert!((7100..=7200).contains(&left), "{left}");
    let off = Sidecar::with(&wechat, &["--token-endpoint", "off"]).await;
    let reply = off.get("/cgi-bin/token").await;
    assert_eq!((reply.status, reply.errcode()), (403, Some(990_405)));
}

#[tokio::test]
async fn the_quota_reset_is_an_operators_act() {
    let wechat = Wechat::calm().await;
    let body = format!("{{\"appid\":\"{APPID}\",\"appsecret\":\"x\"}}");
    let sidecar = Sidecar::start(&wechat).await;
    for path in [
        "/cgi-bin/clear_quota/v2",
        "/cgi-bin/clear_quota%2fv2",
        "/cgi-bin/clear%5Fquota/V2/",
        "/cgi-bin/clear_quota/v2;",
        "/cgi-bin/clear_quota;a=b/v2;c",
        "/cgi-bin/clear_quota/v2%20",
        "/cgi-bin/%20clear_quota/v2%09/",
    ] {
        let reply = sidecar.post(path, body.clone()).await;
        assert!([400, 403].contains(&reply.status), "{path}");
    }
    assert!(wechat.calls().is_empty());
    let allowed = Sidecar::with(&wechat, &["--allow-clear-quota"]).await;
    assert_eq!(
        allowed.post("/cgi-bin/clear_quota/v2", body).await.status,
        200
    );
    assert_eq!(wechat.calls()[0].target, "/cgi-bin/clear_quota/v2");
}

#[tokio::test]
async fn a_method_or_a_target_that_is_not_for_this_proxy_is_malformed() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.clear();
    for (line, says) in [
        ("TRACE /x", "TRACE"),
        ("trace /x", "TRACE"),
        ("TRACK /x", "TRACE"),
        ("tRaCk http://api.weixin.qq.com/x", "TRACE"),
        ("GET localhost:7080", "its target"),
        ("GET api.weixin.qq.com", "its target"),
        ("GET cgi-bin", "its target"),
        ("GET ftp://api.weixin.qq.com/x", "its target"),
        ("POST ws://localhost/x", "its target"),
        ("OPTIONS *", "does not begin with a slash"),
    ] {
        for close in ["", "Connection: close\r\n"] {
            let mut app = App::to(&sidecar).await;
            app.send(format!(
                "{line} HTTP/1.1\r\nHost: api.weixin.qq.com\r\n{close}\r\n"
            ))
            .await;
            let reply = app.reply().await;
            assert_eq!(reply.status, 400, "{line}: {reply}");
            assert!(reply.text().contains(says), "{line}: {reply}");
        }
    }
    assert!(wechat.calls().is_empty());
}

#[tokio::test]
async fn a_connect_is_never_answered_as_if_there_were_a_tunnel() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--error-status", "200"]).await;
    for (call, status) in [
        ("CONNECT api.weixin.qq.com:443", 403),
        ("GET http://evil.example/", 200),
    ] {
        let call =
            format!("{call} HTTP/1.1\r\nHost: api.weixin.qq.com\r\nConnection: close\r\n\r\n");
        let reply = sidecar.raw(call).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{reply}");
    }
    let turned_down =
        r#"wechat_sidecar_calls_total{account="",endpoint="other",outcome="rejected"}"#;
    assert_eq!(sidecar.metric(turned_down).await, 2.0);
}
