//! Tells the account's problems of failed requests for a token or a ticket, and of revoked tokens.

use crate::{
    metrics::Kept,
    problems::{Kind, Occurrence, Problems},
    token::source::TokenError,
    wechat::errcode,
};

/// A request for what is `kept` failed with `error`.
pub(super) fn failed(problems: &Problems, kept: Kept, error: &TokenError) {
    let kind = match (kept, error) {
        // The token's keeper tells of that.
        (Kept::Ticket, TokenError::WithoutToken(_)) => return,
        (Kept::Ticket, _) => Kind::TicketRequestFailed,
        (Kept::Token, TokenError::BudgetSpent(_)) => Kind::FetchCeiling,
        (Kept::Token, _) => Kind::TokenRequestFailed,
    };
    let sentence = error.to_string();
    problems.occurred(
        kind,
        Occurrence {
            errcode: error.code(),
            rid: errcode::rid(sentence.as_bytes()),
            cause: Some(&sentence),
            advice: error.advice(),
            wrong: error.wrong_credential(),
            ..Occurrence::default()
        },
    );
}

/// WeChat refused the token and issued another one, again and again.
pub(super) fn revoked(problems: &Problems) {
    problems.occurred(Kind::TokenRevoked, Occurrence::default());
}
