//! What happens when WeChat refuses a token and no other can be had, and when a call itself is to blame.

mod support;

use std::time::Duration;

use futures_util::future::join_all;
use support::{APPID, SECRET, Sidecar, Wechat, sidecar::written};
use tokio::time::{Instant, sleep, timeout};

const SEND: &str = "/cgi-bin/message/custom/send";
const REMARK: &str = "/cgi-bin/user/info/updateremark";
const MENU: &str = "/cgi-bin/menu/create";
const FORM: &str = "application/x-www-form-urlencoded";
const OTHER_SECRET: &str = "ffffffffffffffffffffffffffffffff";

/// Calls two endpoints until the probe changes, as apps do all day.
async fn call_until(sidecar: &Sidecar, ready: bool) -> String {
    let changed = timeout(Duration::from_secs(60), async {
        loop {
            for path in [SEND, REMARK] {
                sidecar.post(path, "{}").await;
            }
            let probe = sidecar.admin("/readyz").await;
            if (probe.status == 200) == ready {
                return probe.text();
            }
            sleep(Duration::from_millis(50)).await;
        }
    });
    changed.await.expect("the probe does not change")
}

/// Waits until the sidecar is ready, without any call.
async fn recovers(sidecar: &Sidecar) {
    let ready = timeout(Duration::from_secs(30), async {
        while sidecar.admin("/readyz").await.status != 200 {
            sleep(Duration::from_millis(50)).await;
        }
    });
    ready.await.expect("it does not recover by itself");
    assert_eq!(sidecar.post(SEND, "{}").await.errcode(), Some(0));
}

async fn works(sidecar: &Sidecar) {
    for path in [SEND, REMARK] {
        assert_eq!(sidecar.post(path, "{}").await.errcode(), Some(0));
    }
    assert_eq!(sidecar.admin("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_secret_that_was_reset_makes_the_account_unready_until_the_file_has_the_new_one() {
    let wechat = Wechat::calm().await;
    let file = written("secret", SECRET);
    let environment = [("WECHAT_SECRET_FILE", &*file)];
    let sidecar = Sidecar::unready(&wechat, &[], &environment).await;
    sidecar.until_ready().await;
    works(&sidecar).await;

    wechat.set_secret(APPID, OTHER_SECRET);
    wechat.rotate();
    let reason = call_until(&sidecar, false).await;
    assert!(
        reason.contains("refuses") && reason.contains("AppSecret"),
        "{reason}"
    );
    let accounts = sidecar.admin("/accounts").await.json();
    let account = &accounts["accounts"][0];
    let told = account["token_refused"].as_str().unwrap();
    assert!(reason.contains(told), "{told}");
    assert_eq!(sidecar.metric("wechat_sidecar_ready").await, 0.0);

    std::fs::write(&file, OTHER_SECRET).unwrap();
    recovers(&sidecar).await;
}

#[tokio::test]
async fn a_token_that_cannot_be_replaced_for_a_while_makes_unready_and_recovers_without_a_call() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    works(&sidecar).await;
    wechat.change(|behaviour| behaviour.token_errcode = Some(-1));
    wechat.rotate();
    let reason = call_until(&sidecar, false).await;
    assert!(reason.contains("-1"), "{reason}");
    wechat.change(|behaviour| behaviour.token_errcode = None);
    recovers(&sidecar).await;
}

#[tokio::test]
async fn an_app_with_one_endpoint_has_its_dead_token_told_too() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    assert_eq!(sidecar.post(SEND, "{}").await.errcode(), Some(0));
    wechat.change(|behaviour| behaviour.token_errcode = Some(40164));
    wechat.rotate();
    for _ in 0..5 {
        assert_eq!(sidecar.post(SEND, "{}").await.errcode(), Some(40001));
    }
    let probe = sidecar.admin("/readyz").await;
    assert_eq!(probe.status, 503);
    assert!(probe.text().contains("whitelist"), "{}", probe.text());
}

#[tokio::test]
async fn above_the_days_fetches_the_probe_says_so_and_no_endpoint_is_blamed() {
    let wechat = Wechat::calm().await;
    let flags = ["--token-api", "classic", "--daily-fetches", "1"];
    let sidecar = Sidecar::with(&wechat, &flags).await;
    works(&sidecar).await;
    wechat.rotate();
    let reason = call_until(&sidecar, false).await;
    assert!(reason.contains("--daily-fetches"), "{reason}");
    assert!(!sidecar.log().contains("an endpoint refuses every call"));
}

#[tokio::test]
async fn a_hopeless_endpoint_makes_nobody_unready() {
    for api in ["stable", "classic"] {
        let wechat = Wechat::calm().await;
        let sidecar = Sidecar::with(&wechat, &["--token-api", api]).await;
        works(&sidecar).await;
        wechat.change(|behaviour| behaviour.refuse_always = vec![MENU.into()]);
        for number in 0..30 {
            let reply = sidecar.post(MENU, format!("{{\"n\":{number}}}")).await;
            assert_eq!(reply.errcode(), Some(40001));
            assert_eq!(sidecar.admin("/readyz").await.status, 200);
        }
        works(&sidecar).await;
    }
}

#[tokio::test]
async fn a_bad_caller_beside_good_ones_costs_no_quota_and_makes_nobody_unready() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--token-api", "classic"]).await;
    works(&sidecar).await;
    let bad: Vec<String> = (0..40).map(|number| format!("/wxa/bad{number}")).collect();
    wechat.change(|behaviour| behaviour.refuse_always.clone_from(&bad));
    let before = wechat.token_requests().len();
    let good = async {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            assert_eq!(sidecar.post(SEND, "{}").await.errcode(), Some(0));
            sleep(Duration::from_millis(10)).await;
        }
    };
    let bad = async {
        for path in &bad {
            assert_eq!(sidecar.post(path, "{}").await.errcode(), Some(40001));
            assert_eq!(sidecar.admin("/readyz").await.status, 200);
        }
    };
    tokio::join!(good, bad);
    let fetches = wechat.token_requests().len() - before;
    // On a busy machine no good call may be accepted for a moment.
    assert!(fetches <= 20, "{fetches}");
}

/// A form with a token of its own, which WeChat takes for the call's.
fn form(sidecar: &Sidecar, number: usize) -> reqwest::RequestBuilder {
    let request = sidecar.client.post(format!("{}{SEND}", sidecar.url));
    let body = format!("touser=o{number}&access_token=mine");
    request.header("content-type", FORM).body(body)
}

#[tokio::test]
async fn one_bad_call_does_not_spoil_the_good_ones_of_its_endpoint() {
    for api in ["stable", "classic"] {
        let wechat = Wechat::calm().await;
        let sidecar = Sidecar::with(&wechat, &["--token-api", api]).await;
        let reply = sidecar.send(form(&sidecar, 0)).await;
        assert_eq!(reply.errcode(), Some(40001));
        wechat.change(|behaviour| behaviour.reply_delay = Duration::from_millis(50));
        let calls = (0..200).map(|n| sidecar.post(SEND, format!("{{\"n\":{n}}}")));
        for reply in join_all(calls).await {
            assert_eq!((reply.errcode(), reply.marks()), (Some(0), vec![]));
        }
    }
}

#[tokio::test]
async fn bad_calls_among_good_ones_do_not_spend_the_days_fetches() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--token-api", "classic"]).await;
    let before = wechat.token_requests().len();
    for number in 0..215 {
        let reply = sidecar.send(form(&sidecar, number)).await;
        assert_eq!(reply.errcode(), Some(40001));
        assert_eq!(sidecar.post(SEND, "{}").await.errcode(), Some(0));
    }
    let fetches = wechat.token_requests().len() - before;
    assert!(fetches <= 2, "{fetches}");
}

#[tokio::test]
async fn a_refused_call_that_was_too_large_to_hold_succeeds_when_the_app_tries_again() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--replay-limit", "64KiB"]).await;
    works(&sidecar).await;
    wechat.change(|behaviour| behaviour.token_delay = Duration::from_millis(700));
    wechat.rotate();
    let large = vec![b'x'; 300_000];
    let began = Instant::now();
    let refused = sidecar.post(REMARK, large.clone()).await;
    assert_eq!(
        (refused.errcode(), refused.marks()),
        (Some(40001), vec!["not-replayable"])
    );
    assert!(
        began.elapsed() >= Duration::from_millis(600),
        "it was told too early"
    );
    assert_eq!(sidecar.post(REMARK, large).await.errcode(), Some(0));
}

#[tokio::test]
async fn a_call_that_cannot_be_held_waits_while_the_token_is_being_replaced() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--replay-limit", "64KiB"]).await;
    works(&sidecar).await;
    wechat.change(|behaviour| behaviour.token_delay = Duration::from_millis(700));
    wechat.rotate();
    let (healed, large) = tokio::join!(sidecar.post(SEND, "{}"), async {
        wechat
            .wait_until(|wechat| {
                !wechat.token_requests().is_empty()
                    || wechat.calls().iter().any(|call| call.refused)
            })
            .await;
        sleep(Duration::from_millis(100)).await;
        sidecar.post(REMARK, vec![b'x'; 300_000]).await
    });
    assert_eq!(healed.errcode(), Some(0));
    assert_eq!(large.errcode(), Some(0));
    let refused = wechat.calls().iter().filter(|call| call.refused).count();
    assert_eq!(refused, 1, "the large one was sent with the dead token");
}
