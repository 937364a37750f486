//! The signals that a server obeys. They are taken over before anything else that takes time.

use std::io;

pub use crate::os::{Signal, hangup};
use crate::os::{interrupt, terminate};

/// The signals of a server. One that arrives early is kept until somebody waits for it.
#[derive(Debug)]
pub struct Signals {
    /// Those that ask it to stop.
    pub stop: StopSignals,
    /// SIGHUP, which asks it to read its configuration again.
    pub hangup: Signal,
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on none of them ends the process. This must be called on a runtime.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            stop: StopSignals {
                terminate: terminate()?,
                interrupt: interrupt()?,
            },
            hangup: hangup()?,
        })
    }
}

impl StopSignals {
    /// Waits for the next of them.
    pub async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
