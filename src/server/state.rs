//! The phase of an app's connection: it waits for a call, reads its head, or carries the call.
//!
//! A call begins with [`begin_call`](ConnState::begin_call), whoever serves it, and ends in one of two ways:
//!
//! - The fast path holds the whole call and writes the whole reply in one function. At its end it enters
//!   [`CallPhase::Waiting`].
//! - hyper reads the body and writes the reply on its own, and tells nobody when it is done. So the body and the reply
//!   each hold a [`CallGuard`]. The connection enters [`CallPhase::Waiting`] when the last guard of the call is dropped.
//!
//! Guards would do for both, but take two counts and an `Arc` for each plain call.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::framing_check::FramingCheck;
use crate::{
    body::{
        error::BodyError,
        request_body::{CallGuard, CallOwner},
    },
    client::header_names::HeaderNames,
    proxy::ReplyBody,
};

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum CallPhase {
    /// No byte of the next call has arrived.
    Waiting,
    /// A part of a head has arrived.
    Reading,
    /// A call is in progress.
    Calling,
}

/// The state of a connection, which its [`AppConnection`](super::app_connection::AppConnection) and its calls share. All of them run on
/// one worker thread, so a load and the store after it need not be one atomic operation.
#[derive(Debug, Default)]
pub(super) struct ConnState {
    /// A [`CallPhase`].
    phase: AtomicU8,
    /// What the last head contained: the bits of [`FramingCheck`].
    head: AtomicU8,
    /// A phase began since [`take_phase_changed`](Self::take_phase_changed) was called last.
    phase_changed: AtomicBool,
    /// How many calls have begun.
    calls: AtomicU64,
    /// How many guards the current call has: one for its body, one for its reply.
    guards: AtomicU32,
    /// A part of a reply waits until the app reads.
    sending: AtomicBool,
    /// The last call was a CONNECT that was accepted: what comes next is no call.
    tunnel: AtomicBool,
    /// There are notes.
    has_notes: AtomicBool,
    notes: Mutex<ReplyNotes>,
}

/// What the connection has to know of the reply that hyper writes next.
#[derive(Debug, Default)]
pub(super) struct ReplyNotes {
    /// The names of its headers, if any is spelt in an unusual way.
    pub(super) names: Option<HeaderNames>,
    /// Only the end of the connection ends its body.
    pub(super) ends_with_connection: bool,
}

impl CallOwner for ConnState {
    fn release(&self, call: u64) {
        // The next call may have begun before this guard is dropped.
        if self.calls.load(Ordering::Relaxed) != call {
            return;
        }
        let guards = self.guards.load(Ordering::Relaxed) - 1;
        self.guards.store(guards, Ordering::Relaxed);
        if guards == 0 {
            self.enter(CallPhase::Waiting);
        }
    }
}

impl ConnState {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Begins a call whose head has been parsed. Returns an error if the framing is not sound: a chunked call must have no
    /// `Content-Length`, which is known only if all of its head passed through the check.
    pub(super) fn begin_call(&self, chunked: bool) -> Result<(), &'static str> {
        let head = self.head.load(Ordering::Relaxed);
        self.head.store(0, Ordering::Relaxed);
        let calls = self.calls.load(Ordering::Relaxed);
        self.calls.store(calls + 1, Ordering::Relaxed);
        self.guards.store(0, Ordering::Relaxed);
        self.enter(CallPhase::Calling);
        match (chunked, head) {
            (false, _) | (true, FramingCheck::COMPLETE) => Ok(()),
            (true, 0) => Err(
                "it is chunked, and the end of the call before it is not known: send it on another connection",
            ),
            (true, _) => Err("it has both Content-Length and Transfer-Encoding"),
        }
    }

    /// Returns a guard for the body or the reply of the current call. The call ends when its last guard is dropped.
    pub(super) fn call_guard(self: &Arc<Self>) -> CallGuard {
        let guards = self.guards.load(Ordering::Relaxed);
        self.guards.store(guards + 1, Ordering::Relaxed);
        CallGuard::new(self.clone(), self.calls.load(Ordering::Relaxed))
    }

    /// Whether no call is in progress, and the last reply has been sent.
    pub(super) fn is_idle(&self) -> bool {
        self.phase() == CallPhase::Waiting && !self.sending.load(Ordering::Relaxed)
    }

    /// How many calls have begun.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether no byte of any call has arrived on this connection.
    pub(super) fn is_unused(&self) -> bool {
        self.phase() == CallPhase::Waiting && self.calls.load(Ordering::Relaxed) == 0
    }

    /// Whether a head is being read.
    pub(super) fn is_reading(&self) -> bool {
        self.phase() == CallPhase::Reading
    }

    /// Records what the head contains that has just been read: the bits of [`FramingCheck`].
    pub(super) fn set_head(&self, bits: u8) {
        self.head.store(bits, Ordering::Relaxed);
    }

    /// Whether a phase began since this was called last.
    pub(super) fn take_phase_changed(&self) -> bool {
        let phase_changed = self.phase_changed.load(Ordering::Relaxed);
        if phase_changed {
            self.phase_changed.store(false, Ordering::Relaxed);
        }
        phase_changed
    }

    /// Notes that the connection becomes a tunnel after the next reply.
    pub(super) fn set_tunnel(&self) {
        self.tunnel.store(true, Ordering::Relaxed);
    }

    /// Whether the connection is a tunnel.
    pub(super) fn is_tunnel(&self) -> bool {
        self.tunnel.load(Ordering::Relaxed)
    }

    /// Leaves notes on the reply that hyper writes next.
    pub(super) fn leave_notes(&self, notes: ReplyNotes) {
        *self.notes.lock().unwrap_or_else(PoisonError::into_inner) = notes;
        self.has_notes.store(true, Ordering::Relaxed);
    }

    /// Takes the notes on the reply that hyper is writing, if there are any.
    pub(super) fn take_notes(&self) -> Option<ReplyNotes> {
        if !self.has_notes.load(Ordering::Relaxed) {
            return None;
        }
        self.has_notes.store(false, Ordering::Relaxed);
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        Some(std::mem::take(&mut *notes))
    }

    /// Records whether a part of a reply waits until the app reads.
    pub(super) fn set_sending(&self, sending: bool) {
        self.sending.store(sending, Ordering::Relaxed);
    }

    /// Begins `phase`.
    pub(super) fn enter(&self, phase: CallPhase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.phase_changed.store(true, Ordering::Relaxed);
    }

    /// The current phase.
    #[inline]
    pub(super) fn phase(&self) -> CallPhase {
        // An equality test with the result is one comparison with the number.
        match self.phase.load(Ordering::Relaxed) {
            0 => CallPhase::Waiting,
            1 => CallPhase::Reading,
            _ => CallPhase::Calling,
        }
    }
}

/// A reply's body with the guard of its call: the call ends no earlier than this is dropped.
#[derive(Debug)]
pub(super) struct GuardedBody {
    body: ReplyBody,
    _guard: CallGuard,
}

impl GuardedBody {
    pub(super) fn new(body: ReplyBody, guard: CallGuard) -> Self {
        Self {
            body,
            _guard: guard,
        }
    }
}

impl Body for GuardedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
