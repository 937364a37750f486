//! A script: what happens at which call, or after how many seconds.

use serde_json::{Map, Value};
use tokio::time::{Duration, Instant};

use super::knobs::SteerError;

/// Scenes that are still to come.
#[derive(Debug)]
pub(super) struct Script {
    scenes: Vec<Scene>,
    began: Instant,
    /// How many API calls have come since then.
    calls: u64,
}

/// What happens once.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    /// Its number in the script, from 1 on.
    pub(super) number: usize,
    cue: Cue,
    /// The action, if there is one, and its parameters.
    pub(super) action: Option<(String, Map<String, Value>)>,
    /// The knobs that are turned.
    pub(super) change: Map<String, Value>,
}

/// When it happens.
#[derive(Clone, Copy, Debug)]
enum Cue {
    /// Before this API call is answered, counted from 1.
    Call(u64),
    /// So long after the beginning.
    After(Duration),
}

impl Script {
    /// Reads a script. It begins now.
    pub(super) fn read(value: &Value) -> Result<Self, SteerError> {
        let scenes = value.as_array().ok_or(SteerError::NoScript)?.iter();
        let scenes = scenes.zip(1..).map(|(value, number)| {
            let scene = Scene::read(value, number);
            scene.ok_or(SteerError::NoScene(number))
        });
        Ok(Self {
            scenes: scenes.collect::<Result<_, _>>()?,
            began: Instant::now(),
            calls: 0,
        })
    }

    /// All scenes that are still to come.
    pub(super) fn scenes(&self) -> &[Scene] {
        &self.scenes
    }

    /// Takes the scenes that are due, in their order, when another API call has come or none.
    pub(super) fn due(&mut self, is_call: bool) -> Vec<Scene> {
        self.calls += u64::from(is_call);
        let (calls, passed) = (self.calls, self.began.elapsed());
        let is_due = |scene: &mut Scene| match scene.cue {
            Cue::Call(at) => at <= calls,
            Cue::After(pause) => pause <= passed,
        };
        self.scenes.extract_if(.., is_due).collect()
    }
}

impl Scene {
    fn read(value: &Value, number: usize) -> Option<Self> {
        let scene = value.as_object()?;
        let known = ["at_call", "at_second", "do", "with", "change"];
        if !scene.keys().all(|key| known.contains(&key.as_str())) {
            return None;
        }
        let cue = match (scene.get("at_call"), scene.get("at_second")) {
            (Some(call), None) => Cue::Call(call.as_u64().filter(|call| *call > 0)?),
            (None, Some(second)) => Cue::After(Duration::try_from_secs_f64(second.as_f64()?).ok()?),
            _ => return None,
        };
        let object = |key: &str| match scene.get(key) {
            None => Some(Map::new()),
            Some(value) => value.as_object().cloned(),
        };
        let (with, change) = (object("with")?, object("change")?);
        let action = match scene.get("do") {
            None if with.is_empty() && !change.is_empty() => None,
            None => return None,
            Some(action) => Some((action.as_str()?.to_owned(), with)),
        };
        Some(Self {
            number,
            cue,
            action,
            change,
        })
    }
}
