//! An app's calls are sent with a token, and the app never notices that one expired.

mod support;

use std::time::Duration;

use futures_util::future::join_all;
use support::{APPID, SECRET, Sidecar, Wechat, sidecar::written, wechat::HangUp};

const SEND: &str = "/cgi-bin/user/info/updateremark";
const HELD: &str = "wechat_sidecar_held_bytes";

#[tokio::test]
async fn a_call_arrives_byte_for_byte_with_the_token_put_in() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    let target =
        "/cgi-bin/message/custom/send?b=%2B%e4%bd&access_token=mine&&a=&a=1&access%5Ftoken=x";

    let reply = sidecar.post(target, "{\"touser\":\"o1\"}").await;

    assert_eq!(
        (reply.status, reply.errcode()),
        (200, Some(0)),
        "{}",
        reply.text()
    );
    assert!(reply.marks().is_empty());
    let call = &wechat.calls()[0];
    let token = wechat.token();
    assert_eq!(
        call.target,
        format!("/cgi-bin/message/custom/send?b=%2B%e4%bd&&a=&a=1&access_token={token}")
    );
    assert_eq!(call.method, "POST");
    assert_eq!(&call.body[..], b"{\"touser\":\"o1\"}");
    assert_eq!(call.header("host"), Some(&*wechat.addr().to_string()));
    assert_eq!(call.header("accept-encoding"), Some("identity"));
    assert_eq!(call.header("content-length"), Some("15"));
}

#[tokio::test]
async fn an_expiry_is_healed_for_any_method_with_its_body() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    for (method, body) in [
        ("GET", ""),
        ("POST", "hello"),
        ("PUT", "x"),
        ("DELETE", ""),
        ("PATCH", "y"),
        ("ODD", "z"),
    ] {
        wechat.expire();
        wechat.clear();
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = sidecar
            .client
            .request(method.clone(), format!("{}{SEND}", sidecar.url));
        let reply = sidecar.send(request.body(body)).await;
        assert_eq!((reply.status, reply.errcode()), (200, Some(0)), "{method}");
        assert_eq!(reply.marks(), ["replayed"]);
        let calls = wechat.calls();
        assert_eq!(calls.len(), 2, "{method}");
        assert!(
            calls
                .iter()
                .all(|call| call.body == body && call.method == method.as_str())
        );
        assert_eq!(wechat.token_requests().len(), 1);
    }
}

#[tokio::test]
async fn a_large_upload_is_sent_again_as_it_came() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    for size in [3 << 20, 1_000_003, 300_000, 4 << 20] {
        let body: Vec<u8> = (0..size)
            .map(|at: u32| at.wrapping_mul(0x9e37_79b1).to_be_bytes()[0])
            .collect();
        wechat.expire();
        wechat.clear();
        let reply = sidecar.post(SEND, body.clone()).await;
        assert_eq!(
            (reply.errcode(), reply.marks()),
            (Some(0), vec!["replayed"])
        );
        let calls = wechat.calls();
        assert_eq!(calls.len(), 2, "{size}");
        assert!(calls.iter().all(|call| call.body == body), "{size}");
    }
    sidecar.becomes(HELD, 0.0).await;
}

#[tokio::test]
async fn a_hundred_calls_that_meet_an_expiry_cause_one_token_request() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.rotate();
    wechat.clear();

    let replies = join_all((0..100).map(|n| sidecar.post(SEND, format!("{{\"n\":{n}}}")))).await;

    assert!(replies.iter().all(|reply| reply.errcode() == Some(0)));
    assert_eq!(wechat.token_requests().len(), 1);
    assert!(wechat.calls().len() <= 200);
}

#[tokio::test]
async fn a_refusal_is_known_in_every_shape() {
    use support::wechat::Place;
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    for code in [40001, 40014, 42001] {
        for place in [Place::First, Place::Last, Place::BaseResp] {
            for (as_string, broken, prefix) in [
                (false, false, ""),
                (true, false, "\u{feff} \n"),
                (false, true, ""),
            ] {
                wechat.change(|behaviour| {
                    behaviour.split_writes = broken;
                    behaviour.refusal.code = Some(code);
                    behaviour.refusal.place = place;
                    behaviour.refusal.as_string = as_string;
                    behaviour.refusal.broken = broken;
                    behaviour.refusal.prefix = prefix.into();
                    behaviour.refusal.content_type = Some("text/plain".into());
                });
                // Each round has another token, so that the pace of fetches does not matter.
                wechat.rotate();
                let reply = sidecar.post(SEND, "x").await;
                assert_eq!(
                    reply.errcode(),
                    Some(0),
                    "{code} {place:?}: {}",
                    reply.text()
                );
                assert_eq!(reply.marks(), ["replayed"]);
            }
        }
    }
}

#[tokio::test]
async fn other_errors_reach_the_app_once_and_unchanged() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.clear();
    for body in [
        r#"{"errcode":-1,"errmsg":"system error"}"#,
        r#"{"errcode":45009,"errmsg":"reach max api daily quota limit"}"#,
        r#"{"errcode":41001,"errmsg":"access_token missing"}"#,
        r#"{"errcode":48001,"errmsg":"api unauthorized"}"#,
        r#"{"list":[{"errcode":40001}],"x":"\"errcode\":40001"}"#,
        "{\"nickname\":\"\u{1}\u{2}\",\"errcode\":40003",
        "<html>502</html>",
        "",
    ] {
        wechat.clear();
        wechat.change(|behaviour| behaviour.body = Some(("text/plain".into(), body.into())));
        let reply = sidecar.post(SEND, "x").await;
        assert_eq!(reply.text(), body);
        assert_eq!(reply.header("content-type"), Some("text/plain"));
        assert!(reply.marks().is_empty());
        assert_eq!(
            (wechat.calls().len(), wechat.token_requests().len()),
            (1, 0),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_refusal_in_a_large_reply_is_data() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    for (padding, replayed) in [(3000, true), (5000, false)] {
        let body = format!("{{\"pad\":\"{}\",\"errcode\":40001}}", "x".repeat(padding));
        wechat.change(|behaviour| {
            behaviour.body = Some(("application/json".into(), body.clone().into()))
        });
        wechat.clear();
        assert_eq!(sidecar.get("/x").await.text(), body);
        assert_eq!(wechat.calls().len(), if replayed { 2 } else { 1 });
    }
}

#[tokio::test]
async fn a_path_that_refuses_every_token_costs_one_fetch_and_a_loop_costs_nothing() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.change(|behaviour| behaviour.refuse_always = vec!["/wxa/forbidden".into()]);
    wechat.clear();

    let first = sidecar.post("/wxa/forbidden", "x").await;
    assert_eq!(
        (first.errcode(), first.marks()),
        (Some(40001), vec!["replayed"])
    );
    assert_eq!(
        (wechat.calls().len(), wechat.token_requests().len()),
        (2, 1)
    );

    let mut remembered = 0;
    for _ in 0..100 {
        let reply = sidecar.post("/wxa/forbidden", "x").await;
        assert_eq!(reply.errcode(), Some(40001));
        remembered += usize::from(reply.marks() == ["remembered"]);
    }
    assert!(remembered >= 60, "{remembered}");
    assert_eq!(wechat.token_requests().len(), 1);
    assert!(wechat.calls().len() <= 42, "{}", wechat.calls().len());

    // Other paths still work. This one works again once WeChat accepts it.
    assert_eq!(sidecar.post(SEND, "x").await.errcode(), Some(0));
    wechat.change(|behaviour| behaviour.refuse_always.clear());
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let healed = sidecar.post("/wxa/forbidden", "x").await;
    assert_eq!((healed.errcode(), healed.marks()), (Some(0), vec![]));
}

#[tokio::test]
async fn a_spurious_refusal_is_healed_with_the_same_token() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    for _ in 0..5 {
        wechat.change(|behaviour| behaviour.refuse_next = 1);
        let reply = sidecar.post(SEND, "x").await;
        assert_eq!(
            (reply.errcode(), reply.marks()),
            (Some(0), vec!["replayed"])
        );
    }
    assert!(wechat.token_requests().len() <= 6);
}

#[tokio::test]
async fn when_no_token_can_be_had_the_app_reads_wechats_own_refusal() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.rotate();
    wechat.change(|behaviour| behaviour.token_errcode = Some(45009));
    wechat.clear();
    let reply = sidecar.post(SEND, "x").await;
    assert_eq!((reply.status, reply.errcode()), (200, Some(40001)));
    assert!(reply.marks().is_empty());
    assert_eq!(wechat.calls().len(), 1);
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_the_app_learns_why() {
    let wechat = Wechat::calm().await;
    wechat.change(|behaviour| behaviour.token_errcode = Some(40164));
    let sidecar = Sidecar::unready(&wechat, &[], &[]).await;
    let reply = sidecar.post(SEND, "x").await;
    assert_eq!(
        (reply.status, reply.errcode(), reply.marks()),
        (503, Some(990_503), vec!["error"])
    );
    assert!(reply.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(reply.header("x-wechat-sidecar-errcode"), Some("40164"));
    let text = reply.text();
    assert!(
        text.contains("40164") && text.contains("whitelist"),
        "{text}"
    );
    assert!(wechat.calls().is_empty());
    let as_200 = Sidecar::unready(&wechat, &["--error-status", "200"], &[]).await;
    let reply = as_200.post(SEND, "x").await;
    assert_eq!(
        (reply.status, reply.errcode(), reply.marks()),
        (200, Some(990_503), vec!["error"])
    );
}

#[tokio::test]
async fn nothing_that_may_have_happened_is_sent_again() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--upstream-timeout", "1s"]).await;
    for (hang_up, status, errcode) in [
        (HangUp::AfterRequest, 502, 990_500),
        (HangUp::MidHead, 502, 990_500),
    ] {
        // Once on a connection that has carried calls, and once on a new one.
        for warm in [true, false] {
            wechat.change(|behaviour| behaviour.hang_up = HangUp::Never);
            if warm {
                sidecar.post(SEND, "warm").await;
            }
            wechat.change(|behaviour| behaviour.hang_up = hang_up);
            wechat.clear();
            let reply = sidecar.post(SEND, "x").await;
            assert_eq!(
                (reply.status, reply.errcode()),
                (status, Some(errcode)),
                "{hang_up:?}"
            );
            assert!(reply.text().contains("unknown"));
            assert_eq!(wechat.calls().len(), 1, "{hang_up:?} {warm}");
        }
    }
    wechat.change(|behaviour| {
        behaviour.hang_up = HangUp::Never;
        behaviour.stall = true;
    });
    wechat.clear();
    let reply = sidecar.get("/cgi-bin/user/get").await;
    assert_eq!((reply.status, reply.errcode()), (504, Some(990_504)));
    assert_eq!(wechat.calls().len(), 1);
}

#[tokio::test]
async fn a_get_that_met_a_closing_connection_is_sent_again_but_no_login() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    for (target, calls, status) in [
        ("/cgi-bin/user/get", 2, 200),
        ("/sns/jscode2session?js_code=1", 1, 502),
    ] {
        sidecar.get("/warm").await;
        wechat.clear();
        wechat.change(|behaviour| {
            behaviour.hang_up = HangUp::AfterRequest;
            behaviour.hang_up_next = 1;
        });
        assert_eq!(sidecar.get(target).await.status, status, "{target}");
        assert_eq!(wechat.calls().len(), calls, "{target}");
        wechat.change(|behaviour| behaviour.hang_up = HangUp::Never);
    }
}

#[tokio::test]
async fn a_replay_that_met_a_closing_connection_is_not_sent_again() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    sidecar.get("/cgi-bin/user/get").await;
    wechat.change(|behaviour| behaviour.token_delay = Duration::from_millis(300));
    wechat.rotate();
    wechat.clear();
    let (reply, ()) = tokio::join!(sidecar.get("/cgi-bin/user/get"), async {
        wechat.wait_for_calls(1).await;
        wechat.change(|behaviour| {
            behaviour.hang_up = HangUp::AfterRequest;
            behaviour.hang_up_next = 1;
        });
    });
    assert_eq!(reply.status, 502);
    assert_eq!(wechat.calls().len(), 2);
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_never_used() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    for _ in 0..30 {
        assert_eq!(sidecar.post(SEND, "x").await.errcode(), Some(0));
        wechat.close_idle();
        wechat.wait_until(|wechat| wechat.connections() == 0).await;
    }
    wechat.change(|behaviour| behaviour.close_after_reply = true);
    for _ in 0..200 {
        assert_eq!(sidecar.post(SEND, "x").await.errcode(), Some(0));
    }
}

#[tokio::test]
async fn a_hostile_wechat_is_never_noticed() {
    let wechat = Wechat::start().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.change(|behaviour| behaviour.split_writes = true);
    for round in 0..12 {
        let calls = (0..60).map(|n| sidecar.post(SEND, format!("{{\"n\":{}}}", round * 1000 + n)));
        for reply in join_all(calls).await {
            assert_eq!(
                reply.errcode(),
                Some(0),
                "{}\n{}",
                reply.text(),
                sidecar.log()
            );
        }
        match round % 3 {
            0 => wechat.rotate(),
            1 => wechat.expire(),
            _ => {
                wechat.close_idle();
                wechat.wait_until(|wechat| wechat.connections() == 0).await;
            }
        }
    }
    assert!(!wechat.saw_placeholder());
}

#[tokio::test]
async fn a_secret_rotated_a_moment_ago_is_used_by_the_next_token_request() {
    let wechat = Wechat::calm().await;
    let file = written("secret", SECRET);
    let sidecar = Sidecar::unready(&wechat, &[], &[("WECHAT_SECRET_FILE", &file)]).await;
    sidecar.until_ready().await;

    wechat.set_secret(APPID, "another-secret-another-secret-00");
    std::fs::write(&file, "another-secret-another-secret-00\n").unwrap();
    wechat.rotate();

    let reply = sidecar.post(SEND, "x").await;
    assert_eq!(
        (reply.errcode(), reply.marks()),
        (Some(0), vec!["replayed"])
    );
}
