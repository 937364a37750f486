//! Serves an app's connection from its first call to its last, and parks it between calls.
//!
//! ```text
//! serve_connection          until the connection ends, or becomes a tunnel
//!   wait_for_call           parked, without hyper and without buffers
//!   serve_calls             until it is to be parked, or has ended
//!     serve_plain_calls     the fast path, until a call is not plain
//!       answer_plain_call
//!     serve_with_hyper      all calls
//!       answer              the service that hyper calls
//! ```
//!
//! Three loops wait for the next call, and each for other events. A parked connection waits long, and is closed in the
//! end. The fast path reads the call itself when a byte arrives, and parks. hyper is polled for whatever it does, and
//! only its [`ConnState`] tells that it is idle. So they share the events and no code: each is a `poll_fn` that asks for
//! a call first, so that a call which has arrived is served, and then whether the process drains.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncWriteExt,
    time::{Duration, timeout},
};

#[cfg(feature = "fast_path")]
use super::fast_path::{self, Exit};
use super::{
    app_connection::{AppConnection, Tunnel},
    context::{ConnContext, WorkerState},
    error_reply,
    last_reply::closing,
    state::{ConnState, GuardedBody, ReplyNotes},
    stream::AppStream,
};
use crate::{
    body::{
        buffered::BufferedBody,
        request_body::{LARGEST_READ, RequestBody},
    },
    proxy::{
        ListenerInfo, Reply,
        cause::{HeadFault, Malformed},
        error::ProxyError,
    },
    rt::task::Deadline,
};

/// The largest head of a call.
const MAX_HEAD: usize = 64 * 1024;

/// How often the state of a connection is checked while the process ends.
const DRAIN_CHECK: Duration = Duration::from_millis(500);

/// After how many checks the process no longer waits for a head that is still arriving.
const MAX_HEAD_CHECKS: u32 = 6;

/// Serves one connection to its end, or until it is to be a tunnel, which is returned. Between calls it may be parked: it
/// then exists without hyper and its buffers.
pub(super) async fn serve_connection(
    stream: AppStream,
    listener: ListenerInfo,
    worker: Arc<WorkerState>,
) -> Option<Tunnel> {
    let context = ConnContext {
        worker,
        listener,
        state: ConnState::new(),
    };
    let worker = &context.worker;
    let mut io = AppConnection::new(stream, context.state.clone(), worker.options.idle_timeout);
    while wait_for_call(&mut io, worker).await {
        let counted = worker.activate();
        // Boxed, so that a parked connection does not keep the memory that serving takes.
        let served = Box::pin(serve_calls(io, &context)).await;
        drop(counted);
        match served {
            Served::Park(parked) => io = parked,
            Served::Tunnel(tunnel) => return Some(tunnel),
            Served::Closed => return None,
        }
    }
    io.close().await;
    None
}

/// What becomes of a connection after its calls. The large variant is the usual one.
#[allow(clippy::large_enum_variant)]
enum Served {
    /// It is to be parked.
    Park(AppConnection),
    /// It is to be a tunnel.
    Tunnel(Tunnel),
    /// It has ended.
    Closed,
}

/// Serves calls until the connection ends, or is to be parked or a tunnel.
async fn serve_calls(
    #[cfg_attr(not(feature = "fast_path"), allow(unused_mut))] mut io: AppConnection,
    context: &ConnContext,
) -> Served {
    #[cfg(feature = "fast_path")]
    match fast_path::serve_plain_calls(&mut io, context).await {
        Exit::Park => return Served::Park(io),
        Exit::Other => {}
        Exit::Ended => {
            io.close().await;
            return Served::Closed;
        }
        Exit::Closed => return Served::Closed,
    }
    serve_with_hyper(io, context).await
}

/// Waits for the first byte of the next call. Returns whether it arrived before the connection is to be closed.
async fn wait_for_call(parked: &mut AppConnection, worker: &WorkerState) -> bool {
    let mut draining = pin!(worker.drain.drain_started());
    let mut leaving = pin!(worker.room.asked_to_leave());
    poll_fn(|cx| {
        if parked.poll_called(cx).is_ready() {
            return Poll::Ready(true);
        }
        let over = draining.as_mut().poll(cx).is_ready()
            || leaving.as_mut().poll(cx).is_ready()
            || parked.keep_alive_expired(cx);
        if over {
            Poll::Ready(false)
        } else {
            Poll::Pending
        }
    })
    .await
}

/// Lets hyper serve calls until the connection ends, or is to be parked or a tunnel.
async fn serve_with_hyper(io: AppConnection, context: &ConnContext) -> Served {
    let service = service_fn(|call| answer(call, context));
    let mut connection = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .max_buf_size(LARGEST_READ)
        // `AppConnection` notices an app that hangs up.
        .half_close(true)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(io), service);
    let ended = match poll_until_idle(&mut connection, context).await {
        Stop::Closed(ended) => ended,
        Stop::Idle => {
            let parts = connection.into_parts();
            let mut io = parts.io.into_inner();
            io.rewind(&parts.read_buf);
            return Served::Park(io);
        }
        Stop::Draining => {
            Pin::new(&mut connection).graceful_shutdown();
            last_call(&mut connection, &context.state).await
        }
    };
    if let Err(error) = &ended {
        // Not the error itself: its causes may quote bytes of the call.
        let (timeout, parse) = (error.is_timeout(), error.is_parse());
        tracing::debug!(timeout, parse, "an app's connection ended early");
        if !parse {
            return Served::Closed;
        }
    }
    let parts = connection.into_parts();
    let mut io = parts.io.into_inner();
    if context.state.is_tunnel() {
        io.rewind(&parts.read_buf);
        return io.into_tunnel().map_or(Served::Closed, Served::Tunnel);
    }
    if let Err(error) = ended {
        reply_to_malformed_head(&mut io, &error, &context.worker).await;
    }
    // After a CONNECT that was turned down, hyper leaves the connection open.
    let _ = io.shutdown().await;
    io.linger(context.worker.drain.is_leaving()).await;
    Served::Closed
}

/// Replies to a connection on which there is no call, and closes it.
pub(super) async fn reject_connection(stream: AppStream, fault: HeadFault, worker: &WorkerState) {
    let mut io = AppConnection::new(stream, ConnState::new(), worker.options.idle_timeout);
    let reply = worker.proxy.reject(&Malformed::from(fault).into(), None);
    // The app may be gone.
    let _ = io.write_all(&error_reply::encode(&reply)).await;
    let _ = io.shutdown().await;
    io.linger(worker.drain.is_leaving()).await;
}

/// Replies to a head that hyper cannot parse, if hyper would have.
async fn reply_to_malformed_head(
    io: &mut AppConnection,
    error: &hyper::Error,
    worker: &WorkerState,
) {
    let status = io.take_dropped_reply();
    // hyper sends nothing to a client of HTTP/2.
    if status.is_none() && !error.is_parse_version_h2() {
        return;
    }
    let fault = match error.is_parse_too_large() {
        true => HeadFault::TooLong,
        false => io.request_line().fault(),
    };
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let reply = worker.proxy.reject(&Malformed::from(fault).into(), status);
    // The app may be gone.
    let _ = io.write_all(&error_reply::encode(&reply)).await;
    let _ = io.shutdown().await;
}

/// Why polling hyper's connection stopped.
enum Stop {
    /// The connection has ended.
    Closed(hyper::Result<()>),
    /// The process is to end.
    Draining,
    /// No call arrived for a while.
    Idle,
}

/// Polls hyper's connection until it ends, has been idle, or the process drains.
async fn poll_until_idle(
    connection: &mut (impl Future<Output = hyper::Result<()>> + Unpin),
    context: &ConnContext,
) -> Stop {
    let (worker, state) = (&context.worker, &context.state);
    let mut draining = pin!(worker.drain.drain_started());
    let mut pause = Deadline::default();
    let mut calls = 0;
    poll_fn(|cx| {
        if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(cx) {
            return Poll::Ready(Stop::Closed(ended));
        }
        if draining.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Stop::Draining);
        }
        if !state.is_idle() || calls != state.calls() {
            calls = state.calls();
            pause.stop();
        } else if pause.poll_elapsed(worker.park_after(), cx) {
            return Poll::Ready(Stop::Idle);
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
    let mut checks = 0;
    loop {
        if let Ok(ended) = timeout(DRAIN_CHECK, &mut connection).await {
            return ended;
        }
        // hyper waits for the first call of a connection, and without limit for the rest of a head. The process
        // does not.
        checks += u32::from(state.is_reading());
        if state.is_unused() || (state.is_reading() && checks > MAX_HEAD_CHECKS) {
            return Ok(());
        }
    }
}

// Inlined, because the future has some KiB, and would be moved otherwise.
#[inline(always)]
fn answer(
    call: Request<Incoming>,
    context: &ConnContext,
) -> impl Future<Output = Result<http::Response<GuardedBody>, Infallible>> {
    let (worker, state) = (&context.worker, &context.state);
    let tunnel = call.method() == Method::CONNECT && context.accepts_tunnel(call.uri());
    let (chunked, expects) = framing(call.headers());
    let framing = match state.begin_call(chunked) {
        Ok(()) if chunked && !only_chunked(call.headers()) => {
            Err("it has a Transfer-Encoding other than chunked")
        }
        framing => framing,
    };
    let version = call.version();
    let guard = state.call_guard();
    let awaits_continue = expects && call.version() >= Version::HTTP_11;
    let idle = worker.options.idle_timeout;
    let body = |body| RequestBody::new(body, idle, awaits_continue, state.call_guard());
    let call = call.map(body);
    async move {
        let mut reply = match framing {
            Ok(()) if tunnel => {
                state.set_tunnel();
                let reply = Reply::new(BufferedBody::ready(""));
                return Ok(reply.map(|body| GuardedBody::new(body, guard)));
            }
            Ok(()) => worker.proxy.handle(call, &context.listener).await,
            Err(reason) => {
                let error = ProxyError::from(Malformed::Framing(reason));
                closing(worker.proxy.reject(&error, None), version)
            }
        };
        // HTTP/1.0 has no chunks: only the end of the connection ends a body of unknown length.
        let ends = version < Version::HTTP_11 && reply.body().size_hint().exact().is_none();
        if ends || worker.drain.is_leaving() {
            reply = closing(reply, version);
        }
        let names = reply.extensions_mut().remove();
        if ends || names.is_some() {
            state.leave_notes(ReplyNotes {
                names,
                ends_with_connection: ends,
            });
        }
        Ok(reply.map(|body| GuardedBody::new(body, guard)))
    }
}

/// Whether there is a Transfer-Encoding, and whether there is an Expect. One pass over the names costs less than
/// two lookups.
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

/// Whether `chunked` is the only transfer coding. No other is supported.
fn only_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let first = codings.next().map(HeaderValue::as_bytes);
    let chunked = first.is_some_and(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"));
    chunked && codings.next().is_none()
}
