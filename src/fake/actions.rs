//! Actions: what can happen to a fake at a word, such as an expiry of all tokens.

use serde_json::{Map, Value, json};

use super::{
    knobs::{Knobs, SteerError},
    script::{Scene, Script},
    state::WechatState,
};

/// An action.
pub(super) struct FakeAction {
    pub(super) name: &'static str,
    /// What it does.
    pub(super) does: &'static str,
    /// The parameters that it takes, with their defaults.
    pub(super) takes: &'static str,
    effect: Effect,
}

/// What an action works on.
#[derive(Clone, Copy)]
enum Effect {
    State(fn(&mut WechatState)),
    /// It turns the knobs that it returns for its parameters.
    Knobs(fn(&Parameters<'_>, &Knobs) -> Option<Value>),
}

/// The parameters of an action.
struct Parameters<'a>(&'a Map<String, Value>);

impl Parameters<'_> {
    /// A number, which stands as text in a query.
    fn number(&self, name: &str) -> Option<Option<i64>> {
        match self.0.get(name) {
            None => Some(None),
            Some(Value::String(text)) => text.parse().ok().map(Some),
            Some(value) => value.as_i64().map(Some),
        }
    }

    fn number_or(&self, name: &str, preset: i64) -> Option<i64> {
        self.number(name).map(|number| number.unwrap_or(preset))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }
}

const NOTHING: &str = "no parameters";

const fn on_state(name: &'static str, does: &'static str, act: fn(&mut WechatState)) -> FakeAction {
    FakeAction {
        name,
        does,
        takes: NOTHING,
        effect: Effect::State(act),
    }
}

const fn on_knobs(
    name: &'static str,
    takes: &'static str,
    does: &'static str,
    knobs: fn(&Parameters<'_>, &Knobs) -> Option<Value>,
) -> FakeAction {
    FakeAction {
        name,
        does,
        takes,
        effect: Effect::Knobs(knobs),
    }
}

/// All actions.
pub(super) const ACTIONS: [FakeAction; 12] = [
    on_state(
        "expire",
        "every token is past its expiry: 42001",
        WechatState::expire,
    ),
    on_state(
        "rotate",
        "somebody else has replaced every token: 40001, or 40014 of WeCom",
        WechatState::rotate,
    ),
    on_knobs(
        "refuse",
        "times (1) and code",
        "the next calls are refused, whatever their token",
        |given, _| {
            let times = given.number_or("times", 1)?;
            Some(json!({ "refuse_next": times, "refusal_code": given.number("code")? }))
        },
    ),
    on_knobs(
        "errcode",
        "code (-1)",
        "calls with a good token are answered with this code",
        |given, _| Some(json!({ "errcode": given.number_or("code", -1)? })),
    ),
    on_knobs(
        "slow",
        "ms (2000)",
        "replies and tokens come so late",
        |given, _| {
            let ms = given.number_or("ms", 2000)?;
            Some(json!({ "reply_delay_ms": ms, "token_delay_ms": ms }))
        },
    ),
    on_knobs(
        "stall",
        NOTHING,
        "calls and token requests are read and never answered",
        |_, _| Some(json!({ "stall": true, "token_stall": true })),
    ),
    on_knobs(
        "quota",
        "path, a_day (0) and a_minute",
        "the quota of this path is used up after so many calls, or that of token requests if there is no path: 45009, 45011",
        |given, knobs| {
            let Some(path) = given.text("path") else {
                return Some(json!({ "token_errcode": 45009 }));
            };
            let (day, minute) = (given.number("a_day")?, given.number("a_minute")?);
            let day = if minute.is_none() {
                day.or(Some(0))
            } else {
                day
            };
            let mut quotas = json!({});
            for (path, known) in &knobs.behaviour.quotas {
                quotas[path] = json!({ "a_day": known.a_day, "a_minute": known.a_minute });
            }
            quotas[path] = json!({ "a_day": day, "a_minute": minute });
            Some(json!({ "quotas": quotas }))
        },
    ),
    on_knobs(
        "ip",
        NOTHING,
        "the caller's IP is not on the whitelist: 40164 for token requests, or 60020 for the calls of WeCom",
        |_, knobs| {
            Some(match knobs.rules {
                Some(_) => json!({ "wecom_unlisted_ip": "114.221.21.30" }),
                None => json!({ "token_errcode": 40164 }),
            })
        },
    ),
    on_knobs(
        "down",
        NOTHING,
        "connections are closed without a reply, but those for /_fake",
        |_, _| {
            Some(
                json!({ "hang_up": "after_request", "hang_up_next": u32::MAX, "token_hangup": true }),
            )
        },
    ),
    on_knobs(
        "cut",
        "times (1)",
        "the next replies break off in the middle of their body",
        |given, _| {
            let times = given.number_or("times", 1)?;
            Some(json!({ "hang_up": "mid_body", "hang_up_next": times }))
        },
    ),
    on_state(
        "clear",
        "what was seen is forgotten; tokens and knobs stay",
        WechatState::clear,
    ),
    on_state(
        "reset",
        "knobs and quotas are as at the start, the script ends, and what was seen is forgotten; tokens stay",
        WechatState::reset,
    ),
];

/// Does what this action does, or nothing where a parameter is wrong.
pub(super) fn act(
    state: &mut WechatState,
    name: &str,
    parameters: &Map<String, Value>,
) -> Result<(), SteerError> {
    let mut knobs = state.knobs();
    match prepared(&mut knobs, name, parameters)? {
        Some(act) => act(state),
        None => state.set_knobs(knobs),
    }
    Ok(())
}

/// Turns these knobs as the action does, or returns what it does to the state.
fn prepared(
    knobs: &mut Knobs,
    name: &str,
    parameters: &Map<String, Value>,
) -> Result<Option<fn(&mut WechatState)>, SteerError> {
    let action = ACTIONS.iter().find(|action| action.name == name);
    let action = action.ok_or_else(|| SteerError::NoAction(name.to_owned()))?;
    let wrong = SteerError::Takes(action.name, action.takes);
    let words = action.takes.split([' ', ',']);
    let known: Vec<_> = words.filter(|_| action.takes != NOTHING).collect();
    if !parameters.keys().all(|name| known.contains(&name.as_str())) {
        return Err(wrong);
    }
    match action.effect {
        Effect::State(act) => Ok(Some(act)),
        Effect::Knobs(wanted) => {
            let values = wanted(&Parameters(parameters), knobs).ok_or(wrong.clone())?;
            let values = values.as_object().ok_or(wrong.clone())?;
            knobs.turn(values).map_err(|_| wrong)?;
            Ok(None)
        }
    }
}

/// Begins with this script, if all of its scenes can be played.
pub(super) fn begin(state: &mut WechatState, script: &Value) -> Result<(), SteerError> {
    let script = Script::read(script)?;
    for scene in script.scenes() {
        let mut knobs = state.knobs();
        let action = scene.action.as_ref();
        let action = action.map_or(Ok(None), |(name, with)| prepared(&mut knobs, name, with));
        action
            .and_then(|_| knobs.turn(&scene.change))
            .map_err(|error| SteerError::InScene(scene.number, Box::new(error)))?;
    }
    state.script = Some(script);
    Ok(())
}

/// Plays the scenes that are due, when another API call has come or none.
pub(super) fn advance(state: &mut WechatState, is_call: bool) {
    let script = state.script.as_mut();
    let due = script.map(|script| script.due(is_call)).unwrap_or_default();
    for Scene { action, change, .. } in due {
        // They were tried when the script began.
        if let Some((name, with)) = &action {
            let _ = act(state, name, with);
        }
        let mut knobs = state.knobs();
        let _ = knobs.turn(&change);
        state.set_knobs(knobs);
    }
}
