//! A real token identifies the account of a call, as a placeholder does. An unknown one counts as expired.

use serde_json::json;

use super::{GET, ONE, TWO, account, has_token, reload::hang_up, served, wechat as fake, whose};
use crate::support::{
    Sidecar, Wechat,
    sidecar::{self, Reply},
    wechat::{CORPID, Setup},
};

const REAL: [&str; 2] = ["--token-endpoint", "real"];

/// The first account is the default.
fn both() -> String {
    account(ONE, "default = true") + &account(TWO, "name = 'crm'")
}

async fn served_both(wechat: &Wechat, flags: &[&str]) -> Sidecar {
    let (sidecar, _) = served(wechat, &both(), flags).await;
    has_token(&sidecar, TWO.0).await;
    sidecar
}

/// The token that an SDK with this AppID gets.
async fn asked(sidecar: &Sidecar, appid: &str) -> String {
    let query = format!("grant_type=client_credential&appid={appid}&secret=whatever");
    let reply = sidecar.get(&format!("/cgi-bin/token?{query}")).await;
    reply.json()["access_token"].as_str().unwrap().to_owned()
}

/// A token of WeChat's form that no account here has or had.
fn unknown() -> String {
    "_-aZ09".repeat(30)
}

fn with(token: &str) -> String {
    format!("{GET}?access_token={token}")
}

/// Makes these calls, none of which may fail. Returns the account of the token that each was sent with.
async fn sent_for(sidecar: &Sidecar, wechat: &Wechat, targets: &[String]) -> Vec<&'static str> {
    wechat.clear();
    for target in targets {
        let reply = sidecar.get(target).await;
        assert_eq!(reply.json()["total"], 2, "{}", reply.text());
        assert!(reply.marks().iter().all(|mark| *mark == "replayed"));
    }
    whose(wechat, &wechat.calls())
}

/// Checks that `reply` says, as WeChat would, that the token has expired, and why.
fn is_over(reply: &Reply) {
    assert_eq!(
        (reply.status, reply.errcode(), reply.marks()),
        (200, Some(42001), vec!["local"]),
        "{}",
        reply.text()
    );
    let said = reply.json()["errmsg"].as_str().unwrap().to_owned();
    assert!(said.starts_with("access_token expired"), "{said}");
    assert!(
        said.contains("AppID") && said.contains("X-Wechat-Appid"),
        "{said}"
    );
    assert!(!reply.text().contains(&unknown()), "{said}");
}

#[tokio::test]
async fn a_real_token_that_was_given_out_leads_to_the_account_that_it_is_of() {
    let wechat = fake().await;
    let sidecar = served_both(&wechat, &REAL).await;
    let (one, two) = (asked(&sidecar, ONE.0).await, asked(&sidecar, TWO.0).await);
    assert_eq!(
        (&one, &two),
        (&wechat.token_of(ONE.0), &wechat.token_of(TWO.0))
    );
    let targets = [with(&two), with(&one), with(&two)];
    let expected = [TWO.0, ONE.0, TWO.0];
    assert_eq!(sent_for(&sidecar, &wechat, &targets).await, expected);
    let sample = format!(
        "wechat_sidecar_account_selections_total{{account=\"{}\",name=\"crm\",way=\"token\"}}",
        TWO.0
    );
    assert_eq!(sidecar.metric(&sample).await, 2.0);

    // hyper reads this call, because it is not plain.
    wechat.clear();
    let target = with(&two);
    let call = format!("GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    assert!(sidecar.raw(call).await.contains("\"total\":2"));
    assert_eq!(whose(&wechat, &wechat.calls()), [TWO.0]);
}

#[tokio::test]
async fn a_token_that_was_replaced_still_leads_to_its_account() {
    let wechat = fake().await;
    let sidecar = served_both(&wechat, &REAL).await;
    let old = asked(&sidecar, TWO.0).await;
    for _ in 0..3 {
        wechat.rotate();
        // The call is healed with another token of the same account.
        assert_eq!(sidecar.get(&with(&old)).await.json()["total"], 2);
        let targets = [with(&old)];
        assert_eq!(sent_for(&sidecar, &wechat, &targets).await, [TWO.0]);
    }
    assert_ne!(wechat.token_of(TWO.0), old);
}

#[tokio::test]
async fn a_token_that_an_sdk_had_cached_before_it_moved_leads_to_its_account() {
    let wechat = fake().await;
    // WeChat's stable token is the same for all who request it.
    let cached = wechat.token_of(TWO.0);
    let sidecar = served_both(&wechat, &[]).await;
    assert_eq!(asked(&sidecar, TWO.0).await, format!("sidecar-{}", TWO.0));
    let encoded = with(&cached).replacen("access", "%61ccess", 1);
    let targets = [with(&cached), encoded, format!("{}&a=b", with(&cached))];
    assert_eq!(sent_for(&sidecar, &wechat, &targets).await, [TWO.0; 3]);
}

#[tokio::test]
async fn a_token_of_another_account_than_the_call_names_is_answered_and_not_sent() {
    let wechat = fake().await;
    let listen = "listen = '127.0.0.1:0'";
    let file = account(ONE, "default = true") + &account(TWO, listen);
    let (mut sidecar, _) = served(&wechat, &file, &REAL).await;
    has_token(&sidecar, TWO.0).await;
    let line = sidecar
        .line(&format!("listening account=\"{}\"", TWO.0))
        .await;
    let (_, address) = line.split_once("address=").unwrap();
    let its_own = format!("http://{}", address.split_whitespace().next().unwrap());
    let (one, two) = (asked(&sidecar, ONE.0).await, asked(&sidecar, TWO.0).await);
    wechat.clear();
    let get = |base: &str, target: String| sidecar.client.get(format!("{base}{target}"));
    let url = &sidecar.url;
    let ways = |token: &str| {
        [
            get(url, with(token)).header("X-Wechat-Appid", TWO.0),
            get(url, format!("/{}{}", TWO.0, with(token))),
            get(
                url,
                format!("{}&access_token=sidecar-{}", with(token), TWO.0),
            ),
            get(&its_own, with(token)),
            get(url, format!("{}&access_token={two}", with(token))),
        ]
    };
    for call in ways(&one) {
        let reply = sidecar.send(call).await;
        assert_eq!(
            (reply.status, reply.errcode(), reply.marks()),
            (400, Some(990_406), vec!["error"]),
            "{}",
            reply.text()
        );
    }
    assert!(wechat.calls().is_empty());
    // The account's own token, and an unknown one, do not contradict the name.
    for token in [&two, &unknown()] {
        for call in ways(token) {
            assert_eq!(sidecar.send(call).await.json()["total"], 2);
        }
    }
    assert_eq!(whose(&wechat, &wechat.calls()), [TWO.0; 10]);
}

#[tokio::test]
async fn a_real_token_that_nobody_knows_is_over_so_that_the_sdk_asks_with_its_appid() {
    let wechat = fake().await;
    let sidecar = served_both(&wechat, &REAL).await;
    wechat.clear();
    let target = with(&unknown());
    is_over(&sidecar.get(&target).await);
    is_over(&sidecar.post(&target, "{\"a\":1}").await);
    // hyper reads this call, because it is not plain.
    let call = format!("GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let raw = sidecar.raw(call).await;
    assert!(
        raw.starts_with("HTTP/1.0 200") && raw.contains("42001"),
        "{raw}"
    );
    assert!(wechat.calls().is_empty() && wechat.token_requests().is_empty());
    let sample = "wechat_sidecar_calls_total{account=\"\",endpoint=\"other\",outcome=\"local\"}";
    assert_eq!(sidecar.metric(sample).await, 3.0);
    assert!(!sidecar.log().contains(&unknown()));

    let again = asked(&sidecar, TWO.0).await;
    let targets = [with(&again)];
    assert_eq!(sent_for(&sidecar, &wechat, &targets).await, [TWO.0]);
    // A call that names its account in another way is still sent.
    let targets = [format!("/crm{target}"), format!("/{}{target}", ONE.0)];
    assert_eq!(sent_for(&sidecar, &wechat, &targets).await, [TWO.0, ONE.0]);
}

#[tokio::test]
async fn without_a_default_account_a_token_that_nobody_knows_is_over_too() {
    let wechat = fake().await;
    let file = account(ONE, "") + &account(TWO, "");
    let (sidecar, _) = served(&wechat, &file, &[]).await;
    is_over(&sidecar.get(&with(&unknown())).await);
    assert_eq!(sidecar.get(&with("dummy")).await.errcode(), Some(990_406));
    assert_eq!(sidecar.get(GET).await.errcode(), Some(990_406));
}

#[tokio::test]
async fn a_short_dummy_goes_to_the_default_account() {
    let wechat = fake().await;
    let sidecar = served_both(&wechat, &[]).await;
    let targets = ["", "dummy", &"x".repeat(99), &format!("{}.", unknown())].map(with);
    assert_eq!(sent_for(&sidecar, &wechat, &targets).await, [ONE.0; 4]);
}

#[tokio::test]
async fn with_a_single_account_every_token_is_replaced() {
    let wechat = fake().await;
    for flags in [&REAL[..], &[]] {
        let (sidecar, _) = served(&wechat, &account(ONE, ""), flags).await;
        let others = wechat.token_of(TWO.0);
        let targets = [with(&unknown()), with(&others), with("dummy")];
        assert_eq!(sent_for(&sidecar, &wechat, &targets).await, [ONE.0; 3]);
    }
}

#[tokio::test]
async fn a_token_that_the_endpoint_takes_from_the_caller_passes() {
    let wechat = fake().await;
    let sidecar = served_both(&wechat, &REAL).await;
    let two = asked(&sidecar, TWO.0).await;
    wechat.clear();
    let user = wechat.user_token();
    let userinfo = |token: &str| format!("/sns/userinfo?access_token={token}&openid=oUser");
    let reply = sidecar.get(&userinfo(&user)).await;
    assert_eq!(reply.json()["openid"], "oUser", "{}", reply.text());
    let made = sidecar
        .post("/cgi-bin/component/api_component_token", "{}")
        .await;
    let component = made.json()["component_access_token"].clone();
    let component = component.as_str().unwrap();
    let of_a_platform =
        |token: &str| format!("/cgi-bin/component/api_query_auth?component_access_token={token}");
    let reply = sidecar.post(&of_a_platform(component), "{}").await;
    assert_eq!(reply.errcode(), Some(0), "{}", reply.text());
    // WeChat answers what is wrong with these.
    for target in [
        userinfo(&two),
        userinfo(&unknown()),
        of_a_platform(&two),
        format!("/cgi-bin/component/api_query_auth?access_token={two}"),
    ] {
        let header = sidecar.client.get(format!("{}{target}", sidecar.url));
        let reply = sidecar.send(header.header("X-Wechat-Appid", ONE.0)).await;
        assert_eq!(
            (reply.errcode(), reply.marks().is_empty()),
            (Some(40001), true)
        );
        assert_eq!(wechat.calls().last().unwrap().target, target);
    }
}

#[tokio::test]
async fn at_wecom_a_token_of_nobodys_passes_beside_accounts_of_wechat() {
    let wechat = fake().await;
    let secret = "55555555555555555555555555555555";
    let wecom = Wechat::with(Setup {
        refusal_chance: 0.0,
        ..Setup::wecom(&[secret])
    })
    .await;
    let corps = |more: &str| {
        format!(
            "[[accounts]]\nkind = 'wecom'\ncorpid = '{CORPID}'\nname = 'contacts'\nsecret = '{secret}'\n\
             upstream = '{}'\n{more}\n",
            wecom.url()
        )
    };
    let file = account(ONE, "default = true") + &corps("");
    let (sidecar, _) = served(&wechat, &file, &REAL).await;
    has_token(&sidecar, CORPID).await;
    wecom.clear();
    // WeCom judges tokens of other corps, and even one of WeChat's.
    for token in [unknown(), asked(&sidecar, ONE.0).await] {
        let reply = sidecar.get(&format!("/contacts{}", with(&token))).await;
        assert_eq!(reply.errcode(), Some(40014), "{}", reply.text());
        assert_eq!(wecom.calls().last().unwrap().target, with(&token));
    }
    assert!(wecom.token_requests().is_empty());
    drop(sidecar);

    let file = account(ONE, "") + &corps("default = true");
    let (sidecar, _) = served(&wechat, &file, &REAL).await;
    has_token(&sidecar, ONE.0).await;
    wecom.clear();
    let reply = sidecar.get(&with(&unknown())).await;
    assert_eq!(reply.errcode(), Some(40014), "{}", reply.text());
    assert_eq!(wecom.calls()[0].target, with(&unknown()));
    let its = asked(&sidecar, ONE.0).await;
    assert_eq!(sent_for(&sidecar, &wechat, &[with(&its)]).await, [ONE.0]);
}

#[tokio::test]
async fn tokens_stay_known_while_their_account_does_and_go_with_it() {
    let wechat = fake().await;
    let one = account(ONE, "default = true");
    let (sidecar, path) = served(&wechat, &both(), &REAL).await;
    has_token(&sidecar, TWO.0).await;
    let old = asked(&sidecar, TWO.0).await;
    wechat.rotate();
    assert_eq!(sidecar.get(&with(&old)).await.json()["total"], 2);
    let new = asked(&sidecar, TWO.0).await;
    assert_ne!(old, new);
    let targets = [with(&old), with(&new)];
    // The account is unchanged, then it has other rules, then a new keeper.
    for file in [
        both() + "# nothing else",
        one.clone() + &account(TWO, "deny = '/card/**'"),
        one.clone() + &account(TWO, "daily_fetches = 300"),
    ] {
        hang_up(&sidecar, &path, &file, "applied").await;
        assert_eq!(sent_for(&sidecar, &wechat, &targets).await, [TWO.0; 2]);
        assert!(wechat.token_requests().is_empty());
    }
    // Another account takes its place, and then it comes back.
    let three = one.clone() + &account(super::THREE, "");
    hang_up(&sidecar, &path, &three, "applied").await;
    for target in &targets {
        is_over(&sidecar.get(target).await);
    }
    hang_up(&sidecar, &path, &both(), "applied").await;
    has_token(&sidecar, TWO.0).await;
    is_over(&sidecar.get(&with(&old)).await);
    let its = asked(&sidecar, TWO.0).await;
    assert_eq!(sent_for(&sidecar, &wechat, &[with(&its)]).await, [TWO.0]);
}

#[tokio::test]
async fn a_token_that_a_file_holds_leads_to_its_account() {
    let wechat = fake().await;
    let token = wechat.token_of(TWO.0);
    let kept = json!({ "access_token": token, "expires_in": 7200 }).to_string();
    let file = sidecar::written("token.json", &kept);
    let more = format!(
        "[[accounts]]\nappid = '{}'\ntoken.source = 'file'\ntoken.file = '{file}'\n",
        TWO.0
    );
    let both = account(ONE, "default = true") + &more;
    let (sidecar, _) = served(&wechat, &both, &[]).await;
    has_token(&sidecar, TWO.0).await;
    assert_eq!(sent_for(&sidecar, &wechat, &[with(&token)]).await, [TWO.0]);
}
