//! Serves plain calls past hyper: HTTP/1.1, kept alive, small, and received at once.
//!
//! hyper makes a channel, a waker and a buffer for each call. A plain call needs none of them, which saves
//! 1,900 of 26,100 user instructions, and 6 % of the CPU where the upstream has no TLS (docs/performance-notes.md).
//! The feature `fast_path` turns it on. Without it, and for all other calls, hyper does the same work.

mod body;
mod parse;
mod write;

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Version};
use tokio::io::AsyncWriteExt;

use super::{
    app_connection::AppConnection, context::ConnContext, framing_reader::is_blank,
    last_reply::closing, state::CallPhase,
};
use crate::{body::request_body::RequestBody, rt::task::Deadline};
use body::Begun;
use write::send;

/// How much is read at once, into a buffer that all connections of a thread share.
const READ_SIZE: usize = 16 * 1024;

thread_local! {
    static SHARED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Why the fast path stopped serving.
pub(super) enum Exit {
    /// The connection is to be parked.
    Park,
    /// Something other than a plain call arrived. Its bytes were given back.
    Other,
    /// The connection has ended, or is to be closed, between two calls.
    Ended,
    /// The connection is to be dropped.
    Closed,
}

/// What was read. The large variant is the usual one, and a box would cost an allocation a call.
#[allow(clippy::large_enum_variant)]
enum Parsed {
    /// A call, and the bytes that came behind it.
    Whole(Request<Bytes>, Bytes),
    /// A call, whose body is still to come.
    Begun(Box<Begun>),
}

/// What the fast path parses in `bytes`, for the fuzzer.
#[cfg(fuzzing)]
pub(super) fn parsed(bytes: &[u8]) -> Option<(Request<Bytes>, usize)> {
    let plain = parse::read(bytes).filter(|plain| plain.end <= bytes.len())?;
    Some((plain.call, plain.end))
}

/// Serves plain calls until something else arrives.
pub(super) async fn serve_plain_calls(io: &mut AppConnection, context: &ConnContext) -> Exit {
    let worker = &context.worker;
    let mut draining = pin!(worker.drain.drain_started());
    let mut pause = Deadline::default();
    let mut head = Vec::new();
    loop {
        let parsed = poll_fn(|cx| {
            if io.poll_called(cx).is_ready() {
                return Poll::Ready(take(io, cx));
            }
            if draining.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Exit::Ended));
            }
            if pause.poll_elapsed(worker.park_after(), cx) {
                return Poll::Ready(Err(Exit::Park));
            }
            Poll::Pending
        });
        let (call, behind) = match parsed.await {
            Ok(Some(Parsed::Whole(call, behind))) => (call.map(RequestBody::whole), behind),
            Ok(Some(Parsed::Begun(begun))) => match begun.read(io, &worker.proxy).await {
                Ok(call) => (call, Bytes::new()),
                Err(exit) => return exit,
            },
            Ok(None) => continue,
            Err(exit) => return exit,
        };
        pause.stop();
        if !answer_plain_call(io, call, &behind, context, &mut head).await {
            return Exit::Closed;
        }
        if !behind.is_empty() {
            io.rewind(&behind);
            return Exit::Other;
        }
    }
}

/// Reads a plain call, if bytes have arrived.
fn take(io: &mut AppConnection, cx: &mut Context<'_>) -> Result<Option<Parsed>, Exit> {
    if io.has_rewound() {
        return Err(Exit::Other);
    }
    SHARED.with_borrow_mut(|shared| {
        shared.resize(READ_SIZE, 0);
        let bytes = match io.poll_take(shared, cx) {
            Poll::Ready(Ok(0)) => return Err(Exit::Ended),
            Poll::Ready(Err(_)) => return Err(Exit::Closed),
            Poll::Ready(Ok(read)) => &shared[..read],
            Poll::Pending => return Ok(None),
        };
        let (call, length) = match parse::read(bytes) {
            Some(plain) if plain.end <= bytes.len() => (plain.call, plain.end),
            Some(plain) if plain.end <= body::LARGEST => {
                let begun = Begun::new(plain, bytes);
                return Ok(Some(Parsed::Begun(Box::new(begun))));
            }
            _ => {
                io.rewind(bytes);
                return Err(Exit::Other);
            }
        };
        let behind = &bytes[length..];
        // Some apps send a line break after a body. It does not begin a call.
        let behind = if is_blank(behind) { &[] } else { behind };
        Ok(Some(Parsed::Whole(call, Bytes::copy_from_slice(behind))))
    })
}

/// Answers one call. Returns whether the connection can carry another. `buf` is empty, and is used for the reply's
/// head.
#[inline(always)]
async fn answer_plain_call(
    io: &mut AppConnection,
    call: Request<RequestBody>,
    behind: &[u8],
    context: &ConnContext,
    buf: &mut Vec<u8>,
) -> bool {
    let (worker, state) = (&context.worker, &context.state);
    let _ = state.begin_call(false);
    io.note_call(!behind.is_empty());
    let mut handling = pin!(worker.proxy.handle(call, &context.listener));
    let reply = poll_fn(|cx| match handling.as_mut().poll(cx) {
        Poll::Ready(reply) => Poll::Ready(Some(reply)),
        Poll::Pending if io.peer_closed(cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    });
    let Some(mut reply) = reply.await else {
        return false;
    };
    let ends = worker.drain.is_leaving();
    if ends {
        reply = closing(reply, Version::HTTP_11);
    }
    let sent = send(io, reply, buf).await;
    state.enter(CallPhase::Waiting);
    if sent.is_err() {
        tracing::debug!("an app's connection ended early");
    } else if ends {
        // The app may have closed the connection already.
        let _ = io.shutdown().await;
        io.linger(true).await;
    }
    sent.is_ok() && !ends
}
