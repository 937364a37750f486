//! Tests of the transition function: by its table, and by cases.

mod properties;

use super::*;

const STABLE: TokenTraits = TokenTraits {
    fetch_revokes: false,
    spurious_refusals: true,
};
const CLASSIC: TokenTraits = TokenTraits {
    fetch_revokes: true,
    ..STABLE
};
const WECOM: TokenTraits = TokenTraits {
    spurious_refusals: false,
    ..STABLE
};

const CEILING: u32 = 200;

const SAME: TokenEvent = fetched(true, true, true);
const ANOTHER: TokenEvent = fetched(false, true, true);
const RENEWED: TokenEvent = fetched(false, true, false);
const ADOPTED: TokenEvent = fetched(false, false, false);
const WRONG_SECRET: TokenEvent = TokenEvent::FetchFailed { account: true };
const BUSY: TokenEvent = TokenEvent::FetchFailed { account: false };
const FIRST_ACCEPTED: TokenEvent = TokenEvent::Accepted { first: true };

const fn fetched(same: bool, by_wechat: bool, after_refusal: bool) -> TokenEvent {
    TokenEvent::Fetched(ReturnedToken {
        same,
        by_wechat,
        after_refusal,
    })
}

/// A refusal by the endpoint `path`, which worked before.
const fn by(path: u64) -> Refusal {
    Refusal {
        path: PathId::from_hash(path),
        worked: true,
        suspect: false,
        weak: false,
    }
}

const fn never_worked(path: u64) -> Refusal {
    Refusal {
        worked: false,
        ..by(path)
    }
}

/// A token's state, and the time.
struct Run {
    state: TokenState,
    now: Instant,
}

impl Run {
    fn new(traits: TokenTraits) -> Self {
        let now = Instant::now();
        Self {
            state: TokenState::new(traits, CEILING, now),
            now,
        }
    }

    fn after(traits: TokenTraits, events: &[TokenEvent]) -> Self {
        let mut run = Self::new(traits);
        for event in events {
            run.step(*event);
        }
        run
    }

    fn step(&mut self, event: TokenEvent) -> Action {
        let (state, action) = self.state.clone().step(event, self.now);
        self.state = state;
        action
    }

    fn later(&mut self, by: Duration) {
        self.now += by;
    }

    fn name(&self) -> &'static str {
        match self.state.confidence() {
            Confidence::Issued => "Issued",
            Confidence::Adopted => "Adopted",
            Confidence::OnTrial => "OnTrial",
            Confidence::Accepted => "Accepted",
            Confidence::Refused(_) => "Refused",
            Confidence::Dead(..) => "Dead",
        }
    }

    fn is_dead(&self) -> bool {
        self.state.dead().is_some()
    }
}

/// How each state is reached.
const STATES: [(&str, &[TokenEvent]); 6] = [
    ("Issued", &[RENEWED]),
    ("Adopted", &[ADOPTED]),
    ("OnTrial", &[RENEWED, ANOTHER]),
    ("Accepted", &[RENEWED, FIRST_ACCEPTED]),
    (
        "Refused",
        &[RENEWED, FIRST_ACCEPTED, TokenEvent::Refused(by(1))],
    ),
    (
        "Dead",
        &[
            RENEWED,
            TokenEvent::Refused(by(1)),
            TokenEvent::Refused(by(2)),
            TokenEvent::FetchBegins,
            WRONG_SECRET,
        ],
    ),
];

#[test]
fn the_table_is_the_one_in_the_modules_text() {
    let text = include_str!("../confidence.rs");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | `"));
    let mut compared = 0;
    for row in rows {
        let cells: Vec<_> = row
            .split('|')
            .map(|cell| cell.trim().trim_matches('`'))
            .collect();
        let (name, events) = STATES
            .into_iter()
            .find(|(name, _)| cells[0] == *name)
            .unwrap_or_else(|| panic!("no state {}", cells[0]));
        let columns = [
            FIRST_ACCEPTED,
            TokenEvent::Refused(by(3)),
            SAME,
            ANOTHER,
            BUSY,
        ];
        for (event, cell) in columns.into_iter().zip(&cells[2..]) {
            let mut run = Run::after(STABLE, events);
            assert_eq!(run.name(), name);
            if matches!(
                event,
                TokenEvent::Fetched(_) | TokenEvent::FetchFailed { .. }
            ) {
                run.step(TokenEvent::FetchBegins);
            }
            run.step(event);
            let expected = cell.split(',').next().unwrap_or_default().trim_matches('`');
            let expected = if expected == "stays" { name } else { expected };
            assert_eq!(run.name(), expected, "{name}: {event:?}");
            compared += 1;
        }
    }
    assert_eq!(compared, 30);
}

#[test]
fn a_token_is_dead_when_two_endpoints_refuse_it_and_the_fetch_failed_for_the_account() {
    let refused = |path| TokenEvent::Refused(never_worked(path));
    let before = [
        RENEWED,
        FIRST_ACCEPTED,
        refused(1),
        TokenEvent::FetchBegins,
        WRONG_SECRET,
    ];
    let mut run = Run::after(STABLE, &before);
    run.step(refused(1));
    assert!(!run.is_dead(), "one endpoint that never worked");
    run.step(refused(2));
    assert_eq!(run.state.dead(), Some(DeadBecause::FetchFailed));
    assert_eq!(run.step(FIRST_ACCEPTED), Action::Pass);
    assert!(!run.is_dead());
}

#[test]
fn a_token_is_dead_when_the_only_endpoint_in_use_refuses_three_calls_and_no_fetch_is_left() {
    for fails in [BUSY, WRONG_SECRET] {
        let mut run = Run::after(STABLE, &[RENEWED, FIRST_ACCEPTED]);
        for calls in 1..=3 {
            run.step(TokenEvent::Refused(by(1)));
            run.step(fails);
            assert_eq!(run.is_dead(), calls == 3);
        }
    }
}

#[test]
fn a_token_that_wechat_returns_again_is_dead_only_after_replays_to_two_endpoints() {
    let mut run = Run::after(
        STABLE,
        &[RENEWED, FIRST_ACCEPTED, TokenEvent::Refused(by(1))],
    );
    run.step(TokenEvent::FetchBegins);
    run.step(TokenEvent::Refused(by(2)));
    run.step(SAME);
    assert!(!run.is_dead(), "a replay may be accepted");
    run.step(TokenEvent::RefusedAgain(by(1)));
    assert!(!run.is_dead());
    run.step(TokenEvent::RefusedAgain(by(2)));
    assert_eq!(run.state.dead(), Some(DeadBecause::ReturnedAgain));
    // The keeper fetches by itself. Then the token is in use again, and calls show whether it works.
    let due = run.state.due(run.now).unwrap();
    assert_eq!(due - run.now, ASK_PAUSES.0);
    run.later(ASK_PAUSES.0);
    run.step(TokenEvent::FetchBegins);
    run.step(SAME);
    assert_eq!(run.name(), "Refused");
    assert_eq!(run.state.due(run.now).unwrap() - run.now, ASK_PAUSES.0 * 2);
}

#[test]
fn above_the_ceiling_a_token_is_dead_until_the_day_ends() {
    let mut run = Run::new(CLASSIC);
    for _ in 0..CEILING {
        run.step(TokenEvent::FetchBegins);
        run.step(RENEWED);
    }
    run.step(FIRST_ACCEPTED);
    for path in [1, 2] {
        assert_ne!(run.step(TokenEvent::Refused(by(path))), Action::Fetch);
        run.step(TokenEvent::RefusedAgain(by(path)));
    }
    assert_eq!(run.state.dead(), Some(DeadBecause::CeilingReached));
    let wait = run.state.due(run.now).unwrap() - run.now;
    assert_eq!(wait, Duration::from_secs(86_400));
}

#[test]
fn a_call_that_may_be_to_blame_itself_fetches_only_if_nothing_else_is_accepted() {
    for refusal in [
        never_worked(1),
        Refusal {
            suspect: true,
            ..by(1)
        },
    ] {
        let mut run = Run::after(CLASSIC, &[RENEWED, FIRST_ACCEPTED]);
        assert_eq!(run.step(TokenEvent::Refused(refusal)), Action::Watch);
        assert_eq!(
            run.step(TokenEvent::NothingAccepted(refusal)),
            Action::Fetch
        );
    }
    let mut run = Run::after(CLASSIC, &[RENEWED, FIRST_ACCEPTED]);
    assert_eq!(run.step(TokenEvent::Refused(by(1))), Action::Fetch);
}

#[test]
fn weak_evidence_fetches_once_a_minute_and_never_kills() {
    let weak = Refusal {
        weak: true,
        ..by(1)
    };
    let mut run = Run::after(CLASSIC, &[RENEWED, FIRST_ACCEPTED]);
    let mut fetches = 0;
    for _ in 0..215 {
        if run.step(TokenEvent::Refused(weak)) == Action::Fetch {
            fetches += 1;
            run.step(TokenEvent::FetchBegins);
            run.step(ANOTHER);
            run.step(TokenEvent::RefusedAgain(weak));
        }
        run.step(FIRST_ACCEPTED);
        run.later(Duration::from_millis(84));
    }
    assert_eq!(fetches, 1);
    assert!(!run.is_dead());
}

#[test]
fn a_bad_caller_with_many_endpoints_costs_a_fetch_in_a_while() {
    let mut run = Run::after(CLASSIC, &[RENEWED, FIRST_ACCEPTED]);
    let mut fetches = 0;
    for call in 0..2000_u64 {
        run.step(TokenEvent::Accepted { first: false });
        let refusal = never_worked(call % 200);
        if run.step(TokenEvent::Refused(refusal)) == Action::Fetch {
            fetches += 1;
            run.step(TokenEvent::FetchBegins);
            run.step(ANOTHER);
        }
        run.step(TokenEvent::RefusedAgain(refusal));
        run.step(TokenEvent::Accepted { first: false });
        assert!(!run.is_dead());
        run.later(Duration::from_millis(100));
    }
    assert_eq!(fetches, 0, "other calls were accepted all the while");
}

#[test]
fn a_call_refused_by_chance_during_a_fetch_still_watches() {
    let mut run = Run::after(STABLE, &[RENEWED, TokenEvent::Refused(never_worked(1))]);
    run.step(TokenEvent::FetchBegins);
    run.step(TokenEvent::Refused(never_worked(1)));
    run.step(SAME);
    let earlier = TokenEvent::FetchWasEarlier(never_worked(1));
    assert_eq!(run.step(earlier), Action::Fetch);
    run.step(TokenEvent::FetchBegins);
    run.step(TokenEvent::Refused(never_worked(1)));
    run.step(SAME);
    assert_eq!(run.step(earlier), Action::Watch);
}
