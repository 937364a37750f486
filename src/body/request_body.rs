//! The body of an app's request: it came whole with its head, or it is still arriving.

use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{runtime::Handle, time::Duration};

use super::{error::BodyError, linger::linger};
use crate::rt::task::Deadline;

/// How far hyper's buffer of a connection grows while a large body arrives. It shrinks again by itself, and is dropped
/// when the connection is parked.
pub const LARGEST_READ: usize = 256 * 1024;

/// What a call in flight takes without its body: its task, its connections and their state. This was measured.
pub const CALL: usize = 8 * 1024;

/// The buffer in which hyper has read the head. The headers keep it.
const HEAD: usize = 8 * 1024;

/// The app's connection, as the guards of its calls use it. It is a trait because bodies know nothing of the server.
pub trait CallOwner: fmt::Debug + Send + Sync {
    /// A guard of the call with this number was dropped.
    fn release(&self, call: u64);
}

/// Keeps a call in progress until it is dropped.
#[derive(Debug)]
pub struct CallGuard {
    owner: Arc<dyn CallOwner>,
    call: u64,
}

impl CallGuard {
    /// Only `owner` calls this, because it counts the guards.
    pub fn new(owner: Arc<dyn CallOwner>, call: u64) -> Self {
        Self { owner, call }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.owner.release(self.call);
    }
}

/// See the [module](self).
pub struct RequestBody(Arrival);

/// How a body arrives.
enum Arrival {
    /// It is all here. The bytes are empty when they have been taken.
    Whole {
        bytes: Bytes,
        /// They own a reservation of memory already.
        reserved: bool,
    },
    /// hyper reads it.
    Streaming(StreamingBody),
}

/// A body that hyper reads. If it is dropped before its end, the rest is read for a while and discarded. So the app can
/// finish sending, and then read why the call was rejected.
struct StreamingBody {
    /// It is `None` only while this is being dropped.
    incoming: Option<Incoming>,
    /// How long the app may pause.
    idle: Duration,
    pause: Deadline,
    /// The app waits for '100 Continue', which is sent when the body is first polled.
    awaits_continue: bool,
    /// The body has ended or failed, so nothing is left to discard.
    ended: bool,
    /// Dropped when the body has ended.
    guard: Option<CallGuard>,
}

impl RequestBody {
    /// The body of a call, with pauses of at most `idle`. `guard` keeps the call in progress until the body has
    /// ended.
    pub fn new(body: Incoming, idle: Duration, awaits_continue: bool, guard: CallGuard) -> Self {
        Self(Arrival::Streaming(StreamingBody {
            ended: body.is_end_stream(),
            incoming: Some(body),
            idle,
            pause: Deadline::default(),
            awaits_continue,
            guard: Some(guard),
        }))
    }

    /// A body that arrived with its head.
    pub fn whole(bytes: Bytes) -> Self {
        Self(Arrival::Whole {
            bytes,
            reserved: false,
        })
    }

    /// A body that is all here, and owns a reservation for itself and its call.
    pub fn reserved(bytes: Bytes) -> Self {
        Self(Arrival::Whole {
            bytes,
            reserved: true,
        })
    }
}

impl RequestBody {
    /// The memory that the call takes beside the bytes of its body, as long as the body is held. `None` if all of it
    /// is reserved already.
    pub fn overhead(&self) -> Option<usize> {
        match (&self.0, self.size_hint().exact()) {
            (Arrival::Whole { reserved, .. }, _) => (!reserved).then_some(CALL),
            // hyper's buffer grows with a body that comes fast, and stays as large while the call lasts.
            (Arrival::Streaming(_), length) => {
                let length = length.and_then(|length| usize::try_from(length).ok());
                let buffer = length.and_then(usize::checked_next_power_of_two);
                Some(CALL + HEAD + buffer.map_or(LARGEST_READ, |size| size.min(LARGEST_READ)))
            }
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the bytes, which are data of the app's.
        f.debug_struct("RequestBody")
            .field("size", &self.size_hint())
            .finish_non_exhaustive()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().0 {
            Arrival::Whole { bytes, .. } if bytes.is_empty() => Poll::Ready(None),
            Arrival::Whole { bytes, .. } => Poll::Ready(Some(Ok(Frame::data(mem::take(bytes))))),
            Arrival::Streaming(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Arrival::Whole { bytes, .. } => bytes.is_empty(),
            Arrival::Streaming(body) => body.incoming.as_ref().is_none_or(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Arrival::Whole { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Arrival::Streaming(body) => match &body.incoming {
                Some(incoming) => incoming.size_hint(),
                None => SizeHint::with_exact(0),
            },
        }
    }
}

impl StreamingBody {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.awaits_continue = false;
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let frame = match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.pause.stop();
                frame.map(|frame| frame.map_err(BodyError::App))
            }
            Poll::Pending if self.pause.poll_elapsed(self.idle, cx) => {
                Some(Err(BodyError::Idle(self.idle)))
            }
            Poll::Pending => return Poll::Pending,
        };
        self.ended |= !matches!(frame, Some(Ok(_))) || incoming.is_end_stream();
        Poll::Ready(frame)
    }
}

impl Drop for StreamingBody {
    fn drop(&mut self) {
        if self.ended || self.awaits_continue {
            return;
        }
        if let (Some(mut incoming), Ok(runtime)) = (self.incoming.take(), Handle::try_current()) {
            let guard = self.guard.take();
            runtime.spawn(async move {
                let more = |frame| matches!(frame, Some(Ok(_)));
                linger(|cx| Pin::new(&mut incoming).poll_frame(cx).map(more)).await;
                drop(guard);
            });
        }
    }
}
