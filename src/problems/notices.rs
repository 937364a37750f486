//! Tells the log of the accounts' problems. What many accounts have in common is told in a few lines.
//!
//! A problem of a kind that begins, goes on or ends for one account after another is told of the first five. Ten seconds
//! after the first, one line sums up the others. If there were any, the log is then told sums alone, once in 50 s, until
//! there is little to sum up. Each of the three has its own course:
//!
//! ```text
//! Quiet ── one ──▶ Named (a line for each of five) ── 10 s, no more than five ──▶ Quiet
//!                    └── 10 s, a sum ──▶ Summed ── 50 s, a sum of more than five ──▶ Summed
//!                                          └── 50 s, a sum of five or fewer ──▶ Quiet
//! ```
//!
//! With a few accounts each is told of. Whoever asks for problems gets them all, whatever the log was told.

use std::{
    collections::BTreeMap,
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::time::{Duration, Instant};

use super::{
    Kind, OpenProblem,
    phase::{Notice, NoticeKind},
};

/// How many accounts have a line each.
const NAMED: usize = 5;

/// How long after the first line the others are summed up.
const FIRST_SUM: Duration = Duration::from_secs(10);

/// How long after one sum the next one follows. With the first ten seconds this is a minute, in which an account has one
/// notice of a kind at most.
const NEXT_SUM: Duration = Duration::from_secs(50);

/// Tells the log of the problems of all accounts.
#[derive(Debug, Default)]
pub struct Notices {
    many: AtomicBool,
    groups: Mutex<BTreeMap<(Kind, NoticeKind), Group>>,
}

/// The notices of one kind, of all accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Group {
    /// None lately.
    #[default]
    Quiet,
    /// A few accounts have a line each.
    Named {
        /// When the first one had.
        since: Instant,
        /// How many have.
        named: usize,
        /// Those that have none.
        rest: Rest,
    },
    /// They are summed up.
    Summed {
        /// When that was last done.
        since: Instant,
        /// Those that came since.
        rest: Rest,
    },
}

/// Accounts without a line of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rest {
    accounts: usize,
    /// The first of them.
    first: Vec<Box<str>>,
    /// How often the problem occurred for all of them.
    count: u64,
}

impl Rest {
    fn add(&mut self, account: &str, count: u64) {
        self.accounts += 1;
        self.count += count;
        if self.first.len() < NAMED {
            self.first.push(account.into());
        }
    }

    fn is_some(&self) -> bool {
        self.accounts > 0
    }
}

impl Group {
    /// The group after a notice of `account`, of a problem that occurred `count` times, and whether it has a line.
    fn add(mut self, account: &str, count: u64, now: Instant) -> (Self, bool) {
        let is_named = match &mut self {
            Self::Quiet => {
                self = Self::Named {
                    since: now,
                    named: 1,
                    rest: Rest::default(),
                };
                true
            }
            Self::Named { named, .. } if *named < NAMED => {
                *named += 1;
                true
            }
            Self::Named { rest, .. } | Self::Summed { rest, .. } => {
                rest.add(account, count);
                false
            }
        };
        (self, is_named)
    }

    /// The group at `now`, and those to be summed up.
    fn tick(self, now: Instant) -> (Self, Option<Rest>) {
        match self {
            Self::Named { since, rest, .. } if now - since >= FIRST_SUM => match rest.is_some() {
                true => (Self::summed(now), Some(rest)),
                false => (Self::Quiet, None),
            },
            Self::Summed { since, rest } if now - since >= NEXT_SUM => match rest.accounts {
                0 => (Self::Quiet, None),
                1..=NAMED => (Self::Quiet, Some(rest)),
                _ => (Self::summed(now), Some(rest)),
            },
            other => (other, None),
        }
    }

    fn summed(since: Instant) -> Self {
        let rest = Rest::default();
        Self::Summed { since, rest }
    }
}

impl Notices {
    /// Whether there are many accounts.
    pub fn set_many(&self, many: bool) {
        self.many.store(many, Ordering::Relaxed);
    }

    /// Whether there are many accounts, so that the log is told less of each.
    pub fn are_many(&self) -> bool {
        self.many.load(Ordering::Relaxed)
    }

    /// Tells the log of `problem`, now or with others.
    pub(super) fn tell(&self, problem: &OpenProblem, notice: Notice) {
        match &problem.account {
            Some(account) if self.are_many() => {
                let key = (problem.kind, notice.kind());
                let (is_named, before) = {
                    let mut groups = self.lock();
                    let group = groups.entry(key).or_default();
                    let (next, is_named) =
                        mem::take(group).add(account, notice.count(), Instant::now());
                    *group = next;
                    let ends = is_named && key.1 == NoticeKind::Over;
                    let before = ends.then(|| take_untold(&mut groups, problem.kind));
                    (is_named, before.unwrap_or_default())
                };
                for ((kind, notice), rest) in before {
                    rest.log(kind, notice);
                }
                if is_named {
                    problem.log(notice);
                }
            }
            _ => problem.log(notice),
        }
    }

    /// Tells the log what is due. To be called about once a second.
    pub fn tick(&self) {
        let now = Instant::now();
        let mut due = Vec::new();
        let mut groups = self.lock();
        groups.retain(|key, group| {
            let (next, rest) = mem::take(group).tick(now);
            *group = next;
            due.extend(rest.map(|rest| (*key, rest)));
            *group != Group::Quiet
        });
        let ends = due.iter().filter(|(key, _)| key.1 == NoticeKind::Over);
        let ends: Vec<Kind> = ends.map(|((kind, _), _)| *kind).collect();
        for kind in ends {
            due.extend(take_untold(&mut groups, kind));
        }
        drop(groups);
        due.sort_by_key(|(key, _)| *key);
        for ((kind, notice), rest) in due {
            rest.log(kind, notice);
        }
    }

    /// Tells the log of those that were not summed up yet, because the process ends.
    pub fn flush(&self) {
        let groups = mem::take(&mut *self.lock());
        for ((kind, notice), group) in groups {
            if let Group::Named { rest, .. } | Group::Summed { rest, .. } = group
                && rest.is_some()
            {
                rest.log(kind, notice);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Kind, NoticeKind), Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what the log was not told yet of the beginning of a problem, and of its going on: that comes before its end.
fn take_untold(
    groups: &mut BTreeMap<(Kind, NoticeKind), Group>,
    kind: Kind,
) -> Vec<((Kind, NoticeKind), Rest)> {
    let mut untold = Vec::new();
    for key in [(kind, NoticeKind::Began), (kind, NoticeKind::GoesOn)] {
        if let Some(Group::Named { rest, .. } | Group::Summed { rest, .. }) = groups.get_mut(&key)
            && rest.is_some()
        {
            untold.push((key, mem::take(rest)));
        }
    }
    untold
}

impl Rest {
    /// Tells the log.
    fn log(&self, kind: Kind, notice: NoticeKind) {
        let (others, count) = (self.accounts, self.count);
        let (title, kind) = (kind.title(), kind.label());
        let mut such_as = self.first.join(", ");
        if self.accounts > self.first.len() {
            such_as.push_str(", …");
        }
        let noun = if others == 1 { "account" } else { "accounts" };
        match notice {
            NoticeKind::Began => tracing::warn!(
                others,
                kind,
                such_as,
                "the same for {others} more {noun}: {title}"
            ),
            NoticeKind::GoesOn => tracing::warn!(
                others,
                kind,
                such_as,
                count,
                "still, for {others} more {noun}: {title}"
            ),
            NoticeKind::Over => tracing::info!(
                others,
                kind,
                such_as,
                count,
                "over for {others} more {noun}: {title}"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
