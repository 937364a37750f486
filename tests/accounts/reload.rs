//! Accounts are added and removed while calls go on.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::time::sleep;

use super::{GET, ONE, THREE, TWO, account, has_token, served, whose};
use crate::support::{Sidecar, sidecar};

/// Replaces a file in one step.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

/// Replaces the file, sends SIGHUP, and waits for this outcome.
pub(super) async fn hang_up(sidecar: &Sidecar, path: &Path, text: &str, outcome: &str) {
    let sample = format!("wechat_sidecar_config_reloads_total{{outcome=\"{outcome}\"}}");
    let before = sidecar.metric(&sample).await;
    replace(path, text);
    sidecar.signal("-HUP");
    sidecar.becomes(&sample, before + 1.0).await;
}

#[tokio::test]
async fn accounts_come_change_and_go_on_a_hang_up() {
    let wechat = super::wechat().await;
    let one = account(ONE, "default = true");
    let (sidecar, path) = served(&wechat, &one, &[]).await;
    let of_two = format!("/{}{GET}", TWO.0);
    assert_eq!(sidecar.get(&of_two).await.errcode(), Some(990_404));

    hang_up(
        &sidecar,
        &path,
        &(one.clone() + &account(TWO, "")),
        "applied",
    )
    .await;
    assert_eq!(sidecar.get(&of_two).await.status, 200);
    let requests = wechat.token_requests().len();

    // The rules, the name and the default change. The token stays.
    let changed =
        account(ONE, "") + &account(TWO, "name = 'crm'\ndefault = true\ndeny = '/card/**'");
    hang_up(&sidecar, &path, &changed, "applied").await;
    wechat.clear();
    for target in [GET, &format!("/crm{GET}"), &of_two] {
        assert_eq!(sidecar.get(target).await.status, 200, "{target}");
    }
    assert_eq!(whose(&wechat, &wechat.calls()), [TWO.0; 3]);
    assert_eq!(sidecar.get("/card/get").await.errcode(), Some(990_405));
    assert!(wechat.token_requests().is_empty() && requests == 2);

    // The counters continue.
    let sample = format!(
        "wechat_sidecar_account_selections_total{{account=\"{}\",name=\"crm\",way=\"path\"}}",
        TWO.0
    );
    assert_eq!(sidecar.metric(&sample).await, 3.0);

    hang_up(&sidecar, &path, &account(TWO, ""), "applied").await;
    assert_eq!(
        sidecar.get(&format!("/{}{GET}", ONE.0)).await.errcode(),
        Some(990_404)
    );
    assert_eq!(sidecar.get(GET).await.status, 200);
    assert_eq!(
        sidecar.admin("/accounts").await.json()["accounts"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert!(wechat.token_requests().is_empty());
}

#[tokio::test]
async fn another_secret_is_used_at_once_and_the_token_in_hand_until_then() {
    let wechat = super::wechat().await;
    let (sidecar, path) = served(&wechat, &account(ONE, ""), &[]).await;
    let token = wechat.token_of(ONE.0);
    wechat.set_secret(ONE.0, "44444444444444444444444444444444");
    wechat.clear();
    hang_up(
        &sidecar,
        &path,
        &account((ONE.0, "44444444444444444444444444444444"), ""),
        "applied",
    )
    .await;
    assert_eq!(sidecar.get(GET).await.status, 200);
    assert_eq!(wechat.calls()[0].token.as_ref(), Some(&token));
    assert!(wechat.token_requests().is_empty());
    wechat.rotate();
    assert_eq!(sidecar.get(GET).await.status, 200);
    let [request] = &wechat.token_requests()[..] else {
        panic!("{:?}", wechat.token_requests())
    };
    assert!(request.secret_ok);

    // A wrong secret is used, and the right one ends the wait for another attempt.
    hang_up(&sidecar, &path, &account((ONE.0, "wrong"), ""), "applied").await;
    wechat.rotate();
    wechat.clear();
    sidecar.get(GET).await;
    assert!(
        wechat
            .token_requests()
            .iter()
            .all(|request| !request.secret_ok)
    );
    hang_up(
        &sidecar,
        &path,
        &account((ONE.0, "44444444444444444444444444444444"), ""),
        "applied",
    )
    .await;
    assert_eq!(sidecar.get(GET).await.status, 200);
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_why() {
    let wechat = super::wechat().await;
    let one = account(ONE, "");
    let (mut sidecar, path) = served(&wechat, &one, &[]).await;
    wechat.clear();
    for (bad, says) in [
        ("[[accounts]]\nappid = 'HUNTER2".to_owned(), "not TOML"),
        (String::new(), "WECHAT_APPID"),
        (one.clone() + "secrets = 'HUNTER2'", "did you mean secret?"),
        (
            one.clone() + &account(ONE, ""),
            "another account has this AppID",
        ),
        (
            one.clone() + &account(TWO, "secret_file = '/HUNTER2'"),
            "keep one of them",
        ),
        (
            one.clone() + &account(TWO, "listen = 'unix:/nowhere/at/all.sock'"),
            "cannot be listened on",
        ),
    ] {
        hang_up(&sidecar, &path, &bad, "rejected").await;
        let page = sidecar.admin("/accounts").await.json();
        let error = page["configuration"]["last_error"].as_str().unwrap();
        assert!(
            error.contains(says) && !error.contains("HUNTER2"),
            "{error}"
        );
        assert_eq!(page["accounts"].as_array().unwrap().len(), 1);
        assert_eq!(sidecar.get(GET).await.status, 200, "{bad}");
    }
    fs::remove_file(&path).unwrap();
    sidecar.signal("-HUP");
    sidecar.line("nothing was changed").await;
    assert_eq!(sidecar.get(GET).await.status, 200);
    // A valid file is accepted again, and nothing is logged if nothing changed.
    hang_up(&sidecar, &path, &one, "applied").await;
    let page = sidecar.admin("/accounts").await.json();
    assert_eq!(page["configuration"]["last_error"], json!(null));
    assert!(wechat.token_requests().is_empty());
    assert!(!sidecar.log().contains("HUNTER2") && !sidecar.log().contains(ONE.1));
}

#[tokio::test]
async fn what_takes_a_restart_is_named() {
    let wechat = super::wechat().await;
    let (mut sidecar, path) = served(&wechat, &account(ONE, ""), &[]).await;
    let more = "replay-limit = '1KiB'\nadmin = '127.0.0.1:1'\ndeny = '/card/**'\n";
    hang_up(
        &sidecar,
        &path,
        &(more.to_owned() + &account(ONE, "")),
        "applied",
    )
    .await;
    // A flag overrides the admin port of the file.
    let line = sidecar.line("takes a restart").await;
    assert!(
        line.contains("replay-limit") && !line.contains("admin"),
        "{line}"
    );
    let page = sidecar.admin("/accounts").await.json();
    assert_eq!(
        page["configuration"]["keys_that_need_a_restart"],
        json!(["replay-limit"])
    );
    assert_eq!(sidecar.get("/card/get").await.errcode(), Some(990_405));
}

#[tokio::test]
async fn a_changed_file_is_noticed_even_behind_the_links_of_a_config_map() {
    let wechat = super::wechat().await;
    // The kubelet mounts it like this: config.toml -> ..data/config.toml, ..data -> ..1
    let folder = sidecar::temporary("mount");
    let version = |name: &str, text: &str| {
        fs::create_dir_all(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("config.toml"), text).unwrap();
    };
    version("..1", &account(ONE, "default = true"));
    symlink("..1", folder.join("..data")).unwrap();
    symlink("..data/config.toml", folder.join("config.toml")).unwrap();
    let mut command = sidecar::command();
    let path = folder.join("config.toml");
    command.args(["--upstream", &wechat.url()]);
    command.env("WECHAT_SIDECAR_CONFIG", &path);
    let sidecar = Sidecar::spawn(command, Some(wechat.clone())).await;
    sidecar.until_ready().await;

    version("..2", &(account(ONE, "default = true") + &account(TWO, "")));
    symlink("..2", folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    fs::remove_dir_all(folder.join("..1")).unwrap();
    let sample = "wechat_sidecar_config_reloads_total{outcome=\"applied\"}";
    sidecar.becomes(sample, 1.0).await;
    assert_eq!(sidecar.get(&format!("/{}{GET}", TWO.0)).await.status, 200);
}

#[tokio::test]
async fn listeners_of_accounts_open_move_and_close() {
    let wechat = super::wechat().await;
    let port = || {
        std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    };
    let (first, second) = (port(), port());
    let on = |address: std::net::SocketAddr| format!("listen = '{address}'");
    let (sidecar, path) = served(&wechat, &(account(ONE, "") + &account(TWO, "")), &[]).await;
    has_token(&sidecar, ONE.0).await;
    has_token(&sidecar, TWO.0).await;
    // Connections are not kept, so each call shows which listener is open now.
    let get = async |address: std::net::SocketAddr| {
        let call = sidecar::client().get(format!("http://{address}{GET}"));
        sidecar.try_send(call).await.map(|reply| reply.status)
    };
    assert!(get(first).await.is_err());
    hang_up(
        &sidecar,
        &path,
        &(account(ONE, &on(first)) + &account(TWO, "")),
        "applied",
    )
    .await;
    wechat.clear();
    assert_eq!(get(first).await.unwrap(), 200);
    // The address moves to the other account, and there is one more.
    hang_up(
        &sidecar,
        &path,
        &(account(ONE, &on(second)) + &account(TWO, &on(first))),
        "applied",
    )
    .await;
    assert_eq!(
        (get(first).await.unwrap(), get(second).await.unwrap()),
        (200, 200)
    );
    assert_eq!(whose(&wechat, &wechat.calls()), [ONE.0, TWO.0, ONE.0]);
    hang_up(&sidecar, &path, &account(TWO, &on(first)), "applied").await;
    assert_eq!(get(first).await.unwrap(), 200);
    while get(second).await.is_ok() {
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_removed_accounts_call_in_flight_is_finished() {
    let wechat = super::wechat().await;
    wechat.change(|behaviour| behaviour.reply_delay = Duration::from_secs(2));
    let (sidecar, path) = served(
        &wechat,
        &(account(ONE, "default = true") + &account(TWO, "")),
        &[],
    )
    .await;
    has_token(&sidecar, TWO.0).await;
    wechat.clear();
    let target = format!("/{}{GET}", TWO.0);
    let (reply, ()) = tokio::join!(sidecar.get(&target), async {
        wechat.wait_until(|wechat| wechat.calls().len() == 1).await;
        hang_up(&sidecar, &path, &account(ONE, ""), "applied").await;
        assert_eq!(sidecar.get(&target).await.errcode(), Some(990_404));
    });
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[tokio::test]
async fn no_call_is_dropped_while_accounts_come_and_go() {
    let wechat = super::wechat().await;
    let (one, two, three) = (
        account(ONE, "default = true"),
        account(TWO, "name = 'crm'"),
        account(THREE, "deny = '/card/**'"),
    );
    let (sidecar, path) = served(&wechat, &(one.clone() + &two), &[]).await;
    has_token(&sidecar, TWO.0).await;
    let sidecar = Arc::new(sidecar);
    let (over, calls) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let apps: Vec<_> = [
        GET.to_owned(),
        format!("/{}{GET}", TWO.0),
        format!("{GET}?access_token=sidecar-{}", TWO.0),
    ]
    .into_iter()
    .map(|target| {
        let (sidecar, over, calls) = (sidecar.clone(), over.clone(), calls.clone());
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let reply = sidecar.get(&target).await;
                assert_eq!(reply.status, 200, "{}", reply.text());
                calls.fetch_add(1, Ordering::Relaxed);
            }
        })
    })
    .collect();
    for round in 0..30 {
        let text = match round % 3 {
            0 => one.clone() + &two + &three,
            1 => account(ONE, "default = true\ndeny = '/card/**'") + &account(TWO, ""),
            _ => three.clone() + &two + &one,
        };
        hang_up(&sidecar, &path, &text, "applied").await;
    }
    over.store(true, Ordering::Relaxed);
    for app in apps {
        app.await.unwrap();
    }
    assert!(calls.load(Ordering::Relaxed) > 100, "{calls:?}");
    let of_two = wechat
        .token_requests()
        .into_iter()
        .filter(|request| request.appid.as_deref() == Some(TWO.0));
    assert_eq!(of_two.count(), 1);
    Arc::into_inner(sidecar).unwrap();
}

#[tokio::test]
async fn accounts_that_change_places_keep_their_tokens_and_the_order_is_the_files() {
    let wechat = super::wechat().await;
    let all: Vec<(String, String)> = (0..24)
        .map(|at| (format!("wx{at:016x}"), format!("{at:032x}")))
        .collect();
    for (appid, secret) in &all {
        wechat.set_secret(appid, secret);
    }
    let table = |at: usize, more: &str| account((&all[at].0, &all[at].1), more);
    let file = |order: &[usize]| order.iter().map(|at| table(*at, "")).collect::<String>();
    let first: Vec<usize> = (0..20).collect();
    let (sidecar, path) = served(&wechat, &file(&first), &[]).await;
    for at in &first {
        has_token(&sidecar, &all[*at].0).await;
    }
    wechat.clear();
    // Three are removed, one of the others changes, and four come.
    let second: Vec<usize> = (3..24).rev().collect();
    let changed = file(&second[..20]) + &table(3, "name = 'crm'");
    hang_up(&sidecar, &path, &changed, "applied").await;
    assert!(sidecar.log().contains("added=4 changed=1 removed=3"));
    for (appid, _) in &all[20..] {
        has_token(&sidecar, appid).await;
    }
    assert_eq!(wechat.token_requests().len(), 4);
    let accounts = sidecar.admin("/accounts").await.json();
    let listed = accounts["accounts"].as_array().unwrap().clone();
    let listed: Vec<_> = listed.iter().map(|one| one["appid"].clone()).collect();
    let order: Vec<_> = second.iter().map(|at| json!(all[*at].0)).collect();
    assert_eq!(listed, order);
    for at in second {
        assert_eq!(
            sidecar.get(&format!("/{}{GET}", all[at].0)).await.status,
            200
        );
    }
    assert_eq!(
        sidecar.get(&format!("/{}{GET}", all[0].0)).await.errcode(),
        Some(990_404)
    );
}
