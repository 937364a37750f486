//! A problem as the log, the admin port and `check` tell of it.

use tokio::time::{Duration, Instant};

use super::{Kind, WrongCredential, phase::Notice};
use crate::lang::{Lang, Text};

/// An open problem, for those who ask.
#[derive(Clone, Debug)]
pub struct OpenProblem {
    /// Its kind.
    pub kind: Kind,
    /// The account's id; `None` if it is the process's.
    pub account: Option<String>,
    /// How long it has been there.
    pub lasts: Duration,
    /// How often it occurred.
    pub count: u64,
    /// The labels of the endpoints that it concerns most.
    pub endpoints: Vec<&'static str>,
    /// The last error code.
    pub errcode: Option<i64>,
    /// The last rid.
    pub rid: Option<String>,
    /// The last cause.
    pub cause: Option<String>,
    /// Whose fault it is, and what to do.
    pub advice: Text,
    /// What of the account's configuration is wrong, and where that was read from.
    pub wrong: Option<(WrongCredential, String)>,
}

/// A problem that is over.
#[derive(Clone, Debug)]
pub struct PastProblem {
    /// What was known of it at its end.
    pub problem: OpenProblem,
    /// When it ended.
    pub ended_at: Instant,
}

impl OpenProblem {
    /// What is wrong and why, on one line.
    pub fn sentence(&self) -> String {
        self.sentence_in(Lang::En)
    }

    /// The same in `lang`. The cause is in English.
    pub fn sentence_in(&self, lang: Lang) -> String {
        let title = self.kind.title_in(lang);
        match (&self.cause, lang) {
            (Some(cause), Lang::En) => format!("{title}: {cause}"),
            (Some(cause), Lang::Zh) => format!("{title}：{cause}"),
            (None, _) => title.to_owned(),
        }
    }

    /// Whose fault it is, what to do, and where what is wrong was read from.
    pub fn advice_in(&self, lang: Lang) -> String {
        let advice = self.advice.of(lang);
        let place = self.wrong.as_ref();
        let place = place.map(|(wrong, place)| wrong.read_from(place, lang));
        match (place, lang) {
            (Some(place), Lang::En) => format!("{advice}; {place}"),
            (Some(place), Lang::Zh) => format!("{advice}；{place}"),
            (None, _) => advice.to_owned(),
        }
    }

    /// Tells the log.
    pub(super) fn log(&self, notice: Notice) {
        // The log tells of its own dropped lines, also where there are no problems, as in the webhook.
        if self.kind == Kind::LogDropped {
            return;
        }
        let (account, kind) = (self.account.as_deref(), self.kind.label());
        let endpoint = (!self.endpoints.is_empty()).then(|| self.endpoints.join(" "));
        let endpoint = endpoint.as_deref();
        let (errcode, rid) = (self.errcode, self.rid.as_deref());
        let (sentence, title) = (self.sentence(), self.kind.title());
        match notice {
            Notice::Began => tracing::warn!(
                account,
                kind,
                endpoint,
                errcode,
                rid,
                "{sentence}; {}",
                self.advice_in(Lang::En)
            ),
            Notice::GoesOn(count) => tracing::warn!(
                account,
                kind,
                endpoint,
                errcode,
                rid,
                count,
                "still: {sentence}"
            ),
            Notice::Over(lasted, count) => {
                let lasted_seconds = lasted.as_secs_f64();
                tracing::info!(
                    account,
                    kind,
                    endpoint,
                    count,
                    lasted_seconds,
                    "over: {title}"
                );
            }
        }
    }
}
