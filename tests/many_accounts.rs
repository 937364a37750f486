//! With many accounts, metrics and pages stay small, no counter runs backwards, and what is wrong comes first.
#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::HashMap, fs, path::Path, time::Duration};

use serde_json::Value;
use support::{PATIENCE, Sidecar, Wechat, sidecar};
use tokio::time::{sleep, timeout};

const GET: &str = "/cgi-bin/user/get";
const ACCOUNTS: usize = 250;
/// How many of them have series of their own.
const OWN: usize = 100;

fn appid(n: usize) -> String {
    format!("wx0000000000000{n:03}")
}

fn secret(n: usize) -> String {
    format!("{n:032}")
}

/// The tables of these accounts.
fn file(accounts: impl Iterator<Item = usize>) -> String {
    let account = |n| {
        let (appid, secret) = (appid(n), secret(n));
        format!("[[accounts]]\nappid = '{appid}'\nsecret = '{secret}'\nname = 'shop-{n}'\n")
    };
    format!("metrics-accounts = {OWN}\n") + &accounts.map(account).collect::<String>()
}

/// A sidecar with all accounts, of which the fake does not know the last one. That one is known to have no token; of the
/// others some may be waiting for theirs.
async fn served() -> (Wechat, Sidecar, String) {
    let wechat = Wechat::calm().await;
    for n in 0..ACCOUNTS - 1 {
        wechat.set_secret(&appid(n), &secret(n));
    }
    let path = sidecar::written("accounts.toml", &file(0..ACCOUNTS));
    let mut command = sidecar::command();
    command.args(["--config", &path, "--upstream", &wechat.url()]);
    let sidecar = Sidecar::spawn(command, Some(wechat.clone())).await;
    let waiting = async {
        while sidecar
            .metric("wechat_sidecar_accounts{token=\"missing\"}")
            .await
            == 0.0
        {
            call(&sidecar, ACCOUNTS - 1).await;
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap();
    (wechat, sidecar, path)
}

/// Makes a call of the account, and returns its status.
async fn call(sidecar: &Sidecar, n: usize) -> u16 {
    sidecar.get(&format!("/{}{GET}", appid(n))).await.status
}

/// The counters on the page, by series.
async fn counters(sidecar: &Sidecar) -> HashMap<String, f64> {
    let page = sidecar.admin("/metrics").await.text();
    let samples = page.lines().filter(|line| line.starts_with("wechat_"));
    let samples = samples.filter_map(|line| line.rsplit_once(' '));
    let counters = samples.filter(|(series, _)| series.contains("_total{"));
    counters
        .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
        .collect()
}

/// Serves these accounts from now on.
async fn reload(sidecar: &Sidecar, path: &str, accounts: impl Iterator<Item = usize>) {
    let applied = "wechat_sidecar_config_reloads_total{outcome=\"applied\"}";
    let before = sidecar.metric(applied).await;
    let new = Path::new(path).with_extension("new");
    fs::write(&new, file(accounts)).unwrap();
    fs::rename(&new, path).unwrap();
    sidecar.signal("-HUP");
    sidecar.becomes(applied, before + 1.0).await;
}

fn calls(account: &str) -> String {
    format!(
        "wechat_sidecar_calls_total{{account=\"{account}\",endpoint=\"{GET}\",outcome=\"accepted\"}}"
    )
}

fn named(n: usize) -> String {
    let account = format!("{}\",name=\"shop-{n}", appid(n));
    calls(&account)
}

#[tokio::test]
async fn the_first_accounts_have_series_of_their_own_and_no_reload_lets_a_counter_fall() {
    let (_wechat, sidecar, path) = served().await;
    for n in [0, 0, OWN - 1, OWN, OWN, ACCOUNTS - 2] {
        assert_eq!(call(&sidecar, n).await, 200);
    }
    let mut before = counters(&sidecar).await;
    assert_eq!((before[&named(0)], before[&named(OWN - 1)]), (2.0, 1.0));
    assert_eq!(before[&calls("other")], 3.0);
    assert!(!before.contains_key(&named(OWN)));
    let page = sidecar.admin("/metrics").await.text();
    let counts = page
        .lines()
        .filter(|line| line.starts_with("wechat_sidecar_accounts{"));
    let counts = counts.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap());
    assert_eq!(counts.sum::<usize>(), ACCOUNTS);
    let other = |metric: &str| format!("wechat_sidecar_{metric}{{account=\"other\"");
    assert_eq!(sidecar.metric(&other("problem")).await, 1.0);
    assert!(sidecar.metric(&other("token_fetches_day")).await >= 1.0);
    let expires = sidecar.metric(&other("token_expires_seconds")).await;
    assert_eq!(expires, 0.0, "one has none");
    assert!(sidecar.metric(&other("token_age_seconds")).await > 0.0);
    // Reversed, without some, and with all again: the first ones of the file are others then.
    let last = ACCOUNTS - 1;
    for accounts in [
        (0..last).rev().collect::<Vec<_>>(),
        (0..last).filter(|n| *n != OWN).collect(),
        (0..ACCOUNTS).rev().collect(),
    ] {
        reload(&sidecar, &path, accounts.into_iter()).await;
        for n in [0, OWN - 1, ACCOUNTS - 2] {
            call(&sidecar, n).await;
        }
        let now = counters(&sidecar).await;
        let fell = before.iter().find(|(series, value)| now[*series] < **value);
        assert_eq!(fell, None);
        before = now;
    }
    assert_eq!((before[&named(0)], before[&calls("other")]), (5.0, 6.0));
    // One that was in it, and one that is new there.
    for n in [ACCOUNTS - 2, OWN] {
        let page = sidecar.admin("/metrics").await.text();
        assert!(!page.contains(&appid(n)), "{n}");
    }
}

#[tokio::test]
async fn one_account_can_be_asked_for_alone() {
    let (_wechat, sidecar, _) = served().await;
    let n = ACCOUNTS - 2;
    call(&sidecar, n).await;
    for id in [appid(n), format!("shop-{n}")] {
        let page = sidecar
            .admin(&format!("/metrics?account={id}"))
            .await
            .text();
        assert!(page.contains(&(named(n) + " 1\n")), "{page}");
        assert!(!page.contains("process_") && !page.contains("_ready"));
        assert!(!page.contains("\"other\"") && !page.contains(&appid(0)));
        let said = sidecar
            .admin(&format!("/accounts?account={id}"))
            .await
            .json();
        assert_eq!(shown(&said), [appid(n)]);
        let said = sidecar.admin(&format!("/status.json?account={id}")).await;
        assert_eq!(shown(&said.json()), [appid(n)]);
    }
    for page in ["/metrics", "/accounts", "/status.json", "/readyz"] {
        let reply = sidecar.admin(&format!("{page}?account=nobody")).await;
        assert_eq!(reply.status, 404, "{page}");
        let text = reply.text();
        assert!(text.ends_with(" more\n") && text.len() < 2000, "{text}");
    }
}

fn shown(said: &Value) -> Vec<String> {
    let accounts = said["accounts"].as_array().unwrap();
    let appid = |account: &Value| account["appid"].as_str().unwrap().to_owned();
    accounts.iter().map(appid).collect()
}

#[tokio::test]
async fn a_page_has_a_hundred_accounts_and_the_one_in_trouble_comes_first() {
    let (_wechat, sidecar, _) = served().await;
    call(&sidecar, 0).await;
    let said = sidecar.admin("/accounts").await.json();
    assert!((1..ACCOUNTS as u64).contains(&said["accounts_with_token"].as_u64().unwrap()));
    let first = shown(&said);
    assert_eq!((first.len(), &first[0]), (100, &appid(ACCOUNTS - 1)));
    assert_eq!(said["problems"][0]["account"], appid(ACCOUNTS - 1));
    for (key, count) in [
        ("accounts_total", ACCOUNTS),
        ("accounts_with_problems", 1),
        ("page", 1),
        ("pages", 3),
    ] {
        assert_eq!(said[key], count, "{key}");
    }
    let mut all = first;
    for page in [2, 3, 4] {
        let said = sidecar.admin(&format!("/accounts?page={page}")).await;
        assert_eq!(said.json()["problems"], Value::Array(Vec::new()));
        all.extend(shown(&said.json()));
    }
    all.rotate_left(1);
    assert_eq!(all, (0..ACCOUNTS).map(appid).collect::<Vec<_>>());
    // The order is that of the file where all are on one page.
    let said = sidecar.admin("/accounts?per=1000").await.json();
    assert_eq!((shown(&said), &said["pages"]), (all, &1.into()));
    let said = sidecar.admin("/status.json?page=2&per=100").await.json();
    assert_eq!(shown(&said)[0], appid(99));
    assert_eq!(
        (&said["pages"], &said["accounts_from"]),
        (&3.into(), &100.into())
    );
    assert_eq!(said["accounts_with_problems"], 1);
}

#[tokio::test]
async fn commands_read_all_pages() {
    let (wechat, sidecar, path) = served().await;
    let n = ACCOUNTS - 2;
    call(&sidecar, n).await;
    let admin = sidecar.admin.strip_prefix("http://").unwrap();
    let run = async |arguments: &[&str]| {
        let mut command = sidecar::command();
        command.args(arguments).args(["--admin", admin]);
        let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let url = wechat.url();
    let said = run(&["check", "--json", "--config", &path, "--upstream", &url]).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    let findings = said["findings"].as_array().unwrap();
    let of = |check: &'static str| findings.iter().filter(move |one| one["check"] == check);
    let problems: Vec<_> = of("problem").map(|one| &one["subject"]).collect();
    assert_eq!(problems, [&Value::from(appid(ACCOUNTS - 1))]);
    let found = of("token").find(|one| one["subject"] == appid(n)).unwrap();
    let sentence = found["sentence"].as_str().unwrap();
    assert!(sentence.contains("holds a token"), "{sentence}");

    let name = format!("shop-{n}");
    wechat.clear();
    run(&["call", GET, "--account", &name]).await;
    assert_eq!(wechat.calls()[0].token, Some(wechat.token_of(&appid(n))));
    let said = run(&["quota", "--all-seen", "--account", &name]).await;
    assert!(said.contains(GET), "{said}");
}
