//! Several accounts share a sidecar: how a call's account is selected, what it may do, and how accounts come and go.
#![allow(clippy::unwrap_used)]

#[path = "accounts/isolation.rs"]
mod isolation;
#[path = "accounts/reload.rs"]
mod reload;
mod support;
#[path = "accounts/tokens.rs"]
mod tokens;

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use support::{Sidecar, Wechat, sidecar, wechat::RecordedCall};
use tokio::time::sleep;

// The accounts of these tests, with their secrets.
const ONE: (&str, &str) = ("wx00000000000000a1", "11111111111111111111111111111111");
const TWO: (&str, &str) = ("wx00000000000000b2", "22222222222222222222222222222222");
const THREE: (&str, &str) = ("wx00000000000000c3", "33333333333333333333333333333333");

/// The table of an account in the file, with more keys.
fn account((appid, secret): (&str, &str), more: &str) -> String {
    format!("[[accounts]]\nappid = '{appid}'\nsecret = '{secret}'\n{more}\n")
}

/// A fake WeChat that knows all three accounts and refuses no call by chance.
async fn wechat() -> Wechat {
    let wechat = Wechat::calm().await;
    for (appid, secret) in [ONE, TWO, THREE] {
        wechat.set_secret(appid, secret);
    }
    wechat
}

/// Starts a sidecar in front of it with this file. Returns the path of the file, too.
async fn served(wechat: &Wechat, file: &str, flags: &[&str]) -> (Sidecar, PathBuf) {
    let path = sidecar::written("accounts.toml", file);
    let mut command = sidecar::command();
    command.args(["--config", &path, "--upstream", &wechat.url()]);
    command.args(["--log-level", "debug"]).args(flags);
    let sidecar = Sidecar::spawn(command, Some(wechat.clone())).await;
    sidecar.until_ready().await;
    (sidecar, path.into())
}

#[tokio::test]
async fn a_hundred_accounts_with_hosts_and_files_of_their_own_take_no_thread_each() {
    let wechat = wechat().await;
    let secret = sidecar::written("secret", THREE.1);
    let others: String = (0..100)
        .map(|n| {
            format!(
                "[[accounts]]\nappid = 'wx00000000000001{n:02}'\nsecret_file = '{secret}'\n\
                 upstream = 'https://host-{n}.invalid'\n"
            )
        })
        .collect();
    let file = account(ONE, "default = true") + &others;
    let (sidecar, _) = served(&wechat, &file, &[]).await;
    loop {
        let accounts = sidecar.admin("/accounts").await.json();
        let accounts = accounts["accounts"].as_array().unwrap().clone();
        let error = |account: &Value| account["last_error"].as_str().map(str::to_owned);
        let errors: Vec<String> = accounts.iter().filter_map(error).collect();
        if errors.len() == 100 {
            let unresolved = |error: &String| error.contains("cannot be resolved");
            assert!(errors.iter().all(unresolved), "{errors:?}");
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    // The main thread, two for the log, two workers, and a few that read files.
    assert!(sidecar.threads() <= 12, "{} threads", sidecar.threads());
    assert_eq!(sidecar.get(GET).await.status, 200);
}

/// Waits until `appid` has a token.
async fn has_token(sidecar: &Sidecar, appid: &str) {
    let sample = format!("wechat_sidecar_token_expires_seconds{{account=\"{appid}\"");
    while sidecar.metric(&sample).await == 0.0 {
        sleep(Duration::from_millis(10)).await;
    }
}

/// The account of the token that each call was sent with.
fn whose(wechat: &Wechat, calls: &[RecordedCall]) -> Vec<&'static str> {
    let known = [ONE.0, TWO.0, THREE.0].map(|appid| (appid, wechat.token_of(appid)));
    let of = |call: &RecordedCall| {
        let its = |(_, token): &&(&str, String)| call.token.as_ref() == Some(token);
        known.iter().find(its).map_or("nobody", |(appid, _)| appid)
    };
    calls.iter().map(of).collect()
}

const GET: &str = "/cgi-bin/user/get";

#[tokio::test]
async fn each_way_leads_to_the_account_that_it_names_and_is_counted() {
    let wechat = wechat().await;
    let file = account(ONE, "name = 'orders'\ndefault = true") + &account(TWO, "name = 'crm'");
    let (sidecar, _) = served(&wechat, &file, &[]).await;
    has_token(&sidecar, TWO.0).await;
    wechat.clear();
    let url = &sidecar.url;
    let get = |target: &str| sidecar.client.get(format!("{url}{target}"));
    let (one, two) = (ONE.0, TWO.0);
    for (request, of) in [
        (get(GET), one),
        (get(&format!("{GET}?access_token=some-old-token")), one),
        (get(&format!("{GET}?access_token=sidecar-{two}")), two),
        (get(&format!("{GET}?access_token=sidecar-crm&a=b")), two),
        (get(GET).header("X-Wechat-Appid", two), two),
        (get(GET).header("x-wechat-appid", "crm"), two),
        (get(&format!("/{two}{GET}")), two),
        (get(&format!("//crm/{GET}?a=1")), two),
        (
            get(&format!("/orders{GET}?access_token=sidecar-{one}")),
            one,
        ),
    ] {
        let before = wechat.calls().len();
        let reply = sidecar.send(request).await;
        assert_eq!(
            (reply.status, &reply.json()["total"]),
            (200, &json!(2)),
            "{}",
            reply.text()
        );
        let calls = wechat.calls();
        assert_eq!(whose(&wechat, &calls[before..]), [of]);
        let call = &calls[before];
        assert_eq!(
            (call.path().as_str(), call.header("x-wechat-appid")),
            (GET, None)
        );
    }
    assert!(!wechat.saw_placeholder());
    for (appid, name, way, count) in [
        (one, "orders", "default", 2.0),
        (one, "orders", "path", 1.0),
        (two, "crm", "placeholder", 2.0),
        (two, "crm", "header", 2.0),
        (two, "crm", "path", 2.0),
    ] {
        let sample = format!(
            "wechat_sidecar_account_selections_total{{account=\"{appid}\",name=\"{name}\",way=\"{way}\"}}"
        );
        assert_eq!(sidecar.metric(&sample).await, count, "{sample}");
    }
}

#[tokio::test]
async fn a_call_that_is_for_nobody_or_for_two_is_answered_and_not_sent() {
    let wechat = wechat().await;
    let file = account(ONE, "name = 'orders'") + &account(TWO, "");
    let (sidecar, _) = served(&wechat, &file, &[]).await;
    wechat.clear();
    let (one, two) = (ONE.0, TWO.0);
    for (target, header, status, code) in [
        (GET.to_owned(), None, 400, 990_406),
        (format!("/%77x{}{GET}", &one[2..]), None, 404, 990_404),
        (format!("/wxffffffffffffffff{GET}"), None, 404, 990_404),
        (format!("/nobody{GET}"), None, 404, 990_404),
        (
            format!("{GET}?access_token=sidecar-wxffffffffffffffff"),
            None,
            404,
            990_404,
        ),
        (GET.to_owned(), Some("nobody"), 404, 990_404),
        (format!("/{one}{GET}"), Some(two), 400, 990_406),
        (
            format!("/{one}{GET}?access_token=sidecar-{two}"),
            None,
            400,
            990_406,
        ),
        (
            format!("/cgi-bin/token?appid={two}"),
            Some(one),
            400,
            990_406,
        ),
        ("/cgi-bin/token?appid=wxother".to_owned(), None, 200, 40013),
        (format!("/{one}/{two}{GET}"), None, 400, 990_406),
        (format!("/{two}/orders{GET}"), None, 400, 990_406),
        // A token request to WeCom. It has a secret in it, which WeChat must not see.
        (
            format!("/cgi-bin/gettoken?corpid={one}&corpsecret=x"),
            None,
            200,
            40013,
        ),
    ] {
        let mut request = sidecar.client.get(format!("{}{target}", sidecar.url));
        if let Some(header) = header {
            request = request.header("X-Wechat-Appid", header);
        }
        let reply = sidecar.send(request).await;
        assert_eq!(
            (reply.status, reply.errcode()),
            (status, Some(code)),
            "{target}: {}",
            reply.text()
        );
        if code == 990_404 {
            let names = format!("orders ({one}), {two}");
            assert!(reply.text().contains(&names), "{}", reply.text());
        }
    }
    // The rest of a path behind an account's segment is handled like any other path.
    let call = format!(
        "GET /{one}/../{two}{GET} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    assert!(sidecar.raw(call).await.contains("990400"));
    assert!(wechat.calls().is_empty() && wechat.token_requests().is_empty());
}

#[tokio::test]
async fn an_sdk_that_names_its_appid_gets_the_placeholder_of_that_account() {
    let wechat = wechat().await;
    let file = account(ONE, "default = true") + &account(TWO, "name = 'crm'");
    let (sidecar, _) = served(&wechat, &file, &[]).await;
    wechat.clear();
    let two = TWO.0;
    let query = format!("grant_type=client_credential&appid={two}&secret=whatever");
    let classic = sidecar.get(&format!("/cgi-bin/token?{query}")).await;
    assert_eq!(classic.json()["access_token"], format!("sidecar-{two}"));
    let stable = |appid: &str| {
        let body = json!({"grant_type": "client_credential", "appid": appid, "secret": "x"});
        sidecar.post("/cgi-bin/stable_token", body.to_string())
    };
    assert_eq!(
        stable(two).await.json()["access_token"],
        format!("sidecar-{two}")
    );
    assert_eq!(
        stable("crm").await.json()["access_token"],
        format!("sidecar-{two}")
    );
    assert_eq!(
        stable("").await.json()["access_token"],
        format!("sidecar-{}", ONE.0)
    );
    assert_eq!(stable("wxother").await.errcode(), Some(40013));
    let long = sidecar
        .post("/cgi-bin/stable_token", "x".repeat(70_000))
        .await;
    assert_eq!(long.errcode(), Some(990_400));
    // A body may contradict the header.
    let mut contradicting = sidecar
        .client
        .post(format!("{}/cgi-bin/stable_token", sidecar.url));
    contradicting = contradicting.header("X-Wechat-Appid", ONE.0);
    let body = json!({"appid": two}).to_string();
    assert_eq!(
        sidecar.send(contradicting.body(body)).await.errcode(),
        Some(990_406)
    );

    for appid in [two, "crm"] {
        let code = format!("code-{appid}");
        let target = format!(
            "/sns/jscode2session?appid={appid}&secret=x&js_code={code}&grant_type=authorization_code"
        );
        assert!(sidecar.get(&target).await.json()["openid"].is_string());
        let calls = wechat.calls();
        let call = calls.last().unwrap();
        assert_eq!(call.parameter("appid").as_deref(), Some(two));
        assert_eq!(call.parameter("secret").as_deref(), Some(TWO.1));
    }
    assert!(wechat.token_requests().is_empty());
}

#[tokio::test]
async fn rules_forbid_before_anything_is_sent_in_whatever_disguise() {
    let wechat = wechat().await;
    let file = "deny = ['/card/**']\n".to_owned()
        + &account(ONE, "default = true\ndeny = 'preset:account-wide'")
        + &account(
            TWO,
            "allow = ['/cgi-bin/user/*']\ndeny = ['/cgi-bin/user/info']",
        );
    let (sidecar, _) = served(&wechat, &file, &[]).await;
    has_token(&sidecar, TWO.0).await;
    wechat.clear();
    let two = TWO.0;
    // A request for a placeholder is allowed, because it is not sent on.
    let asked = format!("/cgi-bin/token?grant_type=client_credential&appid={two}&secret=x");
    assert_eq!(sidecar.get(&asked).await.status, 200);
    for (target, says) in [
        (
            "/cgi-bin/menu/delete?a=HUNTER2".to_owned(),
            "deny = \\\"preset:account-wide\\\"",
        ),
        ("/CGI-BIN/%6denu/Delete/".to_owned(), "preset:account-wide"),
        (
            format!("/{}//cgi-bin/menu/delete", ONE.0),
            "preset:account-wide",
        ),
        ("/cgi-bin/menu/delete;x".to_owned(), "letters, digits"),
        ("/cgi-bin/menu/delete%20".to_owned(), "letters, digits"),
        ("/cgi-bin/menu%252fdelete".to_owned(), "letters, digits"),
        ("/card/get".to_owned(), "/card/**"),
        (format!("/{two}/cgi-bin/user/info"), "/cgi-bin/user/info"),
        (format!("/{two}/cgi-bin/menu/get"), "allow"),
        (format!("/{two}/cgi-bin/user/a/b"), "allow"),
        // The rules also apply to calls that the sidecar answers itself.
    ] {
        let reply = sidecar.get(&target).await;
        assert_eq!(
            (reply.status, reply.errcode()),
            (403, Some(990_405)),
            "{target} {}",
            reply.text()
        );
        assert!(reply.text().contains(says), "{target}: {}", reply.text());
        assert!(!reply.text().contains("HUNTER2"), "{}", reply.text());
    }
    assert!(wechat.calls().is_empty());
    let rejected = format!(
        "wechat_sidecar_calls_total{{account=\"{two}\",endpoint=\"/cgi-bin/menu/get\",outcome=\"rejected\"}}"
    );
    assert_eq!(sidecar.metric(&rejected).await, 1.0);
    assert_eq!(sidecar.get(&format!("/{two}{GET}")).await.status, 200);
    assert_eq!(sidecar.get("/cgi-bin/menu/get").await.status, 200);
}

#[tokio::test]
async fn rules_can_be_given_to_the_one_account_of_the_environment() {
    let wechat = Wechat::calm().await;
    let flags = ["--allow", "/cgi-bin/**", "--deny", "preset:account-wide"];
    let sidecar = Sidecar::with(&wechat, &flags).await;
    assert_eq!(sidecar.get(GET).await.status, 200);
    for target in ["/cgi-bin/clear_quota", "/sns/jscode2session?js_code=1"] {
        assert_eq!(
            sidecar.get(target).await.errcode(),
            Some(990_405),
            "{target}"
        );
    }
}

#[tokio::test]
async fn a_listener_can_be_one_accounts() {
    let wechat = wechat().await;
    let socket = sidecar::temporary("two.sock");
    let listen = format!("listen = ['127.0.0.1:0', 'unix:{}']", socket.display());
    let file = account(ONE, "default = true") + &account(TWO, &listen);
    let (mut sidecar, _) = served(&wechat, &file, &[]).await;
    has_token(&sidecar, TWO.0).await;
    wechat.clear();
    let line = sidecar
        .line(&format!("listening account=\"{}\"", TWO.0))
        .await;
    let (_, address) = line.split_once("address=").unwrap();
    let own = |target: &str| {
        let address = address.split_whitespace().next().unwrap();
        sidecar.client.get(format!("http://{address}{target}"))
    };
    assert_eq!(sidecar.send(own(GET)).await.status, 200);
    assert_eq!(sidecar.get(GET).await.status, 200);
    assert_eq!(whose(&wechat, &wechat.calls()), [TWO.0, ONE.0]);
    let other = own(&format!("{GET}?access_token=sidecar-{}", ONE.0));
    assert_eq!(sidecar.send(other).await.errcode(), Some(990_406));
    let sample = format!(
        "wechat_sidecar_account_selections_total{{account=\"{}\",way=\"listener\"}}",
        TWO.0
    );
    assert_eq!(sidecar.metric(&sample).await, 1.0);

    use tokio::{io::AsyncWriteExt, net::UnixStream};
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    let call = format!("GET {GET} HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n");
    stream.write_all(call.as_bytes()).await.unwrap();
    assert!(support::app::rest(stream).await.starts_with("HTTP/1.1 200"));
    assert_eq!(whose(&wechat, &wechat.calls()).last(), Some(&TWO.0));
}

#[tokio::test]
async fn check_says_of_each_account_whether_it_works() {
    let wechat = wechat().await;
    let wrong = (TWO.0, "wrong-wrong-wrong-wrong-wrong-00");
    let file = account(ONE, "name = 'orders'") + &account(wrong, "");
    let path = sidecar::written("accounts.toml", &file);
    let mut command = sidecar::command();
    command.args(["check", "--config", &path, "--upstream", &wechat.url()]);
    let output = command
        .args(["--admin", "127.0.0.1:0", "--listen", "127.0.0.1:0"])
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains(&format!("ok: WeChat issues a token to orders ({})", ONE.0)),
        "{text}"
    );
    assert!(
        text.contains(&format!("FAILED: no token for {}", TWO.0)),
        "{text}"
    );
    assert!(
        !text.contains("wrong-wrong") && !text.contains(ONE.1),
        "{text}"
    );
}

#[tokio::test]
async fn the_admin_port_tells_accounts_apart() {
    let wechat = wechat().await;
    wechat.change(|behaviour| {
        behaviour.token_errcode_of.insert(TWO.0.to_owned(), 40243);
    });
    let file = account(ONE, "name = 'orders'") + &account(TWO, "name = 'crm'");
    let (sidecar, _) = served(&wechat, &file, &[]).await;
    let probe = async |target: &str| sidecar.admin(target).await.status;
    while probe("/startupz").await != 200 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // Without a default account, the sidecar is ready if one account has a token.
    for (target, status) in [
        ("/readyz", 200),
        ("/readyz?account=orders", 200),
        (&format!("/readyz?account={}", ONE.0), 200),
        ("/readyz?account=crm", 503),
        (&format!("/readyz?account={}", TWO.0), 503),
        ("/readyz?account=nobody", 404),
    ] {
        assert_eq!(probe(target).await, status, "{target}");
    }
    let reason = sidecar.admin("/readyz?account=crm").await.text();
    assert!(
        reason.contains("crm") && reason.contains("40243"),
        "{reason}"
    );
    let page = sidecar.admin("/accounts").await.json();
    let [one, two] = [&page["accounts"][0], &page["accounts"][1]];
    assert_eq!(
        (
            &one["appid"],
            &one["name"],
            &one["kind"],
            &one["default"],
            &one["has_token"]
        ),
        (
            &json!(ONE.0),
            &json!("orders"),
            &json!("wechat"),
            &json!(false),
            &json!(true)
        )
    );
    assert_eq!(
        (&two["name"], &two["has_token"]),
        (&json!("crm"), &json!(false))
    );
    assert!(
        two["last_error"].as_str().unwrap().contains("40243"),
        "{two}"
    );
    assert_eq!(page["configuration"]["last_error"], json!(null));
}
