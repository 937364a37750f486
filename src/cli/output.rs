//! Texts on stdout and stderr.

use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Prints a text that may be applied by another program. A failed write is an error, because half of it may have been
/// printed.
pub fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprint(&format!("stdout: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints `problem` on stderr.
pub fn eprint(problem: &str) {
    let _ = writeln!(io::stderr(), "wechat-sidecar: {problem}");
}

/// Prints a line. A failed write does not matter.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
