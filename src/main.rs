//! The program: it parses the arguments, runs the command, and returns the exit code.

use std::{env, ffi::OsString, process::ExitCode};

use wechat_sidecar::cli::{
    args::{self, UsageError},
    output::{eprint, print},
    process::Process,
    run,
};

/// musl's own allocator has one lock for all threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Wrong usage or configuration (`EX_USAGE` of sysexits.h).
const MISUSED: u8 = 64;

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    // This is the first thing, because signals may come early.
    let process = match Process::begin(&args) {
        Ok(process) => process,
        Err(error) => {
            eprint(&format!("the process cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match args::parse(args) {
        Ok(invocation) => {
            run(invocation, process).unwrap_or_else(|error| misused(&error.to_string()))
        }
        Err(UsageError::Wrong(problem)) => misused(&problem),
        Err(UsageError::Said(text)) => print(&text),
    }
}

fn misused(problem: &str) -> ExitCode {
    eprint(problem);
    ExitCode::from(MISUSED)
}
