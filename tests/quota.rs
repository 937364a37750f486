//! Quotas of calls are in sight: which endpoint met which, what WeChat says of it, and what it remembers of a call.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::{
    APPID, PATIENCE, SECRET, Sidecar, Wechat,
    sidecar::{command, with_account},
};
use tokio::{process::Command, time::timeout};

const SEND: &str = "/cgi-bin/message/custom/send";
const GET: &str = "/cgi-bin/user/get";

/// What a command printed.
#[derive(Debug)]
struct Printed {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs it to its end. It shows no token of `wechat` and no secret.
async fn run(wechat: &Wechat, mut command: Command) -> Printed {
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let printed = Printed {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    let tokens = wechat.all_tokens();
    for secret in tokens.iter().map(String::as_str).chain([SECRET]) {
        assert!(!format!("{printed:?}").contains(secret), "{printed:?}");
    }
    printed
}

/// A command beside `sidecar`.
async fn beside(wechat: &Wechat, sidecar: &Sidecar, args: &[&str]) -> Printed {
    let mut command = command();
    let admin = sidecar.admin.strip_prefix("http://").unwrap();
    command.args(args).args(["--admin", admin]);
    run(wechat, command).await
}

async fn quotas(sidecar: &Sidecar) -> Value {
    sidecar.admin("/quota").await.json()["quotas"].clone()
}

fn sample(metric: &str) -> String {
    format!("wechat_sidecar_{metric}{{account=\"{APPID}\",endpoint=\"{SEND}\"}}")
}

#[tokio::test]
async fn each_endpoint_says_which_quota_it_met_and_what_wechat_remembers_of_that() {
    let wechat = Wechat::calm().await;
    wechat.limit(SEND, Some(2), None);
    wechat.limit(GET, None, Some(1));
    let sidecar = Sidecar::start(&wechat).await;
    let mut rid = String::new();
    for _ in 0..4 {
        let reply = sidecar.post(SEND, "{\"appsecret\":\"PRIVATE\"}").await;
        let message = reply.json()["errmsg"].as_str().unwrap().to_owned();
        rid = message.rsplit("rid: ").next().unwrap().to_owned();
    }
    assert_eq!(sidecar.get(GET).await.status, 200);
    assert_eq!(sidecar.get(GET).await.errcode(), Some(45011));
    let said = quotas(&sidecar).await;
    let said = said.as_array().unwrap();
    assert_eq!((said.len(), &said[0]["endpoint"]), (2, &GET.into()));
    assert_eq!(said[0]["hits"][0]["errcode"], 45011);
    let hit = &said[1]["hits"][0];
    assert_eq!(
        (&hit["errcode"], &hit["count"], &hit["rid"]),
        (&45009.into(), &2.into(), &rid.clone().into())
    );
    assert!(hit["seconds_ago"].as_f64().unwrap() < 60.0);
    assert!(said[1]["reading"].is_null());
    let status = sidecar.admin("/status.json").await.json();
    assert_eq!(status["accounts"][0]["quotas"][1]["endpoint"], SEND);
    assert_eq!(status["problems"][0]["kind"], "calls_quota");
    // The rid leads to the call, without what is private in it.
    let printed = beside(&wechat, &sidecar, &["rid", &rid]).await;
    assert_eq!((printed.code, &*printed.stderr), (0, ""), "{printed:?}");
    for part in [
        &*format!("rid: {rid}\n"),
        "query: access_token=[hidden]\n",
        "body: {\"appsecret\":\"[hidden]\"}\n",
        "\"errcode\":45009",
        "took: 30 ms",
    ] {
        assert!(printed.stdout.contains(part), "{part}: {printed:?}");
    }
    assert!(!printed.stdout.contains("PRIVATE"));
    let body = format!("{{\"errcode\":45009,\"errmsg\":\"x rid: {rid}\"}}");
    let printed = beside(&wechat, &sidecar, &["rid", "--json", &body]).await;
    let found: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(found[0]["rid"], rid);
    assert_eq!(found[0]["request"]["request_url"], "access_token=[hidden]");
    let printed = beside(&wechat, &sidecar, &["rid", "1-2-3"]).await;
    assert_eq!((printed.code, &*printed.stdout), (1, ""));
    assert!(printed.stderr.contains("errcode 76001"), "{printed:?}");
}

#[tokio::test]
async fn the_answer_to_an_operator_is_kept_for_the_page_and_the_metrics() {
    let wechat = Wechat::calm().await;
    wechat.limit(SEND, Some(5), Some(4));
    let sidecar = Sidecar::start(&wechat).await;
    sidecar.post(SEND, "{}").await;
    // What has no quota that can be asked for.
    sidecar.get("/cgi-bin/token").await;
    sidecar.get("/sns/jscode2session?js_code=x").await;
    sidecar.get("/not/documented").await;
    assert!(quotas(&sidecar).await.as_array().unwrap().is_empty());
    assert!(
        !sidecar
            .admin("/metrics")
            .await
            .text()
            .contains(&sample("quota_used"))
    );
    // Also when the token has to be replaced.
    wechat.rotate();
    let asked = wechat.calls().len();
    let printed = beside(&wechat, &sidecar, &["quota", "--all-seen"]).await;
    assert_eq!((printed.code, &*printed.stderr), (0, ""), "{printed:?}");
    let lines: Vec<Vec<&str>> = printed
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines.len(), 2, "{printed:?}");
    assert_eq!(lines[1][..7], [SEND, "1", "5", "4", "4", "in", "60"]);
    assert_eq!(wechat.calls().len(), asked + 2);
    assert_eq!(sidecar.metric(&sample("quota_used")).await, 1.0);
    assert_eq!(sidecar.metric(&sample("quota_daily_limit")).await, 5.0);
    assert!(
        sidecar
            .metric(&sample("quota_read_timestamp_seconds"))
            .await
            > 1.7e9
    );
    let reading = &quotas(&sidecar).await[0]["reading"];
    assert_eq!(
        (&reading["remain"], &reading["rate_limit"]["call_count"]),
        (&4.into(), &4.into())
    );
    // An app that asks has the same effect.
    sidecar.post(SEND, "{}").await;
    let question = json!({ "cgi_path": SEND }).to_string();
    let reply = sidecar.post("/cgi-bin/openapi/quota/get", question).await;
    assert_eq!(reply.json()["quota"]["used"], 2);
    assert_eq!(sidecar.metric(&sample("quota_used")).await, 2.0);
}

#[tokio::test]
async fn what_cannot_be_asked_says_why() {
    let wechat = Wechat::calm().await;
    wechat.limit(SEND, Some(5), None);
    let sidecar = Sidecar::start(&wechat).await;
    let printed = beside(&wechat, &sidecar, &["quota", "--all-seen"]).await;
    assert_eq!(printed.code, 1);
    assert!(printed.stderr.contains("name the paths"), "{printed:?}");
    let printed = beside(&wechat, &sidecar, &["quota", "--json", SEND, "/nowhere"]).await;
    let found: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(found[0]["quota"]["daily_limit"], 5);
    assert_eq!(
        (&found[1]["path"], &found[1]["errcode"]),
        (&"/nowhere".into(), &76021.into())
    );
    assert_eq!(printed.code, 1);
    assert!(printed.stderr.contains("errcode 76021"), "{printed:?}");
    let printed = beside(&wechat, &sidecar, &["quota", SEND, "--account", "nobody"]).await;
    assert_eq!(printed.code, 1);
    assert!(printed.stderr.contains("990404"), "{printed:?}");
    for args in [
        &["quota"][..],
        &["quota", "cgi-bin/x"],
        &["quota", "/x?access_token=PRIVATE"],
        &["quota", "/x", "--all-seen"],
        &["rid"],
        &["rid", "no rid"],
    ] {
        let printed = beside(&wechat, &sidecar, args).await;
        assert_eq!(printed.code, 64, "{args:?}: {printed:?}");
        assert!(!printed.stderr.contains("PRIVATE"), "{printed:?}");
    }
    let remote = sidecar.admin("/quota?account=nobody").await;
    assert_eq!(remote.status, 404);
}

#[tokio::test]
async fn where_no_sidecar_runs_this_process_asks_and_mints_no_classic_token() {
    let wechat = Wechat::calm().await;
    wechat.limit(SEND, Some(5), None);
    let alone = |args: &[&str]| {
        let mut command = with_account();
        let url = wechat.url();
        command.args(args);
        command.args(["--admin", "127.0.0.1:1", "--upstream", &url]);
        command
    };
    let printed = run(&wechat, alone(&["quota", SEND])).await;
    assert_eq!(printed.code, 0, "{printed:?}");
    assert!(printed.stdout.contains(" 5 "), "{printed:?}");
    let printed = run(&wechat, alone(&["quota", "--all-seen"])).await;
    assert_eq!(printed.code, 1);
    assert!(printed.stderr.contains("name the paths"), "{printed:?}");
    wechat.clear();
    let printed = run(&wechat, alone(&["rid", "1-2-3", "--token-api", "classic"])).await;
    assert_eq!(printed.code, 1);
    assert!(printed.stderr.contains("start the sidecar"), "{printed:?}");
    assert!(!printed.stderr.contains("--mint"), "{printed:?}");
    assert!(wechat.token_requests().is_empty());
}
