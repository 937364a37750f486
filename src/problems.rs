//! What is wrong now: one list for the log, the metrics, `/accounts` and `check`.
//!
//! A problem is a kind of fault of one account, or of the whole process. However often it occurs, it takes the same
//! memory, and the log is told when it begins, once a minute how often it occurred, and when it is over.

mod busiest;
mod credentials;
mod kind;
mod notices;
mod open;
mod phase;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Display,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::time::{Duration, Instant};

use crate::lang::Text;
use busiest::BusiestEndpoints;
pub use credentials::{CredentialPlaces, WrongCredential};
use kind::Kinds;
pub use kind::{Cure, Kind};
pub use notices::Notices;
pub use open::{OpenProblem, PastProblem};
use phase::{Phase, ProblemEvent};

/// How much of a cause is kept, in characters.
const LONGEST_CAUSE: usize = 400;

/// How many problems that ended are kept, of each account.
const PAST_PROBLEMS: usize = 5;

/// How long they are kept.
const PAST_PROBLEMS_LIFE: Duration = Duration::from_secs(3600);

/// How much of a rid is kept, in characters.
const LONGEST_RID: usize = 64;

/// The problems of one account, or those of the process.
#[derive(Debug, Default)]
pub struct Problems {
    /// The account's id; `None` for those of the process.
    account: Option<Box<str>>,
    /// Tells the log together with those of other accounts.
    notices: Option<Arc<Notices>>,
    /// Which open problems a successful call would end, so that a call looks no further while there are none.
    curable: AtomicU32,
    /// Which problems are open, so that nobody looks further while there are none.
    open: AtomicU32,
    list: Mutex<ProblemList>,
}

#[derive(Debug, Default)]
struct ProblemList {
    problems: BTreeMap<Kind, Problem>,
    /// Those that ended last, the newest first.
    past: VecDeque<PastProblem>,
    places: CredentialPlaces,
}

#[derive(Debug, Default)]
struct Problem {
    phase: Phase,
    endpoints: BusiestEndpoints,
    errcode: Option<i64>,
    rid: Option<String>,
    cause: Option<String>,
    /// Advice that says more than that of the kind.
    advice: Option<Text>,
    wrong: Option<WrongCredential>,
}

/// What is known when a problem occurs. All of it may be missing.
#[derive(Clone, Copy, Default)]
#[allow(missing_debug_implementations)]
pub struct Occurrence<'a> {
    /// The label of the endpoint that was called.
    pub endpoint: Option<&'static str>,
    /// The error code of the reply.
    pub errcode: Option<i64>,
    /// What WeChat's support asks for.
    pub rid: Option<&'a str>,
    /// What happened, without a secret, a token or a query.
    pub cause: Option<&'a dyn Display>,
    /// Advice that says more than that of the kind.
    pub advice: Option<Text>,
    /// What of the account's configuration is wrong.
    pub wrong: Option<WrongCredential>,
}

/// What a part of the sidecar says of a problem that it has, or may have had.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations)]
pub enum Standing<'a> {
    /// It is there, for this reason.
    There(&'a dyn Display),
    /// It is still there, if it ever was.
    Stays,
    /// It is not there.
    Gone,
}

impl Problems {
    /// No problems yet, of the account with this id.
    pub fn of(account: &str) -> Self {
        Self {
            account: Some(account.into()),
            ..Self::default()
        }
    }

    /// The same, of which `notices` tells the log.
    pub fn told_by(self, notices: Arc<Notices>) -> Self {
        let notices = Some(notices);
        Self { notices, ..self }
    }

    /// Whether the account is one of many, so that the log is told less of each.
    pub fn is_one_of_many(&self) -> bool {
        let notices = self.notices.as_ref();
        notices.is_some_and(|notices| notices.are_many())
    }

    /// The account's id; `None` if they are the process's.
    pub fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// From now on the account's credentials are given at `places`.
    pub fn set_places(&self, places: CredentialPlaces) {
        self.lock().places = places;
    }

    /// A problem occurred.
    pub fn occurred(&self, kind: Kind, what: Occurrence<'_>) {
        self.occurred_times(kind, 1, what);
    }

    /// A problem occurred so many times.
    pub fn occurred_times(&self, kind: Kind, times: u64, what: Occurrence<'_>) {
        let cause = what.cause.map(shortened);
        let mut list = self.lock();
        let problem = list.problem(kind);
        problem.note(what, cause);
        self.advance(list, kind, ProblemEvent::Occurred(times));
    }

    /// A problem occurred at `endpoint` once more, if that is one of those that it concerns. Otherwise this is
    /// something else, and does not count.
    pub fn recurred(&self, kind: Kind, endpoint: &'static str) {
        let mut list = self.lock();
        let problem = list.problem(kind);
        if problem.phase.is_open() && problem.endpoints.has(endpoint) {
            problem.endpoints.add(endpoint);
            self.advance(list, kind, ProblemEvent::Occurred(1));
        }
    }

    /// A part of the sidecar says whether it has a problem.
    pub fn observe(&self, kind: Kind, standing: Standing<'_>) {
        let seems_open = Kinds(self.open.load(Ordering::Relaxed)).has(kind);
        if !seems_open && !matches!(standing, Standing::There(_)) {
            return;
        }
        let mut list = self.lock();
        let is_open = list.is_open(kind);
        let event = match standing {
            Standing::There(cause) if !is_open => {
                let problem = list.problem(kind);
                problem.note(Occurrence::default(), Some(shortened(cause)));
                ProblemEvent::Persists
            }
            Standing::There(_) => ProblemEvent::Persists,
            Standing::Stays if is_open => ProblemEvent::Persists,
            Standing::Gone if is_open => ProblemEvent::Cured,
            Standing::Stays | Standing::Gone => return,
        };
        self.advance(list, kind, event);
    }

    /// WeChat accepted a call with the account's token.
    pub fn accepted(&self) {
        self.cure(Kinds::CURED_BY_ACCEPTANCE);
    }

    /// WeChat answered a call without an error, whatever token it had.
    pub fn replied(&self) {
        self.cure(Kinds::CURED_BY_REPLY);
    }

    fn cure(&self, kinds: Kinds) {
        let curable = Kinds(self.curable.load(Ordering::Relaxed) & kinds.0);
        if curable.0 != 0 {
            for kind in Kind::ALL.iter().filter(|kind| curable.has(**kind)) {
                self.advance(self.lock(), *kind, ProblemEvent::Cured);
            }
        }
    }

    /// Time has passed: ends what did not occur for a while, and tells the log what is due. To be called about once
    /// a second.
    pub fn tick(&self) {
        let open = Kinds(self.open.load(Ordering::Relaxed));
        for kind in Kind::ALL.iter().filter(|kind| open.has(**kind)) {
            let list = self.lock();
            if list.is_open(*kind) {
                self.advance(list, *kind, ProblemEvent::Tick);
            }
        }
    }

    /// All open problems.
    pub fn open(&self) -> Vec<OpenProblem> {
        let list = self.lock();
        let kinds = Kind::ALL.iter().filter(|kind| list.is_open(**kind));
        kinds.filter_map(|kind| self.report(&list, *kind)).collect()
    }

    /// The last problems that ended within the hour, the newest first.
    pub fn past(&self) -> Vec<PastProblem> {
        let list = self.lock();
        let recent = |past: &&PastProblem| past.ended_at.elapsed() < PAST_PROBLEMS_LIFE;
        list.past.iter().filter(recent).cloned().collect()
    }

    /// The kinds of the open problems.
    pub fn open_kinds(&self) -> Vec<Kind> {
        let list = self.lock();
        let kinds = Kind::ALL.iter().copied();
        kinds.filter(|kind| list.is_open(*kind)).collect()
    }

    /// The last cause of an open problem that no success has followed.
    pub fn uncured_cause(&self, kind: Kind) -> Option<String> {
        let list = self.lock();
        let problem = list.problems.get(&kind)?;
        match problem.phase {
            Phase::Open { cured: false, .. } => problem.cause.clone(),
            Phase::Open { .. } | Phase::Over { .. } => None,
        }
    }

    /// Puts a problem into its next phase. The log is told without the lock.
    fn advance(&self, mut list: MutexGuard<'_, ProblemList>, kind: Kind, event: ProblemEvent) {
        let before = list.problem(kind).phase;
        let now = Instant::now();
        let (phase, notice) = before.after(event, now);
        if before.is_open()
            && !phase.is_open()
            && let Some(problem) = self.report(&list, kind)
        {
            let ended_at = now;
            list.past.truncate(PAST_PROBLEMS - 1);
            list.past.push_front(PastProblem { problem, ended_at });
        }
        list.problem(kind).phase = phase;
        let curable = matches!(phase, Phase::Open { cured: false, .. });
        let bit = Kinds::of(kind).0;
        match curable {
            true => self.curable.fetch_or(bit, Ordering::Relaxed),
            false => self.curable.fetch_and(!bit, Ordering::Relaxed),
        };
        match phase.is_open() {
            true => self.open.fetch_or(bit, Ordering::Relaxed),
            false => self.open.fetch_and(!bit, Ordering::Relaxed),
        };
        let report = notice.and_then(|_| self.report(&list, kind));
        if !phase.is_open() {
            // What is known of it is of no use to the next one.
            let problem = list.problem(kind);
            *problem = Problem {
                phase,
                ..Problem::default()
            };
        }
        drop(list);
        if let (Some(notice), Some(report)) = (notice, report) {
            match &self.notices {
                Some(notices) => notices.tell(&report, notice),
                None => report.log(notice),
            }
        }
    }

    fn report(&self, list: &ProblemList, kind: Kind) -> Option<OpenProblem> {
        let problem = list.problems.get(&kind)?;
        let (lasts, count) = match problem.phase {
            Phase::Open { since, count, .. } => (since.elapsed(), count),
            Phase::Over { .. } => (Duration::ZERO, 0),
        };
        let wrong = problem
            .wrong
            .and_then(|wrong| Some((wrong, list.places.place(wrong)?)));
        Some(OpenProblem {
            kind,
            account: self.account.as_deref().map(str::to_owned),
            lasts,
            count,
            endpoints: problem.endpoints.names(),
            errcode: problem.errcode,
            rid: problem.rid.clone(),
            cause: problem.cause.clone(),
            advice: problem.advice.unwrap_or(kind.advice_text()),
            wrong,
        })
    }

    fn lock(&self) -> MutexGuard<'_, ProblemList> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProblemList {
    fn problem(&mut self, kind: Kind) -> &mut Problem {
        self.problems.entry(kind).or_default()
    }

    fn is_open(&self, kind: Kind) -> bool {
        let problem = self.problems.get(&kind);
        problem.is_some_and(|problem| problem.phase.is_open())
    }
}

impl Problem {
    /// Keeps what is known of the last occurrence.
    fn note(&mut self, what: Occurrence<'_>, cause: Option<String>) {
        if let Some(endpoint) = what.endpoint {
            self.endpoints.add(endpoint);
        }
        let rid = |rid: &str| rid.chars().take(LONGEST_RID).collect();
        self.rid = what.rid.map(rid);
        self.errcode = what.errcode;
        self.cause = cause;
        self.advice = what.advice;
        self.wrong = what.wrong;
    }
}

/// A cause on one line of bounded length.
fn shortened(cause: &dyn Display) -> String {
    let cause = cause.to_string();
    let plain = cause.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(LONGEST_CAUSE).collect()
}

#[cfg(test)]
mod tests;
