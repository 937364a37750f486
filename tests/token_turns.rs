//! With many accounts the sidecar starts as fast as with one, asks WeChat for a few tokens at a time, and logs few lines.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use support::{Reply, SECRET, Sidecar, Wechat, sidecar, wechat::RecordedTokenRequest};
use tokio::{
    process::Command,
    time::{Instant, sleep, timeout},
};

/// How many there are.
const MANY: usize = 300;

const GET: &str = "/cgi-bin/user/get";

fn appid(at: usize) -> String {
    format!("wx{at:016}")
}

/// A fake WeChat that knows them all, and takes 300 ms for each token.
async fn wechat() -> Wechat {
    let wechat = Wechat::calm().await;
    for at in 0..MANY {
        wechat.set_secret(&appid(at), SECRET);
    }
    wechat.change(|behaviour| behaviour.token_delay = Duration::from_millis(300));
    wechat
}

/// A sidecar with `number` accounts, of which one may be the default. It logs as it does unless told otherwise.
fn command(wechat: &Wechat, number: usize, default: Option<usize>) -> Command {
    let table = |at| {
        let default = if default == Some(at) {
            "default = true\n"
        } else {
            ""
        };
        format!(
            "[[accounts]]\nappid = '{}'\nsecret = '{SECRET}'\n{default}",
            appid(at)
        )
    };
    let file: String = (0..number).map(table).collect();
    let mut command = sidecar::command();
    command.args(["--config", &sidecar::written("many.toml", &file)]);
    command.args(["--upstream", &wechat.url()]);
    command
}

async fn start(wechat: &Wechat, number: usize, default: Option<usize>) -> Sidecar {
    Sidecar::spawn(command(wechat, number, default), Some(wechat.clone())).await
}

/// Waits until `target` of the admin port answers 200.
async fn until_200(sidecar: &Sidecar, target: &str) {
    let began = Instant::now();
    while sidecar.admin(target).await.status != 200 {
        assert!(
            began.elapsed() < support::PATIENCE,
            "{target}: {}",
            sidecar.log()
        );
        sleep(Duration::from_millis(10)).await;
    }
}

async fn call(sidecar: &Sidecar, account: usize) -> Reply {
    sidecar.get(&format!("/{}{GET}", appid(account))).await
}

/// Whether a token of this account was asked for.
fn was_asked_for(requests: &[RecordedTokenRequest], account: usize) -> bool {
    let appid = appid(account);
    let is_its = |request: &RecordedTokenRequest| request.appid.as_ref() == Some(&appid);
    requests.iter().any(is_its)
}

/// Waits until the tokens of so many accounts, from the first one on, were asked for.
async fn asked_for(wechat: &Wechat, accounts: usize) {
    let all = |wechat: &Wechat| {
        let requests = wechat.token_requests();
        (0..accounts).all(|account| was_asked_for(&requests, account))
    };
    let waited = timeout(support::PATIENCE, wechat.wait_until(all)).await;
    assert!(waited.is_ok(), "not all were asked for");
}

#[tokio::test]
async fn the_last_account_is_called_at_once_while_others_wait_for_their_turns() {
    let wechat = wechat().await;
    let sidecar = start(&wechat, MANY, None).await;
    // The first ones are asked for at once.
    wechat.wait_for_token_requests(32).await;
    assert_eq!(call(&sidecar, MANY - 1).await.status, 200);
    let requests = wechat.token_requests();
    assert!((0..32).all(|account| was_asked_for(&requests, account)));
    assert!(was_asked_for(&requests, MANY - 1));
    assert!(requests.len() < MANY / 2, "{}", requests.len());
    // All others follow, each once, four in 300 ms at most.
    let (began, before) = (Instant::now(), requests.len());
    wechat.wait_for_token_requests(before + 40).await;
    let took = began.elapsed();
    assert!(took > Duration::from_millis(2400), "40 more in {took:?}");
    // Only the last one may have a second line; none has one of its own.
    let log = sidecar.log();
    assert!(!log.contains(&appid(0)), "{log}");
    assert!(log.contains(&format!("accounts=\"{MANY}\"")), "{log}");
    assert!(log.lines().count() <= 6, "{log}");
    let mut asked: Vec<_> = wechat
        .token_requests()
        .into_iter()
        .map(|one| one.appid)
        .collect();
    let number = asked.len();
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), number, "an account was asked for twice");
}

#[tokio::test]
async fn a_call_comes_before_all_accounts_that_nobody_calls_also_if_many_are_called() {
    let wechat = wechat().await;
    let sidecar = start(&wechat, MANY, None).await;
    until_200(&sidecar, "/startupz").await;
    let began = Instant::now();
    let last = (MANY - 100..MANY).map(|account| call(&sidecar, account));
    let replies = futures_util::future::join_all(last).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    // One after another would be half a minute.
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn it_has_started_with_the_default_account_and_a_probe_can_want_another() {
    let wechat = wechat().await;
    let default = MANY - 2;
    wechat.change(|behaviour| {
        // Those before it never answer.
        behaviour.token_stall_of = (0..32).map(appid).collect();
    });
    let sidecar = start(&wechat, MANY, Some(default)).await;
    until_200(&sidecar, "/startupz").await;
    until_200(&sidecar, "/readyz").await;
    // None of the first ones waits for the others.
    asked_for(&wechat, 32).await;
    assert_eq!(
        sidecar
            .admin(&format!("/readyz?account={}", appid(0)))
            .await
            .status,
        503
    );
    let last = format!("/readyz?account={}", appid(MANY - 1));
    let reply = sidecar.admin(&last).await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    until_200(&sidecar, &last).await;
    let requests = wechat.token_requests().len();
    assert!(requests < MANY / 2, "{requests}");
    let unknown = sidecar.admin("/readyz?account=nobody").await;
    assert_eq!(unknown.status, 404);
    let mut probe = sidecar::command();
    let admin = sidecar.admin.strip_prefix("http://").unwrap();
    let ended = probe
        .args(["wait", "--admin", admin, "--timeout", "5s"])
        .output()
        .await;
    assert!(ended.unwrap().status.success());
}

#[tokio::test]
async fn without_a_default_account_the_first_ones_decide() {
    let wechat = wechat().await;
    wechat.change(|behaviour| behaviour.token_stall_of = vec![appid(31)]);
    let sidecar = start(&wechat, MANY, None).await;
    until_200(&sidecar, "/readyz").await;
    until_200(&sidecar, &format!("/readyz?account={}", appid(32))).await;
    assert_eq!(sidecar.admin("/startupz").await.status, 503);
}

#[tokio::test]
async fn a_few_accounts_are_all_asked_for_at_once_and_each_has_its_line() {
    let wechat = wechat().await;
    wechat.change(|behaviour| behaviour.token_stall_of = (0..28).map(appid).collect());
    let mut sidecar = start(&wechat, 32, Some(31)).await;
    asked_for(&wechat, 32).await;
    assert_eq!(sidecar.admin("/startupz").await.status, 503);
    for account in 28..32 {
        sidecar
            .line(&format!("account=\"{}\"", appid(account)))
            .await;
    }
}

#[tokio::test]
async fn many_accounts_that_have_no_token_are_a_few_lines_and_each_is_told_of_elsewhere() {
    let wechat = wechat().await;
    wechat.change(|behaviour| {
        behaviour.token_delay = Duration::ZERO;
        behaviour.token_errcode = Some(40125);
    });
    let mut sidecar = start(&wechat, MANY, None).await;
    wechat.wait_for_token_requests(MANY).await;
    let sum = sidecar.line("the same for").await;
    assert!(
        sum.contains("kind=\"token_request_failed\"") && sum.contains("more accounts"),
        "{sum}"
    );
    let lines = sidecar.log().lines().count();
    assert!(lines <= 15, "{}", sidecar.log());
    let failing = async || {
        let page = sidecar.admin("/accounts?per=1000").await.json();
        let problems = page["problems"].as_array().unwrap().len();
        let accounts = page["accounts"].as_array().unwrap();
        let failed = accounts.iter().filter(|one| one["last_error"].is_string());
        (problems, failed.count())
    };
    while failing().await != (MANY, MANY) {
        sleep(Duration::from_millis(20)).await;
    }
    let problem = |at| {
        format!(
            "wechat_sidecar_problem{{account=\"{}\",kind=\"token_request_failed\"}}",
            appid(at)
        )
    };
    assert_eq!(sidecar.metric(&problem(7)).await, 1.0);
}
