//! Real SDKs, unchanged except for their base URL, never notice that their tokens end.

mod support;

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use support::{
    APPID, Sidecar, Wechat,
    sdk::{check_app, finished, installed, while_tokens_end},
    sidecar::{command, written},
    wechat::{CORPID, RecordedCall, SECRET},
};
use tokio::process::Command;

/// How many times an app makes all its calls.
const DAYS: &str = "15";

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/sdk")
        .join(name)
}

fn wechatpy() -> Command {
    let mut command = Command::new(installed("venv/bin/python"));
    command.env_clear().arg(script("wechatpy_app.py"));
    command.env("APPID", APPID);
    command
}

fn wechatpy_enterprise() -> Command {
    let mut command = Command::new(installed("venv/bin/python"));
    command
        .env_clear()
        .arg(script("wechatpy_enterprise_app.py"))
        .env("APPID", CORPID);
    command
}

fn co_wechat_api() -> Command {
    let modules = installed("node/node_modules");
    let mut command = Command::new("node");
    // PATH stays, because it is needed to find the command.
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
        .env("NODE_PATH", modules)
        .env("APPID", APPID)
        .arg(script("co_wechat_api_app.js"));
    command
}

/// Runs an app to its end. Its environment has only the URL of the sidecar.
async fn work(mut app: Command, sidecar: &Sidecar) -> Output {
    app.arg(DAYS).env("SIDECAR", &sidecar.url);
    // Calls to absolute URLs, which bypass the sidecar, fail here and do not reach the real WeChat.
    app.env("HTTPS_PROXY", "http://127.0.0.1:9");
    finished(app).await
}

/// Runs an app to its end while all tokens end again and again.
async fn work_while_tokens_end(app: Command, wechat: &Wechat, sidecar: &Sidecar) -> Output {
    let output = while_tokens_end(wechat, work(app, sidecar)).await;
    let tokens = wechat.all_tokens().len();
    assert!(
        tokens > 50 || !output.status.success(),
        "only {tokens} tokens"
    );
    output
}

/// Checks that the app saw no error, and WeChat no token but its own.
async fn check(output: Output, wechat: &Wechat, sidecar: &Sidecar) {
    check_app(&output, 200, wechat, sidecar).await;
}

#[tokio::test]
#[ignore = "needs Python with wechatpy"]
async fn wechatpy_works_with_any_text_as_its_token_and_a_hostile_wechat() {
    let wechat = Wechat::start().await;
    wechat.change(|behaviour| {
        behaviour.refusal_chance = 0.2;
        behaviour.split_writes = true;
    });
    let sidecar = Sidecar::start(&wechat).await;
    let output = work(wechatpy(), &sidecar).await;
    check(output, &wechat, &sidecar).await;
}

#[tokio::test]
#[ignore = "needs Python with wechatpy"]
async fn wechatpy_works_while_tokens_end_under_it() {
    let wechat = Wechat::start().await;
    let sidecar = Sidecar::start(&wechat).await;
    let output = work_while_tokens_end(wechatpy(), &wechat, &sidecar).await;
    check(output, &wechat, &sidecar).await;
}

#[tokio::test]
#[ignore = "needs Node.js with co-wechat-api"]
async fn co_wechat_api_works_with_a_token_from_the_sidecar_while_tokens_end_under_it() {
    let wechat = Wechat::start().await;
    let sidecar = Sidecar::start(&wechat).await;
    let output = work_while_tokens_end(co_wechat_api(), &wechat, &sidecar).await;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    check(output, &wechat, &sidecar).await;
    assert!(
        out.contains(&format!("its token was sidecar-{APPID}")),
        "{out}"
    );
}

#[tokio::test]
#[ignore = "needs Python with wechatpy"]
async fn two_apps_of_one_corp_work_on_wechatpy_while_wecom_ends_their_tokens() {
    let secrets = ["app", "contacts"].map(|name| format!("{SECRET}-{name}"));
    let wecom = Wechat::wecom(&[&secrets[0], &secrets[1]]).await;
    wecom.change_wecom(|rules| rules.early_end_chance = 0.2);
    let account = |(name, secret): (&str, &String)| {
        let url = wecom.url();
        format!(
            "[[accounts]]\nkind = 'wecom'\nname = '{name}'\ncorpid = '{CORPID}'\nsecret = '{secret}'\nupstream = '{url}'\n"
        )
    };
    let file: String = ["app", "contacts"]
        .into_iter()
        .zip(&secrets)
        .map(account)
        .collect();
    let mut command = command();
    command.args([
        "--log-level",
        "trace",
        "--config",
        &written("corp.toml", &file),
    ]);
    let sidecar = Sidecar::spawn(command, Some(wecom.clone())).await;
    sidecar.until_ready().await;
    let output = work(wechatpy_enterprise(), &sidecar).await;
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}{err}\n{}", sidecar.log());
    assert!(
        out.contains("their tokens were sidecar-app and sidecar-contacts"),
        "{out}"
    );
    let (calls, tokens) = (wecom.calls(), wecom.all_tokens());
    assert!(
        calls.len() > 100 && tokens.len() > 5,
        "{} {}",
        calls.len(),
        tokens.len()
    );
    let its = |call: &RecordedCall| {
        call.token
            .as_ref()
            .is_some_and(|token| tokens.contains(token))
    };
    assert!(calls.iter().all(its) && !wecom.saw_placeholder());
    let refused = calls.iter().filter(|call| call.refused).count();
    let page = sidecar.admin("/metrics").await.text();
    let replays: f64 = page
        .lines()
        .filter(|line| line.starts_with("wechat_sidecar_replays_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert!(
        refused > 0 && replays == refused as f64,
        "{refused} {replays}"
    );
}

/// Each client knows its own AppID. Both have the same base URL.
#[tokio::test]
#[ignore = "needs Python with wechatpy"]
async fn two_wechatpy_clients_of_two_accounts_are_told_apart_by_their_placeholders() {
    two_clients("placeholder", None).await;
}

#[tokio::test]
async fn two_wechatpy_clients_of_two_accounts_are_told_apart_by_their_real_tokens() {
    two_clients("real", None).await;
}

/// The client fetches another token with its AppID, as it does when WeChat says that a token has expired.
#[tokio::test]
async fn a_wechatpy_client_with_a_cached_token_that_nobody_knows_comes_to_its_own_account() {
    let cached = "_-aZ09".repeat(30);
    for endpoint in ["placeholder", "real"] {
        two_clients(endpoint, Some(&cached)).await;
    }
}

/// Runs two clients for ten days behind a sidecar with this `token_endpoint`. The second begins with the token
/// `cached`.
async fn two_clients(endpoint: &str, cached: Option<&str>) {
    let wechat = Wechat::start().await;
    let accounts = [
        (APPID, support::SECRET),
        ("wx00000000000000b2", "22222222222222222222222222222222"),
    ];
    let mut file = String::new();
    for (appid, secret) in accounts {
        wechat.set_secret(appid, secret);
        let default = appid == APPID;
        file +=
            &format!("[[accounts]]\nappid = '{appid}'\nsecret = '{secret}'\ndefault = {default}\n");
    }
    let mut command = support::sidecar::command();
    let config = support::sidecar::written("two.toml", &file);
    command.args(["--config", &config, "--upstream", &wechat.url()]);
    command.args(["--token-endpoint", endpoint]);
    let sidecar = Sidecar::spawn(command, Some(wechat.clone())).await;
    sidecar.until_ready().await;

    let mut app = Command::new(installed("venv/bin/python"));
    app.env_clear().arg(script("wechatpy_two_accounts_app.py"));
    let given = |(appid, _)| match endpoint {
        "real" => wechat.token_of(appid),
        _ => format!("sidecar-{appid}"),
    };
    app.env("APPIDS", accounts.map(|(appid, _)| appid).join(","));
    app.env("TOKENS", accounts.map(given).join(","));
    app.envs(cached.map(|token| ("CACHED", token)));
    let output = work(app, &sidecar).await;
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}\n{}", sidecar.log());
    let calls = wechat.calls();
    assert!(calls.len() >= 60 && !wechat.saw_placeholder());
    for (appid, secret) in accounts {
        // The call itself says which account it was for.
        let token = wechat.token_of(appid);
        let of = |call: &&RecordedCall| {
            String::from_utf8_lossy(&call.body).contains(appid)
                || call.target.contains(&format!("code-{appid}"))
        };
        let (logins, messages): (Vec<_>, Vec<_>) = calls
            .iter()
            .filter(of)
            .partition(|call| call.path() == "/sns/jscode2session");
        assert!(logins.len() == 10 && messages.len() >= 10);
        assert!(
            messages
                .iter()
                .all(|call| call.token.as_ref() == Some(&token))
        );
        assert!(
            logins
                .iter()
                .all(|call| call.parameter("secret").as_deref() == Some(secret))
        );
    }
}
