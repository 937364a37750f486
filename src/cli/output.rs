//! Texts on stdout and stderr.

use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Prints a text that somebody may apply: half of it is a failure.
pub fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint(&format!("stdout: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Says `problem` on stderr.
pub fn eprint(problem: &str) {
    let _ = writeln!(io::stderr(), "wechat-sidecar: {problem}");
}

/// Prints a line, whether anybody reads it or not.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
