//! What other programs leave under the keys that they share with the sidecar.

use std::time::Duration;

use super::{call, fetches, mint, sidecar, until};
use crate::support::{APPID, Redis, Sidecar, Wechat, sidecar as process};

const WXJAVA: [&str; 2] = ["--store-format", "wxjava"];

/// Writes bytes, as Lua escapes them.
fn write(redis: &Redis, key: &str, escaped: &str) {
    let script = format!("return redis.call('SET', KEYS[1], '{escaped}', 'PX', 3600000)");
    let () = redis.command(&["EVAL", &script, "1", key]);
}

/// Listening, and perhaps without a token.
async fn unready(wechat: &Wechat, redis: &Redis, more: &[&str]) -> Sidecar {
    let url = redis.url();
    let mut flags = vec!["--token-api", "classic", "--store", &url];
    flags.extend_from_slice(more);
    Sidecar::unready(wechat, &flags, &[]).await
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn beside_what_is_no_token_nothing_is_fetched_until_it_is_gone() {
    let key = format!("wx:access_token:{APPID}");
    for (written, says) in [
        // As Redisson's default codec writes a string.
        ("\\3\\1\\138HUNTER2-77", "StringCodec for Redisson"),
        ("two words HUNTER2", "a text of 17 bytes"),
        ("\"HUNTER2\"", "JSON"),
        ("", "a hash instead of a string"),
    ] {
        let (wechat, redis) = (Wechat::calm().await, Redis::start());
        match written {
            "" => redis.command::<()>(&["HSET", &key, "token", "HUNTER2"]),
            written => write(&redis, &key, written),
        }
        let before: Vec<u8> = redis.command(&["DUMP", &key]);
        let mut sidecar = unready(&wechat, &redis, &WXJAVA).await;
        let line = sidecar.line("kind=\"store_value\"").await;
        assert!(line.contains(says) && line.contains(&key), "{line}");
        assert!(line.contains("delete the key"), "{line}");
        let reply = sidecar.post("/cgi-bin/message/custom/send", "{}").await;
        let text = reply.text();
        assert_eq!(reply.errcode(), Some(990503), "{text}");
        assert!(text.contains(says), "{text}");
        assert_eq!(sidecar.admin("/readyz").await.status, 503);
        assert!(!sidecar.log().contains("HUNTER2"));
        assert_eq!(redis.command::<Vec<u8>>(&["DUMP", &key]), before);
        assert_eq!(fetches(&wechat), 0);

        let () = redis.command(&["DEL", &key]);
        sidecar.until_ready().await;
        assert_eq!(redis.get(&key).unwrap(), call(&wechat, &sidecar).await);
        assert_eq!(fetches(&wechat), 1);
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_token_is_not_replaced_beside_what_is_no_token() {
    let (wechat, redis) = (Wechat::calm().await, Redis::start());
    let key = format!("wx:access_token:{APPID}");
    let sidecar = sidecar(&wechat, &redis, &WXJAVA).await;
    call(&wechat, &sidecar).await;
    write(&redis, &key, "\\4\\9>\\4some");
    wechat.rotate();
    let reply = sidecar.post("/cgi-bin/message/custom/send", "{}").await;
    assert_eq!(reply.errcode(), Some(40001), "{}", reply.text());
    assert_eq!(fetches(&wechat), 1);
    let accounts = sidecar.admin("/accounts").await.text();
    assert!(accounts.contains(r#""store_answers":true"#), "{accounts}");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_placeholder_in_the_tokens_place_is_replaced_with_a_warning() {
    let placeholder = format!("sidecar-{APPID}");
    for (format, key, written) in [
        ("own", super::TOKEN.to_owned(), placeholder.clone()),
        (
            "wxjava",
            format!("wx:access_token:{APPID}"),
            placeholder.clone(),
        ),
        (
            "wechatpy",
            format!("wechatpy:{APPID}_access_token"),
            format!("\"{placeholder}\""),
        ),
    ] {
        let (wechat, redis) = (Wechat::calm().await, Redis::start());
        redis.set(&key, &written, Duration::from_secs(7000));
        let mut sidecar = sidecar(&wechat, &redis, &["--store-format", format]).await;
        let token = call(&wechat, &sidecar).await;
        let holds = |token: &str| redis.get(&key).is_some_and(|text| text.contains(token));
        assert!(holds(&token), "{format}");
        let line = sidecar.line("placeholder of the sidecar's").await;
        assert!(
            line.contains("another prefix") && line.contains(&key),
            "{line}"
        );

        if format != "wxjava" {
            continue;
        }
        // Once more, while the token is in hand.
        redis.set(&key, &written, Duration::from_secs(7000));
        until("restored", || holds(&token)).await;
        assert_eq!(call(&wechat, &sidecar).await, token);
        assert_eq!(fetches(&wechat), 1);
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_fetch_waits_while_wxjava_has_its_lock() {
    let (wechat, redis) = (Wechat::calm().await, Redis::start());
    let lock = format!("wx:lock:{APPID}:accessTokenLock");
    // A lock of Redisson's is a hash, one of Spring's and of Jedis a string.
    let () = redis.command(&["HSET", &lock, "0b5c:47", "1"]);
    let sidecar = unready(&wechat, &redis, &WXJAVA).await;
    let waits = format!("wechat_sidecar_store_events_total{{account=\"{APPID}\",event=\"wait\"}}");
    sidecar.becomes(&waits, 1.0).await;
    let theirs = mint(&wechat).await;
    let key = format!("wx:access_token:{APPID}");
    redis.set(&key, &theirs, Duration::from_secs(7000));
    let () = redis.command(&["DEL", &lock]);
    sidecar.until_ready().await;
    assert_eq!(call(&wechat, &sidecar).await, theirs);
    assert_eq!(fetches(&wechat), 1);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn an_account_has_a_prefix_of_its_own() {
    let (wechat, redis) = (Wechat::calm().await, Redis::start());
    let other = ("wx00000000000000a1", "11111111111111111111111111111111");
    wechat.set_secret(other.0, other.1);
    let table = |(appid, secret): (&str, &str), more: &str| {
        format!("[[accounts]]\nappid = '{appid}'\nsecret = '{secret}'\n{more}\n")
    };
    let file = format!(
        "token-api = 'classic'\nstore = '{}'\nstore-format = 'wxjava'\n{}{}",
        redis.url(),
        table((APPID, crate::support::SECRET), "default = true"),
        table(other, "store_prefix = 'wa'"),
    );
    let mut command = process::command();
    command.args(["--config", &process::written("accounts.toml", &file)]);
    command.args(["--upstream", &wechat.url()]);
    let sidecar = Sidecar::spawn(command, Some(wechat.clone())).await;
    sidecar.until_ready().await;
    for key in [
        format!("wx:access_token:{APPID}"),
        format!("wa:access_token:{}", other.0),
    ] {
        until("shared", || redis.get(&key).is_some()).await;
    }
}
