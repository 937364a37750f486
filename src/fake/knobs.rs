//! The knobs: what programs in other languages, and scripts, may change of a fake.

use std::collections::HashMap;

use serde_json::{Map, Value};
use tokio::time::Duration;

use super::{
    behaviour::{Behaviour, EarlyReply, HangUp},
    quota::CallQuota,
    reply::{JSON, PAGE},
    wecom::WecomRules,
};

/// Why a fake cannot be steered so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SteerError {
    /// No knob has this name.
    #[error("there is no knob {0}")]
    NoKnob(String),
    /// A knob got another value than it takes.
    #[error("{0} wants {1}")]
    Wants(&'static str, &'static str),
    /// No action has this name.
    #[error("there is no action {0}")]
    NoAction(String),
    /// An action got other parameters than it takes.
    #[error("{0} takes {1}")]
    Takes(&'static str, &'static str),
    /// The knobs are no object.
    #[error("the body must be a JSON object of knobs")]
    NoObject,
    /// There is no AppID with a secret.
    #[error("the body must be a JSON object with appid and secret")]
    NoAccount,
    /// A script is something else.
    #[error("a script is a JSON list of scenes")]
    NoScript,
    /// A scene is written in another way than this.
    #[error(
        "scene {0} must have at_call or at_second, which is a number, and do (with its parameters in with) or change"
    )]
    NoScene(usize),
    /// This is wrong with a scene.
    #[error("scene {0}: {1}")]
    InScene(usize, Box<Self>),
}

/// The settings that knobs turn.
#[derive(Clone, Debug)]
pub(super) struct Knobs {
    pub(super) behaviour: Behaviour,
    /// The rules of WeCom, if it is one.
    pub(super) rules: Option<WecomRules>,
}

/// A knob.
pub(super) struct Knob {
    pub(super) name: &'static str,
    /// What it takes.
    pub(super) takes: &'static str,
    turn: fn(&mut Knobs, &Value) -> Option<()>,
}

impl Knobs {
    /// Turns all of these, or none where one is wrong.
    pub(super) fn turn(&mut self, values: &Map<String, Value>) -> Result<(), SteerError> {
        let mut changed = self.clone();
        for (name, value) in values {
            let knob = KNOBS.iter().find(|knob| knob.name == name);
            let knob = knob.ok_or_else(|| SteerError::NoKnob(name.clone()))?;
            let turned = (knob.turn)(&mut changed, value);
            turned.ok_or(SteerError::Wants(knob.name, knob.takes))?;
        }
        *self = changed;
        Ok(())
    }
}

const fn knob(
    name: &'static str,
    takes: &'static str,
    turn: fn(&mut Knobs, &Value) -> Option<()>,
) -> Knob {
    Knob { name, takes, turn }
}

const FLAG: &str = "true or false";
const CODE: &str = "an errcode or null";
const COUNT: &str = "a whole number";
const MILLIS: &str = "a whole number of milliseconds";
const STATUS: &str = "a status from 200 to 599, or null";

/// All knobs, in the order of [`Behaviour`].
pub(super) const KNOBS: [Knob; 32] = [
    knob("refusal_chance", "a number from 0 to 1", |to, value| {
        let chance = value.as_f64().filter(|part| (0.0..=1.0).contains(part))?;
        to.behaviour.refusal_chance = chance;
        if let Some(rules) = &mut to.rules {
            rules.early_end_chance = chance;
        }
        Some(())
    }),
    knob("refuse_always", "a list of paths", |to, value| {
        set(&mut to.behaviour.refuse_always, paths(value))
    }),
    knob("refuse_next", COUNT, |to, value| {
        set(&mut to.behaviour.refuse_next, count(value))
    }),
    knob("refusal_code", CODE, |to, value| {
        set(
            &mut to.behaviour.refusal.code,
            or_null(value, Value::as_i64),
        )
    }),
    knob("token_errcode", CODE, |to, value| {
        set(
            &mut to.behaviour.token_errcode,
            or_null(value, Value::as_i64),
        )
    }),
    knob("token_garbage", FLAG, |to, value| {
        set(&mut to.behaviour.token_garbage, value.as_bool())
    }),
    knob("token_delay_ms", MILLIS, |to, value| {
        set(&mut to.behaviour.token_delay, millis(value))
    }),
    knob("token_status", STATUS, |to, value| {
        set(&mut to.behaviour.token_status, or_null(value, status))
    }),
    knob("token_hangup", FLAG, |to, value| {
        set(&mut to.behaviour.token_hangup, value.as_bool())
    }),
    knob("token_stall", FLAG, |to, value| {
        set(&mut to.behaviour.token_stall, value.as_bool())
    }),
    knob(
        "quotas",
        "an object of paths, each with a_day and a_minute",
        |to, value| set(&mut to.behaviour.quotas, quotas(value)),
    ),
    knob("ticket_life_ms", MILLIS, |to, value| {
        set(&mut to.behaviour.tickets.life, millis(value))
    }),
    knob("ticket_says", "a whole number of seconds", |to, value| {
        set(&mut to.behaviour.tickets.said, count(value).map(u64::from))
    }),
    knob("reply_delay_ms", MILLIS, |to, value| {
        set(&mut to.behaviour.reply_delay, millis(value))
    }),
    knob(
        "delays_ms",
        "an object of paths, each with milliseconds",
        |to, value| set(&mut to.behaviour.delay_at, by_path(value, millis)),
    ),
    knob("stall", FLAG, |to, value| {
        set(&mut to.behaviour.stall, value.as_bool())
    }),
    knob("stall_body", FLAG, |to, value| {
        set(&mut to.behaviour.stall_body, value.as_bool())
    }),
    knob(
        "hang_up",
        "never, before_reading, after_request, mid_head or mid_body",
        |to, value| set(&mut to.behaviour.hang_up, hang_up(value)),
    ),
    knob("hang_up_next", COUNT, |to, value| {
        set(&mut to.behaviour.hang_up_next, count(value))
    }),
    knob("close_after_reply", FLAG, |to, value| {
        set(&mut to.behaviour.close_after_reply, value.as_bool())
    }),
    knob(
        "close_idle_after_ms",
        "a whole number of milliseconds, or null",
        |to, value| set(&mut to.behaviour.close_idle_after, or_null(value, millis)),
    ),
    knob("connection_close", FLAG, |to, value| {
        set(&mut to.behaviour.connection_close, value.as_bool())
    }),
    knob("split_writes", FLAG, |to, value| {
        set(&mut to.behaviour.split_writes, value.as_bool())
    }),
    knob(
        "early_reply",
        "never, then_read, then_stop_reading or then_close",
        |to, value| set(&mut to.behaviour.early_reply, early_reply(value)),
    ),
    knob("chunked_replies", FLAG, |to, value| {
        set(&mut to.behaviour.chunked_replies, value.as_bool())
    }),
    knob("errcode", CODE, |to, value| {
        set(&mut to.behaviour.errcode, or_null(value, Value::as_i64))
    }),
    knob("status", STATUS, |to, value| {
        set(&mut to.behaviour.status, or_null(value, status))
    }),
    knob("page", FLAG, |to, value| {
        let page = || ("text/html".to_owned(), PAGE.into());
        set(
            &mut to.behaviour.body,
            value.as_bool().map(|is| is.then(page)),
        )
    }),
    knob(
        "replies",
        "an object of paths, each with the JSON of the reply",
        |to, value| {
            let reply = |value: &Value| Some((JSON.to_owned(), value.to_string().into()));
            set(&mut to.behaviour.body_at, by_path(value, reply))
        },
    ),
    knob("headers", "an object of headers", |to, value| {
        set(&mut to.behaviour.extra_headers, headers(value))
    }),
    knob("interim_100", FLAG, |to, value| {
        set(&mut to.behaviour.interim_100, value.as_bool())
    }),
    knob(
        "wecom_unlisted_ip",
        "an IP or null, and WeCom",
        |to, value| {
            let ip = or_null(value, |value| value.as_str().map(str::to_owned));
            set(&mut to.rules.as_mut()?.unlisted, ip)
        },
    ),
];

fn set<T>(place: &mut T, value: Option<T>) -> Option<()> {
    *place = value?;
    Some(())
}

/// `read` for anything but null, which is `Some(None)`.
fn or_null<T>(value: &Value, read: impl FnOnce(&Value) -> Option<T>) -> Option<Option<T>> {
    match value {
        Value::Null => Some(None),
        _ => read(value).map(Some),
    }
}

fn count(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

fn millis(value: &Value) -> Option<Duration> {
    Some(Duration::from_millis(count(value)?.into()))
}

fn status(value: &Value) -> Option<u16> {
    let status = u16::try_from(value.as_u64()?).ok()?;
    (200..600).contains(&status).then_some(status)
}

fn paths(value: &Value) -> Option<Vec<String>> {
    let paths = value.as_array()?.iter();
    paths.map(|path| path.as_str().map(str::to_owned)).collect()
}

fn by_path<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<HashMap<String, T>> {
    let paths = value.as_object()?.iter();
    paths
        .map(|(path, value)| Some((path.clone(), read(value)?)))
        .collect()
}

fn quotas(value: &Value) -> Option<HashMap<String, CallQuota>> {
    by_path(value, |value| {
        Some(CallQuota {
            a_day: or_null(&value["a_day"], count)?,
            a_minute: or_null(&value["a_minute"], count)?,
        })
    })
}

/// Headers whose names and values have nothing in them that would end a line.
fn headers(value: &Value) -> Option<Vec<(String, String)>> {
    let is_plain = |text: &str| !text.contains(|letter: char| letter.is_control());
    let headers = value.as_object()?.iter();
    headers
        .map(|(name, value)| {
            let value = value.as_str().filter(|value| is_plain(value))?;
            is_plain(name).then(|| (name.clone(), value.to_owned()))
        })
        .collect()
}

fn hang_up(value: &Value) -> Option<HangUp> {
    Some(match value.as_str()? {
        "never" => HangUp::Never,
        "before_reading" => HangUp::BeforeReading,
        "after_request" => HangUp::AfterRequest,
        "mid_head" => HangUp::MidHead,
        "mid_body" => HangUp::MidBody,
        _ => return None,
    })
}

fn early_reply(value: &Value) -> Option<EarlyReply> {
    Some(match value.as_str()? {
        "never" => EarlyReply::Never,
        "then_read" => EarlyReply::ThenRead,
        "then_stop_reading" => EarlyReply::ThenStopReading,
        "then_close" => EarlyReply::ThenClose,
        _ => return None,
    })
}
