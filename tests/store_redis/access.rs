//! What a user of Redis must be allowed, and how a sidecar logs in.

use std::{fs, path::Path};

use super::{TOKEN, call, fetches, sidecar, until};
use crate::support::{Redis, Sidecar, Wechat, sidecar::written};

/// The words of the ACL in the documents.
fn documented() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/replicas.md");
    let page = fs::read_to_string(page).unwrap();
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER "));
    line.unwrap().split(' ').map(str::to_owned).collect()
}

fn command(redis: &Redis, words: &[String]) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    redis.command(&words)
}

/// A sidecar that logs in as the documented user, to a database that is not the first.
async fn as_user(wechat: &Wechat, redis: &Redis, words: &[String]) -> Sidecar {
    let password = words
        .iter()
        .find_map(|word| word.strip_prefix('>'))
        .unwrap();
    let file = written("redis-user", &format!("{}:{password}", words[2]));
    let url = format!("{}/1", redis.url());
    let flags = ["--token-api", "classic", "--store", &url];
    let more = ["--store-password-file", &file];
    Sidecar::with(wechat, &[flags.as_slice(), &more].concat()).await
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn the_documented_acl_is_enough() {
    let (wechat, redis) = (Wechat::calm().await, Redis::start());
    let words = documented();
    command(&redis, &words);
    let sidecar = as_user(&wechat, &redis, &words).await;
    let token = call(&wechat, &sidecar).await;
    wechat.rotate();
    assert_ne!(call(&wechat, &sidecar).await, token);
    assert_eq!(fetches(&wechat), 2);
    let reply = sidecar.get("/cgi-bin/ticket/getticket?type=jsapi").await;
    assert_eq!(reply.errcode(), Some(0), "{}", reply.text());
    let denied: Vec<redis::Value> = redis.command(&["ACL", "LOG"]);
    assert!(denied.is_empty(), "{denied:?}");
    let log = sidecar.log();
    assert!(!log.contains("the store of shared tokens is away"), "{log}");
}

/// Redis 7.0 does not say which command it refused inside a script, but only the line.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_command_that_the_acl_forbids_is_named() {
    for (forbidden, says) in [
        ("-time", "TIME: allow +time"),
        ("-evalsha", "EVALSHA: allow +evalsha"),
        ("-select", "SELECT: allow +select"),
    ] {
        let (wechat, redis) = (Wechat::calm().await, Redis::start());
        let mut words = documented();
        words.push(forbidden.to_owned());
        command(&redis, &words);
        let mut sidecar = as_user(&wechat, &redis, &words).await;
        let line = sidecar.line("the store of shared tokens is away").await;
        assert!(line.contains(says), "{line}");
    }
    let (wechat, redis) = (Wechat::calm().await, Redis::start());
    let mut words = documented();
    words.extend(["resetkeys", "~wx:*"].map(str::to_owned));
    command(&redis, &words);
    let mut sidecar = as_user(&wechat, &redis, &words).await;
    let line = sidecar.line("the store of shared tokens is away").await;
    assert!(line.contains("ACL forbids a key"), "{line}");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn an_account_and_its_password_can_be_one_argument() {
    let password = "account:HUNTER2";
    let (wechat, redis) = (Wechat::calm().await, Redis::with_password(password));
    let file = written("redis-auth", "account:HUNTER2\n");
    let mut two = sidecar(&wechat, &redis, &["--store-password-file", &file]).await;
    let line = two.line("the store of shared tokens is away").await;
    assert!(line.contains("store-auth-file"), "{line}");
    drop(two);
    let one = sidecar(&wechat, &redis, &["--store-auth-file", &file]).await;
    let token = call(&wechat, &one).await;
    until("shared", || redis.get(TOKEN).as_ref() == Some(&token)).await;
    assert!(!one.log().contains("HUNTER"), "{}", one.log());
}
