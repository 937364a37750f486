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

const TEN_MINUTES: Duration = Duration::from_secs(600);

#[tokio::test(start_paused = true)]
async fn a_ticket_of_unknown_age_is_told_to_live_for_half_an_hour_though_wechat_says_7200() {
    let mut ticket = fetched("T", None);
    for _ in 0..30 {
        assert_eq!(ticket.expiry(), Expiry::Unknown);
        assert_eq!((ticket.remaining(), expires_in(&ticket)), (HOURS, 1800));
        advance(TEN_MINUTES).await;
        assert_eq!(expires_in(&ticket), 1800);
        ticket = fetched("T", Some(&ticket));
    }
    // WeChat does not answer any more.
    advance(HOURS - TEN_MINUTES).await;
    assert_eq!(expires_in(&ticket), 600);
}

#[tokio::test(start_paused = true)]
async fn another_ticket_is_as_old_as_the_last_request_at_most() {
    let first = fetched("T1", None);
    advance(TEN_MINUTES).await;
    let mut second = fetched("T2", Some(&first));
    assert_eq!(second.expiry(), Expiry::Known);
    assert_eq!(
        (second.remaining(), expires_in(&second)),
        (HOURS - TEN_MINUTES, 6600)
    );
    // It stays the same, and its end stays as well.
    for left in [4800, 3000, 1200] {
        advance(3 * TEN_MINUTES).await;
        second = fetched("T2", Some(&second));
        assert_eq!(
            (second.expiry(), expires_in(&second)),
            (Expiry::Known, left)
        );
    }
    // It was created a little later than it could be: each time it is returned, it is trusted for a moment.
    for _ in 0..3 {
        advance(3 * TEN_MINUTES).await;
        second = fetched("T2", Some(&second));
        assert_eq!(
            (second.remaining(), second.expiry()),
            (TICKET_VOUCHED, Expiry::Known)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_was_seen_long_after_the_last_request_tells_no_age() {
    let first = fetched("T1", None);
    advance(HOURS * 3 / 4).await;
    let second = fetched("T2", Some(&first));
    assert_eq!(
        (second.expiry(), expires_in(&second)),
        (Expiry::Known, 1800)
    );
    advance(Duration::from_secs(1)).await;
    for _ in 0..2 {
        let second = fetched("T2", Some(&first));
        assert_eq!(
            (second.expiry(), expires_in(&second)),
            (Expiry::Unknown, 1800)
        );
        advance(HOURS * 10).await;
    }
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
    let Err(TokenError::Errcode { code, message, .. }) = parse_ticket(Api::Wechat, body, None)
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
