//! Where an app's connection is: waiting for a call, reading its head, or carrying it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::framing_check::FramingCheck;
use crate::{
    body::request_body::{BodyError, CallGuard, CallOwner},
    proxy::ReplyBody,
};

/// Where a connection is in its life, known to its bytes and to its calls. All of them are with one worker, so
/// nothing here changes between a load and a store.
#[derive(Debug, Default)]
pub(super) struct ConnState {
    phase: AtomicU8,
    /// What the head just read has: the bits of [`FramingCheck`].
    head: AtomicU8,
    /// How many bytes belong to the call after its head.
    body_length: AtomicU64,
    /// The phase began since the bytes last looked.
    turned: AtomicBool,
    /// How many calls have begun.
    calls: AtomicU64,
    /// How many keep the last of them busy: its body and its reply.
    busy: AtomicU32,
    /// Something of a reply could not be sent yet.
    sending: AtomicBool,
}

/// No call, and no beginning of one.
pub(super) const WAITING: u8 = 0;
/// A head is on its way.
pub(super) const READING: u8 = 1;
/// A call goes on.
pub(super) const CALLING: u8 = 2;

impl CallOwner for ConnState {
    fn release(&self, call: u64) {
        // The next call may have begun before this one is let go.
        if self.calls.load(Ordering::Relaxed) != call {
            return;
        }
        let busy = self.busy.load(Ordering::Relaxed) - 1;
        self.busy.store(busy, Ordering::Relaxed);
        if busy == 0 {
            self.enter(WAITING);
        }
    }
}

impl ConnState {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A head was understood, of a call whose body has `length` bytes; `None` if it is chunked.
    /// Says what is wrong with its framing: of a chunked call all of the head must have been seen, and
    /// no `Content-Length` in it.
    pub(super) fn call_begins(&self, length: Option<u64>) -> Result<(), &'static str> {
        let head = self.head.load(Ordering::Relaxed);
        self.head.store(0, Ordering::Relaxed);
        self.body_length
            .store(length.unwrap_or(u64::MAX), Ordering::Relaxed);
        let calls = self.calls.load(Ordering::Relaxed);
        self.calls.store(calls + 1, Ordering::Relaxed);
        self.busy.store(0, Ordering::Relaxed);
        self.enter(CALLING);
        match (length, head) {
            (Some(_), _) | (None, FramingCheck::COMPLETE) => Ok(()),
            (None, 0) => Err(
                "it is chunked, and calls before it were sent without waiting for their replies: send it on another connection",
            ),
            (None, _) => Err("it has both Content-Length and Transfer-Encoding"),
        }
    }

    /// For the body or the reply of the call that began.
    pub(super) fn busy(self: &Arc<Self>) -> CallGuard {
        let busy = self.busy.load(Ordering::Relaxed);
        self.busy.store(busy + 1, Ordering::Relaxed);
        CallGuard::new(self.clone(), self.calls.load(Ordering::Relaxed))
    }

    /// Whether there is no call, and nothing left to send of the last one.
    pub(super) fn is_idle(&self) -> bool {
        self.phase() == WAITING && !self.sending.load(Ordering::Relaxed)
    }

    /// How many calls have begun.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether no call has ever begun, nor begun to arrive.
    pub(super) fn is_unused(&self) -> bool {
        self.phase() == WAITING && self.calls.load(Ordering::Relaxed) == 0
    }

    /// Whether a head is on its way.
    pub(super) fn is_reading(&self) -> bool {
        self.phase() == READING
    }

    /// How many bytes belong to the last call after its head; `u64::MAX` if it is chunked.
    pub(super) fn body_length(&self) -> u64 {
        self.body_length.load(Ordering::Relaxed)
    }

    /// All of a head has come; its bits are those of [`FramingCheck`].
    pub(super) fn head_was_read(&self, bits: u8) {
        self.head.store(bits, Ordering::Relaxed);
    }

    /// Whether another phase began since this was asked last.
    pub(super) fn has_turned(&self) -> bool {
        let turned = self.turned.load(Ordering::Relaxed);
        if turned {
            self.turned.store(false, Ordering::Relaxed);
        }
        turned
    }

    /// Whether the app is slower to read than we are to send.
    pub(super) fn is_sending(&self, sending: bool) {
        self.sending.store(sending, Ordering::Relaxed);
    }

    /// A phase begins.
    pub(super) fn enter(&self, phase: u8) {
        self.phase.store(phase, Ordering::Relaxed);
        self.turned.store(true, Ordering::Relaxed);
    }

    /// Which phase it is.
    pub(super) fn phase(&self) -> u8 {
        self.phase.load(Ordering::Relaxed)
    }
}

/// A reply's body; while it lives, its call goes on.
#[derive(Debug)]
pub(super) struct GuardedBody {
    body: ReplyBody,
    _busy: CallGuard,
}

impl GuardedBody {
    pub(super) fn new(body: ReplyBody, busy: CallGuard) -> Self {
        Self { body, _busy: busy }
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
