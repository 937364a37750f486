//! The log: plain or JSON lines on stdout. Levels can change while the process runs. Logging never blocks.

pub mod access;
mod line_writer;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fmt,
    io::{self, Write},
    panic::{self, PanicHookInfo},
    thread,
};

use tokio::time::{Duration, Instant};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    Registry,
    filter::Targets,
    fmt::{MakeWriter, layer},
    layer::{Layer, SubscriberExt},
    reload,
};

use crate::os;
use access::AccessLog;
use line_writer::{LineWriter, Priority};

/// The format of lines, and the levels that are written.
#[derive(Clone, Debug)]
pub struct Options {
    /// One JSON object a line.
    pub json: bool,
    /// The lowest level written, by module.
    pub levels: Targets,
    /// Which part of the calls that go well has a line in the access log, from 0 to 1; `None` if there is no such log.
    pub access: Option<f64>,
}

/// The log of this process. Clones share it.
#[derive(Clone, Debug)]
pub struct Log {
    /// The levels while the process runs.
    pub levels: LogLevels,
    /// The access log, if it is wanted.
    pub access: Option<AccessLog>,
    stdout: LineWriter,
    stderr: LineWriter,
}

/// The levels while the process runs. Clones set the same ones.
#[derive(Clone)]
pub struct LogLevels(reload::Handle<Targets, Registry>);

/// How long to wait for the last lines when the process ends.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

impl Log {
    /// Installs the log: from now on all lines and panic messages of this process go through queues.
    ///
    /// # Errors
    /// If there is a log already, or the system gives no thread or file for it.
    pub fn install(options: Options) -> io::Result<Self> {
        let stdout = LineWriter::start(os::stdout()?, report_dropped)?;
        let stderr = LineWriter::start(os::stderr()?, report_dropped)?;
        let json = options.json;
        let access = options
            .access
            .map(|part| AccessLog::new(stdout.clone(), json, part));
        let (log, levels) = subscriber(options, stdout.clone());
        tracing::subscriber::set_global_default(log).map_err(io::Error::other)?;
        panic::set_hook(Box::new(panic_hook(stderr.clone())));
        Ok(Self {
            levels,
            access,
            stdout,
            stderr,
        })
    }

    /// How many lines were dropped because nobody read them in time, or could not be written.
    pub fn dropped_lines(&self) -> u64 {
        self.stdout.dropped() + self.stderr.dropped()
    }

    /// Waits until all lines are written, but at most two seconds.
    pub fn flush(&self) {
        let deadline = Instant::now() + FLUSH_LIMIT;
        for writer in [&self.stdout, &self.stderr] {
            writer.flush(deadline.saturating_duration_since(Instant::now()));
        }
    }
}

/// Builds the subscriber, and the handle to its levels.
fn subscriber(options: Options, writer: LineWriter) -> (impl Subscriber + Send + Sync, LogLevels) {
    let (levels, handle) = reload::Layer::new(options.levels);
    let layer = layer().with_writer(writer);
    let lines = if options.json {
        let json = layer.json().flatten_event(true);
        json.with_current_span(false).with_span_list(false).boxed()
    } else {
        layer.boxed()
    };
    let log = tracing_subscriber::registry()
        .with(levels)
        .with(without_chatter())
        .with(lines);
    (log, LogLevels(handle))
}

/// Leaves out what the DNS library tells of each query and each of its bytes.
fn without_chatter() -> Targets {
    let chatty = ["hickory_net", "hickory_proto", "hickory_resolver"];
    let levels = Targets::new().with_default(Level::TRACE);
    levels.with_targets(chatty.map(|module| (module, Level::WARN)))
}

/// The writer of one event's line.
struct Event<'a> {
    writer: &'a LineWriter,
    priority: Priority,
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = Event<'a>;

    fn make_writer(&'a self) -> Event<'a> {
        let priority = Priority::Ordinary;
        Event {
            writer: self,
            priority,
        }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Event<'a> {
        // In `tracing`, the more severe level is the lower one.
        let priority = match *event.level() <= Level::WARN {
            true => Priority::Important,
            false => Priority::Ordinary,
        };
        Event {
            writer: self,
            priority,
        }
    }
}

impl Write for Event<'_> {
    /// Takes a whole line, because the subscriber writes each line at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.writer.push(line, self.priority);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn report_dropped(lines: u64) {
    tracing::warn!(
        lines,
        "log lines were dropped, since nobody read them in time"
    );
}

/// Puts the messages of panics into `writer`'s queue.
fn panic_hook(writer: LineWriter) -> impl Fn(&PanicHookInfo<'_>) + Send + Sync {
    move |panic| writer.push(describe(panic).as_bytes(), Priority::Important)
}

/// The message of a panic.
fn describe(panic: &PanicHookInfo<'_>) -> String {
    let current = thread::current();
    let name = current.name().unwrap_or("<unnamed>");
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => format!("thread '{name}' {panic}\n{backtrace}\n"),
        _ => format!("thread '{name}' {panic}\n"),
    }
}

impl LogLevels {
    /// Sets the levels, as [`parse`] reads them.
    pub fn set(&self, text: &str) -> Result<(), LevelsError> {
        let levels = parse(text)?;
        Ok(self.0.reload(levels)?)
    }

    /// The current levels, in the format that [`set`](Self::set) reads.
    pub fn get(&self) -> String {
        self.0.with_current(Targets::to_string).unwrap_or_default()
    }
}

impl fmt::Debug for LogLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogLevels").field(&self.get()).finish()
    }
}

/// Why levels cannot be set. The text is a phrase about the levels that were given.
#[derive(Debug, thiserror::Error)]
pub enum LevelsError {
    /// The text has a level that does not exist, or is malformed.
    #[error("is none of {}, nor MODULE=LEVEL", LEVELS.join(", "))]
    Invalid,
    /// The log was dropped.
    #[error(transparent)]
    Gone(#[from] reload::Error),
}

/// Reads a level (`info`), levels by module (`hyper=warn`), or both (`info,hyper=warn`).
pub fn parse(text: &str) -> Result<Targets, LevelsError> {
    let text: String = text.split_whitespace().collect();
    // `Targets` alone would take a misspelt level for a module, and disable all other modules.
    let levels = text.split(',').all(is_directive).then(|| text.parse().ok());
    levels.flatten().ok_or(LevelsError::Invalid)
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
    use std::sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    };

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
    fn a_panic_waits_for_no_reader_and_its_message_is_written_later() {
        /// Blocks until the test takes the line.
        struct Blocking(SyncSender<Vec<u8>>);

        impl Write for Blocking {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                self.0.send(text.to_vec()).map_err(io::Error::other)?;
                Ok(text.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let (sender, lines) = sync_channel(0);
        let writer = LineWriter::start(Blocking(sender), |_| {}).unwrap();
        let hook = panic_hook(writer);
        let before = Arc::new(panic::take_hook());
        let others = before.clone();
        // Other tests of this process may panic meanwhile.
        panic::set_hook(Box::new(move |panic| {
            match thread::current().name() == Some("panics") {
                true => hook(panic),
                false => others(panic),
            }
        }));
        let panics = thread::Builder::new().name("panics".to_owned());
        let panics = panics.spawn(|| panic!("of a test")).unwrap();
        assert!(panics.join().is_err(), "the panic itself is over");
        let line = lines.recv_timeout(Duration::from_secs(20)).unwrap();
        let line = String::from_utf8(line).unwrap();
        panic::set_hook(Box::new(move |panic| before(panic)));
        assert!(
            line.starts_with("thread 'panics' panicked at src"),
            "{line}"
        );
        assert!(line.contains("of a test"), "{line}");
    }

    #[test]
    fn levels_change_while_the_process_runs() {
        let options = Options {
            json: true,
            levels: parse("info").unwrap(),
            access: None,
        };
        let writer = LineWriter::start(io::sink(), |_| {}).unwrap();
        let (log, levels) = subscriber(options, writer);
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
