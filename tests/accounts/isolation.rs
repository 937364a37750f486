//! The trouble of one account does not affect the others.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::{GET, ONE, TWO, account, has_token, served};
use crate::support::{Sidecar, sidecar};

/// This is far longer than a call takes here, and far shorter than any wait for a token.
const SOON: Duration = Duration::from_secs(3);

/// Makes calls for the account that works, while others are in trouble.
async fn works(sidecar: &Sidecar, target: &str) {
    for _ in 0..20 {
        let started = Instant::now();
        let reply = timeout(SOON, sidecar.get(target)).await;
        let reply = reply.unwrap_or_else(|_| panic!("slow:\n{}", sidecar.log()));
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(started.elapsed() < SOON);
    }
    assert_eq!(
        sidecar
            .admin(&format!("/readyz?account={}", ONE.0))
            .await
            .status,
        200
    );
}

fn two_accounts() -> String {
    account(ONE, "default = true") + &account(TWO, "")
}

#[tokio::test]
async fn a_frozen_secret_is_one_accounts_trouble() {
    let wechat = super::wechat().await;
    wechat.change(|behaviour| {
        behaviour.token_errcode_of.insert(TWO.0.to_owned(), 40243);
    });
    let (sidecar, _) = served(&wechat, &two_accounts(), &[]).await;
    let of_two = format!("/{}{GET}", TWO.0);
    let refused = sidecar.get(&of_two).await;
    assert_eq!((refused.status, refused.errcode()), (503, Some(990_503)));
    works(&sidecar, GET).await;
    assert_eq!(sidecar.admin("/readyz").await.status, 200);
    assert_eq!(
        sidecar
            .admin(&format!("/readyz?account={}", TWO.0))
            .await
            .status,
        503
    );
}

#[tokio::test]
async fn calls_that_wait_for_one_accounts_token_leave_room_for_the_others() {
    let wechat = super::wechat().await;
    wechat.change(|behaviour| behaviour.token_stall_of.push(TWO.0.to_owned()));
    // There are far more calls than connections.
    let flags = ["--max-connections", "64", "--max-upstream", "16"];
    let (sidecar, _) = served(&wechat, &two_accounts(), &flags).await;
    let of_two = format!("/{}{GET}", TWO.0);
    // Each call has a connection of its own, which is closed after the reply.
    let client = sidecar::client();
    let url = format!("{}{of_two}", sidecar.url);
    let waiting = (0..200).map(|_| client.get(&url).header("Connection", "close"));
    let waiting = join_all(waiting.map(|call| sidecar.send(call)));
    let others = async {
        // Give the other calls time to arrive first.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let started = Instant::now();
        works(&sidecar, GET).await;
        started.elapsed()
    };
    let (replies, took) = tokio::join!(waiting, others);
    assert!(took < SOON, "{took:?}");
    for reply in replies {
        assert_eq!(
            (reply.status, reply.errcode()),
            (503, Some(990_503)),
            "{}",
            reply.text()
        );
        assert!(reply.header("retry-after").is_some());
    }
}

#[tokio::test]
async fn a_hopeless_path_of_one_account_is_not_hopeless_for_another() {
    let wechat = super::wechat().await;
    let (sidecar, _) = served(&wechat, &two_accounts(), &[]).await;
    has_token(&sidecar, TWO.0).await;
    // The path refuses the second account only, which has no permission for it.
    wechat.change(|behaviour| {
        behaviour
            .refuse_always_of
            .push((TWO.0.to_owned(), GET.to_owned()))
    });
    let of_two = format!("/{}{GET}", TWO.0);
    for _ in 0..30 {
        assert_eq!(sidecar.get(&of_two).await.errcode(), Some(40001));
    }
    wechat.clear();
    works(&sidecar, GET).await;
    assert!(wechat.token_requests().is_empty());
    let remembered = format!(
        "wechat_sidecar_calls_total{{account=\"{}\",endpoint=\"{GET}\",outcome=\"remembered\"}}",
        ONE.0
    );
    assert_eq!(sidecar.metric(&remembered).await, 0.0);
}

#[tokio::test]
async fn a_secret_file_that_hangs_is_one_accounts_trouble() {
    let wechat = super::wechat().await;
    // A pipe that has no writer blocks its reader for ever.
    let pipe = sidecar::temporary("pipe");
    std::fs::write(&pipe, TWO.1).unwrap();
    let two = format!(
        "[[accounts]]\nappid = '{}'\nsecret_file = '{}'\n",
        TWO.0,
        pipe.display()
    );
    let (sidecar, _) = served(&wechat, &(account(ONE, "default = true") + &two), &[]).await;
    has_token(&sidecar, TWO.0).await;
    std::fs::remove_file(&pipe).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    wechat.rotate();
    // The request uses the last secret that could be read.
    let of_two = format!("/{}{GET}", TWO.0);
    assert_eq!(sidecar.get(&of_two).await.status, 200);
    works(&sidecar, GET).await;
    wechat.rotate();
    works(&sidecar, GET).await;
}
