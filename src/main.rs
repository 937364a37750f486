//! The program: it parses the arguments, runs the command, and returns the exit code.

use std::{env, process::ExitCode};

use wechat_sidecar::cli::{
    args::{self, UsageError},
    output::{eprint, print},
    run,
};

/// Wrong usage or configuration (`EX_USAGE` of sysexits.h).
const MISUSED: u8 = 64;

fn main() -> ExitCode {
    match args::parse(env::args_os()) {
        Ok(invocation) => run(invocation).unwrap_or_else(|error| misused(&error.to_string())),
        Err(UsageError::Wrong(problem)) => misused(&problem),
        // A failed write does not matter.
        Err(UsageError::Said(text)) => {
            print(&text);
            ExitCode::SUCCESS
        }
    }
}

fn misused(problem: &str) -> ExitCode {
    eprint(problem);
    ExitCode::from(MISUSED)
}
