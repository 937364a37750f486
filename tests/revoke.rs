//! An operator revokes a leaked token: it is refused everywhere within the stated time, and no app notices.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use support::{
    APPID, PATIENCE, Redis, Reply, Sidecar, Wechat,
    sidecar::{command, written},
    wechat::{Setup, TokenQuotas},
};
use tokio::{
    task::JoinSet,
    time::{Instant, interval, sleep, timeout},
};

const SEND: &str = "/cgi-bin/message/custom/send";
const ENABLED: &str = "--enable-revoke";

/// What the requests themselves may take, beyond the stated time.
const SLACK: Duration = Duration::from_secs(2);

/// A WeChat whose tokens live for 40 s, so that its rules take seconds: a replaced token works for 10 s more, and two
/// forced refreshes must be 4 s apart.
async fn wechat(forced_a_day: u32) -> Wechat {
    Wechat::with(Setup {
        refusal_chance: 0.0,
        lifetime: Duration::from_secs(40),
        quotas: TokenQuotas {
            forced_apart: Duration::from_secs(4),
            forced_a_day,
            ..TokenQuotas::default()
        },
        ..Setup::default()
    })
    .await
}

async fn post(sidecar: &Sidecar, query: &str) -> Reply {
    let request = sidecar
        .client
        .post(format!("{}/revoke{query}", sidecar.admin));
    sidecar.send(request).await
}

async fn state(sidecar: &Sidecar) -> Value {
    sidecar.admin("/revoke").await.json()
}

/// Runs `wechat-sidecar revoke`.
async fn revoke(sidecar: &Sidecar, more: &[&str]) -> Output {
    let mut command = command();
    let admin = sidecar.admin.strip_prefix("http://").unwrap();
    command.args(["revoke", "--admin", admin]).args(more);
    let output = timeout(PATIENCE, command.output()).await;
    output.expect("it hangs").unwrap()
}

/// What WeChat answers to a call from elsewhere with `token`.
async fn elsewhere(wechat: &Wechat, sidecar: &Sidecar, token: &str) -> i64 {
    let url = format!("{}{SEND}?access_token={token}", wechat.url());
    let request = sidecar.client.post(url).body("{}");
    sidecar.send(request).await.errcode().unwrap()
}

/// Makes a call that must succeed. Returns the token that it was sent with at last.
async fn call(wechat: &Wechat, sidecar: &Sidecar) -> String {
    let reply = sidecar.post(SEND, "{}").await;
    assert_eq!(reply.errcode(), Some(0), "{}", reply.text());
    wechat.calls().last().unwrap().token.clone().unwrap()
}

/// 200 calls a second through some sidecars.
struct Traffic {
    ends: Arc<AtomicBool>,
    calls: JoinSet<Vec<String>>,
}

impl Traffic {
    fn through(sidecars: &[&Sidecar]) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let mut calls = JoinSet::new();
        let next = Arc::new(AtomicU64::new(0));
        for sidecar in sidecars {
            let (url, client) = (format!("{}{SEND}", sidecar.url), sidecar.client.clone());
            let (ends, next) = (ends.clone(), next.clone());
            let pace = Duration::from_millis(5) * u32::try_from(sidecars.len()).unwrap();
            calls.spawn(async move {
                let mut ticks = interval(pace);
                let mut sent = JoinSet::new();
                while !ends.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    next.fetch_add(1, Ordering::Relaxed);
                    let call = client.post(&url).body("{}").send();
                    sent.spawn(async move { call.await.unwrap().text().await.unwrap() });
                }
                sent.join_all().await
            });
        }
        Self { ends, calls }
    }

    /// Ends it. Every call must have succeeded. Returns how many there were.
    async fn ended(self) -> usize {
        self.ends.store(true, Ordering::Relaxed);
        let replies = self.calls.join_all().await.concat();
        for reply in &replies {
            assert!(reply.contains("\"errcode\":0"), "an app saw {reply}");
        }
        replies.len()
    }
}

#[tokio::test]
async fn a_leaked_stable_token_is_refused_within_the_stated_time_and_no_call_notices() {
    let wechat = wechat(20).await;
    // Two replicas without a store. One revokes, and the other heals by itself.
    let (one, two) = (
        Sidecar::with(&wechat, &[ENABLED]).await,
        Sidecar::start(&wechat).await,
    );
    let leaked = call(&wechat, &one).await;
    assert_eq!(call(&wechat, &two).await, leaked);
    let traffic = Traffic::through(&[&one, &two]);
    sleep(Duration::from_secs(1)).await;

    // It goes on though the operator who began it has left.
    let reply = post(&one, "").await;
    let began = Instant::now();
    assert_eq!(reply.status, 202, "{}", reply.text());
    let document = reply.json();
    assert_eq!(
        (&document["state"], &document["joined"]),
        (&"running".into(), &false.into())
    );
    let stated = Duration::from_secs_f64(document["old_token_dead_in_seconds"].as_f64().unwrap());
    assert!(stated <= Duration::from_secs(6), "{stated:?}");
    assert_eq!(elsewhere(&wechat, &one, &leaked).await, 0);

    let followed = revoke(&one, &["--yes"]).await;
    let said = String::from_utf8_lossy(&followed.stdout).into_owned();
    assert_eq!(followed.status.code(), Some(0), "{said}{followed:?}");
    assert!(
        said.contains("joins it") && said.contains("refuses the old token now"),
        "{said}"
    );
    assert!(began.elapsed() < stated + SLACK, "{:?}", began.elapsed());
    assert_eq!(elsewhere(&wechat, &one, &leaked).await, 40001);

    sleep(Duration::from_secs(2)).await;
    let calls = traffic.ended().await;
    assert!(calls > 1000, "{calls}");
    let renewed = call(&wechat, &one).await;
    assert!(renewed != leaked && call(&wechat, &two).await == renewed);
    let forced = wechat.token_requests();
    let forced = forced.iter().filter(|request| request.force_refresh);
    assert_eq!(forced.count(), 2);
    let revoked = |outcome| {
        format!(
            "wechat_sidecar_token_fetches_total{{account=\"{APPID}\",cause=\"revoke\",outcome=\"{outcome}\"}}"
        )
    };
    assert_eq!(one.metric(&revoked("new")).await, 2.0);
    // Only the other one met refusals, and replayed those calls.
    let refusals = format!("wechat_sidecar_refusals_total{{account=\"{APPID}\"}}");
    assert_eq!(one.metric(&refusals).await, 0.0);
    assert!(two.metric(&refusals).await >= 1.0);
    for text in [said, one.log(), two.log()] {
        for token in wechat.all_tokens() {
            assert!(!text.contains(&token));
        }
    }
}

#[tokio::test]
async fn a_second_step_that_wechat_refuses_is_told_and_calls_go_on() {
    let wechat = wechat(1).await;
    let mut sidecar = Sidecar::with(&wechat, &[ENABLED]).await;
    let leaked = call(&wechat, &sidecar).await;
    let failed = revoke(&sidecar, &["--yes"]).await;
    let said = String::from_utf8_lossy(&[failed.stdout, failed.stderr].concat()).into_owned();
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("45009") && said.contains("in 29"), "{said}");
    let document = state(&sidecar).await;
    assert_eq!(document["state"], "failed");
    assert_eq!(document["steps"][3]["state"], "failed");
    sidecar.line("revoking the access_token failed").await;
    // The token of the first step is in use, and nothing is wrong with it.
    assert_ne!(call(&wechat, &sidecar).await, leaked);
    assert_eq!(sidecar.admin("/readyz").await.status, 200);
    assert_eq!(
        sidecar.admin("/accounts").await.json()["problems"],
        Value::Array(Vec::new())
    );
}

#[tokio::test]
async fn a_classic_token_is_replaced_and_the_old_one_has_its_five_minutes() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--token-api", "classic", ENABLED]).await;
    let leaked = call(&wechat, &sidecar).await;
    let reply = post(&sidecar, &format!("?account={APPID}")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let document = reply.json();
    assert_eq!(
        (&document["state"], &document["method"]),
        (&"done".into(), &"one_request".into())
    );
    let dead_in = document["old_token_dead_in_seconds"].as_f64().unwrap();
    assert!((290.0..=300.0).contains(&dead_in), "{dead_in}");
    assert_ne!(call(&wechat, &sidecar).await, leaked);
    assert_eq!(wechat.token_requests().len(), 2);
}

#[tokio::test]
async fn a_source_that_cannot_revoke_says_whose_job_it_is() {
    let wecom = Wechat::wecom(&["wecom-secret-0123456789"]).await;
    let file = written("token", "a-token-of-somebody-elses");
    let tables = format!(
        "enable-revoke = true\n\
         [[accounts]]\nappid = 'ww0123456789abcdef'\nname = 'corp'\nkind = 'wecom'\n\
         secret = 'wecom-secret-0123456789'\n\
         [[accounts]]\nappid = 'wx1111111111111111'\nname = 'file'\n\
         [accounts.token]\nsource = 'file'\nfile = '{file}'\n\
         [[accounts]]\nappid = 'wx2222222222222222'\nname = 'http'\n\
         [accounts.token]\nsource = 'http'\nurl = 'http://127.0.0.1:9/token'\n"
    );
    let config = written("revoke.toml", &tables);
    let mut command = command();
    command.args(["--upstream", &wecom.url(), "--config", &config]);
    let sidecar = Sidecar::spawn(command, Some(wecom.clone())).await;
    for (account, advice) in [
        ("corp", "reset the secret in WeCom's console"),
        ("file", "revoke the token where it is made"),
        ("http", "where that server gets it"),
    ] {
        let query = format!("?account={account}");
        for reply in [
            post(&sidecar, &query).await,
            sidecar.admin(&format!("/revoke{query}")).await,
        ] {
            assert_eq!(reply.status, 409, "{account}");
            assert!(reply.text().contains(advice), "{}", reply.text());
        }
        let output = revoke(&sidecar, &["--yes", "--account", account]).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(advice),
            "{output:?}"
        );
    }
    let unnamed = post(&sidecar, "").await;
    assert!(
        unnamed.status == 400 && unnamed.text().contains("corp"),
        "{}",
        unnamed.text()
    );
    assert_eq!(post(&sidecar, "?account=nobody").await.status, 404);
}

#[tokio::test]
async fn nothing_is_revoked_unasked() {
    let wechat = Wechat::calm().await;
    let (firm, willing) = (
        Sidecar::start(&wechat).await,
        Sidecar::with(&wechat, &[ENABLED]).await,
    );
    assert_eq!(post(&firm, "").await.status, 403);
    let output = revoke(&firm, &["--yes"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("--enable-revoke"),
        "{output:?}"
    );

    // The test has no terminal.
    let output = revoke(&willing, &[]).await;
    assert_eq!(output.status.code(), Some(64));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("--yes"),
        "{output:?}"
    );
    let request = willing.client.post(format!("{}/revoke", willing.admin));
    let request = request.header("origin", "http://evil.example");
    assert_eq!(willing.send(request).await.status, 403);
    let request = willing.client.put(format!("{}/revoke", willing.admin));
    assert_eq!(willing.send(request).await.status, 405);
    assert_eq!(state(&willing).await["state"], "none");
    assert!(
        wechat
            .token_requests()
            .iter()
            .all(|request| !request.force_refresh)
    );
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn replicas_with_a_store_take_the_new_classic_token_from_there() {
    let (wechat, redis) = (Wechat::calm().await, Redis::start());
    let url = redis.url();
    let flags = ["--token-api", "classic", "--store", &*url, ENABLED];
    let (one, two) = (
        Sidecar::with(&wechat, &flags).await,
        Sidecar::with(&wechat, &flags).await,
    );
    let leaked = call(&wechat, &one).await;
    assert_eq!(call(&wechat, &two).await, leaked);
    let traffic = Traffic::through(&[&one, &two]);
    // What somebody else has put there may be what leaked.
    let key = format!("wechat-sidecar:{{wechat:{APPID}}}:token");
    let stored = "a-token-of-somebody-elses";
    redis.set(&key, stored, Duration::from_secs(7000));
    let reply = post(&one, "").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let renewed = redis.get(&key).unwrap();
    assert!(renewed != leaked && renewed != stored);
    // The other one looks at the store every half minute, or when its token is refused.
    wechat.wait_until(|wechat| wechat.calls().len() > 200).await;
    let began = Instant::now();
    while sent_with(&wechat, &leaked) {
        assert!(
            began.elapsed() < 2 * PATIENCE,
            "the other goes on with the old token"
        );
        wechat.clear();
        sleep(Duration::from_millis(500)).await;
    }
    traffic.ended().await;
    assert_eq!(call(&wechat, &two).await, renewed);
    let fetches = |sidecar: &Sidecar| sidecar.log().matches("cause=\"revoke\"").count();
    assert_eq!((fetches(&one), fetches(&two)), (1, 0));
}

fn sent_with(wechat: &Wechat, token: &str) -> bool {
    let calls = wechat.calls();
    calls.is_empty()
        || calls
            .iter()
            .any(|call| call.token.as_deref() == Some(token))
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn forced_refreshes_are_counted_for_all_replicas_in_the_store() {
    let (wechat, redis) = (wechat(20).await, Redis::start());
    let url = redis.url();
    let flags = ["--store", &*url, ENABLED];
    let (one, two) = (
        Sidecar::with(&wechat, &flags).await,
        Sidecar::with(&wechat, &flags).await,
    );
    assert_eq!(revoke(&one, &["--yes"]).await.status.code(), Some(0));
    let key = format!("wechat-sidecar:{{wechat:{APPID}}}:revoke:fetches");
    assert_eq!(redis.get(&key).unwrap(), "2");
    redis.set(&key, "20", Duration::from_secs(2 * 3600 + 600));
    let reply = post(&two, "").await;
    assert_eq!(reply.status, 429, "{}", reply.text());
    assert!(
        reply.text().contains("room again in 2 h 9 min"),
        "{}",
        reply.text()
    );
    assert_eq!(redis.get(&key).unwrap(), "20");
    let forced = wechat.token_requests();
    assert_eq!(
        forced
            .iter()
            .filter(|request| request.force_refresh)
            .count(),
        2
    );
    call(&wechat, &two).await;
}
