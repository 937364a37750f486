//! An app's connection, from its first call to its last, and at rest between them.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
};

use http::{HeaderMap, HeaderValue, Request, Version, header};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::time::{Duration, timeout};

use super::{
    fast_path::{self, Exit},
    io::TimedIo,
    state::{ConnState, GuardedBody},
    stream::AppStream,
    worker::WorkerState,
};
use crate::{
    body::request_body::RequestBody,
    proxy::{ListenerInfo, Reply, cause::Malformed, error::ProxyError},
    rt::{count_guard::CountGuard, task::Deadline},
};

/// The head of a call, at most.
const LARGEST_HEAD: usize = 64 * 1024;

/// How far the buffer of a connection grows while a large body comes. It shrinks again by itself, and is
/// gone when the connection rests.
const LARGEST_READ: usize = 256 * 1024;

/// How long a connection waits for its next call before it is held without hyper.
const PARK_AFTER: Duration = Duration::from_millis(500);

/// How many connections of a worker may wait that long; the more there are, the sooner each rests, so that
/// what hyper holds for them grows no further.
const MANY: usize = 64;

/// How often a connection is looked at while the process ends.
const LAST_LOOK: Duration = Duration::from_millis(500);

/// After how many looks a head that is still arriving is given up.
const PATIENT_LOOKS: u32 = 6;

/// Serves one connection to its end. While it waits for its next call it is held without hyper, whose
/// buffers take ten times the memory of all the rest.
pub(super) async fn converse(stream: AppStream, entrance: ListenerInfo, shared: Arc<WorkerState>) {
    let life = ConnState::new();
    let mut io = TimedIo::new(
        stream,
        life.clone(),
        shared.options.idle_timeout,
        shared.proxy.answers_errors_as_200(),
    );
    while is_called(&mut io, &shared).await {
        // Boxed, so that what serving takes is gone while nothing is served.
        let counted = CountGuard::on(&shared.active);
        let served = Box::pin(active(io, &entrance, &shared, &life)).await;
        drop(counted);
        match served {
            Some(resting) => io = resting,
            None => return,
        }
    }
}

/// Serves calls until the connection rests, or ends: then there is none.
async fn active(
    mut io: TimedIo,
    entrance: &ListenerInfo,
    shared: &WorkerState,
    life: &Arc<ConnState>,
) -> Option<TimedIo> {
    let left = fast_path::serve(&mut io, entrance, shared, life).await;
    match left {
        Exit::Park => Some(io),
        Exit::Other => serve(io, entrance, shared, life).await,
        Exit::Ended => None,
    }
}

/// How long a connection waits before it rests, when so many are awake.
pub(super) fn park_after(awake: usize) -> Duration {
    let share = u32::try_from(awake.div_ceil(MANY)).unwrap_or(u32::MAX);
    PARK_AFTER / share.max(1)
}

/// Whether there is another call, or at least the beginning of one, before the connection is closed.
async fn is_called(resting: &mut TimedIo, shared: &WorkerState) -> bool {
    let mut drained = pin!(shared.drain.drained());
    poll_fn(|cx| {
        if resting.poll_called(cx).is_ready() {
            return Poll::Ready(true);
        }
        let over = drained.as_mut().poll(cx).is_ready() || resting.keep_alive_expired(cx);
        if over {
            Poll::Ready(false)
        } else {
            Poll::Pending
        }
    })
    .await
}

/// The same by hyper.
async fn serve(
    io: TimedIo,
    entrance: &ListenerInfo,
    shared: &WorkerState,
    life: &Arc<ConnState>,
) -> Option<TimedIo> {
    let service = service_fn(|call| answer(call, entrance, shared, life));
    let mut connection = http1::Builder::new()
        .max_header_size(LARGEST_HEAD)
        .max_buf_size(LARGEST_READ)
        // Who hangs up is noticed by `Watched`.
        .half_close(true)
        .serve_connection(TokioIo::new(io), service);
    let mut drained = pin!(shared.drain.drained());
    let mut pause = Deadline::default();
    let mut calls = 0;
    /// What woke us.
    enum Parked {
        Ended(hyper::Result<()>),
        Drained,
        Idle,
    }
    let waker = Waker::from(life.bell.clone());
    let mut woken_by: Option<Waker> = None;
    let woken = poll_fn(|cx| {
        if !woken_by
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            life.bell.wakes(cx.waker());
            woken_by = Some(cx.waker().clone());
        }
        let cx = &mut Context::from_waker(&waker);
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(Parked::Ended(ended));
        }
        if drained.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Parked::Drained);
        }
        if !life.is_idle() || calls != life.calls() {
            calls = life.calls();
            pause.stop();
        } else if pause.poll_elapsed(park_after(shared.active.load(Ordering::Relaxed)), cx) {
            return Poll::Ready(Parked::Idle);
        }
        Poll::Pending
    });
    let ended = match woken.await {
        Parked::Ended(ended) => ended,
        Parked::Idle => {
            let parts = connection.into_parts();
            let mut io = parts.io.into_inner();
            io.rewind(&parts.read_buf);
            return Some(io);
        }
        Parked::Drained => {
            let mut connection = Pin::new(&mut connection);
            connection.as_mut().graceful_shutdown();
            let mut looks = 0;
            loop {
                if let Ok(ended) = timeout(LAST_LOOK, connection.as_mut()).await {
                    break ended;
                }
                // What never carried a call is not idle to hyper; and a head that does not come to
                // its end is not worth the grace of the others.
                looks += u32::from(life.is_reading());
                if life.is_unused() || (life.is_reading() && looks > PATIENT_LOOKS) {
                    break Ok(());
                }
            }
        }
    };
    let was_answered = match &ended {
        Ok(()) => true,
        Err(error) => {
            // In hyper's fixed words: its causes may quote what was on the wire.
            let (timeout, parse) = (error.is_timeout(), error.is_parse());
            tracing::debug!(timeout, parse, "an app's connection ended early");
            parse
        }
    };
    if was_answered {
        let mut io = connection.into_parts().io.into_inner();
        io.linger(shared.drain.is_leaving()).await;
    }
    None
}

// Made where it stays: what it returns has some KiB, most of them empty.
#[inline(always)]
fn answer(
    call: Request<Incoming>,
    entrance: &ListenerInfo,
    shared: &WorkerState,
    life: &Arc<ConnState>,
) -> impl Future<Output = Result<http::Response<GuardedBody>, Infallible>> {
    let (chunked, expects) = framing(call.headers());
    let length = (!chunked).then(|| call.body().size_hint().exact().unwrap_or_default());
    let framing = match life.call_begins(length) {
        Ok(()) if chunked && !only_chunked(call.headers()) => {
            Err("it has a Transfer-Encoding other than chunked")
        }
        framing => framing,
    };
    let version = call.version();
    let busy = life.busy();
    let awaits_continue = expects && call.version() >= Version::HTTP_11;
    let idle = shared.options.idle_timeout;
    let body = |body| RequestBody::new(body, idle, awaits_continue, life.busy());
    let call = call.map(body);
    async move {
        let mut reply = match framing {
            Ok(()) => shared.proxy.handle(call, entrance).await,
            Err(reason) => {
                let failure = ProxyError::from(Malformed::Framing(reason));
                closing(shared.proxy.reject(&failure), version)
            }
        };
        // Where there are no chunks the connection is what ends such a reply.
        let ends = version < Version::HTTP_11 && reply.body().size_hint().exact().is_none();
        if ends || shared.drain.is_leaving() {
            reply = closing(reply, version);
        }
        Ok(reply.map(|body| GuardedBody::new(body, busy)))
    }
}

/// Whether there is a Transfer-Encoding, and whether there is an Expect. One look at each name costs less
/// than two searches.
fn framing(headers: &HeaderMap) -> (bool, bool) {
    let (mut chunked, mut expects) = (false, false);
    for name in headers.keys() {
        match *name {
            header::TRANSFER_ENCODING => chunked = true,
            header::EXPECT => expects = true,
            _ => {}
        }
    }
    (chunked, expects)
}

/// Whether chunks are all that there is to undo: nobody here could undo more.
fn only_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let first = codings.next().map(HeaderValue::as_bytes);
    let chunked = first.is_some_and(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"));
    chunked && codings.next().is_none()
}

/// A reply to a call of `version` that is the last on its connection.
pub(super) fn closing(mut reply: Reply, version: Version) -> Reply {
    // To an old client hyper would offer, in a reply of another version, to keep it all the same.
    *reply.version_mut() = version;
    reply
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_connections_rest_late_and_many_hold_no_more_than_a_few_in_all() {
        for few in [0, 1, MANY] {
            assert_eq!(park_after(few), PARK_AFTER);
        }
        // As many calls a second as one connection that waits: what is awake stays about the same.
        for many in [MANY + 1, 1_000, 9_000] {
            assert!(park_after(many) * u32::try_from(many / MANY).unwrap() <= PARK_AFTER);
        }
        assert!(park_after(usize::MAX) < Duration::from_millis(1));
    }
}
