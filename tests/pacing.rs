//! Calls above a rate of `pace` wait for their turn, or are turned down before anything is sent.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{
    APPID, App, PATIENCE, Sidecar, Wechat,
    app::post,
    sidecar::{Reply, written},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

const GET: &str = "/cgi-bin/user/get";
const SEND: &str = "/cgi-bin/message/custom/send";

/// Sends so many calls at once, and returns the replies with the seconds that they took, the fastest first.
async fn at_once(sidecar: &Sidecar, count: usize, target: &str) -> Vec<(Reply, f64)> {
    let mut calls = JoinSet::new();
    for _ in 0..count {
        let request = sidecar.client.get(format!("{}{target}", sidecar.url));
        let began = Instant::now();
        calls.spawn(async move {
            let reply = request.send().await.unwrap();
            let (status, headers) = (reply.status().as_u16(), reply.headers().clone());
            let body = reply.bytes().await.unwrap();
            let reply = Reply {
                status,
                headers,
                body,
            };
            (reply, began.elapsed().as_secs_f64())
        });
    }
    let mut all = calls.join_all().await;
    all.sort_by(|one, two| one.1.total_cmp(&two.1));
    all
}

fn waited_metric() -> String {
    format!("wechat_sidecar_paced_calls_total{{account=\"{APPID}\",outcome=\"waited\"}}")
}

#[tokio::test]
async fn a_call_above_the_rate_waits_and_one_that_would_wait_too_long_is_turned_down() {
    let wechat = Wechat::calm().await;
    // One goes at once, and one after three seconds.
    let flags = ["--pace", "/cgi-bin/user/*=19/min", "--pace-wait", "4s"];
    let access = ["--access-log", "--log-format", "json"];
    let mut sidecar = Sidecar::with(&wechat, &[&flags[..], &access].concat()).await;
    let all = at_once(&sidecar, 8, GET).await;
    let (served, down): (Vec<_>, Vec<_>) = all.iter().partition(|(reply, _)| reply.status == 200);
    assert_eq!(served.len(), 2, "{all:?}");
    assert!(served[1].1 > 2.5, "{served:?}");
    for (reply, took) in &down {
        assert_eq!((reply.status, reply.errcode()), (429, Some(990_429)));
        assert_eq!(reply.marks(), ["error"]);
        let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((4..=7).contains(&seconds), "{seconds}");
        let rule = "/cgi-bin/user/*=19/min";
        assert!(reply.text().contains(rule), "{reply:?}");
        assert!(*took < served[1].1, "{took}");
    }
    assert_eq!(wechat.calls().len(), served.len());
    // Other paths do not wait.
    let others = at_once(&sidecar, 20, SEND).await;
    assert!(others.iter().all(|(reply, _)| reply.status == 200));
    let waited = served.len() as f64 - 1.0;
    assert_eq!(sidecar.metric(&waited_metric()).await, waited);
    let down_metric = waited_metric().replace("waited", "turned_down");
    assert_eq!(sidecar.metric(&down_metric).await, down.len() as f64);
    let problems = sidecar.admin("/accounts").await.json()["problems"].clone();
    assert_eq!(problems[0]["kind"], "calls_rejected");
    assert_eq!(problems[0]["last_errcode"], 990_429);
    sidecar.line("paced_seconds").await;
    let log = sidecar.log();
    let lines = log.lines().filter(|line| line.contains("paced_seconds"));
    let lines: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len() as f64, waited);
    let long = |line: &&Value| line["paced_seconds"].as_f64().unwrap() > 2.5;
    assert_eq!(lines.iter().filter(long).count(), lines.len(), "{lines:?}");
}

#[tokio::test]
async fn a_call_whose_app_goes_away_frees_its_place_and_is_not_sent() {
    let wechat = Wechat::calm().await;
    // One goes at once, one can wait for half a minute, and the turn of the next one would come too late.
    let flags = ["--pace", "/**=2/min", "--pace-wait", "35s"];
    let sidecar = Sidecar::with(&wechat, &flags).await;
    assert_eq!(sidecar.get(GET).await.status, 200);
    let waiting = format!("wechat_sidecar_paced_waiting{{account=\"{APPID}\"}}");
    // The fast path and hyper each notice.
    for (count, headers) in [
        (1.0, "Content-Length: 2"),
        (2.0, "Content-Length: 2\r\nExpect: 100-continue"),
    ] {
        let mut app = App::to(&sidecar).await;
        app.send(post(SEND, headers)).await;
        app.send("{}").await;
        sidecar.becomes(&waiting, 1.0).await;
        assert_eq!(sidecar.get(GET).await.status, 429);
        drop(app);
        sidecar.becomes(&waiting, 0.0).await;
        let gone = format!(
            "wechat_sidecar_calls_total{{account=\"{APPID}\",endpoint=\"{SEND}\",outcome=\"app_gone\"}}"
        );
        sidecar.becomes(&gone, count).await;
    }
    let sent = wechat.calls();
    assert_eq!(sent.len(), 1, "{sent:?}");
}

#[tokio::test]
async fn calls_that_wait_are_answered_before_the_sidecar_ends() {
    let wechat = Wechat::calm().await;
    let mut sidecar = Sidecar::with(&wechat, &["--pace", "/**=19/min", "--pace-wait", "15s"]).await;
    let url = format!("{}{GET}", sidecar.url);
    let mut calls = JoinSet::new();
    for _ in 0..3 {
        let request = sidecar.client.get(&url);
        calls.spawn(async move { request.send().await.unwrap().status().as_u16() });
    }
    let waiting = format!("wechat_sidecar_paced_waiting{{account=\"{APPID}\"}}");
    sidecar.becomes(&waiting, 2.0).await;
    sidecar.signal("-TERM");
    assert_eq!(calls.join_all().await, [200; 3]);
    assert_eq!(sidecar.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_wait_for_a_token_and_what_is_answered_here_take_no_turn() {
    let wechat = Wechat::calm().await;
    wechat.change(|behaviour| behaviour.token_errcode = Some(-1));
    let flags = ["--pace", "/**=1/day", "--pace-wait", "0s"];
    let sidecar = Sidecar::unready(&wechat, &flags, &[]).await;
    assert_eq!(sidecar.get(GET).await.errcode(), Some(990_503));
    wechat.change(|behaviour| behaviour.token_errcode = None);
    sidecar.until_ready().await;
    for target in [
        "/cgi-bin/token",
        "/cgi-bin/ticket/getticket?type=jsapi",
        "/cgi-bin/ticket/getticket?type=jsapi",
    ] {
        assert_eq!(sidecar.get(target).await.status, 200, "{target}");
    }
    assert_eq!(sidecar.get(GET).await.status, 200);
    // A login takes a turn, too, though it takes no token.
    let login = sidecar.get("/sns/jscode2session?js_code=x").await;
    assert_eq!(login.errcode(), Some(990_429));
    let seconds = login.header("retry-after").unwrap().parse().unwrap();
    assert!((86_300..=86_400).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_replay_does_not_wait_and_those_behind_it_do() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--pace", "/**=19/min", "--pace-wait", "10s"]).await;
    wechat.rotate();
    let began = Instant::now();
    let reply = sidecar.get(GET).await;
    assert_eq!((reply.status, reply.marks()), (200, vec!["replayed"]));
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!(sidecar.get(GET).await.status, 200);
    assert!(began.elapsed() > Duration::from_secs(6));
}

#[tokio::test]
async fn a_rate_changes_with_the_file() {
    let wechat = Wechat::calm().await;
    let accounts = |pace: &str| {
        let secret = support::SECRET;
        format!(
            "pace-wait = \"0s\"\n[[accounts]]\nappid = '{APPID}'\nsecret = '{secret}'\npace = ['{pace}']\n"
        )
    };
    let path = written("pace.toml", &accounts("/**=1/day"));
    let mut command = support::sidecar::command();
    command.args(["--config", &path, "--upstream", &wechat.url()]);
    let sidecar = Sidecar::spawn(command, Some(wechat.clone())).await;
    sidecar.until_ready().await;
    assert_eq!(sidecar.get(GET).await.status, 200);
    assert_eq!(sidecar.get(GET).await.status, 429);
    std::fs::write(&path, accounts("/**=1000/s")).unwrap();
    let began = Instant::now();
    while sidecar.get(GET).await.status != 200 {
        assert!(began.elapsed() < PATIENCE, "{}", sidecar.log());
        sleep(Duration::from_millis(50)).await;
    }
}
