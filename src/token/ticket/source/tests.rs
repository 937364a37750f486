//! Tests of replies to ticket requests, and of the lifetimes of tickets.

use tokio::time::advance;

use super::*;
use crate::token::ticket::expires_in;

const HOURS: Duration = Duration::from_secs(7200);

fn reply(ticket: &str) -> String {
    format!(r#"{{"errcode":0,"errmsg":"ok","ticket":"{ticket}","expires_in":7200}}"#)
}

fn fetched(ticket: &str, before: Option<&Token>) -> Token {
    parse_ticket(Api::Wechat, reply(ticket).as_bytes(), before).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_ticket_that_comes_again_is_as_old_as_it_was_though_wechat_says_7200() {
    let mut ticket = fetched("T", None);
    assert_eq!((ticket.lifetime(), expires_in(&ticket)), (HOURS, 5400));
    for left in [5400, 3600, 1800] {
        advance(Duration::from_secs(1800)).await;
        ticket = fetched("T", Some(&ticket));
        assert_eq!(ticket.remaining().as_secs(), left);
        assert_eq!(expires_in(&ticket), left * 3 / 4);
    }
    // It does not expire when it should: each time it is returned, it is trusted for a minute.
    for _ in 0..3 {
        advance(Duration::from_secs(1800)).await;
        ticket = fetched("T", Some(&ticket));
        assert_eq!(ticket.remaining(), VOUCHED);
    }
}

#[tokio::test(start_paused = true)]
async fn another_ticket_may_be_as_old_as_the_last_fetch() {
    let first = fetched("T1", None);
    advance(Duration::from_secs(600)).await;
    assert_eq!(fetched("T2", Some(&first)).remaining().as_secs(), 6600);
    advance(Duration::from_secs(6500)).await;
    assert_eq!(fetched("T2", Some(&first)).remaining().as_secs(), 3600);
    advance(HOURS).await;
    assert_eq!(fetched("T2", Some(&first)).remaining(), HOURS);
}

#[test]
fn only_a_ticket_with_a_life_is_a_ticket() {
    for nonsense in [
        "",
        "<html>",
        "{}",
        r#"{"ticket":"T"}"#,
        r#"{"ticket":"","expires_in":7200}"#,
        r#"{"ticket":"T","expires_in":0}"#,
        r#"{"ticket":7,"expires_in":7200}"#,
    ] {
        let error = parse_ticket(Api::Wechat, nonsense.as_bytes(), None).unwrap_err();
        assert!(matches!(error, TokenError::Invalid(_)), "{nonsense}");
    }
    let lenient = br#"{"ticket":"T","expires_in":"60"}"#;
    let ticket = parse_ticket(Api::Wecom, lenient, None).unwrap();
    assert_eq!(ticket.lifetime().as_secs(), 60);
}

#[test]
fn an_error_keeps_its_code_and_its_message_and_is_remembered_by_its_kind() {
    let body = br#"{"errcode":48001,"errmsg":"api unauthorized\n rid: 1"}"#;
    let Err(TokenError::Refused { code, message, .. }) = parse_ticket(Api::Wechat, body, None)
    else {
        panic!()
    };
    assert_eq!((code, &*message), (48001, "api unauthorized rid: 1"));
    for (api, code, expected) in [
        (Api::Wechat, -1, TokenErrorKind::Busy),
        (Api::Wechat, 40001, TokenErrorKind::Busy),
        (Api::Wechat, 45009, TokenErrorKind::DailyQuota),
        (Api::Wecom, 45009, TokenErrorKind::MinuteQuota),
        (Api::Wecom, 60020, TokenErrorKind::NotWhitelisted),
        (Api::Wechat, 48001, TokenErrorKind::Unknown),
    ] {
        assert_eq!(error_kind(api, code), expected, "{code}");
    }
}
