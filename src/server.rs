//! Accepts apps' connections and hands them to workers; drains them in the end.

mod connection;
mod context;
mod error_reply;
#[cfg(feature = "fast_path")]
mod fast_path;
mod framing_check;
mod io;
mod last_reply;
mod listener;
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
pub use listener::{Listener, SocketOwner};
pub use worker::Workers;

/// What the server needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Threads that carry calls.
    pub workers: usize,
    /// Connections of apps at once.
    pub max_connections: usize,
    /// A pause in a body, either way.
    pub idle_timeout: Duration,
    /// How long calls in flight may take to finish.
    pub shutdown_grace: Duration,
}

/// How the process ends, told to every connection. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    /// Replies ask apps to close their connections.
    leaving: Arc<AtomicBool>,
    /// No more calls are taken.
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

    /// Ends idle connections, and the others after their call.
    pub fn drain(&self) {
        self.leave();
        self.draining.send_replace(true);
    }

    /// Returns when no more calls are taken. A connection asks at each of its calls, so it costs
    /// nothing to ask again.
    async fn drained(&self) {
        let mut draining = self.draining.subscribe();
        let mut drained = pin!(draining.wait_for(|draining| *draining));
        let mut told: Option<Waker> = None;
        poll_fn(|cx| {
            let knows = told.as_ref().is_some_and(|told| told.will_wake(cx.waker()));
            if knows && !self.is_leaving() {
                return Poll::Pending;
            }
            if !knows {
                // Without it a channel says that it is pending and takes no notice.
                told = has_budget_remaining().then(|| cx.waker().clone());
            }
            // The sender is `self`: it is not gone.
            drained.as_mut().poll(cx).map(|_| ())
        })
        .await;
    }
}
