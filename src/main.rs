//! Arguments and exit codes; nothing else.

use std::{env, process::ExitCode};

use wechat_sidecar::{
    config::command::{self, Answer},
    run::{complain, run, said},
};

/// Wrong usage or configuration (`EX_USAGE` of sysexits.h).
const MISUSED: u8 = 64;

fn main() -> ExitCode {
    match command::parse(env::args_os()) {
        Ok(invocation) => run(invocation).unwrap_or_else(|error| misused(&error.to_string())),
        Err(Answer::Wrong(problem)) => misused(&problem),
        // Whether anybody reads it or not.
        Err(Answer::Said(text)) => {
            said(&text);
            ExitCode::SUCCESS
        }
    }
}

fn misused(problem: &str) -> ExitCode {
    complain(problem);
    ExitCode::from(MISUSED)
}
