//! Lines on stdout: plain or JSON, at levels that can change while the process runs.

use std::fmt;

use tracing::Subscriber;
use tracing_subscriber::{
    Registry,
    filter::Targets,
    fmt::layer,
    layer::{Layer, SubscriberExt},
    reload,
};

/// How lines look, and which of them are written.
#[derive(Clone, Debug)]
pub struct Options {
    /// One JSON object a line.
    pub json: bool,
    /// The lowest level written, by module.
    pub levels: Targets,
}

/// The levels while the process runs. Clones set the same ones.
#[derive(Clone)]
pub struct LogLevels(reload::Handle<Targets, Registry>);

/// A log as `options` say, to be installed by who owns the process, and its levels.
pub fn log(options: Options) -> (impl Subscriber + Send + Sync, LogLevels) {
    let (levels, handle) = reload::Layer::new(options.levels);
    let lines = if options.json {
        let json = layer().json().flatten_event(true);
        json.with_current_span(false).with_span_list(false).boxed()
    } else {
        layer().boxed()
    };
    let log = tracing_subscriber::registry().with(levels).with(lines);
    (log, LogLevels(handle))
}

impl LogLevels {
    /// Sets the levels, as [`parse`] reads them. The error is a sentence.
    pub fn set(&self, text: &str) -> Result<(), String> {
        let levels = parse(text)?;
        self.0.reload(levels).map_err(|error| error.to_string())
    }

    /// The levels as [`set`](Self::set) takes them.
    pub fn get(&self) -> String {
        self.0.with_current(Targets::to_string).unwrap_or_default()
    }
}

impl fmt::Debug for LogLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogLevels").field(&self.get()).finish()
    }
}

/// Reads a level (`info`), levels by module (`hyper=warn`), or both (`info,hyper=warn`). The error is
/// a phrase about the text.
pub fn parse(text: &str) -> Result<Targets, String> {
    let text: String = text.split_whitespace().collect();
    // By itself `Targets` would take a misspelt level for a module, and be silent for all others.
    let levels = text.split(',').all(is_directive).then(|| text.parse().ok());
    levels
        .flatten()
        .ok_or_else(|| format!("is none of {}, nor MODULE=LEVEL", LEVELS.join(", ")))
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

fn is_directive(text: &str) -> bool {
    let (module, level) = text.split_once('=').unwrap_or(("all", text));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_:-".contains(&b);
    let is_module = !module.is_empty() && module.bytes().all(plain);
    is_module && LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_and_a_misspelt_one_is_refused() {
        for good in [
            "info",
            "DEBUG",
            "off",
            "info,hyper=warn",
            "info, wechat_sidecar::keeper=trace",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "inof",
            "hyper=",
            "info,hyper=loud",
            "info,,debug",
            "==",
            "=info",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn levels_change_while_the_process_runs() {
        let (log, levels) = log(Options {
            json: true,
            levels: parse("info").unwrap(),
        });
        tracing::subscriber::with_default(log, || {
            assert!(tracing::enabled!(tracing::Level::INFO));
            assert!(!tracing::enabled!(tracing::Level::DEBUG));
            levels.set("info,wechat_sidecar=debug\n").unwrap();
            assert!(tracing::enabled!(tracing::Level::DEBUG));
            assert!(levels.set("loud").is_err());
            let expected = parse("info,wechat_sidecar=debug").unwrap();
            assert_eq!(parse(&levels.get()).unwrap(), expected);
        });
        assert!(levels.set("info").is_err(), "the log is gone");
    }
}
