//! The course of one problem: when it is there, when it is over, and when the log is told so.
//!
//! A success ends a problem only if no failure follows within five seconds. Otherwise a fault that hits a part of the
//! calls would begin and end many times a second. For the same reason the log is told at most once a minute that a
//! problem is there, and at most as often that it is over.

use tokio::time::{Duration, Instant};

/// A problem ends when it did not occur for so long.
pub(super) const SILENCE: Duration = Duration::from_secs(60);

/// It ends when it did not occur for so long after a success.
pub(super) const SETTLED: Duration = Duration::from_secs(5);

/// The log is told no more often that it is there.
pub(super) const TELL_INTERVAL: Duration = Duration::from_secs(60);

/// Whether a problem is there, and what the log was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is not there. The log may have been told of an earlier one.
    Over {
        /// When the log was last told that it is there.
        told_at: Option<Instant>,
    },
    /// It is there.
    Open {
        /// When it began.
        since: Instant,
        /// When it last occurred.
        last: Instant,
        /// How often it occurred.
        count: u64,
        /// Whether there was a success after that.
        cured: bool,
        /// What the log was told.
        told: Told,
    },
}

/// What the log was told of a problem that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing, since it was told of an earlier one at this time.
    Not(Instant),
    /// At this time, that it had occurred so often.
    Count(Instant, u64),
}

/// What happens to a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProblemEvent {
    /// It occurred, so many times.
    Occurred(u64),
    /// It is still there, although it did not occur again. It begins if it was not there.
    Persists,
    /// Something succeeded that it would have prevented.
    Cured,
    /// Time has passed.
    Tick,
}

/// What the log is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// It began.
    Began,
    /// It goes on, and occurred so often since the last notice.
    GoesOn(u64),
    /// It is over after this time, in which it occurred so often.
    Over(Duration, u64),
}

/// Which of the three a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NoticeKind {
    Began,
    GoesOn,
    Over,
}

impl Notice {
    /// Which of the three it is.
    pub(super) fn kind(self) -> NoticeKind {
        match self {
            Self::Began => NoticeKind::Began,
            Self::GoesOn(_) => NoticeKind::GoesOn,
            Self::Over(..) => NoticeKind::Over,
        }
    }

    /// How often the problem occurred that it tells of, if it says so.
    pub(super) fn count(self) -> u64 {
        match self {
            Self::Began => 0,
            Self::GoesOn(count) | Self::Over(_, count) => count,
        }
    }
}

impl Default for Phase {
    fn default() -> Self {
        Self::Over { told_at: None }
    }
}

impl Phase {
    /// The phase after `event`, and what the log is told.
    pub(super) fn after(self, event: ProblemEvent, now: Instant) -> (Self, Option<Notice>) {
        match (self, event) {
            (Self::Over { told_at }, ProblemEvent::Occurred(count)) => {
                Self::begin(told_at, count, now)
            }
            (Self::Over { told_at }, ProblemEvent::Persists) => Self::begin(told_at, 1, now),
            (Self::Over { .. }, ProblemEvent::Cured | ProblemEvent::Tick) => (self, None),
            (Self::Open { .. }, ProblemEvent::Tick) => self.tick(now),
            (
                Self::Open {
                    since,
                    last,
                    count,
                    told,
                    ..
                },
                event,
            ) => {
                let (last, more, cured) = match event {
                    ProblemEvent::Occurred(times) => (now, times, false),
                    ProblemEvent::Persists => (now, 0, false),
                    ProblemEvent::Cured | ProblemEvent::Tick => (last, 0, true),
                };
                let open = Self::Open {
                    since,
                    last,
                    count: count + more,
                    cured,
                    told,
                };
                (open, None)
            }
        }
    }

    /// Whether it is there.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::Open { .. })
    }

    fn begin(told_at: Option<Instant>, count: u64, now: Instant) -> (Self, Option<Notice>) {
        let told_lately = told_at.filter(|at| now.duration_since(*at) < TELL_INTERVAL);
        let open = Self::Open {
            since: now,
            last: now,
            count,
            cured: false,
            told: told_lately.map_or(Told::Count(now, count), Told::Not),
        };
        (open, told_lately.is_none().then_some(Notice::Began))
    }

    fn tick(self, now: Instant) -> (Self, Option<Notice>) {
        let Self::Open {
            since,
            last,
            count,
            cured,
            told,
        } = self
        else {
            return (self, None);
        };
        let limit = if cured { SETTLED } else { SILENCE };
        if now.duration_since(last) >= limit {
            let (told_at, notice) = match told {
                Told::Not(at) => (at, None),
                Told::Count(at, _) => (at, Some(Notice::Over(now.duration_since(since), count))),
            };
            let told_at = Some(told_at);
            return (Self::Over { told_at }, notice);
        }
        let notice = match told {
            Told::Not(at) | Told::Count(at, _) if now.duration_since(at) < TELL_INTERVAL => None,
            Told::Not(_) => Some(Notice::Began),
            Told::Count(_, before) => (count > before).then(|| Notice::GoesOn(count - before)),
        };
        let told = notice.map_or(told, |_| Told::Count(now, count));
        let open = Self::Open {
            since,
            last,
            count,
            cured,
            told,
        };
        (open, notice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A problem, and what the log was told of it.
    struct Course {
        phase: Phase,
        now: Instant,
        told: Vec<Notice>,
    }

    impl Course {
        fn new() -> Self {
            let (phase, now, told) = (Phase::default(), Instant::now(), Vec::new());
            Self { phase, now, told }
        }

        fn happens(&mut self, event: ProblemEvent) {
            let (phase, notice) = self.phase.after(event, self.now);
            self.phase = phase;
            self.told.extend(notice);
        }

        /// So many seconds pass, in each of which these events happen.
        fn pass(&mut self, seconds: u32, events: &[ProblemEvent]) {
            for _ in 0..seconds {
                events.iter().for_each(|event| self.happens(*event));
                self.now += SECOND;
                self.happens(ProblemEvent::Tick);
            }
        }
    }

    #[test]
    fn an_outage_of_five_minutes_is_seven_lines() {
        let mut course = Course::new();
        course.pass(300, &[ProblemEvent::Occurred(200)]);
        course.pass(30, &[ProblemEvent::Cured]);
        assert_eq!(course.told.first(), Some(&Notice::Began));
        assert!(
            matches!(course.told.last(), Some(Notice::Over(_, 60_000))),
            "{:?}",
            course.told
        );
        let of_a_minute = |notice: &&Notice| **notice == Notice::GoesOn(12_000);
        assert!(
            course.told.iter().filter(of_a_minute).count() >= 3,
            "{:?}",
            course.told
        );
        assert!(course.told.len() <= 7, "{:?}", course.told);
    }

    #[test]
    fn it_is_over_after_a_minute_of_silence_or_five_seconds_after_a_success() {
        for (cured, seconds) in [(false, 60), (true, 5)] {
            let mut course = Course::new();
            course.happens(ProblemEvent::Occurred(1));
            if cured {
                course.happens(ProblemEvent::Cured);
            }
            course.pass(seconds - 1, &[]);
            assert!(course.phase.is_open());
            course.pass(1, &[]);
            assert!(!course.phase.is_open());
            assert_eq!(course.told.len(), 2);
        }
    }

    #[test]
    fn a_fault_that_hits_one_call_in_two_is_one_problem() {
        let mut course = Course::new();
        course.pass(300, &[ProblemEvent::Occurred(1), ProblemEvent::Cured]);
        assert!(course.phase.is_open());
        let over = |notice: &&Notice| matches!(notice, Notice::Over(..));
        assert_eq!(course.told.iter().filter(over).count(), 0);
    }

    #[test]
    fn one_that_comes_and_goes_is_told_of_once_a_minute() {
        let mut course = Course::new();
        for _ in 0..60 {
            course.happens(ProblemEvent::Occurred(1));
            course.happens(ProblemEvent::Cured);
            course.pass(10, &[]);
            assert!(!course.phase.is_open());
        }
        // Ten minutes: a beginning and an end each.
        assert!(course.told.len() <= 21, "{:?}", course.told);
        assert!(course.told.len() >= 18, "{:?}", course.told);
    }

    #[test]
    fn one_that_began_untold_is_told_of_when_the_minute_is_over() {
        let mut course = Course::new();
        course.happens(ProblemEvent::Occurred(1));
        course.happens(ProblemEvent::Cured);
        course.pass(10, &[]);
        course.pass(49, &[ProblemEvent::Occurred(1)]);
        assert_eq!(course.told.len(), 2, "{:?}", course.told);
        course.pass(2, &[ProblemEvent::Occurred(1)]);
        assert_eq!(course.told.len(), 3, "{:?}", course.told);
        assert_eq!(course.told[2], Notice::Began);
    }

    #[test]
    fn one_that_persists_without_occurring_is_not_told_of_again() {
        let mut course = Course::new();
        course.pass(600, &[ProblemEvent::Persists]);
        assert!(course.phase.is_open());
        assert_eq!(course.told, [Notice::Began]);
        course.pass(61, &[]);
        assert!(matches!(course.told[..], [_, Notice::Over(_, 1)]));
    }
}
