//! An account of WeCom uses its own host, errcodes and tokens, with the same engine.

mod support;

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use support::{
    Sidecar, Wechat,
    sidecar::{command, written},
    wechat::{CORPID, SECRET, Setup},
};
use tokio::time::{Instant, sleep};

/// The secret of an app. It begins with the text for which the log of every sidecar is searched.
fn secret() -> String {
    format!("{SECRET}-app")
}

async fn calm() -> Wechat {
    Wechat::with(Setup {
        refusal_chance: 0.0,
        ..Setup::wecom(&[&secret()])
    })
    .await
}

/// The table of an account with this secret, at `wecom`.
fn account(wecom: &Wechat, secret: &str) -> String {
    let ca = wecom.ca_pem().map_or(String::new(), |pem| {
        format!("upstream_ca_file = '{}'\n", written("ca.pem", &pem))
    });
    format!(
        "[[accounts]]\nkind = 'wecom'\ncorpid = '{CORPID}'\nsecret = '{secret}'\nupstream = '{}'\n{ca}",
        wecom.url()
    )
}

async fn unready(wecom: &Wechat, file: &str, flags: &[&str]) -> Sidecar {
    let mut command = command();
    command.args(["--log-level", "trace", "--config", &written("w.toml", file)]);
    command.args(flags);
    Sidecar::spawn(command, Some(wecom.clone())).await
}

async fn sidecar_with(wecom: &Wechat, flags: &[&str]) -> Sidecar {
    let sidecar = unready(wecom, &account(wecom, &secret()), flags).await;
    sidecar.until_ready().await;
    sidecar
}

async fn sidecar(wecom: &Wechat) -> Sidecar {
    sidecar_with(wecom, &[]).await
}

#[tokio::test]
async fn a_call_gets_the_corps_token_and_a_refusal_is_healed() {
    for no_errcode in [false, true] {
        let wecom = calm().await;
        wecom.change_wecom(|rules| rules.no_errcode = no_errcode);
        let sidecar = sidecar(&wecom).await;
        for (round, end) in [Wechat::rotate, Wechat::expire].into_iter().enumerate() {
            let reply = sidecar.get("/cgi-bin/user/get?userid=zhang").await;
            assert_eq!(reply.json()["userid"], "zhang");
            assert!(reply.marks().is_empty());
            end(&wecom);
            let replies = join_all((0..50).map(|_| sidecar.get("/cgi-bin/getcallbackip"))).await;
            assert!(replies.iter().all(|reply| reply.errcode() == Some(0)));
            assert_eq!(wecom.token_requests().len(), round + 2);
        }
        let request = &wecom.token_requests()[0].call;
        assert_eq!(
            request.target,
            format!("/cgi-bin/gettoken?corpid={CORPID}&corpsecret={}", secret())
        );
    }
}

#[tokio::test]
async fn a_hostile_wecom_is_hidden_from_the_app() {
    let wecom = Wechat::wecom(&[&secret()]).await;
    let sidecar = sidecar(&wecom).await;
    for n in 0..300 {
        let body = json!({ "touser": "zhang", "text": { "content": n } }).to_string();
        let reply = sidecar.post("/cgi-bin/message/send?debug=1", body).await;
        assert_eq!(reply.errcode(), Some(0));
    }
    let refused = wecom.calls().iter().filter(|call| call.refused).count();
    assert!(refused > 0 && wecom.token_requests().len() == refused + 1);
    assert!(!wecom.saw_placeholder());
}

#[tokio::test]
async fn a_refused_token_that_comes_again_is_not_sent_again_and_cools_down() {
    let wecom = calm().await;
    let sidecar = sidecar(&wecom).await;
    wecom.change_wecom(|rules| rules.insists = true);
    wecom.rotate();
    wecom.clear();
    let calls = async |n: usize| {
        let replies = join_all((0..n).map(|_| sidecar.get("/cgi-bin/user/get?userid=z"))).await;
        for reply in replies {
            assert_eq!((reply.status, reply.errcode()), (200, Some(40014)));
            assert!(reply.marks().is_empty(), "{:?}", reply.marks());
        }
    };
    let started = Instant::now();
    // Each call is refused once, and there is one token request per pause.
    for (more, all) in [(20, 20), (8, 28)] {
        calls(more).await;
        assert_eq!(wecom.calls().len(), all);
        let asked = wecom.token_requests().len();
        assert!(
            asked == 1 || started.elapsed() > Duration::from_secs(1),
            "{asked}"
        );
    }
    assert_eq!(sidecar.metric("wechat_sidecar_replays_total").await, 0.0);
    // Calls work again as soon as WeCom gives another token.
    wecom.change_wecom(|rules| rules.insists = false);
    wecom.wait_for_token_requests(2).await;
    while sidecar.get("/cgi-bin/getcallbackip").await.errcode() != Some(0) {
        sleep(Duration::from_millis(100)).await;
    }
    assert!(wecom.token_requests().len() <= 4);
}

#[tokio::test]
async fn an_endpoint_that_refuses_every_token_costs_one_request_and_no_other_call_anything() {
    let wecom = calm().await;
    let sidecar = sidecar(&wecom).await;
    let path = "/cgi-bin/ticket/get";
    wecom.always(path, 40014);
    for _ in 0..30 {
        assert_eq!(sidecar.get(path).await.errcode(), Some(40014));
        assert_eq!(
            sidecar.get("/cgi-bin/getcallbackip").await.errcode(),
            Some(0)
        );
    }
    assert_eq!(wecom.token_requests().len(), 2);
    assert_eq!(sidecar.metric("wechat_sidecar_replays_total").await, 0.0);
}

#[tokio::test]
async fn codes_that_no_token_mends_are_passed_on() {
    let wecom = calm().await;
    let sidecar = sidecar(&wecom).await;
    let path = "/cgi-bin/agent/get";
    for code in [40001, 41001, 40082, 42009, 301_002, 48002, 45009] {
        wecom.always(path, code);
        let reply = sidecar.get(path).await;
        assert_eq!((reply.status, reply.errcode()), (200, Some(code)));
    }
    assert_eq!((wecom.calls().len(), wecom.token_requests().len()), (7, 1));
}

#[tokio::test]
async fn an_ip_that_is_not_trusted_is_named_and_fetches_nothing() {
    let wecom = calm().await;
    let mut sidecar = sidecar(&wecom).await;
    wecom.change_wecom(|rules| rules.unlisted = Some("221.182.171.162".to_owned()));
    for _ in 0..20 {
        assert_eq!(
            sidecar.get("/cgi-bin/user/get").await.errcode(),
            Some(60020)
        );
    }
    let line = sidecar.line("221.182.171.162").await;
    assert!(line.contains("WARN") && line.contains("60020"), "{line}");
    let warnings = sidecar
        .log()
        .matches("not on the account's whitelist")
        .count();
    assert_eq!((wecom.token_requests().len(), warnings), (1, 1));
    let counted = sidecar
        .metric("wechat_sidecar_errcodes_total{account=\"ww0123456789abcdef\",endpoint=\"/cgi-bin/user/get\",errcode=\"60020\"}");
    assert_eq!(
        counted.await,
        20.0,
        "{}",
        sidecar.admin("/metrics").await.text()
    );
    let status = async || {
        sidecar.admin("/accounts").await.json()["accounts"][0]["ip_not_on_whitelist"].clone()
    };
    assert!(status().await.as_str().unwrap().contains("221.182.171.162"));
    wecom.change_wecom(|rules| rules.unlisted = None);
    assert_eq!(sidecar.get("/cgi-bin/user/get").await.errcode(), Some(0));
    assert!(status().await.is_null());
}

#[tokio::test]
async fn a_wrong_secret_is_sent_once_and_not_again_for_minutes() {
    let wecom = calm().await;
    let sidecar = unready(&wecom, &account(&wecom, &format!("{SECRET}-wrong")), &[]).await;
    wecom.wait_for_token_requests(1).await;
    for _ in 0..20 {
        let reply = sidecar.get("/cgi-bin/user/get").await;
        assert_eq!((reply.status, reply.errcode()), (503, Some(990_503)));
        assert_eq!(reply.header("x-wechat-sidecar-errcode"), Some("40001"));
        let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!(wait > 200, "{wait}");
        assert!(
            reply.text().contains("does not know this secret"),
            "{}",
            reply.text()
        );
    }
    assert_eq!(wecom.token_requests().len(), 1);
    assert!(wecom.calls().is_empty());
}

#[tokio::test]
async fn check_tests_whether_calls_are_accepted_from_here() {
    let wecom = calm().await;
    let file = written("check.toml", &account(&wecom, &secret()));
    let check = async || {
        let mut command = command();
        let output = command
            .args(["check", "--listen", "127.0.0.1:0", "--config", &file])
            .output()
            .await;
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!said.contains(SECRET) && !said.contains("COM1-"), "{said}");
        (output.status.success(), said)
    };
    let (fine, said) = check().await;
    assert!(
        fine && said.contains("WeCom issues a token to ww"),
        "{said}"
    );
    assert!(said.contains("ok: WeCom accepts calls"), "{said}");
    wecom.change_wecom(|rules| rules.unlisted = Some("221.182.171.162".to_owned()));
    let (fine, said) = check().await;
    assert!(!fine && said.contains("FAILED: 221.182.171.162"), "{said}");
}

#[tokio::test]
async fn what_a_call_brings_for_another_kind_stays() {
    let wecom = calm().await;
    let sidecar = sidecar(&wecom).await;
    let reply = sidecar.post("/cgi-bin/corpgroup/corp/gettoken", "{}").await;
    let downstream = reply.json()["access_token"].as_str().unwrap().to_owned();
    let ours = wecom.all_tokens()[0].clone();
    let placeholder = format!("sidecar-{CORPID}");
    for (target, sent) in [
        (
            format!("/cgi-bin/user/get?access_token={downstream}&userid=z"),
            None,
        ),
        (
            "/cgi-bin/user/get?suite_access_token=S&userid=z".to_owned(),
            None,
        ),
        (
            "/cgi-bin/service/get_auth_info?suite_access_token=S".to_owned(),
            None,
        ),
        (
            "/cgi-bin/service/get_login_info?access_token=PROVIDER".to_owned(),
            None,
        ),
        (
            "/cgi-bin/license/list_order?provider_access_token=P&debug=1".to_owned(),
            None,
        ),
        ("/cgi-bin/webhook/send?key=K".to_owned(), None),
        (
            format!("/cgi-bin/webhook/send?key=K&access_token={placeholder}"),
            Some("/cgi-bin/webhook/send?key=K".to_owned()),
        ),
        (
            "/cgi-bin/user/get?&userid=z".to_owned(),
            Some(format!("/cgi-bin/user/get?&userid=z&access_token={ours}")),
        ),
        (
            format!("/cgi-bin/user/get?access_token={placeholder}&debug=1"),
            Some(format!("/cgi-bin/user/get?debug=1&access_token={ours}")),
        ),
        (
            "/cgi-bin/user/get?access_token=".to_owned(),
            Some(format!("/cgi-bin/user/get?access_token={ours}")),
        ),
    ] {
        wecom.clear();
        sidecar.get(&target).await;
        assert_eq!(
            wecom.calls()[0].target,
            sent.unwrap_or_else(|| target.clone())
        );
    }
    // A refusal of a token that is not ours does not concern our token.
    wecom.clear();
    let reply = sidecar
        .get("/cgi-bin/user/get?access_token=of-nobody")
        .await;
    assert_eq!(reply.errcode(), Some(40014));
    assert_eq!((wecom.calls().len(), wecom.token_requests().len()), (1, 0));
    for target in [
        format!("/cgi-bin/user/get?access_token={placeholder}&access_token={downstream}"),
        format!("/cgi-bin/service/get_corp_token?suite_access_token={placeholder}"),
    ] {
        assert_eq!(sidecar.get(&target).await.status, 400, "{target}");
    }
    assert_eq!(wecom.calls().len(), 1);
}

#[tokio::test]
async fn a_token_that_was_the_accounts_own_is_replaced_and_healed() {
    let wecom = calm().await;
    let sidecar = sidecar_with(&wecom, &["--token-endpoint", "real"]).await;
    let reply = sidecar
        .get(&format!("/cgi-bin/gettoken?corpid={CORPID}&corpsecret=x"))
        .await;
    let real = reply.json()["access_token"].as_str().unwrap().to_owned();
    assert!(wecom.all_tokens().contains(&real));
    for _ in 0..3 {
        wecom.rotate();
        let reply = sidecar
            .get(&format!("/cgi-bin/user/get?access_token={real}"))
            .await;
        assert_eq!(reply.errcode(), Some(0));
    }
    assert_eq!(wecom.all_tokens().len(), 4);
}

#[tokio::test]
async fn a_real_token_from_before_a_restart_is_refused_so_that_the_sdk_fetches_again() {
    for (end, code) in [
        (Wechat::rotate as fn(&Wechat), 40014),
        (Wechat::expire, 42001),
    ] {
        let wecom = calm().await;
        let real = async |sidecar: &Sidecar| {
            let target = format!("/cgi-bin/gettoken?corpid={CORPID}&corpsecret=x");
            let reply = sidecar.get(&target).await;
            reply.json()["access_token"].as_str().unwrap().to_owned()
        };
        let with = |token: &str| format!("/cgi-bin/user/get?access_token={token}");
        let flags = ["--token-endpoint", "real"];
        let before = sidecar_with(&wecom, &flags).await;
        let old = real(&before).await;
        drop(before);
        // While it is the corp's current one it is the account's, too.
        let sidecar = sidecar_with(&wecom, &flags).await;
        assert_eq!(sidecar.get(&with(&old)).await.errcode(), Some(0));
        drop(sidecar);

        end(&wecom);
        let sidecar = sidecar_with(&wecom, &flags).await;
        wecom.clear();
        let get = sidecar.get(&with(&old)).await;
        let post = sidecar.post(&with(&old), "{}").await;
        for reply in [get, post] {
            assert_eq!((reply.status, reply.errcode()), (200, Some(code)));
            assert!(reply.marks().is_empty());
        }
        assert_eq!((wecom.calls().len(), wecom.token_requests().len()), (2, 0));
        // The SDK fetches again, and goes on.
        let new = real(&sidecar).await;
        assert_eq!(sidecar.get(&with(&new)).await.errcode(), Some(0));
    }
}

#[tokio::test]
async fn an_apps_own_gettoken_is_answered_here_in_wecoms_shape() {
    let wecom = calm().await;
    let sidecar = sidecar(&wecom).await;
    for path in ["/cgi-bin/gettoken", "//cgi-bin/gettoken"] {
        let reply = sidecar
            .get(&format!("{path}?corpid={CORPID}&corpsecret=none"))
            .await;
        assert_eq!(
            reply.json(),
            json!({
                "errcode": 0, "errmsg": "ok",
                "access_token": format!("sidecar-{CORPID}"), "expires_in": 7200,
            })
        );
        assert_eq!(reply.marks(), ["local"]);
    }
    let reply = sidecar
        .get("/cgi-bin/gettoken?corpid=ww9&corpsecret=none")
        .await;
    assert_eq!(reply.errcode(), Some(40013));
    assert_eq!((wecom.calls().len(), wecom.token_requests().len()), (0, 1));
    let off = sidecar_with(&wecom, &["--token-endpoint", "off"]).await;
    assert_eq!(off.get("/cgi-bin/gettoken").await.status, 403);
}

#[tokio::test]
async fn a_private_deployment_may_have_a_path_and_a_certificate_of_its_own() {
    for tls in [false, true] {
        let wecom = Wechat::with(Setup {
            tls,
            prefix: "/wx/api".to_owned(),
            refusal_chance: 0.0,
            ..Setup::wecom(&[&secret()])
        })
        .await;
        let sidecar = sidecar(&wecom).await;
        for _ in 0..2 {
            for target in ["/cgi-bin/getcallbackip", "/cgi-bin/user/get?userid=z"] {
                assert_eq!(sidecar.get(target).await.errcode(), Some(0));
            }
            wecom.rotate();
        }
        let calls = wecom.calls();
        assert!(
            calls
                .iter()
                .all(|call| call.target.starts_with("/wx/api/cgi-bin/"))
        );
        let request = wecom.token_requests().remove(0).call.target;
        assert!(
            request.starts_with("/wx/api/cgi-bin/gettoken?"),
            "{request}"
        );
        let location = "/wx/api/cgi-bin/x?a=1".to_owned();
        wecom.change(|behaviour| behaviour.extra_headers = vec![("Location".to_owned(), location)]);
        let reply = sidecar.get("/cgi-bin/getcallbackip").await;
        assert_eq!(reply.header("location"), Some("/cgi-bin/x?a=1"));
    }
}

#[tokio::test]
async fn several_secrets_of_one_corp_are_several_accounts_and_one_in_trouble_is_alone() {
    let secrets = [format!("{SECRET}-app"), format!("{SECRET}-contacts")];
    let wecom = Wechat::with(Setup {
        refusal_chance: 0.0,
        ..Setup::wecom(&[&secrets[0], &secrets[1]])
    })
    .await;
    let table = |name: &str, secret: &str| format!("{}name = '{name}'\n", account(&wecom, secret));
    let file = [
        table("app", &secrets[0]),
        table("contacts", &secrets[1]),
        table("approval", &format!("{SECRET}-wrong")),
    ]
    .concat();
    let sidecar = unready(&wecom, &file, &[]).await;
    for account in ["app", "contacts"] {
        while sidecar
            .admin(&format!("/readyz?account={account}"))
            .await
            .status
            != 200
        {
            sleep(Duration::from_millis(10)).await;
        }
    }
    let token = async |target: &str| {
        assert_eq!(sidecar.get(target).await.errcode(), Some(0), "{target}");
        wecom.calls().pop().unwrap().token.unwrap()
    };
    let app = token("/app/cgi-bin/user/get?userid=z").await;
    let contacts = token("/contacts/cgi-bin/user/get?userid=z").await;
    assert_ne!(app, contacts);
    let by_placeholder = token("/cgi-bin/user/get?access_token=sidecar-contacts").await;
    assert_eq!(by_placeholder, contacts);
    let reply = sidecar
        .get("/contacts/cgi-bin/gettoken?corpid=ww0123456789abcdef&corpsecret=x")
        .await;
    assert_eq!(reply.json()["access_token"], "sidecar-contacts");
    let reply = sidecar
        .get("/cgi-bin/gettoken?corpid=ww0123456789abcdef&corpsecret=x")
        .await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    let reply = sidecar.get("/approval/cgi-bin/user/get").await;
    assert_eq!((reply.status, reply.errcode()), (503, Some(990_503)));
    assert_eq!(wecom.token_requests().len(), 3);
}

#[tokio::test]
async fn files_go_up_and_come_down_byte_for_byte_and_in_ranges() {
    let wecom = calm().await;
    let sidecar = sidecar(&wecom).await;
    let file: Vec<u8> = (0..100_000_u32).map(|n| (n * 31 % 251) as u8).collect();
    let head = "--b\r\nContent-Disposition: form-data; name=\"media\"; filename=\"w.bin\"; filelength=100000\r\nContent-Type: application/octet-stream\r\n\r\n";
    let body = [head.as_bytes(), &file, b"\r\n--b--\r\n"].concat();
    let upload = sidecar
        .client
        .post(format!("{}/cgi-bin/media/upload?type=file", sidecar.url))
        .header("content-type", "multipart/form-data; boundary=b")
        .body(body.clone());
    let media_id = sidecar.send(upload).await.json()["media_id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(wecom.calls()[0].body, body);
    let target = format!("{}/cgi-bin/media/get?media_id={media_id}", sidecar.url);
    let mut down = Vec::new();
    while down.len() < file.len() {
        let (from, to) = (down.len(), down.len() + 39_999);
        let get = sidecar
            .client
            .get(&target)
            .header("range", format!("bytes={from}-{to}"));
        let part = sidecar.send(get).await;
        assert_eq!(part.status, 206);
        let range = format!("bytes {from}-{}/{}", to.min(file.len() - 1), file.len());
        assert_eq!(part.header("content-range"), Some(range.as_str()));
        assert!(
            part.header("content-disposition")
                .unwrap()
                .contains("w.bin")
        );
        down.extend_from_slice(&part.body);
    }
    assert!(down == file);
}
