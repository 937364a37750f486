//! Actions, scripts, and what the fake tells of what it saw.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use tokio::time::{Instant, advance};

use super::{
    call, classic, get, post, raw, request, seconds, stable, token,
    wechat::{APPID, CORPID, SECRET, Setup, Wechat},
};

/// The status of the reply to an action.
async fn act(wechat: &Wechat, action: &str) -> u16 {
    post(wechat, &format!("/_fake/{action}"), &json!({}))
        .await
        .status
}

async fn calm_wecom() -> (Wechat, String) {
    let wecom = Wechat::with(Setup {
        refusal_chance: 0.0,
        ..Setup::wecom(&[SECRET])
    })
    .await;
    let target = format!("/cgi-bin/gettoken?corpid={CORPID}&corpsecret={SECRET}");
    let token = token(&get(&wecom, &target).await);
    (wecom, token)
}

#[tokio::test]
async fn an_action_does_what_it_says_until_a_reset() {
    let wechat = Wechat::calm().await;
    let first = wechat.token();
    for (action, errcode) in [("expire", 42001), ("rotate", 40001)] {
        let good = wechat.token();
        assert_eq!(call(&wechat, &good).await, 0);
        assert_eq!(act(&wechat, action).await, 200);
        assert_eq!(call(&wechat, &good).await, errcode, "{action}");
    }
    assert_ne!(first, wechat.token());

    let good = wechat.token();
    assert_eq!(act(&wechat, "refuse?times=2&code=42001").await, 200);
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(call(&wechat, &good).await);
    }
    assert_eq!(codes, [42001, 42001, 0]);

    assert_eq!(act(&wechat, "errcode?code=-1").await, 200);
    assert_eq!(call(&wechat, &good).await, -1);
    assert_eq!(act(&wechat, "ip").await, 200);
    assert_eq!(stable(&wechat, false).await.errcode(), 40164);
    assert_eq!(act(&wechat, "quota").await, 200);
    assert_eq!(classic(&wechat).await.errcode(), 45009);
    assert_eq!(act(&wechat, "reset").await, 200);
    assert_eq!(call(&wechat, &good).await, 0);
    assert_eq!(stable(&wechat, false).await.errcode(), 0);

    let quota = json!({ "path": "/cgi-bin/user/get", "a_day": 1 });
    assert_eq!(post(&wechat, "/_fake/quota", &quota).await.status, 200);
    assert_eq!(act(&wechat, "quota?path=/cgi-bin/user/info").await, 200);
    assert_eq!(call(&wechat, &good).await, 0);
    assert_eq!(call(&wechat, &good).await, 45009);
    let target = format!("/cgi-bin/user/info?access_token={good}&openid=o");
    assert_eq!(get(&wechat, &target).await.errcode(), 45009);
}

#[tokio::test]
async fn a_connection_breaks_where_an_action_says_so_and_the_controls_go_on() {
    let wechat = Wechat::calm().await;
    let target = format!("/cgi-bin/user/get?access_token={}", wechat.token());
    let asked = request("GET", &target, "", b"");
    let whole = raw(&wechat, &asked).await;
    assert_eq!(act(&wechat, "cut").await, 200);
    let cut = raw(&wechat, &asked).await;
    assert!(cut.len() < whole.len() && cut.starts_with(b"HTTP/1.1 200"));
    assert_eq!(raw(&wechat, &asked).await, whole);

    assert_eq!(act(&wechat, "cut?times=5").await, 200);
    assert_eq!(act(&wechat, "down").await, 200);
    for _ in 0..7 {
        assert!(raw(&wechat, &asked).await.is_empty());
    }
    let asked = request("POST", "/cgi-bin/stable_token", "", b"{}");
    assert!(raw(&wechat, &asked).await.is_empty());
    assert_eq!(act(&wechat, "reset").await, 200);
    assert!(!raw(&wechat, &asked).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn replies_and_tokens_are_slow_at_a_word() {
    let wechat = Wechat::calm().await;
    let good = wechat.token();
    assert_eq!(act(&wechat, "slow?ms=30000").await, 200);
    let began = Instant::now();
    call(&wechat, &good).await;
    stable(&wechat, false).await;
    assert!(began.elapsed() >= seconds(60));
}

#[tokio::test]
async fn what_no_action_takes_is_refused_and_changes_nothing() {
    let wechat = Wechat::calm().await;
    for (action, status) in [
        ("refuse?times=many", 400),
        ("refuse?time=1", 400),
        ("expire?ms=1", 400),
        ("down?no=1", 400),
        ("slow?ms=-1", 400),
        ("explode", 404),
        ("script", 400),
    ] {
        assert_eq!(act(&wechat, action).await, status, "{action}");
    }
    let good = wechat.token();
    assert_eq!(call(&wechat, &good).await, 0);
}

#[tokio::test]
async fn wecom_is_steered_by_the_same_actions() {
    let (wecom, good) = calm_wecom().await;
    assert_eq!(act(&wecom, "ip").await, 200);
    assert_eq!(call(&wecom, &good).await, 60020);
    assert_eq!(act(&wecom, "reset").await, 200);
    assert_eq!(act(&wecom, "refuse").await, 200);
    assert_eq!(call(&wecom, &good).await, 40014);
    assert_eq!(
        act(&wecom, "quota?path=/cgi-bin/user/get&a_day=1").await,
        200
    );
    assert_eq!(call(&wecom, &good).await, 0);
    assert_eq!(call(&wecom, &good).await, 45009);
    assert_eq!(act(&wecom, "reset").await, 200);
    assert_eq!(act(&wecom, "errcode").await, 200);
    assert_eq!(call(&wecom, &good).await, -1);
    let account = json!({ "appid": CORPID, "secret": "another" });
    assert_eq!(post(&wecom, "/_fake/secret", &account).await.status, 200);
    let target = format!("/cgi-bin/gettoken?corpid={CORPID}&corpsecret=another");
    assert_ne!(token(&get(&wecom, &target).await), good);
}

#[tokio::test]
async fn a_path_answers_what_a_knob_says() {
    let wechat = Wechat::calm().await;
    let replies = json!({ "/cgi-bin/tags/get": { "tags": [{ "id": 1 }] } });
    let knobs = json!({ "replies": replies, "headers": { "X-Seen": "1" } });
    assert_eq!(post(&wechat, "/_fake/change", &knobs).await.status, 200);
    let target = format!("/cgi-bin/tags/get?access_token={}", wechat.token());
    let reply = get(&wechat, &target).await;
    assert_eq!(reply.json()["tags"][0]["id"], 1);
    assert!(reply.head.contains("\r\nX-Seen: 1"), "{}", reply.head);
    // No line can be put into a head.
    let knobs = json!({ "headers": { "X-Seen": "1\r\nX-Other: 2" } });
    assert_eq!(post(&wechat, "/_fake/change", &knobs).await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn a_script_plays_each_scene_once_at_its_call_or_second() {
    let wechat = Wechat::calm().await;
    let script = json!([
        { "at_call": 2, "do": "refuse", "with": { "times": 1 } },
        { "at_call": 3, "change": { "errcode": -1 } },
        { "at_second": 60, "do": "reset" },
    ]);
    assert_eq!(post(&wechat, "/_fake/script", &script).await.status, 200);
    let good = wechat.token();
    let mut codes = Vec::new();
    for _ in 0..4 {
        // Requests of tokens are no calls.
        stable(&wechat, false).await;
        codes.push(call(&wechat, &good).await);
    }
    assert_eq!(codes, [0, 40001, -1, -1]);
    advance(seconds(61)).await;
    assert_eq!(call(&wechat, &good).await, 0);
    let stats = get(&wechat, "/_fake/stats").await.json();
    assert_eq!(stats["calls"], 1, "a reset forgets what was seen");
}

#[tokio::test]
async fn a_script_that_cannot_be_played_is_refused_whole() {
    let wechat = Wechat::calm().await;
    for (script, said) in [
        (json!({}), "list of scenes"),
        (json!([{ "do": "expire" }]), "scene 1 must have"),
        (
            json!([{ "at_call": 0, "do": "expire" }]),
            "scene 1 must have",
        ),
        (json!([{ "at_call": 1 }]), "scene 1 must have"),
        (
            json!([{ "at_call": 1, "at_second": 1, "do": "expire" }]),
            "scene 1 must have",
        ),
        (
            json!([{ "at_second": -1, "do": "expire" }]),
            "scene 1 must have",
        ),
        (
            json!([{ "at_call": 1, "typo": 1, "do": "expire" }]),
            "scene 1 must have",
        ),
        (
            json!([{ "at_call": 1, "do": "expire" }, { "at_call": 1, "do": "explode" }]),
            "scene 2: there is no action explode",
        ),
        (
            json!([{ "at_call": 1, "do": "slow", "with": { "ms": "x" } }]),
            "scene 1: slow takes ms",
        ),
        (
            json!([{ "at_call": 1, "change": { "stall": 1 } }]),
            "scene 1: stall wants true or false",
        ),
    ] {
        let reply = post(&wechat, "/_fake/script", &script).await;
        let error = reply.json()["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert_eq!(reply.status, 400, "{script}");
        assert!(error.contains(said), "{script}: {error}");
    }
    let good = wechat.token();
    assert_eq!(call(&wechat, &good).await, 0);
}

/// A file that is removed when this is dropped.
struct TemporaryFile(PathBuf);

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn calls_are_told_and_recorded_without_secrets() {
    let file = format!("fake-{}-{}.jsonl", std::process::id(), fastrand::u64(..));
    let file = TemporaryFile(std::env::temp_dir().join(file));
    let wechat = Wechat::calm().await;
    wechat.record(&file.0).unwrap();
    let good = token(&stable(&wechat, false).await);
    classic(&wechat).await;
    let send = format!("/cgi-bin/message/custom/send?access_token={good}&lang=zh_CN");
    let message = json!({ "touser": "oUser", "text": { "content": format!("see {SECRET} and {good}") }, "appsecret": "HUNTER4" });
    post(&wechat, &send, &message).await;
    let login = format!(
        "/sns/jscode2session?appid={APPID}&secret={SECRET}&js_code=HUNTER2&grant_type=authorization_code&refresh_token=HUNTER3"
    );
    get(&wechat, &login).await;
    let form = format!("access_token={good}");
    raw(
        &wechat,
        &request("POST", "/cgi-bin/typo", "", form.as_bytes()),
    )
    .await;

    let told = get(&wechat, "/_fake/calls").await.json();
    let lines = fs::read_to_string(&file.0).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(told["calls"], json!(lines));
    assert_eq!(lines.len(), 5);
    let text = told.to_string();
    for secret in [SECRET, &good, "HUNTER"] {
        assert!(!text.contains(secret), "{text}");
    }
    let sent = &lines[2];
    assert_eq!(sent["path"], "/cgi-bin/message/custom/send");
    assert_eq!(
        sent["query"],
        json!({ "access_token": "[cut]", "lang": "zh_CN" })
    );
    assert_eq!(sent["body"]["text"]["content"], "see [cut] and [cut]");
    assert_eq!(
        (&sent["status"], &sent["errcode"]),
        (&json!(200), &json!(0))
    );
    assert_eq!(lines[4]["body"]["bytes"], form.len());

    let of_path = get(&wechat, "/_fake/calls?path=/sns/jscode2session").await;
    assert_eq!(of_path.json()["calls"].as_array().unwrap().len(), 1);
    let overview = get(&wechat, "/_fake").await.json();
    assert_eq!(overview["undocumented_paths"], json!(["/cgi-bin/typo"]));
    assert_eq!(overview["paths"]["/cgi-bin/message/custom/send"], 1);
    assert!(overview["actions"]["expire"].is_string() && overview["knobs"]["stall"].is_string());
}

#[tokio::test]
async fn old_calls_are_forgotten_but_counted() {
    let wechat = Wechat::with(Setup {
        refusal_chance: 0.0,
        remember: 2,
        ..Setup::default()
    })
    .await;
    for _ in 0..9 {
        call(&wechat, "a_token_that_nobody_has_issued").await;
    }
    assert!(wechat.calls().len() < 5);
    let stats = get(&wechat, "/_fake/stats").await.json();
    assert_eq!((&stats["calls"], &stats["refused"]), (&json!(9), &json!(9)));
}

#[tokio::test]
async fn the_page_lists_every_action() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/testing.md")).unwrap();
    let (_, table) = page.split_once("| action |").unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut listed: Vec<_> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
    let overview = get(&Wechat::calm().await, "/_fake").await.json();
    let actions = overview["actions"].as_object().unwrap();
    let mut expected: Vec<_> = actions.keys().map(String::as_str).collect();
    listed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(listed, expected);
}
