//! The process: its runtime, and the signals that it obeys from its first moment on.

use std::{ffi::OsString, io};

use tokio::runtime::{self, Runtime};

use crate::rt::{blocking::MOST_THREADS, signals::Signals};

/// Threads that may block, beside those for reads: for reading the configuration, and for what is dropped.
const OTHER_THREADS: usize = 1;

/// The words of command lines that start no server. A signal ends what these do, as usual.
const NO_SERVER: [&str; 19] = [
    "ca",
    "call",
    "check",
    "completions",
    "explain",
    "health",
    "help",
    "inject",
    "man",
    "quota",
    "revoke",
    "rid",
    "shutdown",
    "wait",
    "webhook-certs",
    "--help",
    "-h",
    "--version",
    "-V",
];

/// See the [module](self).
#[derive(Debug)]
pub struct Process {
    runtime: Runtime,
    signals: Option<Signals>,
}

impl Process {
    /// Begins with a runtime. If `args` may ask for a server, it takes the signals over, before the arguments are
    /// parsed: until then SIGHUP would end the process, and SIGTERM would be lost where its number is 1.
    pub fn begin(args: &[OsString]) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(MOST_THREADS + OTHER_THREADS)
            .build()?;
        let word = |arg: &OsString| NO_SERVER.iter().any(|word| arg == word);
        let mut process = Self {
            runtime,
            signals: None,
        };
        if !args.iter().any(word) {
            process.signals = Some(process.install()?);
        }
        Ok(process)
    }

    /// The signals, for the one server of this process.
    pub(super) fn signals(&mut self) -> io::Result<Signals> {
        match self.signals.take() {
            Some(signals) => Ok(signals),
            // A value among the arguments was one of those words.
            None => self.install(),
        }
    }

    /// Runs `work` to its end.
    pub(super) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Ends. A read of a file on a network that hangs does not keep the process from ending.
    pub(super) fn end(self) {
        self.runtime.shutdown_background();
    }

    fn install(&self) -> io::Result<Signals> {
        let _on_runtime = self.runtime.enter();
        Signals::install()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args;

    #[test]
    fn every_command_that_serves_nobody_ends_by_a_signal_as_usual() {
        let commands = args::command();
        for command in commands.get_subcommands() {
            let name = command.get_name();
            let serves = matches!(name, "serve" | "webhook" | "fake");
            assert_eq!(NO_SERVER.contains(&name), !serves, "{name}");
        }
    }
}
