//! The command `fake`: it tells where it listens, and serves the tests of apps in any language until a signal.
#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, path::Path};

use serde_json::{Value, json};
use support::{
    FakeProcess, PATIENCE, sidecar,
    sidecar::{command, temporary, written},
    wechat::{APPID, SECRET},
};
use tokio::time::timeout;

async fn get(url: &str) -> Value {
    let reply = sidecar::client().get(url).send().await.unwrap();
    reply.json().await.unwrap()
}

async fn post(url: &str, body: &Value) -> Value {
    let reply = sidecar::client().post(url).json(body).send().await.unwrap();
    reply.json().await.unwrap()
}

#[tokio::test]
async fn it_says_where_it_listens_and_serves_until_a_signal() {
    let fake = FakeProcess::start(&[]).await;
    let said = format!(", AppID {APPID}, secret {SECRET}");
    assert!(
        fake.line
            .starts_with("fake WeChat listening on http://127.0.0.1:")
    );
    assert!(fake.line.ends_with(&said), "{}", fake.line);
    assert_eq!(fake.end().await, Some(0));

    let fake = FakeProcess::start(&["--json"]).await;
    let said = fake.json();
    assert_eq!(
        (&said["api"], &said["appid"], &said["secret"]),
        (&json!("wechat"), &json!(APPID), &json!(SECRET))
    );
    let token = format!(
        "{}/cgi-bin/token?grant_type=client_credential&appid={APPID}&secret={SECRET}",
        fake.url()
    );
    assert_eq!(get(&token).await["expires_in"], 7200);
    assert_eq!(
        get(&format!("{}/_fake/stats", fake.url())).await["token_requests"],
        1
    );
    assert_eq!(fake.end().await, Some(0));
}

#[tokio::test]
async fn its_account_script_and_record_are_those_of_its_flags() {
    let script = written("script.json", r#"[{ "at_call": 2, "do": "errcode" }]"#);
    let record = temporary("record.jsonl");
    let fake = FakeProcess::start(&[
        "--json",
        "--appid",
        "wx1",
        "--secret",
        "HUNTER2",
        "--lifetime",
        "10m",
        "--seed",
        "7",
        "--script",
        &script,
        "--record",
        record.to_str().unwrap(),
    ])
    .await;
    assert!(!fake.line.contains("HUNTER2"), "{}", fake.line);
    let url = fake.url();
    let credentials =
        json!({ "grant_type": "client_credential", "appid": "wx1", "secret": "HUNTER2" });
    let granted = post(&format!("{url}/cgi-bin/stable_token"), &credentials).await;
    assert_eq!(granted["expires_in"], 600);
    let token = granted["access_token"].as_str().unwrap();
    let mut codes = Vec::new();
    for _ in 0..2 {
        let target = format!("{url}/cgi-bin/menu/create?access_token={token}");
        codes.push(post(&target, &json!({})).await["errcode"].clone());
    }
    assert_eq!(codes, [json!(0), json!(-1)]);
    assert_eq!(fake.end().await, Some(0));
    let text = fs::read_to_string(&record).unwrap();
    assert_eq!(text.lines().count(), 3);
    assert!(!text.contains("HUNTER2") && !text.contains(token), "{text}");
}

#[tokio::test]
async fn wecom_and_tls_are_a_flag_away() {
    let dir = temporary("tls");
    let fake = FakeProcess::start(&[
        "--json",
        "--wecom",
        "--secret",
        "one",
        "--secret",
        "two",
        "--tls",
        dir.to_str().unwrap(),
    ])
    .await;
    let said = fake.json();
    assert_eq!(
        (&said["api"], &said["secret"]),
        (&json!("wecom"), &json!(null))
    );
    let root = fs::read(Path::new(said["ca"].as_str().unwrap())).unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .add_root_certificate(reqwest::Certificate::from_pem(&root).unwrap())
        .build()
        .unwrap();
    for secret in ["one", "two"] {
        let corpid = said["appid"].as_str().unwrap();
        let target = format!(
            "{}/cgi-bin/gettoken?corpid={corpid}&corpsecret={secret}",
            fake.url()
        );
        let reply: Value = client
            .get(target)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert_eq!(reply["errcode"], 0);
    }
    assert_eq!(fake.end().await, Some(0));
}

#[tokio::test]
async fn a_wrong_command_line_is_told_before_anything_listens() {
    let script = written("script.json", r#"[{ "at_call": 1, "do": "explode" }]"#);
    let no_json = written("no.json", "HUNTER2");
    for (args, said) in [
        (&["--listen", "0.0.0.0:0"][..], "other machines can reach"),
        (&["--listen", "7090"], "is not an IP address and a port"),
        (&["--hostile", "200%"], "is no part of a whole"),
        (&["--lifetime", "7200"], "is not a duration with its unit"),
        (&["--seed", "x"], "--seed"),
        (&["--secret", "a", "--secret", "b"], "--wecom"),
        (&["--secret", ""], "empty"),
        (&["--script", "/nonexistent"], "cannot be read"),
        (&["--script", &no_json], "is no JSON"),
        (
            &["--listen", "127.0.0.1:0", "--script", &script],
            "there is no action explode",
        ),
    ] {
        let output = command().arg("fake").args(args).output();
        let output = timeout(PATIENCE, output).await.unwrap().unwrap();
        let problem = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {problem}");
        assert!(
            output.stdout.is_empty() && problem.contains(said),
            "{args:?}: {problem}"
        );
        assert!(!problem.contains("HUNTER2"), "{problem}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = command()
        .args(["fake", "--listen", &address])
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
}
