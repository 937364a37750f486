//! Signals to a program that a test started. Not every machine has a program `kill`.

use rustix::process::{Pid, Signal, kill_process};

/// Sends a signal, with the name that `kill` uses: `-TERM`.
pub fn send(pid: u32, signal: &str) {
    let signal = match signal {
        "-CONT" => Signal::CONT,
        "-HUP" => Signal::HUP,
        "-INT" => Signal::INT,
        "-KILL" => Signal::KILL,
        "-STOP" => Signal::STOP,
        "-TERM" => Signal::TERM,
        other => panic!("no test sends {other}; add it here"),
    };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.unwrap(), signal).unwrap();
}
