//! The access log: a line a call, with what became of it, and nothing of its query or body.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{APPID, App, PATIENCE, Sidecar, Wechat, app::post, sidecar, wechat::HangUp};
use tokio::time::{Instant, sleep};

const GET: &str = "/cgi-bin/user/get";
const MEDIA: &str = "/cgi-bin/media/get";

/// A sidecar that logs calls as JSON.
async fn logging(wechat: &Wechat, more: &[&str]) -> Sidecar {
    let flags = [&["--access-log", "--log-format", "json"], more].concat();
    Sidecar::with(wechat, &flags).await
}

/// Waits for so many lines of calls, and returns them.
async fn calls(sidecar: &mut Sidecar, count: usize) -> Vec<Value> {
    let end = Instant::now() + PATIENCE;
    loop {
        let log = sidecar.log();
        let lines = log
            .lines()
            .filter(|line| line.contains("\"target\":\"access\""));
        let lines: Vec<Value> = lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        if lines.len() >= count {
            assert_eq!(lines.len(), count, "{lines:?}");
            return lines;
        }
        assert!(Instant::now() < end, "only {lines:#?}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_call_is_a_line_that_says_what_became_of_it() {
    let wechat = Wechat::calm().await;
    let mut sidecar = logging(&wechat, &[]).await;
    sidecar.get("/cgi-bin/user/get?next_openid=PRIVATE").await;
    wechat.rotate();
    sidecar
        .post("/cgi-bin/menu/create", "{\"a\":\"PRIVATE\"}")
        .await;
    let answer = "{\"errcode\":45009,\"errmsg\":\"limit rid: 1-2-3\"}";
    wechat.change(|behaviour| behaviour.body = Some(("a/b".into(), answer.into())));
    sidecar.get(GET).await;
    sidecar.get("/cgi-bin/token").await;
    let stranger = sidecar
        .client
        .get(format!("{}{GET}", sidecar.url))
        .header("Host", "evil.example");
    assert_eq!(sidecar.send(stranger).await.status, 403);
    assert!(sidecar.raw("GET / HTTP/9\r\n\r\n").await.contains("400"));
    let lines = calls(&mut sidecar, 6).await;
    let fields = |line: &Value, names: &[&str]| -> Vec<Value> {
        names.iter().map(|name| line[*name].clone()).collect()
    };
    let names = [
        "account",
        "method",
        "endpoint",
        "outcome",
        "status",
        "errcode",
        "attempts",
        "request_bytes",
    ];
    let null = Value::Null;
    for (line, wanted) in lines.iter().zip([
        [
            APPID.into(),
            "GET".into(),
            GET.into(),
            "accepted".into(),
            200.into(),
            null.clone(),
            1.into(),
            null.clone(),
        ],
        [
            APPID.into(),
            "POST".into(),
            "/cgi-bin/menu/create".into(),
            "accepted".into(),
            200.into(),
            0.into(),
            2.into(),
            15.into(),
        ],
        [
            APPID.into(),
            "GET".into(),
            GET.into(),
            "errcode".into(),
            200.into(),
            45009.into(),
            1.into(),
            null.clone(),
        ],
        [
            APPID.into(),
            "GET".into(),
            "/cgi-bin/token".into(),
            "local".into(),
            200.into(),
            null.clone(),
            0.into(),
            null.clone(),
        ],
        [
            null.clone(),
            "GET".into(),
            null.clone(),
            "rejected".into(),
            403.into(),
            990_403.into(),
            0.into(),
            null.clone(),
        ],
        [
            null.clone(),
            null.clone(),
            null.clone(),
            "rejected".into(),
            400.into(),
            990_400.into(),
            0.into(),
            null,
        ],
    ]) {
        assert_eq!(fields(line, &names), wanted, "{line}");
        let took = |name: &str| line[name].as_f64();
        assert!(
            took("seconds").unwrap() >= took("upstream_seconds").unwrap_or_default(),
            "{line}"
        );
        assert_eq!(
            took("upstream_seconds").is_some(),
            line["attempts"] != 0,
            "{line}"
        );
    }
    assert_eq!(
        (&lines[2]["rid"], &lines[2]["reply_bytes"]),
        (&"1-2-3".into(), &answer.len().into())
    );
    let log = sidecar.log();
    let access = log
        .lines()
        .filter(|line| line.contains("\"target\":\"access\""));
    assert!(
        access
            .clone()
            .all(|line| !line.contains("PRIVATE") && !line.contains("TOK"))
    );
    assert!(access.clone().all(
        |line| line.starts_with("{\"timestamp\":\"") && line.contains("Z\",\"level\":\"INFO\"")
    ));
}

#[tokio::test]
async fn a_long_reply_is_logged_at_its_end_and_one_that_breaks_off_or_that_nobody_wants_as_such() {
    let wechat = Wechat::calm().await;
    let mut sidecar = logging(&wechat, &[]).await;
    let picture = vec![0xff_u8; 300_000];
    let body = ("image/jpeg".to_owned(), picture.clone().into());
    wechat.change(|behaviour| drop(behaviour.body_at.insert(MEDIA.into(), body)));
    assert_eq!(
        sidecar.get(MEDIA).await.text().len(),
        sidecar.get(MEDIA).await.text().len()
    );
    let lines = calls(&mut sidecar, 2).await;
    assert_eq!(
        (&lines[1]["outcome"], &lines[1]["reply_bytes"]),
        (&"accepted".into(), &300_000.into())
    );
    wechat.change(|behaviour| behaviour.hang_up = HangUp::MidBody);
    let request = sidecar
        .client
        .get(format!("{}{MEDIA}", sidecar.url))
        .send()
        .await
        .unwrap();
    assert!(request.bytes().await.is_err());
    let line = calls(&mut sidecar, 3).await.remove(2);
    assert_eq!(
        (&line["outcome"], &line["status"]),
        (&"reply_cut".into(), &200.into())
    );
    assert!(line["reply_bytes"].as_u64().unwrap() < 300_000, "{line}");
    // The app goes away while WeChat works.
    wechat.change(|behaviour| {
        behaviour.hang_up = HangUp::Never;
        behaviour.stall = true;
    });
    wechat.clear();
    let mut app = App::to(&sidecar).await;
    app.send(post("/cgi-bin/menu/create", "Content-Length: 2"))
        .await;
    app.send("{}").await;
    wechat.wait_for_calls(1).await;
    drop(app);
    let line = calls(&mut sidecar, 4).await.remove(3);
    assert_eq!(
        (&line["outcome"], &line["endpoint"]),
        (&"app_gone".into(), &"/cgi-bin/menu/create".into())
    );
    assert!(
        line["status"].is_null() && line["seconds"].is_f64(),
        "{line}"
    );
    // WeChat may have acted on it.
    assert_eq!(line["attempts"], 1, "{line}");
    let counted = format!(
        "wechat_sidecar_calls_total{{account=\"{APPID}\",endpoint=\"/cgi-bin/menu/create\",outcome=\"app_gone\"}}"
    );
    assert_eq!(sidecar.metric(&counted).await, 1.0);
    let status = sidecar.admin("/status.json").await.json();
    let failed = status["traffic"]["failed"].as_array().unwrap();
    assert!(failed.iter().any(|count| *count == 1), "{failed:?}");
}

#[tokio::test]
async fn what_was_not_sent_and_what_has_no_body_is_recorded_so() {
    let wechat = Wechat::calm().await;
    let mut sidecar = logging(&wechat, &["--access-log-sample", "0"]).await;
    // Nothing of a reply without an error is told.
    let answer = "{\"errcode\":0,\"nick\":\"rid: 1380-0138-000\"}";
    wechat.change(|behaviour| behaviour.body = Some(("a/b".into(), answer.into())));
    sidecar.get(GET).await;
    let stranger = |method| {
        let request = sidecar
            .client
            .request(method, format!("{}{GET}", sidecar.url));
        request.header("Host", "evil.example")
    };
    assert_eq!(
        sidecar.send(stranger(reqwest::Method::HEAD)).await.status,
        403
    );
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n", "x".repeat(20));
    let long = format!("{long}{}\r\n", "X: y\r\n".repeat(200));
    assert!(sidecar.raw(&long).await.starts_with("HTTP/1.1 431"));
    wechat.stop();
    wechat.wait_until(|wechat| wechat.connections() == 0).await;
    sidecar.post("/cgi-bin/menu/create", "{}").await;
    let lines = calls(&mut sidecar, 3).await;
    assert_eq!(
        (&lines[0]["method"], &lines[0]["reply_bytes"]),
        (&"HEAD".into(), &0.into())
    );
    assert_eq!(lines[1]["status"], 431);
    assert_eq!(
        (&lines[2]["errcode"], &lines[2]["attempts"]),
        (&990_502.into(), &0.into())
    );
    assert!(lines[2]["upstream_seconds"].is_null());
}

#[tokio::test]
async fn an_app_that_gives_up_on_a_slow_wechat_is_a_problem() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.change(|behaviour| behaviour.stall = true);
    let call = sidecar.client.get(format!("{}{GET}", sidecar.url));
    assert!(
        call.timeout(Duration::from_millis(2750))
            .send()
            .await
            .is_err()
    );
    let status = loop {
        let status = sidecar.admin("/status.json").await.json();
        if status["problems_open"] == 1 {
            break status;
        }
        sleep(Duration::from_millis(20)).await;
    };
    let problem = &status["problems"][0];
    assert_eq!(
        (&problem["kind"], &problem["endpoints"][0]),
        (&"timeout".into(), &GET.into())
    );
    assert!(
        problem["cause"]
            .as_str()
            .unwrap()
            .starts_with("an app gave up after 2."),
        "{problem}"
    );
    let slow = "wechat_sidecar_upstream_seconds_bucket{le=\"2.5\"}";
    assert_eq!(
        sidecar
            .metric("wechat_sidecar_upstream_seconds_count")
            .await
            - sidecar.metric(slow).await,
        1.0
    );
}

#[tokio::test]
async fn a_sample_has_a_part_of_what_goes_well_and_all_else() {
    let wechat = Wechat::calm().await;
    let mut sidecar = logging(&wechat, &["--access-log-sample", "10%"]).await;
    for _ in 0..50 {
        sidecar.get(GET).await;
    }
    wechat.change(|behaviour| behaviour.errcode = Some(48001));
    for _ in 0..3 {
        sidecar.get(GET).await;
    }
    let lines = calls(&mut sidecar, 8).await;
    assert_eq!(
        lines
            .iter()
            .filter(|line| line["outcome"] == "errcode")
            .count(),
        3
    );
}

#[tokio::test]
async fn there_is_no_such_line_unless_it_is_wanted_and_the_plain_one_has_the_same_fields() {
    let wechat = Wechat::calm().await;
    let silent = Sidecar::start(&wechat).await;
    silent.get(GET).await;
    let mut plain = Sidecar::with(&wechat, &["--access-log"]).await;
    plain.get(GET).await;
    let line = plain.line("INFO access: call").await;
    let start = format!(
        " account=\"{APPID}\" method=\"GET\" endpoint=\"{GET}\" outcome=\"accepted\" status=200"
    );
    assert!(
        line.contains(&start) && line.contains(" attempts=1 upstream_seconds=0."),
        "{line}"
    );
    assert!(!silent.log().contains(" access: "));
}

#[tokio::test]
async fn the_keys_of_json_lines_are_documented_and_durations_are_numbers() {
    let wechat = Wechat::calm().await;
    let mut command = sidecar::with_account();
    command.args(["--log-format", "json", "--access-log"]);
    command.args(["--upstream", &wechat.url()]);
    let mut sidecar = Sidecar::spawn(command, Some(wechat.clone())).await;
    sidecar.until_ready().await;
    sidecar.get(GET).await;
    wechat.rotate();
    sidecar.get(GET).await;
    wechat.change(|behaviour| behaviour.errcode = Some(45009));
    sidecar.get(GET).await;
    wechat.stop();
    wechat.wait_until(|wechat| wechat.connections() == 0).await;
    sidecar.get(GET).await;
    sidecar.signal("-TERM");
    sidecar.line("\"stopping\"").await;
    let page = include_str!("../docs/metrics.md");
    let log = sidecar.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let first = &lines[0];
    assert_eq!(first["message"], "wechat-sidecar starts");
    assert_eq!(
        (&first["accounts"], &first["hosts"]),
        (&APPID.into(), &"127.0.0.1".into())
    );
    assert_eq!(
        first["unusual"],
        "listen, admin, upstream, log-format, access-log"
    );
    for (key, value) in lines.iter().filter_map(Value::as_object).flatten() {
        assert!(
            page.contains(&format!("`{key}`")),
            "{key} is not documented"
        );
        assert_eq!(
            key.ends_with("_seconds") || key == "seconds",
            value.is_f64(),
            "{key}: {value}"
        );
    }
}

#[tokio::test]
async fn a_call_that_the_end_of_the_process_cuts_has_its_line() {
    let wechat = Wechat::calm().await;
    let mut sidecar = logging(&wechat, &["--shutdown-grace", "1s"]).await;
    wechat.change(|behaviour| behaviour.stall = true);
    let url = format!("{}{GET}", sidecar.url);
    let call = tokio::spawn(sidecar.client.get(url).send());
    wechat.wait_for_calls(1).await;
    sidecar.signal("-TERM");
    let line = calls(&mut sidecar, 1).await.remove(0);
    assert_eq!(
        (&line["outcome"], &line["attempts"]),
        (&"process_ended".into(), &1.into())
    );
    assert!(call.await.unwrap().is_err());
}
