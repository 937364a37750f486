//! The problems of an account: those that its calls met, and those that its parts are in.

use std::fmt::{self, Display};

use super::{Account, Options, SourceOptions};
use crate::{
    problems::{CredentialPlaces, Kind, Occurrence, OpenProblem, Standing},
    token::source::TokenError,
    wechat::errcode,
};

/// The cause of [`Kind::IpRejected`].
struct RejectedIp<'a> {
    code: i64,
    body: &'a [u8],
}

impl Display for RejectedIp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match errcode::ip(self.body) {
            Some(ip) => write!(f, "calls come from {ip}")?,
            None => f.write_str("calls come from an IP")?,
        }
        let code = self.code;
        write!(
            f,
            ", which is not on the account's whitelist (errcode {code})"
        )
    }
}

/// The cause of [`Kind::FetchCeiling`].
struct FetchesToday(u32);

impl Display for FetchesToday {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} token requests were made today", self.0)
    }
}

impl Account {
    /// All problems that it has now.
    pub fn problems(&self) -> Vec<OpenProblem> {
        self.observe();
        self.metrics.problems.open()
    }

    /// Asks its parts for the problems that are states of theirs, and no events of calls. To be called about once a
    /// second. While all is well, nothing is allocated and no text is made.
    pub fn observe(&self) {
        let status = self.keeper.status();
        let problems = &self.metrics.problems;
        let fetches = FetchesToday(status.fetches);
        let is_used_up = self.options.source == SourceOptions::Wechat
            && status.fetches >= self.options.daily_fetches;
        let ceiling = match is_used_up {
            true => Standing::There(&fetches),
            false => Standing::Gone,
        };
        // A file that is gone is told of while its last token still lives.
        let file = self.keeper.source().file_problem();
        let failed = status.error.as_ref().map(|failure| &failure.error);
        let failed = failed.or(file.as_ref());
        let (failed, ceiling) = match failed {
            None => (Standing::Gone, ceiling),
            Some(error @ TokenError::BudgetSpent(_)) => (Standing::Gone, Standing::There(error)),
            Some(error) => (Standing::There(error), ceiling),
        };
        problems.observe(Kind::TokenRequestFailed, failed);
        problems.observe(Kind::FetchCeiling, ceiling);
        let refused = match &status.known_dead {
            Some(dead) => Standing::There(dead),
            None => Standing::Gone,
        };
        problems.observe(Kind::TokenRefused, refused);
        let store = match self.keeper.source().store_is_available() {
            Some(false) => Standing::Stays,
            Some(true) | None => Standing::Gone,
        };
        problems.observe(Kind::StoreAway, store);
        let foreign = self.keeper.source().foreign_value();
        let value = match &foreign {
            Some(foreign) => Standing::There(foreign),
            None => Standing::Gone,
        };
        problems.observe(Kind::StoreValue, value);
    }

    /// Notes an error of WeChat's that is a problem, if `code` is one. `body` is that of the reply to a call to
    /// `endpoint`.
    pub fn note_errcode(&self, code: i64, endpoint: &'static str, body: &[u8]) {
        let Some(kind) = Kind::of_errcode(self.api, code) else {
            return;
        };
        let rid = errcode::rid(body);
        if kind == Kind::CallsQuota {
            self.metrics.quotas.hit(endpoint, code, rid);
        }
        let ip = RejectedIp { code, body };
        self.metrics.problems.occurred(
            kind,
            Occurrence {
                endpoint: Some(endpoint),
                errcode: Some(code),
                rid,
                cause: (kind == Kind::IpRejected).then_some(&ip as &dyn Display),
                ..Occurrence::default()
            },
        );
    }
}

impl Options {
    /// Where its AppID and secret were given.
    pub fn credential_places(&self) -> CredentialPlaces {
        CredentialPlaces {
            appid: self.appid_place.clone(),
            secret: self.secret.clone(),
        }
    }

    /// A failed token request as a sentence: the error, advice, and the place of what is wrong.
    pub fn explain(&self, error: &TokenError) -> String {
        match self.advice(error) {
            Some(advice) => format!("{error}; {advice}"),
            None => error.to_string(),
        }
    }

    /// What the operator can do about a failed token request, with the place of what is wrong.
    pub fn advice(&self, error: &TokenError) -> Option<String> {
        let wrong = error.wrong_credential();
        let place = wrong.and_then(|wrong| self.credential_places().name(wrong));
        match (error.advice().map(|advice| advice.en), place) {
            (Some(advice), Some(place)) => Some(format!("{advice}; {place}")),
            (advice, place) => advice.map(str::to_owned).or(place),
        }
    }
}
