//! The fake's tokens: what the two token APIs return, for how long tokens live, and what ends them.

use tokio::time::advance;

use super::{
    Reply, call, classic, get, raw, request, seconds, stable, token,
    wechat::{APPID, SECRET, Setup, TokenQuotas, Wechat},
};

#[tokio::test(start_paused = true)]
async fn a_classic_token_is_new_each_time_and_the_one_before_works_for_five_minutes() {
    let wechat = Wechat::calm().await;
    let first = classic(&wechat).await;
    assert_eq!(first.json()["expires_in"], 7200);
    let second = token(&classic(&wechat).await);
    let first = token(&first);
    assert_ne!(first, second);
    advance(seconds(299)).await;
    assert_eq!(call(&wechat, &first).await, 0);
    advance(seconds(2)).await;
    assert_eq!(call(&wechat, &first).await, 40001);
    assert_eq!(call(&wechat, &second).await, 0);
    advance(seconds(6900)).await;
    assert_eq!(call(&wechat, &second).await, 42001);
}

#[tokio::test(start_paused = true)]
async fn a_stable_token_stays_until_its_last_five_minutes_and_then_both_work() {
    let wechat = Wechat::calm().await;
    let first = token(&stable(&wechat, false).await);
    advance(seconds(6900)).await;
    let again = stable(&wechat, false).await;
    assert_eq!(
        (token(&again), 300),
        (first.clone(), again.json()["expires_in"].as_i64().unwrap())
    );
    advance(seconds(1)).await;
    let renewed = stable(&wechat, false).await;
    assert_ne!(token(&renewed), first);
    assert_eq!(renewed.json()["expires_in"], 7200);
    advance(seconds(299)).await;
    assert_eq!(call(&wechat, &first).await, 0);
    advance(seconds(2)).await;
    assert_eq!(call(&wechat, &first).await, 42001);
    assert_eq!(call(&wechat, &token(&renewed)).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_forced_refresh_needs_thirty_seconds_and_two_kill_the_first_token() {
    let wechat = Wechat::calm().await;
    let leaked = token(&stable(&wechat, false).await);
    let second = token(&stable(&wechat, true).await);
    assert_ne!(leaked, second);
    assert_eq!(call(&wechat, &leaked).await, 0);
    advance(seconds(29)).await;
    assert_eq!(token(&stable(&wechat, true).await), second);
    advance(seconds(1)).await;
    assert_ne!(token(&stable(&wechat, true).await), second);
    assert_eq!(call(&wechat, &leaked).await, 40001);
    assert_eq!(call(&wechat, &second).await, 0);
    for _ in 2..20 {
        advance(seconds(30)).await;
        assert_eq!(stable(&wechat, true).await.errcode(), 0);
    }
    advance(seconds(30)).await;
    assert_eq!(stable(&wechat, true).await.errcode(), 45009);
}

#[tokio::test(start_paused = true)]
async fn the_two_token_apis_do_not_kick_each_other() {
    let wechat = Wechat::calm().await;
    let kept = token(&stable(&wechat, false).await);
    let classic_token = token(&classic(&wechat).await);
    advance(seconds(60)).await;
    stable(&wechat, true).await;
    advance(seconds(60)).await;
    stable(&wechat, true).await;
    advance(seconds(400)).await;
    assert_eq!(call(&wechat, &classic_token).await, 0);

    let current = token(&stable(&wechat, false).await);
    assert_ne!(kept, current);
    classic(&wechat).await;
    advance(seconds(400)).await;
    assert_eq!(call(&wechat, &current).await, 0);
}

#[tokio::test(start_paused = true)]
async fn quotas_end_and_come_back() {
    let wechat = Wechat::with(Setup {
        refusal_chance: 0.0,
        quotas: TokenQuotas {
            classic_a_day: 2,
            stable_a_minute: 3,
            stable_a_day: 5,
            ..TokenQuotas::default()
        },
        ..Setup::default()
    })
    .await;
    for expected in [0, 0, 45009] {
        assert_eq!(classic(&wechat).await.errcode(), expected);
    }
    for expected in [0, 0, 0, 45011] {
        assert_eq!(stable(&wechat, false).await.errcode(), expected);
    }
    advance(seconds(60)).await;
    for expected in [0, 0, 45009] {
        assert_eq!(stable(&wechat, false).await.errcode(), expected);
    }
    advance(seconds(24 * 60 * 60)).await;
    assert_eq!(stable(&wechat, false).await.errcode(), 0);
    assert_eq!(classic(&wechat).await.errcode(), 0);
    let quotas = TokenQuotas::default();
    assert_eq!(
        (quotas.classic_a_day, quotas.stable_a_minute),
        (2_000, 10_000)
    );
    assert_eq!((quotas.stable_a_day, quotas.forced_a_day), (500_000, 20));
}

#[tokio::test]
async fn a_wrong_token_request_gets_the_code_that_says_why() {
    let wechat = Wechat::calm().await;
    let start = "/cgi-bin/token?grant_type=client_credential";
    let wrong = [
        ("/cgi-bin/token?appid=a&secret=b".to_owned(), 40002),
        (start.to_owned(), 41002),
        (format!("{start}&appid={APPID}"), 41004),
        (format!("{start}&appid=wx1&secret={SECRET}"), 40013),
        (format!("{start}&appid={APPID}&secret=wrong"), 40125),
        ("/cgi-bin/stable_token".to_owned(), 43002),
    ];
    for (target, errcode) in &wrong {
        let reply = get(&wechat, target).await;
        assert_eq!((reply.status, reply.errcode()), (200, *errcode), "{target}");
    }
    let not_json = request("POST", "/cgi-bin/stable_token", "", b"appid");
    assert_eq!(
        Reply::parse(&raw(&wechat, &not_json).await).errcode(),
        47001
    );

    let requests = wechat.token_requests();
    assert_eq!(requests.len(), wrong.len() + 1);
    assert_eq!(requests[4].errcode, Some(40125));
    assert!(!requests[4].secret_ok);
    assert!(wechat.all_tokens().is_empty());
}

#[tokio::test]
async fn the_token_endpoints_fail_as_told() {
    let wechat = Wechat::calm().await;
    wechat.change(|knobs| knobs.token_errcode = Some(40164));
    let reply = stable(&wechat, false).await;
    let message = reply.json()["errmsg"].as_str().unwrap().to_owned();
    assert!(
        message.starts_with("invalid ip 114.221.21.30 ipv6"),
        "{message}"
    );
    wechat.change(|knobs| knobs.token_status = Some(502));
    assert_eq!(classic(&wechat).await.status, 502);
    wechat.change(|knobs| knobs.token_hangup = true);
    assert!(
        raw(&wechat, &request("GET", "/cgi-bin/token", "", b""))
            .await
            .is_empty()
    );
    assert_eq!(wechat.token_requests().len(), 3);
}

#[tokio::test]
async fn rotating_refuses_every_token_and_expiring_says_so() {
    let wechat = Wechat::calm().await;
    let first = token(&stable(&wechat, false).await);
    let by_classic = token(&classic(&wechat).await);
    assert_eq!(wechat.token(), first);
    wechat.rotate();
    assert_eq!(call(&wechat, &first).await, 40001);
    assert_eq!(call(&wechat, &by_classic).await, 40001);
    let second = token(&stable(&wechat, false).await);
    assert_ne!(first, second);
    wechat.expire();
    assert_eq!(call(&wechat, &second).await, 42001);
    let third = token(&stable(&wechat, false).await);
    assert_eq!(call(&wechat, &third).await, 0);
    assert_eq!(wechat.all_tokens(), [first, by_classic, second, third]);
}
