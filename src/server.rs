//! Accepts apps' connections, hands them to workers, and drains them when the process ends.

mod app_connection;
mod body_end;
mod connection;
mod context;
mod error_reply;
#[cfg(feature = "fast_path")]
mod fast_path;
mod framing_check;
mod framing_reader;
#[cfg(fuzzing)]
pub mod fuzz;
mod handshake;
mod last_reply;
mod listener;
mod request_line;
mod respelled;
mod room;
mod state;
mod stream;
mod worker;

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
};

use tokio::{sync::watch as signal, task::coop::has_budget_remaining, time::Duration};

pub use crate::net::listen_addr::ListenAddr;
pub use listener::{Listener, SocketOwner, Speaks};
pub use worker::Workers;

/// The options of the server.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many threads serve calls.
    pub workers: usize,
    /// How many connections of apps there may be at once.
    pub max_connections: usize,
    /// How long a body may pause, in either direction.
    pub idle_timeout: Duration,
    /// How long calls in flight may take to finish.
    pub shutdown_grace: Duration,
}

/// Tells every connection how the process ends. Clones share their state.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    /// Whether replies ask apps to close their connections.
    leaving: Arc<AtomicBool>,
    /// Whether no more calls are accepted.
    draining: signal::Sender<bool>,
}

impl Drain {
    /// Asks apps, in every reply, to close their connections.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether the process is about to end.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Closes idle connections at once, and the others after their call.
    pub fn drain(&self) {
        self.leave();
        self.draining.send_replace(true);
    }

    /// Returns when the process begins to [drain](Self::drain): no more calls are accepted. Each connection polls this at each call, so polling it again costs
    /// next to nothing.
    pub async fn drain_started(&self) {
        let mut draining = self.draining.subscribe();
        let mut started = pin!(draining.wait_for(|draining| *draining));
        let mut registered: Option<Waker> = None;
        poll_fn(|cx| {
            let is_registered = registered
                .as_ref()
                .is_some_and(|registered| registered.will_wake(cx.waker()));
            if is_registered && !self.is_leaving() {
                return Poll::Pending;
            }
            if !is_registered {
                // Without budget the channel returns `Pending` and does not register the waker.
                registered = has_budget_remaining().then(|| cx.waker().clone());
            }
            // This cannot fail: the sender lives in `self`.
            started.as_mut().poll(cx).map(|_| ())
        })
        .await;
    }
}
