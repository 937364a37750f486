//! Tickets come from a cache that is kept like tokens, with lifetimes of the sidecar's own.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use support::{
    PATIENCE, Redis, Reply, Sidecar, Wechat,
    sidecar::{command, written},
    wechat::{CORPID, HangUp, SECRET, Setup},
};
use tokio::time::{Instant, sleep};

const JSAPI: &str = "/cgi-bin/ticket/getticket?type=jsapi";

/// How many requests for a ticket reached WeChat.
fn asked(wechat: &Wechat) -> usize {
    let calls = wechat.calls().into_iter();
    let tickets = calls.filter(|call| call.path() == "/cgi-bin/ticket/getticket");
    tickets.filter(|call| !call.refused).count()
}

/// The ticket in a reply of the sidecar's own, and the lifetime in it.
fn ticket(reply: &Reply) -> (String, u64) {
    let json = reply.json();
    assert_eq!((reply.status, reply.errcode()), (200, Some(0)), "{json}");
    assert_eq!(
        (json["errmsg"].as_str(), reply.marks()),
        (Some("ok"), vec!["local"])
    );
    let ticket = json["ticket"].as_str().unwrap().to_owned();
    (ticket, json["expires_in"].as_u64().unwrap())
}

/// WeChat answers requests for tickets with this, whatever their token.
fn answer_with(wechat: &Wechat, body: Option<&str>) {
    wechat.change(|behaviour| {
        behaviour.body_at.clear();
        if let Some(body) = body {
            let reply = ("application/json".to_owned(), Bytes::from(body.to_owned()));
            let path = "/cgi-bin/ticket/getticket".to_owned();
            behaviour.body_at.insert(path, reply);
        }
    });
}

#[tokio::test]
async fn a_hundred_calls_for_a_ticket_are_one_request_and_it_is_told_to_live_for_half_an_hour() {
    let wechat = Wechat::start().await;
    wechat.change(|behaviour| behaviour.reply_delay = Duration::from_millis(200));
    let sidecar = Sidecar::start(&wechat).await;
    // Other parameters of the query do not matter.
    let targets = [
        JSAPI.to_owned(),
        format!("{JSAPI}&access_token=mine"),
        "//cgi-bin/ticket/getticket?x=1&ty%70e=js%61pi&access_token=sidecar-wx0123456789abcdef"
            .to_owned(),
    ];
    let calls = (0..100).map(|n| sidecar.get(&targets[n % targets.len()]));
    let tickets: Vec<_> = join_all(calls).await.iter().map(ticket).collect();
    assert!(tickets.iter().all(|(ticket, _)| *ticket == tickets[0].0));
    assert_eq!(wechat.all_tickets(), [tickets[0].0.clone()]);
    assert_eq!(asked(&wechat), 1);

    // WeChat says 7200 each time, and nobody knows how old its first ticket is.
    assert!(tickets.iter().all(|(_, expires_in)| *expires_in == 1800));
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(ticket(&sidecar.get(JSAPI).await).1, 1800);
    assert_eq!(asked(&wechat), 1);

    let counted = async |outcome: &str| {
        let sample = "wechat_sidecar_tickets_total{account=\"wx0123456789abcdef\",type=\"jsapi\"";
        sidecar
            .metric(&format!("{sample},outcome=\"{outcome}\""))
            .await
    };
    let (waited, held) = (counted("waited").await, counted("held").await);
    assert_eq!(waited + held, 101.0);
    assert!(waited >= 1.0 && held >= 1.0, "{waited} {held}");
    assert_eq!(counted("failed").await, 0.0);
    let fetches = sidecar.metric("wechat_sidecar_ticket_fetches_total").await;
    assert_eq!(fetches, 1.0);
    let shown = &sidecar.admin("/accounts").await.json()["accounts"][0]["tickets"];
    assert_eq!(shown["jsapi"]["expires_seconds"], 1800, "{shown}");
    assert!(shown["2"].is_null(), "{shown}");
    let local = "wechat_sidecar_calls_total{account=\"wx0123456789abcdef\",endpoint=\"/cgi-bin/ticket/getticket\",outcome=\"local\"}";
    assert_eq!(sidecar.metric(local).await, 101.0);
}

#[tokio::test]
async fn each_type_has_a_ticket_of_its_own_and_what_is_no_type_is_wechats_to_judge() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let get = async |kind: &str| {
        let target = format!("/cgi-bin/ticket/getticket?type={kind}");
        ticket(&sidecar.get(&target).await).0
    };
    for _ in 0..3 {
        for kind in ["jsapi", "wx_card", "2"] {
            get(kind).await;
        }
    }
    assert_eq!((asked(&wechat), wechat.all_tickets().len()), (3, 3));
    assert_ne!(get("jsapi").await, get("wx_card").await);

    for odd in ["type=strange", "x=1", "type=jsapi&type=2", "type=JSAPI"] {
        wechat.clear();
        for _ in 0..2 {
            let reply = sidecar
                .get(&format!("/cgi-bin/ticket/getticket?{odd}"))
                .await;
            assert!(reply.marks().is_empty(), "{odd}");
        }
        assert_eq!(asked(&wechat), 2, "{odd}");
    }
    wechat.clear();
    let posted = sidecar.post(JSAPI, "").await;
    assert_eq!((posted.errcode(), asked(&wechat)), (Some(0), 1));
}

#[tokio::test]
async fn a_ticket_is_renewed_early_as_long_as_it_is_asked_for_and_nobody_waits() {
    let wechat = Wechat::calm().await;
    wechat.change(|behaviour| {
        behaviour.tickets.life = Duration::from_secs(8);
        behaviour.tickets.said = 8;
    });
    let sidecar = Sidecar::start(&wechat).await;
    let mut seen = vec![ticket(&sidecar.get(JSAPI).await).0];
    wechat.change(|behaviour| behaviour.reply_delay = Duration::from_millis(300));
    let started = Instant::now();
    while seen.len() < 2 {
        assert!(
            started.elapsed() < PATIENCE,
            "{}",
            wechat.all_tickets().len()
        );
        let (now, left) = ticket(&sidecar.get(JSAPI).await);
        // A quarter while its age is unknown. The second was created a moment ago.
        let is_first = seen.contains(&now);
        let expected = if is_first { 1..=2 } else { 6..=7 };
        assert!(expected.contains(&left), "{left} {is_first}");
        if !is_first {
            seen.push(now);
        }
        sleep(Duration::from_millis(50)).await;
    }
    let requests = asked(&wechat);
    assert!((2..=20).contains(&requests), "{requests}");
    let waited = "wechat_sidecar_tickets_total{account=\"wx0123456789abcdef\",type=\"jsapi\",outcome=\"waited\"}";
    assert_eq!(sidecar.metric(waited).await, 1.0, "only the first one");

    // When no app asks for the ticket any more, it is not renewed.
    sleep(Duration::from_secs(1)).await;
    let requests = asked(&wechat);
    sleep(Duration::from_secs(8)).await;
    assert_eq!(asked(&wechat), requests);
    let (after, _) = ticket(&sidecar.get(JSAPI).await);
    assert!(!seen.contains(&after));
}

/// Asks for a ticket until another one comes, whose age is known, and then until a moment before its renewal.
async fn soon_renewed(wechat: &Wechat, sidecar: &Sidecar) -> String {
    wechat.change(|behaviour| {
        behaviour.tickets.life = Duration::from_secs(4);
        behaviour.tickets.said = 4;
    });
    let (first, _) = ticket(&sidecar.get(JSAPI).await);
    let started = Instant::now();
    loop {
        let (now, left) = ticket(&sidecar.get(JSAPI).await);
        if now != first && left <= 1 {
            return now;
        }
        assert!(started.elapsed() < PATIENCE);
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_call_waits_for_the_renewal_of_a_ticket_that_expires_soon_but_not_for_long() {
    for (delay, waits) in [(700, true), (4000, false)] {
        let wechat = Wechat::calm().await;
        let sidecar = Sidecar::start(&wechat).await;
        let before = soon_renewed(&wechat, &sidecar).await;
        wechat.change(|behaviour| {
            behaviour.tickets.life = Duration::ZERO;
            behaviour.reply_delay = Duration::from_millis(delay);
        });
        let started = Instant::now();
        let (after, took) = loop {
            let asked = Instant::now();
            let (after, _) = ticket(&sidecar.get(JSAPI).await);
            if asked.elapsed() > Duration::from_millis(300) {
                break (after, asked.elapsed());
            }
            assert_eq!(after, before, "a call that did not wait");
            assert!(started.elapsed() < PATIENCE);
            sleep(Duration::from_millis(10)).await;
        };
        assert_eq!(after != before, waits);
        assert!(took < Duration::from_millis(2500), "{took:?}");
    }
}

#[tokio::test]
async fn a_ticket_in_hand_is_served_while_renewals_fail_and_then_wechats_error_is() {
    let wechat = Wechat::calm().await;
    wechat.change(|behaviour| behaviour.tickets.said = 4);
    let sidecar = Sidecar::start(&wechat).await;
    let (first, _) = ticket(&sidecar.get(JSAPI).await);
    answer_with(
        &wechat,
        Some(r#"{"errcode":-1,"errmsg":"system error rid: 1"}"#),
    );
    let started = Instant::now();
    let mut served = Duration::ZERO;
    loop {
        let reply = sidecar.get(JSAPI).await;
        assert!(started.elapsed() < PATIENCE);
        if reply.errcode() == Some(-1) {
            assert_eq!((reply.status, reply.marks()), (200, vec!["local"]));
            assert_eq!(reply.json()["errmsg"], "system error rid: 1");
            break;
        }
        assert_eq!(ticket(&reply).0, first);
        served = started.elapsed();
        sleep(Duration::from_millis(50)).await;
    }
    assert!(served > Duration::from_secs(3), "{served:?}");
    assert!(asked(&wechat) < 8, "{}", asked(&wechat));

    answer_with(&wechat, None);
    let started = Instant::now();
    while sidecar.get(JSAPI).await.errcode() != Some(0) {
        assert!(started.elapsed() < PATIENCE);
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_error_of_wechats_is_passed_on_as_it_is_and_remembered_for_a_moment() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    answer_with(
        &wechat,
        Some(r#"{"errcode":48001,"errmsg":"api unauthorized rid: 655d"}"#),
    );
    for _ in 0..20 {
        let reply = sidecar.get(JSAPI).await;
        assert_eq!((reply.status, reply.errcode()), (200, Some(48001)));
        assert_eq!(reply.json()["errmsg"], "api unauthorized rid: 655d");
    }
    assert_eq!(asked(&wechat), 1);
    let errors = "wechat_sidecar_errcodes_total{account=\"wx0123456789abcdef\",endpoint=\"own_request\",errcode=\"48001\"}";
    assert_eq!(sidecar.metric(errors).await, 1.0);
    let fetches = "wechat_sidecar_ticket_fetches_total{account=\"wx0123456789abcdef\",cause=\"missing\",outcome=\"errcode\"}";
    assert_eq!(sidecar.metric(fetches).await, 1.0);
    assert_eq!(sidecar.admin("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_refusal_of_the_token_is_healed_and_a_new_token_ends_no_ticket() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.expire();
    let (first, _) = ticket(&sidecar.get(JSAPI).await);
    assert_eq!(sidecar.metric("wechat_sidecar_refusals_total").await, 1.0);
    let replays =
        "wechat_sidecar_replays_total{account=\"wx0123456789abcdef\",outcome=\"accepted\"}";
    assert_eq!(sidecar.metric(replays).await, 1.0);
    assert_eq!(wechat.all_tokens().len(), 2);
    wechat.rotate();
    assert_eq!(ticket(&sidecar.get(JSAPI).await).0, first);
    assert_eq!(wechat.all_tokens().len(), 2);

    // If no token helps, all calls get WeChat's own reply, which is fetched once.
    wechat.change(|behaviour| {
        behaviour.refuse_always = vec!["/cgi-bin/ticket/getticket".to_owned()];
    });
    for _ in 0..5 {
        let reply = sidecar.get("/cgi-bin/ticket/getticket?type=2").await;
        assert_eq!((reply.status, reply.errcode()), (200, Some(40001)));
    }
    assert!(
        wechat.all_tokens().len() <= 4,
        "{}",
        wechat.all_tokens().len()
    );
}

#[tokio::test]
async fn without_a_token_or_without_wechat_there_is_no_ticket_and_both_come_back() {
    let wechat = Wechat::calm().await;
    wechat.change(|behaviour| behaviour.token_errcode = Some(-1));
    let sidecar = Sidecar::unready(&wechat, &[], &[]).await;
    let reply = sidecar.get(JSAPI).await;
    assert_eq!((reply.status, reply.errcode()), (503, Some(990503)));
    assert!(reply.text().contains("no access_token"), "{}", reply.text());
    assert_eq!(reply.header("x-wechat-sidecar-errcode"), Some("-1"));
    assert!(reply.header("retry-after").is_some());
    wechat.change(|behaviour| behaviour.token_errcode = None);
    sidecar.until_ready().await;
    // The ticket is fetched at once, because the failure was not the ticket's.
    ticket(&sidecar.get(JSAPI).await);

    wechat.change(|behaviour| behaviour.hang_up = HangUp::AfterRequest);
    let reply = sidecar.get("/cgi-bin/ticket/getticket?type=2").await;
    assert_eq!((reply.status, reply.errcode()), (503, Some(990503)));
    assert!(reply.text().contains("no ticket"), "{}", reply.text());
    assert_eq!(reply.marks(), ["error"]);
    wechat.change(|behaviour| behaviour.hang_up = HangUp::Never);
    let started = Instant::now();
    while sidecar.get("/cgi-bin/ticket/getticket?type=2").await.status != 200 {
        assert!(started.elapsed() < PATIENCE);
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_flag_turns_the_cache_off() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--no-ticket-cache"]).await;
    for _ in 0..3 {
        let reply = sidecar.get(JSAPI).await;
        assert_eq!(reply.json()["expires_in"], 7200);
        assert!(reply.marks().is_empty());
    }
    assert_eq!(asked(&wechat), 3);
}

/// A sidecar with two apps of one corp, and a third app of the same corpid at another WeCom.
async fn of_a_corp(wecom: &Wechat, elsewhere: &Wechat) -> Sidecar {
    let account = |name: &str, at: &Wechat| {
        format!(
            "[[accounts]]\nkind = 'wecom'\ncorpid = '{CORPID}'\nname = '{name}'\n\
             secret = '{SECRET}-{name}'\nupstream = '{}'\n",
            at.url()
        )
    };
    let file = [
        account("one", wecom),
        account("two", wecom),
        account("three", elsewhere),
    ];
    let mut command = command();
    let config = written("corp.toml", &file.concat());
    command.args(["--log-level", "trace", "--config", &config]);
    Sidecar::spawn(command, Some(wecom.clone())).await
}

#[tokio::test]
async fn a_corps_ticket_is_the_corps_and_an_agents_is_its_own() {
    let secrets = ["one", "two", "three"].map(|name| format!("{SECRET}-{name}"));
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    let start = async || {
        let setup = Setup::wecom(&secrets);
        let refusal_chance = 0.0;
        Wechat::with(Setup {
            refusal_chance,
            ..setup
        })
        .await
    };
    let (wecom, elsewhere) = (start().await, start().await);
    let sidecar = of_a_corp(&wecom, &elsewhere).await;
    let get = async |name: &str, target: &str| {
        let target = format!("/{name}/cgi-bin/{target}");
        ticket(&sidecar.get(&target).await).0
    };
    let asked = |at: &Wechat, path: &str| {
        let calls = at.calls().into_iter();
        calls.filter(|call| call.path() == path).count()
    };

    let corps = get("one", "get_jsapi_ticket").await;
    for name in ["one", "two"] {
        // Some SDKs send a parameter with an empty name.
        assert_eq!(get(name, "get_jsapi_ticket?&x=1").await, corps);
    }
    assert_ne!(get("three", "get_jsapi_ticket").await, corps);
    assert_eq!(asked(&wecom, "/cgi-bin/get_jsapi_ticket"), 1);
    assert_eq!(asked(&elsewhere, "/cgi-bin/get_jsapi_ticket"), 1);

    let one = get("one", "ticket/get?&type=agent_config").await;
    assert_ne!(get("two", "ticket/get?type=agent_config").await, one);
    for _ in 0..3 {
        assert_eq!(get("one", "ticket/get?type=agent_config").await, one);
    }
    assert_eq!(asked(&wecom, "/cgi-bin/ticket/get"), 2);

    // Calls with another type or a token of another corp are sent to WeCom each time.
    for target in [
        "ticket/get?type=wx_card",
        "get_jsapi_ticket?access_token=other",
    ] {
        let before = wecom.calls().len();
        for _ in 0..2 {
            let reply = sidecar.get(&format!("/one/cgi-bin/{target}")).await;
            assert!(reply.marks().is_empty(), "{target}");
        }
        assert_eq!(wecom.calls().len(), before + 2, "{target}");
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn replicas_share_tickets_by_a_store_and_do_without_it() {
    let (wechat, redis) = (Wechat::calm().await, Redis::start());
    let url = redis.url();
    let flags = ["--store", &url];
    let start = || Sidecar::with(&wechat, &flags);
    let (one, two) = tokio::join!(start(), start());
    let calls = (0..20).map(|n| [&one, &two][n % 2].get(JSAPI));
    let tickets: Vec<_> = join_all(calls).await.iter().map(ticket).collect();
    assert!(tickets.iter().all(|(ticket, _)| *ticket == tickets[0].0));
    assert_eq!(asked(&wechat), 1);
    // Each type has its own ticket.
    assert_ne!(
        ticket(&two.get("/cgi-bin/ticket/getticket?type=2").await).0,
        tickets[0].0
    );
    assert_eq!(asked(&wechat), 2);
    let taken = two.metric("wechat_sidecar_ticket_fetches_total{account=\"wx0123456789abcdef\",cause=\"missing\",outcome=\"shared\"}").await
        + one.metric("wechat_sidecar_ticket_fetches_total{account=\"wx0123456789abcdef\",cause=\"missing\",outcome=\"shared\"}").await;
    assert_eq!(taken, 1.0);

    let three = start().await;
    let (later, left) = ticket(&three.get(JSAPI).await);
    assert_eq!((later, asked(&wechat)), (tickets[0].0.clone(), 2));
    assert_eq!(left, 1800);

    redis.kill();
    assert_eq!(ticket(&three.get(JSAPI).await).0, tickets[0].0);
    let (card, _) = ticket(&three.get("/cgi-bin/ticket/getticket?type=wx_card").await);
    assert_ne!(card, tickets[0].0);
}
