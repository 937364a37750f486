//! What is wrong is told once, with its account and advice, and again when it is over, however many calls it hits.
#![allow(clippy::unwrap_used)]

mod support;

use std::{process::Output, time::Duration};

use futures_util::stream::{self, StreamExt};
use serde_json::Value;
use support::{APPID, SECRET, Sidecar, Wechat, sidecar};
use tokio::time::{Instant, sleep};

const ENDPOINTS: [&str; 10] = [
    "/cgi-bin/user/get",
    "/cgi-bin/user/info",
    "/cgi-bin/menu/get",
    "/cgi-bin/tags/get",
    "/cgi-bin/material/get_materialcount",
    "/cgi-bin/message/custom/send",
    "/cgi-bin/message/template/send",
    "/cgi-bin/user/info/updateremark",
    "/wxa/getwxacode",
    "/cgi-bin/qrcode/create",
];

/// A sidecar that logs as it does unless told otherwise.
async fn quiet(wechat: &Wechat, flags: &[&str]) -> Sidecar {
    let sidecar = unready(wechat, flags).await;
    sidecar.until_ready().await;
    sidecar
}

/// The same, but perhaps without a token.
async fn unready(wechat: &Wechat, flags: &[&str]) -> Sidecar {
    let mut command = sidecar::with_account();
    command.args(["--upstream", &wechat.url()]).args(flags);
    Sidecar::spawn(command, Some(wechat.clone())).await
}

/// Makes so many calls, over all endpoints, and returns their statuses.
async fn calls(sidecar: &Sidecar, count: usize) -> Vec<u16> {
    let calls = (0..count).map(|at| sidecar.get(ENDPOINTS[at % ENDPOINTS.len()]));
    let replies = stream::iter(calls).buffer_unordered(32);
    replies.map(|reply| reply.status).collect().await
}

/// The open problems on `/accounts`.
async fn problems(sidecar: &Sidecar) -> Vec<Value> {
    let page = sidecar.admin("/accounts").await.json();
    page["problems"].as_array().unwrap().clone()
}

/// Waits until there are no problems.
async fn until_over(sidecar: &Sidecar) {
    let started = Instant::now();
    while !problems(sidecar).await.is_empty() {
        assert!(started.elapsed() < support::PATIENCE, "{}", sidecar.log());
        sleep(Duration::from_millis(100)).await;
    }
}

/// What `check` says beside a sidecar, with the same configuration.
async fn check(sidecar: &Sidecar, wechat: &Wechat) -> (Option<i32>, String) {
    let mut command = sidecar::with_account();
    let admin = sidecar.admin.strip_prefix("http://").unwrap();
    command.args(["check", "--admin", admin, "--upstream", &wechat.url()]);
    command.args(["--listen", "127.0.0.1:0"]);
    let Output { status, stdout, .. } = command.output().await.unwrap();
    (status.code(), String::from_utf8(stdout).unwrap())
}

fn metric(kind: &str) -> String {
    format!("wechat_sidecar_problem{{account=\"{APPID}\",kind=\"{kind}\"}}")
}

fn lines(sidecar: &Sidecar) -> Vec<String> {
    sidecar.log().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn thousands_of_calls_that_meet_an_outage_are_a_few_lines() {
    let wechat = Wechat::calm().await;
    let mut sidecar = quiet(&wechat, &[]).await;
    assert_eq!(calls(&sidecar, 20).await, [200; 20]);
    assert_eq!(check(&sidecar, &wechat).await.0, Some(0));
    let before = lines(&sidecar).len();
    wechat.stop();
    wechat.wait_until(|wechat| wechat.connections() == 0).await;
    assert_eq!(calls(&sidecar, 3000).await, [502; 3000]);
    let line = sidecar.line("WeChat cannot be reached").await;
    let account = format!("account=\"{APPID}\"");
    for part in ["WARN", &account, "kind=\"unreachable\"", "endpoint=\"/"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(line.contains("refused"), "no cause: {line}");
    let told = lines(&sidecar).len() - before;
    // The end of connections that were open may count as another kind.
    assert!(told <= 4, "{told}:\n{}", sidecar.log());
    assert_eq!(sidecar.metric(&metric("unreachable")).await, 1.0);
    let open = problems(&sidecar).await;
    let open = open.iter().find(|open| open["kind"] == "unreachable");
    let open = open.unwrap();
    assert_eq!(open["account"], APPID);
    assert!(open["count"].as_u64().unwrap() > 2900, "{open}");
    assert!(open["endpoints"].as_array().unwrap().len() <= 4);
    assert!(open["advice"].as_str().unwrap().contains("DNS"));
    let (code, said) = check(&sidecar, &wechat).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("FAILED: the sidecar running at"), "{said}");
    assert!(said.contains("WeChat cannot be reached: "), "{said}");
    // The token in hand is good, and so is the sidecar.
    assert_eq!(sidecar.admin("/readyz").await.status, 200);
}

#[tokio::test]
async fn an_error_page_of_the_gateway_is_no_accepted_call_and_is_over_with_the_next_good_one() {
    let wechat = Wechat::calm().await;
    let mut sidecar = quiet(&wechat, &[]).await;
    let page = "<html><h1>502 Bad Gateway</h1></html>";
    wechat.change(|behaviour| {
        behaviour.status = Some(502);
        behaviour.body = Some(("text/html".into(), page.into()));
    });
    let reply = sidecar.get(ENDPOINTS[0]).await;
    assert_eq!((reply.status, reply.text()), (502, page.to_owned()));
    assert!(reply.marks().is_empty());
    wechat.change(|behaviour| behaviour.status = None);
    assert_eq!(sidecar.get(ENDPOINTS[0]).await.status, 200);
    let counted = |outcome: &str| {
        format!(
            "wechat_sidecar_calls_total{{account=\"{APPID}\",endpoint=\"{}\",outcome=\"{outcome}\"}}",
            ENDPOINTS[0]
        )
    };
    assert_eq!(sidecar.metric(&counted("upstream_error")).await, 2.0);
    assert_eq!(sidecar.metric(&counted("accepted")).await, 0.0);
    let line = sidecar.line("kind=\"upstream_error\"").await;
    assert!(line.contains("HTTP status 502"), "{line}");
    assert_eq!(check(&sidecar, &wechat).await.0, Some(1));
    wechat.change(|behaviour| behaviour.body = None);
    assert_eq!(sidecar.get(ENDPOINTS[0]).await.errcode(), None);
    until_over(&sidecar).await;
    let line = sidecar.line("over: WeChat's gateway").await;
    assert!(line.contains("INFO") && line.contains("count=2"), "{line}");
    assert_eq!(sidecar.metric(&metric("upstream_error")).await, 0.0);
    assert_eq!(check(&sidecar, &wechat).await.0, Some(0));
}

#[tokio::test]
async fn an_errcode_that_is_a_problem_is_told_with_its_rid_and_counted_by_endpoint() {
    let wechat = Wechat::calm().await;
    let mut sidecar = quiet(&wechat, &[]).await;
    for (code, kind) in [
        (45009, "calls_quota"),
        (-1, "busy"),
        (48001, "permission"),
        (40164, "ip_rejected"),
    ] {
        let body = format!(
            "{{\"errcode\":{code},\"errmsg\":\"invalid ip 1.2.3.4 of {SECRET} rid: 6{code}-1-2\"}}"
        );
        wechat.change(|behaviour| behaviour.body = Some(("a/b".into(), body.into())));
        for reply in calls(&sidecar, 50).await {
            assert_eq!(reply, 200);
        }
        let line = sidecar.line(&format!("kind=\"{kind}\"")).await;
        let parts = [format!("errcode={code}"), format!("rid=\"6{code}-1-2\"")];
        for part in parts {
            assert!(line.contains(&part), "{part}: {line}");
        }
        let counted = format!(
            "wechat_sidecar_errcodes_total{{account=\"{APPID}\",endpoint=\"{}\",errcode=\"{code}\"}}",
            ENDPOINTS[3]
        );
        assert_eq!(sidecar.metric(&counted).await, 5.0);
        let told = format!("kind=\"{kind}\"");
        assert_eq!(sidecar.log().matches(&told).count(), 1);
    }
    // The parameters of a call are the app's.
    let body = "{\"errcode\":40003,\"errmsg\":\"invalid openid\"}";
    wechat.change(|behaviour| behaviour.body = Some(("a/b".into(), body.into())));
    calls(&sidecar, 20).await;
    assert_eq!(problems(&sidecar).await.len(), 4);
}

#[tokio::test]
async fn a_thousand_calls_that_are_turned_down_are_one_line() {
    let wechat = Wechat::calm().await;
    let mut sidecar = quiet(&wechat, &["--deny", "/cgi-bin/menu/*"]).await;
    let before = lines(&sidecar).len();
    let turned_down = (0..1000).map(|_| sidecar.get("/cgi-bin/menu/delete"));
    let replies: Vec<_> = stream::iter(turned_down)
        .buffer_unordered(32)
        .collect()
        .await;
    assert!(replies.iter().all(|reply| reply.status == 403));
    // Of no account's.
    assert_eq!(sidecar.get("/a//b").await.status, 400);
    let open = problems(&sidecar).await;
    let kinds: Vec<_> = open
        .iter()
        .map(|open| (&open["kind"], &open["account"]))
        .collect();
    assert_eq!(open.len(), 2, "{kinds:?}");
    assert_eq!(
        (&open[0]["count"], &open[0]["account"]),
        (&1000.into(), &APPID.into())
    );
    assert_eq!(
        (&open[1]["count"], &open[1]["account"]),
        (&1.into(), &Value::Null)
    );
    sidecar.line("errcode=990400").await;
    assert_eq!(lines(&sidecar).len() - before, 2, "{}", sidecar.log());
}

#[tokio::test]
async fn an_endpoint_that_refuses_every_token_is_named_once_for_as_long_as_it_is_called() {
    let wechat = Wechat::calm().await;
    let mut sidecar = quiet(&wechat, &[]).await;
    let endpoint = ENDPOINTS[3];
    wechat.change(|behaviour| behaviour.refuse_always = vec![endpoint.to_owned()]);
    for _ in 0..50 {
        assert_eq!(sidecar.get(endpoint).await.errcode(), Some(40001));
    }
    let line = sidecar.line("kind=\"endpoint_refused\"").await;
    for part in [
        endpoint,
        APPID,
        "errcode=40001",
        "may not use this endpoint",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let open = problems(&sidecar).await;
    assert_eq!(open.len(), 1, "{open:?}");
    // Also the calls that were sent once, and those that were not sent.
    assert!(open[0]["count"].as_u64().unwrap() > 40, "{open:?}");
    assert_eq!(sidecar.log().matches("endpoint_refused").count(), 1);
}

#[tokio::test]
async fn accounts_with_a_wrong_secret_are_told_apart_by_id_and_by_where_it_was_read() {
    let wechat = Wechat::calm().await;
    let file = sidecar::written("appsecret", "ffffffffffffffffffffffffffffffff\n");
    let (one, two) = ("wx00000000000000a1", "wx00000000000000b2");
    for appid in [one, two] {
        wechat.set_secret(appid, SECRET);
    }
    let config = format!(
        "[[accounts]]\nappid = '{one}'\nsecret = 'eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee'\n\n\
         [[accounts]]\nname = 'crm'\nappid = '{two}'\nsecret_file = '{file}'\n"
    );
    let config = sidecar::written("accounts.toml", &config);
    let mut command = sidecar::command();
    command.args(["--config", &config, "--upstream", &wechat.url()]);
    let mut sidecar = Sidecar::spawn(command, Some(wechat.clone())).await;
    let of_one = format!("the secret was read from secret in {config}");
    let of_two = format!("the secret was read from the file {file} (secret_file in {config})");
    for (appid, place) in [(one, of_one), (two, of_two)] {
        let line = sidecar.line(&format!("account=\"{appid}\" kind=")).await;
        assert!(line.contains("no new token") && line.contains(&place), "{line}");
        assert!(line.contains("errcode=40125"), "{line}");
        let reason = sidecar.admin(&format!("/readyz?account={appid}")).await;
        assert_eq!(reason.status, 503);
        assert!(reason.text().contains(&place), "{}", reason.text());
    }
    assert!(!sidecar.log().contains("WECHAT_"), "{}", sidecar.log());
    assert!(!sidecar.log().contains("ffffffff") && !sidecar.log().contains("eeeeeeee"));
    // The app is told what is wrong, and not where.
    let reply = sidecar.get(&format!("/{one}/cgi-bin/user/get")).await;
    assert!(reply.text().contains("AppSecret"), "{}", reply.text());
    assert!(!reply.text().contains(&config), "{}", reply.text());
    wechat.change(|behaviour| behaviour.token_errcode = Some(40013));
    let mut other = unready(&wechat, &[]).await;
    let line = other.line("kind=\"token_request_failed\"").await;
    assert!(
        line.contains("the AppID was read from WECHAT_APPID"),
        "{line}"
    );
}

#[tokio::test]
async fn a_token_that_cannot_be_had_is_a_problem_until_it_comes() {
    let wechat = Wechat::calm().await;
    wechat.change(|behaviour| behaviour.token_errcode = Some(-1));
    let sidecar = unready(&wechat, &[]).await;
    wechat.wait_for_token_requests(3).await;
    let open = problems(&sidecar).await;
    assert_eq!(open[0]["kind"], "token_request_failed");
    assert!(
        sidecar.log().matches("no new token").count() == 1,
        "{}",
        sidecar.log()
    );
    wechat.change(|behaviour| behaviour.token_errcode = None);
    sidecar.until_ready().await;
    until_over(&sidecar).await;
    assert!(
        sidecar.log().contains("over: no new token"),
        "{}",
        sidecar.log()
    );
}
