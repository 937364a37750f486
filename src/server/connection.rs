//! An app's connection from its first call to its last, and parked between them.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
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

#[cfg(feature = "fast_path")]
use super::fast_path::{self, Exit};
use super::{
    context::{ConnContext, WorkerState},
    io::TimedIo,
    last_reply::closing,
    state::{ConnState, GuardedBody},
    stream::AppStream,
};
use crate::{
    body::request_body::RequestBody,
    proxy::{ListenerInfo, cause::Malformed, error::ProxyError},
    rt::task::Deadline,
};

/// The head of a call, at most.
const LARGEST_HEAD: usize = 64 * 1024;

/// How far the buffer of a connection grows while a large body comes. It shrinks again by itself, and is
/// gone when the connection rests.
const LARGEST_READ: usize = 256 * 1024;

/// How often a connection is looked at while the process ends.
const LAST_LOOK: Duration = Duration::from_millis(500);

/// After how many looks a head that is still arriving is given up.
const PATIENT_LOOKS: u32 = 6;

/// Serves one connection to its end. While it waits for its next call it is parked: held without hyper.
pub(super) async fn converse(stream: AppStream, listener: ListenerInfo, worker: Arc<WorkerState>) {
    let context = ConnContext {
        worker,
        listener,
        state: ConnState::new(),
    };
    let worker = &context.worker;
    let mut io = TimedIo::new(
        stream,
        context.state.clone(),
        worker.options.idle_timeout,
        worker.proxy.answers_errors_as_200(),
    );
    while is_called(&mut io, worker).await {
        let counted = worker.activate();
        // Boxed, so that what serving takes is gone while nothing is served.
        let served = Box::pin(active(io, &context)).await;
        drop(counted);
        match served {
            Some(parked) => io = parked,
            None => return,
        }
    }
}

/// Serves calls until the connection is to be parked, or ends: then there is none.
async fn active(
    #[cfg_attr(not(feature = "fast_path"), allow(unused_mut))] mut io: TimedIo,
    context: &ConnContext,
) -> Option<TimedIo> {
    #[cfg(feature = "fast_path")]
    match fast_path::serve(&mut io, context).await {
        Exit::Park => return Some(io),
        Exit::Other => {}
        Exit::Ended => return None,
    }
    serve(io, context).await
}

/// Whether there is another call, or at least the beginning of one, before the connection is closed.
async fn is_called(parked: &mut TimedIo, worker: &WorkerState) -> bool {
    let mut drained = pin!(worker.drain.drained());
    poll_fn(|cx| {
        if parked.poll_called(cx).is_ready() {
            return Poll::Ready(true);
        }
        let over = drained.as_mut().poll(cx).is_ready() || parked.keep_alive_expired(cx);
        if over {
            Poll::Ready(false)
        } else {
            Poll::Pending
        }
    })
    .await
}

/// Has hyper serve calls until the connection is to be parked, or ends: then there is none.
async fn serve(io: TimedIo, context: &ConnContext) -> Option<TimedIo> {
    let service = service_fn(|call| answer(call, context));
    let mut connection = http1::Builder::new()
        .max_header_size(LARGEST_HEAD)
        .max_buf_size(LARGEST_READ)
        // `TimedIo` notices an app that hangs up.
        .half_close(true)
        .serve_connection(TokioIo::new(io), service);
    let ended = match until_woken(&mut connection, context).await {
        Woken::Ended(ended) => ended,
        Woken::Idle => {
            let parts = connection.into_parts();
            let mut io = parts.io.into_inner();
            io.rewind(&parts.read_buf);
            return Some(io);
        }
        Woken::Drained => {
            Pin::new(&mut connection).graceful_shutdown();
            last_call(&mut connection, &context.state).await
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
        io.linger(context.worker.drain.is_leaving()).await;
    }
    None
}

/// Why hyper does not go on with a connection.
enum Woken {
    /// The connection has ended.
    Ended(hyper::Result<()>),
    /// The process is to end.
    Drained,
    /// No call came for a while.
    Idle,
}

/// Polls hyper's connection until there is something else to do.
async fn until_woken(
    connection: &mut (impl Future<Output = hyper::Result<()>> + Unpin),
    context: &ConnContext,
) -> Woken {
    let (worker, state) = (&context.worker, &context.state);
    let mut drained = pin!(worker.drain.drained());
    let mut pause = Deadline::default();
    let mut calls = 0;
    let waker = Waker::from(state.bell.clone());
    let mut woken_by: Option<Waker> = None;
    poll_fn(|cx| {
        if !woken_by
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            state.bell.wakes(cx.waker());
            woken_by = Some(cx.waker().clone());
        }
        let cx = &mut Context::from_waker(&waker);
        if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(cx) {
            return Poll::Ready(Woken::Ended(ended));
        }
        if drained.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Woken::Drained);
        }
        if !state.is_idle() || calls != state.calls() {
            calls = state.calls();
            pause.stop();
        } else if pause.poll_elapsed(worker.park_after(), cx) {
            return Poll::Ready(Woken::Idle);
        }
        Poll::Pending
    })
    .await
}

/// Lets the last call of a connection finish.
async fn last_call(
    mut connection: &mut (impl Future<Output = hyper::Result<()>> + Unpin),
    state: &ConnState,
) -> hyper::Result<()> {
    let mut looks = 0;
    loop {
        if let Ok(ended) = timeout(LAST_LOOK, &mut connection).await {
            return ended;
        }
        // A connection without a call is not idle to hyper; and a head that never ends does not deserve
        // the grace of the others.
        looks += u32::from(state.is_reading());
        if state.is_unused() || (state.is_reading() && looks > PATIENT_LOOKS) {
            return Ok(());
        }
    }
}

// Made where it stays: what it returns has some KiB, most of them empty.
#[inline(always)]
fn answer(
    call: Request<Incoming>,
    context: &ConnContext,
) -> impl Future<Output = Result<http::Response<GuardedBody>, Infallible>> {
    let (worker, state) = (&context.worker, &context.state);
    let (chunked, expects) = framing(call.headers());
    let length = (!chunked).then(|| call.body().size_hint().exact().unwrap_or_default());
    let framing = match state.call_begins(length) {
        Ok(()) if chunked && !only_chunked(call.headers()) => {
            Err("it has a Transfer-Encoding other than chunked")
        }
        framing => framing,
    };
    let version = call.version();
    let guard = state.busy();
    let awaits_continue = expects && call.version() >= Version::HTTP_11;
    let idle = worker.options.idle_timeout;
    let body = |body| RequestBody::new(body, idle, awaits_continue, state.busy());
    let call = call.map(body);
    async move {
        let mut reply = match framing {
            Ok(()) => worker.proxy.handle(call, &context.listener).await,
            Err(reason) => {
                let error = ProxyError::from(Malformed::Framing(reason));
                closing(worker.proxy.reject(&error), version)
            }
        };
        // Without chunks, only the end of the connection ends such a reply.
        let ends = version < Version::HTTP_11 && reply.body().size_hint().exact().is_none();
        if ends || worker.drain.is_leaving() {
            reply = closing(reply, version);
        }
        Ok(reply.map(|body| GuardedBody::new(body, guard)))
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
