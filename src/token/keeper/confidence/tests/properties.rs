//! Properties that hold for any sequence of events.

use proptest::prelude::*;

use super::*;

/// A refusal of any call.
fn refusal_of() -> impl Strategy<Value = Refusal> + Clone {
    (0..4_u64, any::<bool>(), any::<bool>(), 0..10_u8).prop_map(|(path, worked, suspect, weak)| {
        Refusal {
            path: PathId::from_hash(path),
            worked,
            suspect,
            weak: weak == 0,
        }
    })
}

/// Any event; whatever happens at WeChat, at the app or in the store.
fn any_event() -> impl Strategy<Value = TokenEvent> {
    let refusal = refusal_of();
    let fetched = (any::<bool>(), any::<bool>(), any::<bool>());
    prop_oneof![
        3 => refusal.clone().prop_map(TokenEvent::Refused),
        1 => refusal.clone().prop_map(TokenEvent::NothingAccepted),
        1 => refusal.clone().prop_map(TokenEvent::RefusedAgain),
        1 => refusal.clone().prop_map(TokenEvent::NotReplayed),
        2 => any::<bool>().prop_map(|first| TokenEvent::Accepted { first }),
        1 => fetched.prop_map(|(same, by_wechat, after)| super::fetched(same, by_wechat, after)),
        1 => any::<bool>().prop_map(|account| TokenEvent::FetchFailed { account }),
        1 => refusal.prop_map(TokenEvent::FetchWasEarlier),
    ]
}

fn any_traits() -> impl Strategy<Value = TokenTraits> {
    prop_oneof![Just(STABLE), Just(CLASSIC), Just(WECOM)]
}

/// Applies the event, and fetches where that is the action; returns whether it was.
fn apply(run: &mut Run, event: TokenEvent, outcome: TokenEvent) -> bool {
    let mut action = run.step(event);
    if let (Action::Watch, TokenEvent::Refused(refusal)) = (action, event) {
        action = run.step(TokenEvent::NothingAccepted(refusal));
    }
    if action == Action::Fetch {
        run.step(TokenEvent::FetchBegins);
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
        in_vain in 0..12,
        paths in prop::collection::vec(0..3_u64, 20),
    ) {
        let mut run = Run::new(traits);
        for (event, outcome, pause) in before {
            apply(&mut run, event, outcome);
            run.later(Duration::from_secs(pause));
        }
        run.step(FIRST_ACCEPTED);
        // Refusals by chance may have let the next fetch wait for long.
        for _ in 0..in_vain {
            run.state.backoff.in_vain(run.now);
        }
        let mut watches = Vec::new();
        let replaced = paths.iter().any(|path| {
            run.later(Duration::from_millis(100));
            watches.retain(|(at, refusal)| {
                *at > run.now || run.step(TokenEvent::NothingAccepted(*refusal)) != Action::Fetch || {
                    run.step(TokenEvent::FetchBegins);
                    run.step(ANOTHER);
                    false
                }
            });
            if run.name() == "OnTrial" {
                return true;
            }
            match run.step(TokenEvent::Refused(by(*path))) {
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
            run.step(TokenEvent::Accepted { first: false });
            let is_replay = matches!(event, TokenEvent::RefusedAgain(_) | TokenEvent::NotReplayed(_));
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
