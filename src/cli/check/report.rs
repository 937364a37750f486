//! What `check` finds, as values, and as lines or one JSON document for those who read it.

use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::output::say;

/// Checks with their stable names.
macro_rules! checks {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal;)+) => {
        /// What a finding is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        pub enum Check {
            $($(#[$doc])+ #[serde(rename = $name)] $variant),+
        }

        impl Check {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name in the JSON document.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

checks! {
    /// The configuration.
    Configuration = "configuration";
    /// A file that the configuration names.
    File = "file";
    /// The limit of open files.
    OpenFiles = "open_files";
    /// The limit of threads.
    Threads = "threads";
    /// The addresses to listen on.
    Ports = "ports";
    /// Whether a sidecar runs beside the check, and is ready.
    Sidecar = "sidecar";
    /// A problem of the sidecar that runs.
    Problem = "problem";
    /// The look-up of a host's name.
    Dns = "dns";
    /// A connection to one address.
    Connect = "connect";
    /// A TLS handshake at one address.
    Tls = "tls";
    /// The dates of a certificate.
    Certificate = "certificate";
    /// Whether WeChat answers a call.
    Upstream = "upstream";
    /// The clock of this machine.
    Clock = "clock";
    /// The store that replicas share.
    Store = "store";
    /// A token.
    Token = "token";
    /// Whether WeChat or WeCom accepts this machine's IP.
    Whitelist = "whitelist";
    /// Whether another program ends the classic token.
    Revoked = "revoked";
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Severity {
    Ok,
    Warning,
    Failed,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Finding {
    pub(super) check: Check,
    pub(super) severity: Severity,
    /// The host, the account, the file, or whatever else it is about.
    pub(super) subject: String,
    pub(super) sentence: String,
    /// What to do, if there is something to do.
    pub(super) advice: Option<String>,
    /// Figures and names for a program that reads it.
    pub(super) details: Map<String, Value>,
}

impl Finding {
    fn new(check: Check, severity: Severity, subject: &str, sentence: String) -> Self {
        Self {
            check,
            severity,
            subject: subject.to_owned(),
            sentence,
            advice: None,
            details: Map::new(),
        }
    }

    /// Something is as it should be.
    pub(super) fn ok(check: Check, subject: &str, sentence: impl Into<String>) -> Self {
        Self::new(check, Severity::Ok, subject, sentence.into())
    }

    /// Something is allowed, but unwise, or works only in part.
    pub(super) fn warning(check: Check, subject: &str, sentence: impl Into<String>) -> Self {
        Self::new(check, Severity::Warning, subject, sentence.into())
    }

    /// Something does not work.
    pub(super) fn failed(check: Check, subject: &str, sentence: impl Into<String>) -> Self {
        Self::new(check, Severity::Failed, subject, sentence.into())
    }

    /// Says what to do.
    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Adds a detail.
    pub(super) fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// It as a line.
    fn line(&self) -> String {
        let severity = match self.severity {
            Severity::Ok => "ok",
            Severity::Warning => "warning",
            Severity::Failed => "FAILED",
        };
        let advice = self.advice.as_ref();
        let advice = advice.map_or(String::new(), |advice| format!(": {advice}"));
        format!("{severity}: {}{advice}", self.sentence)
    }
}

/// How many findings of one check are shown as lines when all is well. All others are counted.
const SHOWN_IN_FULL: usize = 20;

/// All that was found. Lines are printed at once, and a JSON document at the end.
#[derive(Debug)]
pub(super) struct Report {
    json: bool,
    findings: Vec<Finding>,
}

/// The JSON document.
#[derive(Serialize)]
struct JsonDocument<'a> {
    findings: &'a [Finding],
    ok: bool,
}

impl Report {
    /// Nothing was found yet.
    pub(super) fn new(json: bool) -> Self {
        let findings = Vec::new();
        Self { json, findings }
    }

    /// Adds what was found.
    pub(super) fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            let is_shown =
                finding.severity != Severity::Ok || self.fine(finding.check) < SHOWN_IN_FULL;
            if !self.json && is_shown {
                say(&finding.line());
            }
            self.findings.push(finding);
        }
    }

    /// Says what was left out, or prints the document. Returns the exit code.
    pub(super) fn end(self) -> ExitCode {
        if self.json {
            say(&self.document());
        } else {
            for line in self.left_out() {
                say(&line);
            }
        }
        match self.has_failed() {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        }
    }

    /// How many findings of `check` are fine.
    fn fine(&self, check: Check) -> usize {
        let fine = |finding: &&Finding| finding.check == check && finding.severity == Severity::Ok;
        self.findings.iter().filter(fine).count()
    }

    fn left_out(&self) -> Vec<String> {
        let left_out = |check: &Check| self.fine(*check).saturating_sub(SHOWN_IN_FULL);
        let more = Check::ALL.iter().filter(|check| left_out(check) > 0);
        more.map(|check| {
            let (count, name) = (left_out(check), check.name());
            format!("ok: {count} more findings of the check {name} are fine; --json shows them all")
        })
        .collect()
    }

    fn has_failed(&self) -> bool {
        let failed = |finding: &Finding| finding.severity == Severity::Failed;
        self.findings.iter().any(failed)
    }

    fn document(&self) -> String {
        let document = JsonDocument {
            findings: &self.findings,
            ok: !self.has_failed(),
        };
        serde_json::to_string(&document).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_with_what_to_do_or_an_object_with_everything() {
        let finding = Finding::failed(Check::Dns, "a.test", "a.test has no address")
            .advise("ask its owner")
            .detail("milliseconds", 7);
        assert_eq!(
            finding.line(),
            "FAILED: a.test has no address: ask its owner"
        );
        let mut report = Report::new(true);
        report.extend([Finding::ok(Check::Ports, "p", "free"), finding]);
        let expected = concat!(
            r#"{"findings":[{"check":"ports","severity":"ok","subject":"p","sentence":"free","advice":null,"details":{}},"#,
            r#"{"check":"dns","severity":"failed","subject":"a.test","sentence":"a.test has no address","advice":"ask its owner","details":{"milliseconds":7}}],"ok":false}"#,
        );
        assert_eq!(report.document(), expected);
    }

    #[test]
    fn of_many_accounts_that_are_fine_twenty_are_shown_and_the_others_counted() {
        let mut report = Report::new(false);
        for at in 0..25 {
            report.extend([Finding::ok(Check::Token, &at.to_string(), "fine")]);
        }
        report.extend([Finding::warning(Check::Token, "x", "hm")]);
        let [line] = &report.left_out()[..] else {
            panic!("{:?}", report.left_out())
        };
        assert!(
            line.starts_with("ok: 5 more findings of the check token"),
            "{line}"
        );
        assert!(!report.has_failed());
    }
}
