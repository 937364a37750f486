//! Two sidecars share one token in a real Redis, whatever happens to Redis.

#![allow(clippy::unwrap_used)]

#[path = "store_redis/access.rs"]
mod access;
#[path = "store_redis/failover.rs"]
mod failover;
#[path = "store_redis/foreign.rs"]
mod foreign;
mod support;

use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use support::{APPID, PATIENCE, Redis, Sidecar, Wechat, wechat::Setup};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::Command,
    time::{Instant, interval, sleep},
};

/// A sidecar polls the store every half minute.
const LONG: Duration = PATIENCE.saturating_mul(2);

const SEND: &str = "/cgi-bin/message/custom/send?access_token=anything";

const TOKEN: &str = "wechat-sidecar:{wechat:wx0123456789abcdef}:token";

async fn sidecar(wechat: &Wechat, redis: &Redis, more: &[&str]) -> Sidecar {
    let url = redis.url();
    let mut flags = vec!["--token-api", "classic", "--store", &url];
    flags.extend_from_slice(more);
    Sidecar::with(wechat, &flags).await
}

async fn two(wechat: &Wechat, redis: &Redis) -> [Sidecar; 2] {
    [
        sidecar(wechat, redis, &[]).await,
        sidecar(wechat, redis, &[]).await,
    ]
}

/// Makes a call that must succeed. Returns the token that it was sent with at last.
async fn call(wechat: &Wechat, sidecar: &Sidecar) -> String {
    let reply = sidecar.post(SEND, "{}").await;
    assert_eq!(reply.errcode(), Some(0), "{}", reply.text());
    let calls = wechat.calls();
    calls.last().unwrap().token.clone().unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LONG, "never {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn fetches(wechat: &Wechat) -> usize {
    wechat.token_requests().len()
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn one_fetch_is_enough_for_both_and_so_it_is_after_a_refusal() {
    let (wechat, redis) = (Wechat::calm().await, Redis::start());
    let url = redis.url();
    let flags = ["--token-api", "classic", "--store", &*url];
    let start = || Sidecar::with(&wechat, &flags);
    let (one, two) = tokio::join!(start(), start());
    let token = call(&wechat, &one).await;
    assert_eq!(call(&wechat, &two).await, token);
    assert_eq!(fetches(&wechat), 1);
    assert_eq!(redis.get(TOKEN).unwrap(), token);
    let lives: i64 = redis.command(&["PTTL", TOKEN]);
    assert!((7_100_000..=7_200_000).contains(&lives), "{lives}");

    wechat.rotate();
    tokio::join!(one.post(SEND, "{}"), two.post(SEND, "{}"));
    let other = call(&wechat, &one).await;
    assert_eq!(call(&wechat, &two).await, other);
    assert_eq!(fetches(&wechat), 2);
    assert_eq!(redis.get(TOKEN).unwrap(), other);
    let shared = r#"wechat_sidecar_token_fetches_total{account="wx0123456789abcdef",cause="refusal",outcome="shared"}"#;
    let new = shared.replace("shared", "new");
    let both = [
        one.metric(shared).await + two.metric(shared).await,
        one.metric(&new).await + two.metric(&new).await,
    ];
    assert_eq!(both, [1.0, 1.0]);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_sidecar_killed_in_the_middle_of_its_fetch_holds_up_the_other_no_longer_than_the_lease() {
    let (wechat, redis) = (Wechat::calm().await, Redis::start());
    wechat.change(|behaviour| behaviour.token_delay = Duration::from_secs(60));
    let url = redis.url();
    let flags = ["--token-api", "classic", "--store", &*url];
    let dying = Sidecar::unready(&wechat, &flags, &[]).await;
    until("asked", || fetches(&wechat) > 0).await;
    dying.signal("-KILL");
    wechat.change(|behaviour| behaviour.token_delay = Duration::ZERO);
    let began = Instant::now();
    let other = sidecar(&wechat, &redis, &[]).await;
    call(&wechat, &other).await;
    assert!(
        began.elapsed() < Duration::from_secs(25),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn calls_go_on_while_redis_is_gone_stopped_read_only_or_emptied() {
    let (wechat, redis) = (Wechat::calm().await, Redis::start());
    let [one, two] = two(&wechat, &redis).await;
    let token = call(&wechat, &one).await;

    redis.empty();
    until("restored", || redis.get(TOKEN).as_ref() == Some(&token)).await;

    redis.stop();
    let began = Instant::now();
    for _ in 0..20 {
        call(&wechat, &one).await;
        call(&wechat, &two).await;
    }
    assert!(began.elapsed() < Duration::from_secs(3));
    wechat.rotate();
    call(&wechat, &one).await;
    redis.go_on();
    assert_eq!(fetches(&wechat), 2);
    let token = call(&wechat, &one).await;
    until("shared", || redis.get(TOKEN).as_ref() == Some(&token)).await;
    assert_eq!(call(&wechat, &two).await, token);
    assert_eq!(fetches(&wechat), 2);

    redis.writes(false);
    wechat.rotate();
    let token = call(&wechat, &two).await;
    redis.writes(true);
    until("shared", || redis.get(TOKEN).as_ref() == Some(&token)).await;
    assert_eq!(call(&wechat, &one).await, token);
    assert_eq!(fetches(&wechat), 3);

    redis.kill();
    call(&wechat, &one).await;
    redis.restart();
    until("restored", || redis.get(TOKEN).as_ref() == Some(&token)).await;
    assert_eq!(fetches(&wechat), 3);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_password_from_a_file_is_read_again_and_shown_to_nobody() {
    let (wechat, mut redis) = (Wechat::calm().await, Redis::with_password("HUNTER2"));
    let file = support::sidecar::written("redis-password", "HUNTER2\n");
    let mut sidecar = sidecar(&wechat, &redis, &["--store-password-file", &file]).await;
    assert_eq!(redis.get(TOKEN).unwrap(), call(&wechat, &sidecar).await);

    let () = redis.command(&["CONFIG", "SET", "requirepass", "HUNTER3"]);
    std::fs::write(&file, "default:HUNTER3").unwrap();
    redis.knows("HUNTER3");
    let () = redis.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    wechat.rotate();
    let token = call(&wechat, &sidecar).await;
    until("shared", || redis.get(TOKEN).as_ref() == Some(&token)).await;

    let () = redis.command(&["CONFIG", "SET", "requirepass", "HUNTER4"]);
    redis.knows("HUNTER4");
    let () = redis.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    wechat.rotate();
    call(&wechat, &sidecar).await;
    let line = sidecar.line("the store of shared tokens is away").await;
    assert!(
        line.contains("store-password-file") || line.contains("broke"),
        "{line}"
    );
    assert!(!sidecar.log().contains("HUNTER"), "{}", sidecar.log());
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn tls_is_checked() {
    let (wechat, redis) = (Wechat::calm().await, Redis::with_tls());
    let ca = redis.ca();
    let trusting = sidecar(&wechat, &redis, &["--store-ca-file", &ca]).await;
    assert_eq!(redis.get(TOKEN).unwrap(), call(&wechat, &trusting).await);
    assert_eq!(fetches(&wechat), 1);
    let mut strange = sidecar(&wechat, &redis, &[]).await;
    let line = strange.line("the store of shared tokens is away").await;
    assert!(line.contains("TLS"), "{line}");
    call(&wechat, &strange).await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn tickets_are_shared_and_a_stable_token_is_not() {
    let (wechat, redis) = (Wechat::calm().await, Redis::start());
    let url = redis.url();
    let mut tickets = Vec::new();
    for _ in 0..2 {
        let sidecar = Sidecar::with(&wechat, &["--store", &url]).await;
        let reply = sidecar.get("/cgi-bin/ticket/getticket?type=jsapi").await;
        tickets.push(reply.json()["ticket"].as_str().unwrap().to_owned());
    }
    assert_eq!(tickets[0], tickets[1]);
    let asked = wechat.calls().into_iter();
    assert_eq!(
        asked
            .filter(|call| call.path().contains("getticket"))
            .count(),
        1
    );
    let keys: Vec<String> = redis.command(&["KEYS", "*"]);
    assert!(!keys.contains(&TOKEN.to_owned()), "{keys:?}");
    let key = TOKEN.replace(":token", ":ticket:jsapi");
    // Its age is unknown, so it may expire at any time.
    assert_eq!(redis.get(&key).unwrap(), format!("?{}", tickets[0]));
}

#[tokio::test]
async fn a_node_of_a_cluster_is_told_by_a_clear_sentence() {
    let wechat = Wechat::calm().await;
    let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", node.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut app, _)) = node.accept().await {
            let mut asked = [0; 4096];
            while app.read(&mut asked).await.is_ok_and(|read| read > 0) {
                let moved = b"-MOVED 3999 127.0.0.1:6381\r\n";
                app.write_all(moved).await.unwrap();
            }
        }
    });
    let flags = ["--token-api", "classic", "--store", &url];
    let mut sidecar = Sidecar::with(&wechat, &flags).await;
    let line = sidecar.line("the store of shared tokens is away").await;
    assert!(line.contains("Redis Cluster"), "{line}");
    call(&wechat, &sidecar).await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_check_says_whether_the_store_answers_and_the_status_does_too() {
    let (wechat, redis) = (Wechat::calm().await, Redis::start());
    let sidecar = sidecar(&wechat, &redis, &[]).await;
    let accounts = sidecar.admin("/accounts").await.text();
    assert!(accounts.contains(r#""store_answers":true"#), "{accounts}");
    let url = redis.url();
    let check = || async {
        let mut check = support::sidecar::with_account();
        check.args(["check", "--token-api", "classic", "--store", &url]);
        check.args(["--listen", "127.0.0.1:0"]);
        check.args(["--upstream", &wechat.url()]);
        let output = check.output().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let text = check().await;
    assert!(
        text.contains("ok: the store answers, and holds a token of"),
        "{text}"
    );
    assert!(!text.contains("kick out"), "{text}");
    let accepted = "ok: WeChat accepts the token that the store holds of";
    assert!(text.contains(accepted), "{text}");
    wechat.rotate();
    let text = check().await;
    let refused = format!("warning: WeChat refuses the token of {APPID} that the store holds");
    assert!(text.contains(&refused), "{text}");
    redis.kill();
    let text = check().await;
    assert!(
        text.contains("FAILED: the store: it cannot be connected to"),
        "{text}"
    );
}

/// A foreign process fetches a classic token.
async fn mint(wechat: &Wechat) -> String {
    let url = format!(
        "{}/cgi-bin/token?grant_type=client_credential&appid={APPID}&secret={}",
        wechat.url(),
        support::SECRET
    );
    let reply = support::sidecar::client().get(url).send().await.unwrap();
    let reply: serde_json::Value = reply.json().await.unwrap();
    reply["access_token"].as_str().unwrap().to_owned()
}

/// Runs a service that uses wechatpy without the sidecar. It prints the token that it uses. `old` selects wechatpy
/// 1.8, which keeps the expiry in memory. Otherwise it is 2.0, which keeps the expiry in Redis.
async fn wechatpy(wechat: &Wechat, redis: &Redis, old: bool, call: bool) -> String {
    let sdk = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let sdk = sdk.parent().unwrap().join("sdk");
    let missing = "wechatpy is missing: run tests/run, which installs it";
    assert!(sdk.join("wechatpy2").exists(), "{missing}");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk/wechatpy_redis.py");
    let mut command = Command::new(sdk.join("venv/bin/python"));
    command.env_clear().arg(script).args(call.then_some("call"));
    if !old {
        command.env("PYTHONPATH", sdk.join("wechatpy2"));
    }
    let known = [("APPID", APPID), ("SECRET", support::SECRET)];
    command.envs(known).env("HTTPS_PROXY", "http://127.0.0.1:9");
    command
        .env("WECHAT", wechat.url())
        .env("REDIS", redis.url());
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
#[ignore = "needs redis-server and Python with wechatpy"]
async fn a_token_is_shared_with_wechatpy_both_ways() {
    for old in [true, false] {
        let (wechat, redis) = (Wechat::calm().await, Redis::start());
        let theirs = wechatpy(&wechat, &redis, old, false).await;
        let sidecar = sidecar(&wechat, &redis, &["--store-format", "wechatpy"]).await;
        assert_eq!(call(&wechat, &sidecar).await, theirs);
        assert_eq!(fetches(&wechat), 1);

        // First, the sidecar notices that the token has ended.
        wechat.rotate();
        let ours = call(&wechat, &sidecar).await;
        assert_ne!(ours, theirs);
        assert_eq!(wechatpy(&wechat, &redis, old, true).await, ours);
        assert_eq!(fetches(&wechat), 2);
        let at = format!("wechatpy:{APPID}_access_token_expires_at");
        let at: u64 = redis.get(&at).unwrap().parse().unwrap();
        let (now, _): (u64, u64) = redis.command(&["TIME"]);
        assert!((7100..=7200).contains(&(at - now)), "{}", at - now);

        // Then wechatpy notices it first.
        wechat.rotate();
        let theirs = wechatpy(&wechat, &redis, old, true).await;
        assert_ne!(ours, theirs);
        assert_eq!(call(&wechat, &sidecar).await, theirs);
        assert_eq!(fetches(&wechat), 3);
    }
}

/// How often a foreign process ends everybody's token, and how long an ended one still works.
const ROTATION: Duration = Duration::from_secs(1);
const OVERLAP: Duration = Duration::from_secs(1);

/// 200 calls a second, each of which must succeed, until `end`.
async fn calls_all_the_time(sidecars: &[Sidecar; 2], end: Instant) -> usize {
    let mut calls = FuturesUnordered::new();
    let mut beat = interval(Duration::from_millis(5));
    let mut made = 0;
    while Instant::now() < end {
        beat.tick().await;
        let sidecar = &sidecars[made % 2];
        made += 1;
        calls.push(async move {
            let reply = sidecar.post(SEND, "{}").await;
            let text = reply.text();
            assert_eq!((reply.status, reply.errcode()), (200, Some(0)), "{text}");
        });
        while let Some(Some(())) = calls.next().now_or_never() {}
    }
    while calls.next().await.is_some() {}
    made
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
async fn redis_is_away_for_three_seconds_while_tokens_end_every_second_and_no_app_notices() {
    let wechat = Wechat::with(Setup {
        refusal_chance: 0.0,
        overlap: OVERLAP,
        ..Setup::default()
    })
    .await;
    let redis = Redis::start();
    let sidecars = two(&wechat, &redis).await;
    let began = Instant::now();
    let end = began + Duration::from_secs(8);
    let kicks = async {
        let mut kicks = 0;
        while Instant::now() + ROTATION < end {
            sleep(ROTATION).await;
            mint(&wechat).await;
            kicks += 1;
        }
        kicks
    };
    let outage = async {
        sleep(Duration::from_millis(2500)).await;
        redis.kill();
        sleep(Duration::from_secs(3)).await;
        redis.restart();
    };
    let (calls, kicks, ()) = tokio::join!(calls_all_the_time(&sidecars, end), kicks, outage);
    let fetches = fetches(&wechat) - kicks;
    println!(
        "{calls} calls, {kicks} tokens ended by a stranger, {fetches} fetches by two sidecars"
    );
    assert!(calls >= 1500, "{calls}");
    assert!(fetches <= kicks + 8, "{fetches}");
    // At the end, both have the same token.
    let token = call(&wechat, &sidecars[0]).await;
    let agree = || redis.get(TOKEN).as_ref() == Some(&token);
    until("shared", agree).await;
    for mut sidecar in sidecars {
        sidecar
            .line("over: the store of shared tokens is away")
            .await;
        let account = &sidecar.admin("/accounts").await.json()["accounts"][0];
        assert_eq!(account["store_answers"], true);
    }
}
