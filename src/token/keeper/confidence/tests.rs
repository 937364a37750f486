//! Tests of the transition function: by its table, and by properties that hold for any sequence of events.

use proptest::prelude::*;

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

const SAME: Event = fetched(true, true, true);
const ANOTHER: Event = fetched(false, true, true);
const RENEWED: Event = fetched(false, true, false);
const ADOPTED: Event = fetched(false, false, false);
const WRONG_SECRET: Event = Event::FetchFailed { account: true };
const BUSY: Event = Event::FetchFailed { account: false };
const FIRST_ACCEPTED: Event = Event::Accepted { first: true };

const fn fetched(same: bool, by_wechat: bool, after_refusal: bool) -> Event {
    Event::Fetched(ReturnedToken {
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

    fn after(traits: TokenTraits, events: &[Event]) -> Self {
        let mut run = Self::new(traits);
        for event in events {
            run.step(*event);
        }
        run
    }

    fn step(&mut self, event: Event) -> Action {
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
const STATES: [(&str, &[Event]); 6] = [
    ("Issued", &[RENEWED]),
    ("Adopted", &[ADOPTED]),
    ("OnTrial", &[RENEWED, ANOTHER]),
    ("Accepted", &[RENEWED, FIRST_ACCEPTED]),
    ("Refused", &[RENEWED, FIRST_ACCEPTED, Event::Refused(by(1))]),
    (
        "Dead",
        &[
            RENEWED,
            Event::Refused(by(1)),
            Event::Refused(by(2)),
            Event::FetchBegins,
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
        let columns = [FIRST_ACCEPTED, Event::Refused(by(3)), SAME, ANOTHER, BUSY];
        for (event, cell) in columns.into_iter().zip(&cells[2..]) {
            let mut run = Run::after(STABLE, events);
            assert_eq!(run.name(), name);
            if matches!(event, Event::Fetched(_) | Event::FetchFailed { .. }) {
                run.step(Event::FetchBegins);
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
    let refused = |path| Event::Refused(never_worked(path));
    let before = [
        RENEWED,
        FIRST_ACCEPTED,
        refused(1),
        Event::FetchBegins,
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
            run.step(Event::Refused(by(1)));
            run.step(fails);
            assert_eq!(run.is_dead(), calls == 3);
        }
    }
}

#[test]
fn a_token_that_wechat_returns_again_is_dead_only_after_replays_to_two_endpoints() {
    let mut run = Run::after(STABLE, &[RENEWED, FIRST_ACCEPTED, Event::Refused(by(1))]);
    run.step(Event::FetchBegins);
    run.step(Event::Refused(by(2)));
    run.step(SAME);
    assert!(!run.is_dead(), "a replay may be accepted");
    run.step(Event::RefusedAgain(by(1)));
    assert!(!run.is_dead());
    run.step(Event::RefusedAgain(by(2)));
    assert_eq!(run.state.dead(), Some(DeadBecause::ReturnedAgain));
    // The keeper fetches by itself. Then the token is in use again, and calls show whether it works.
    let due = run.state.due(run.now).unwrap();
    assert_eq!(due - run.now, ASK_PAUSES.0);
    run.later(ASK_PAUSES.0);
    run.step(Event::FetchBegins);
    run.step(SAME);
    assert_eq!(run.name(), "Refused");
    assert_eq!(run.state.due(run.now).unwrap() - run.now, ASK_PAUSES.0 * 2);
}

#[test]
fn above_the_ceiling_a_token_is_dead_until_the_day_ends() {
    let mut run = Run::new(CLASSIC);
    for _ in 0..CEILING {
        run.step(Event::FetchBegins);
        run.step(RENEWED);
    }
    run.step(FIRST_ACCEPTED);
    for path in [1, 2] {
        assert_ne!(run.step(Event::Refused(by(path))), Action::Fetch);
        run.step(Event::RefusedAgain(by(path)));
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
        assert_eq!(run.step(Event::Refused(refusal)), Action::Watch);
        assert_eq!(run.step(Event::NothingAccepted(refusal)), Action::Fetch);
    }
    let mut run = Run::after(CLASSIC, &[RENEWED, FIRST_ACCEPTED]);
    assert_eq!(run.step(Event::Refused(by(1))), Action::Fetch);
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
        if run.step(Event::Refused(weak)) == Action::Fetch {
            fetches += 1;
            run.step(Event::FetchBegins);
            run.step(ANOTHER);
            run.step(Event::RefusedAgain(weak));
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
        run.step(Event::Accepted { first: false });
        let refusal = never_worked(call % 200);
        if run.step(Event::Refused(refusal)) == Action::Fetch {
            fetches += 1;
            run.step(Event::FetchBegins);
            run.step(ANOTHER);
        }
        run.step(Event::RefusedAgain(refusal));
        run.step(Event::Accepted { first: false });
        assert!(!run.is_dead());
        run.later(Duration::from_millis(100));
    }
    assert_eq!(fetches, 0, "other calls were accepted all the while");
}

/// Any event; whatever happens at WeChat, at the app or in the store.
fn any_event() -> impl Strategy<Value = Event> {
    let refusal = (0..4_u64, any::<bool>(), any::<bool>(), 0..10_u8).prop_map(
        |(path, worked, suspect, weak)| Refusal {
            path: PathId::from_hash(path),
            worked,
            suspect,
            weak: weak == 0,
        },
    );
    let fetched = (any::<bool>(), any::<bool>(), any::<bool>());
    prop_oneof![
        3 => refusal.clone().prop_map(Event::Refused),
        1 => refusal.clone().prop_map(Event::NothingAccepted),
        1 => refusal.clone().prop_map(Event::RefusedAgain),
        1 => refusal.prop_map(Event::NotReplayed),
        2 => any::<bool>().prop_map(|first| Event::Accepted { first }),
        1 => fetched.prop_map(|(same, by_wechat, after)| self::fetched(same, by_wechat, after)),
        1 => any::<bool>().prop_map(|account| Event::FetchFailed { account }),
        1 => Just(Event::FetchWasEarlier),
    ]
}

fn any_traits() -> impl Strategy<Value = TokenTraits> {
    prop_oneof![Just(STABLE), Just(CLASSIC), Just(WECOM)]
}

/// Applies the event, and fetches where that is the action; returns whether it was.
fn apply(run: &mut Run, event: Event, outcome: Event) -> bool {
    let mut action = run.step(event);
    if let (Action::Watch, Event::Refused(refusal)) = (action, event) {
        action = run.step(Event::NothingAccepted(refusal));
    }
    if action == Action::Fetch {
        run.step(Event::FetchBegins);
        run.step(outcome);
    }
    action == Action::Fetch
}

proptest! {
    #[test]
    fn no_sequence_of_events_fetches_more_than_the_days_limit(
        traits in any_traits(),
        events in prop::collection::vec((any_event(), any_event(), 0..120_u64), 1..800),
    ) {
        let mut run = Run::new(traits);
        let (begun, mut fetches) = (run.now, 0);
        for (event, outcome, pause) in events {
            fetches += u32::from(apply(&mut run, event, outcome));
            run.later(Duration::from_secs(pause));
            if run.now - begun >= Duration::from_secs(86_400) {
                break;
            }
        }
        prop_assert!(fetches <= CEILING);
    }

    #[test]
    fn a_token_that_worked_and_died_is_replaced_within_two_seconds_of_calls(
        traits in any_traits(),
        before in prop::collection::vec((any_event(), any_event(), 0..5_u64), 0..40),
        paths in prop::collection::vec(0..3_u64, 20),
    ) {
        let mut run = Run::new(traits);
        for (event, outcome, pause) in before {
            apply(&mut run, event, outcome);
            run.later(Duration::from_secs(pause));
        }
        run.step(FIRST_ACCEPTED);
        let mut watches = Vec::new();
        let replaced = paths.iter().any(|path| {
            run.later(Duration::from_millis(100));
            watches.retain(|(at, refusal)| {
                *at > run.now || run.step(Event::NothingAccepted(*refusal)) != Action::Fetch || {
                    run.step(Event::FetchBegins);
                    run.step(ANOTHER);
                    false
                }
            });
            if run.name() == "OnTrial" {
                return true;
            }
            match run.step(Event::Refused(by(*path))) {
                Action::Fetch => return true,
                Action::Watch => watches.push((run.now + Duration::from_millis(300), by(*path))),
                Action::Pass => {}
            }
            false
        });
        prop_assert!(replaced, "{:?}", run.state);
    }

    #[test]
    fn a_living_token_is_never_given_up(
        traits in any_traits(),
        events in prop::collection::vec((any_event(), any_event()), 1..200),
    ) {
        // Whatever others are told: between two refusals that count, a call is accepted.
        let mut run = Run::new(traits);
        for (event, outcome) in events {
            run.step(Event::Accepted { first: false });
            let is_replay = matches!(event, Event::RefusedAgain(_) | Event::NotReplayed(_));
            if !is_replay {
                apply(&mut run, event, outcome);
            }
            prop_assert!(!run.is_dead());
            run.later(Duration::from_millis(100));
        }
    }

    #[test]
    fn a_dead_token_is_always_fetched_again_without_a_call(
        traits in any_traits(),
        events in prop::collection::vec((any_event(), any_event()), 1..200),
    ) {
        let mut run = Run::new(traits);
        for (event, outcome) in events {
            apply(&mut run, event, outcome);
            prop_assert!(!run.is_dead() || run.state.due(run.now).is_some());
        }
    }
}
