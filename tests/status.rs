//! The status page and `/status.json`: what they say of calm and trouble, to whom, and how long they may be.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{APPID, SECRET, Sidecar, Wechat, sidecar};
use tokio::time::sleep;

const GET: &str = "/cgi-bin/user/get";

async fn status(sidecar: &Sidecar, query: &str) -> Value {
    let reply = sidecar.admin(&format!("/status.json{query}")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.text().len() < 300_000);
    assert!(!reply.text().contains(SECRET) && !reply.text().contains("TOK"));
    reply.json()
}

/// The sum of a column.
fn sum(column: &Value) -> u64 {
    let column = column.as_array().unwrap();
    assert_eq!(column.len(), 60);
    column.iter().map(|count| count.as_u64().unwrap()).sum()
}

#[tokio::test]
async fn it_says_what_the_calls_of_the_last_hour_met() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    sidecar.get(GET).await;
    wechat.rotate();
    sidecar.post("/cgi-bin/menu/create", "{}").await;
    wechat.change(|behaviour| behaviour.body = Some(("a/b".into(), "{\"errcode\":45009}".into())));
    for _ in 0..3 {
        sidecar.get(GET).await;
    }
    let said = status(&sidecar, "").await;
    assert_eq!(
        (&said["ready"], &said["problems_open"]),
        (&true.into(), &1.into())
    );
    let problem = &said["problems"][0];
    assert_eq!(
        (&problem["kind"], &problem["errcode"]),
        (&"calls_quota".into(), &45009.into())
    );
    assert_eq!(
        (&problem["open"], &problem["account"]),
        (&true.into(), &APPID.into())
    );
    assert!(problem["advice"].is_string() && problem["ended_seconds"].is_null());
    let account = &said["accounts"][0];
    assert_eq!(
        (&account["appid"], &account["default"]),
        (&APPID.into(), &true.into())
    );
    assert_eq!(account["token_source"], "wechat_stable");
    let seconds = |key: &str| account["token"][key].as_f64().unwrap();
    assert!(seconds("renews_seconds") < seconds("expires_seconds"));
    assert!(seconds("expires_seconds") > 7000.0 && seconds("age_seconds") < 60.0);
    assert_eq!(account["replays"]["accepted"], 1);
    let recent = account["fetches"]["recent"].as_array().unwrap();
    let recent: Vec<_> = recent
        .iter()
        .map(|fetch| (&fetch["cause"], &fetch["outcome"]))
        .collect();
    let new = Value::from("new");
    assert_eq!(
        recent,
        [(&"refusal".into(), &new), (&"missing".into(), &new)]
    );
    for traffic in [&account["traffic"], &said["traffic"]] {
        assert_eq!((sum(&traffic["calls"]), sum(&traffic["failed"])), (5, 0));
        assert_eq!(sum(&traffic["with_errcode"]), 3);
        let codes = traffic["errcodes"].as_array().unwrap();
        let codes: Vec<_> = codes
            .iter()
            .map(|code| (&code["errcode"], &code["sum"]))
            .collect();
        assert_eq!(codes[0], (&"45009".into(), &3.into()));
        assert!(codes.len() == 2 && sum(&traffic["errcodes"][0]["counts"]) == 3);
        let p99 = traffic["p99_seconds"].as_array().unwrap();
        assert!(
            p99.iter()
                .any(|seconds| seconds.as_f64().is_some_and(|seconds| seconds > 0.0))
        );
    }
    assert!(said["process"]["memory_bytes"].as_u64().unwrap() > 1 << 20);
    assert_eq!(said["process"]["max_connections"]["app"], 4096);
    // A failure counts as one, and a problem that has ended is still told of.
    wechat.change(|behaviour| behaviour.body = None);
    wechat.stop();
    wechat.wait_until(|wechat| wechat.connections() == 0).await;
    sidecar.get(GET).await;
    let said = status(&sidecar, "").await;
    assert_eq!(sum(&said["traffic"]["failed"]), 1);
    assert_eq!(said["problems_open"], 2);
}

#[tokio::test]
async fn it_finds_accounts_and_shows_those_in_trouble_first() {
    let wechat = Wechat::calm().await;
    let appid = |n: usize| format!("wx00000000000000{n:02}");
    let secret = |n: usize| format!("{n:032}");
    for n in (0..45).filter(|n| *n != 44) {
        wechat.set_secret(&appid(n), &secret(n));
    }
    let file: String = (0..45)
        .map(|n| {
            format!(
                "[[accounts]]\nappid = '{}'\nsecret = '{}'\nname = 'Shop-{n}'\n",
                appid(n),
                secret(n)
            )
        })
        .collect();
    let path = sidecar::written("accounts.toml", &file);
    let mut command = sidecar::command();
    command.args(["--config", &path, "--upstream", &wechat.url()]);
    let sidecar = Sidecar::spawn(command, Some(wechat.clone())).await;
    // The last one of the file has a wrong secret.
    let wanted = format!("/readyz?account={}", appid(44));
    while status(&sidecar, "").await["accounts_with_problems"] != 1 {
        sidecar.admin(&wanted).await;
        sleep(Duration::from_millis(20)).await;
    }
    let shown = |said: &Value| -> Vec<String> {
        let accounts = said["accounts"].as_array().unwrap();
        accounts
            .iter()
            .map(|account| account["appid"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = status(&sidecar, "").await;
    let counts = |said: &Value| {
        (
            said["accounts_total"].clone(),
            said["accounts_found"].clone(),
        )
    };
    assert_eq!(counts(&all), (45.into(), 45.into()));
    let first = shown(&all);
    assert_eq!(
        (first.len(), &first[0], &first[1]),
        (20, &appid(44), &appid(0))
    );
    assert!(all["accounts"][0]["token"].is_null() && all["accounts"][0]["token_error"].is_string());
    let last = status(&sidecar, "?from=40").await;
    assert_eq!((shown(&last).len(), &shown(&last)[4]), (5, &appid(43)));
    let found = status(&sidecar, "?search=shop-4").await;
    assert_eq!(counts(&found), (45.into(), 6.into()));
    assert_eq!(shown(&found)[1], appid(4));
    assert!(shown(&status(&sidecar, "?from=99").await).is_empty());
}

#[tokio::test]
async fn a_browser_on_this_machine_gets_the_page_and_everybody_else_the_list() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let get = |accept: &str| {
        sidecar
            .client
            .get(format!("{}/", sidecar.admin))
            .header("Accept", accept)
    };
    let page = sidecar
        .send(get("text/html,application/xhtml+xml,*/*;q=0.8"))
        .await;
    assert_eq!(
        page.header("content-type").unwrap(),
        "text/html; charset=utf-8"
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; connect-src 'self'"),
        "{policy}"
    );
    assert!(
        !policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    assert!(page.text().contains("<script>"));
    let list = sidecar.send(get("*/*")).await;
    assert!(
        list.header("content-type")
            .unwrap()
            .starts_with("text/plain")
            && list.text().contains("GET  /status.json")
    );
    // A page of somebody else's cannot read what it says.
    let foreign = sidecar
        .client
        .get(format!("{}/status.json", sidecar.admin))
        .header("Sec-Fetch-Site", "cross-site");
    assert_eq!(sidecar.send(foreign).await.status, 403);
    let posted = sidecar
        .client
        .post(format!("{}/status.json", sidecar.admin));
    assert_eq!(sidecar.send(posted).await.status, 405);
}
