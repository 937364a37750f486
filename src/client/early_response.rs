//! Handles a reply that begins before the whole request was sent. A task of its own goes on sending, because
//! an app that still sends may not read yet.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{sync::mpsc, time::Duration};

use super::connection::Connection;
use crate::{body::error::BodyError, net::connection_error::ConnectionError, rt::task::Deadline};

/// How long WeChat may accept nothing of a request that it has already answered.
const STALL_LIMIT: Duration = Duration::from_secs(5);

/// A part of the reply's body; `None` is its end.
type EarlyEvent = Option<Result<Bytes, BodyError>>;

/// What a call waits for while its request is still being sent.
enum Next {
    /// More of the reply's body, or its end.
    Event(EarlyEvent),
    /// The app no longer reads the reply.
    AppGone,
}

/// The body of a reply whose request is still being sent by another task.
#[derive(Debug)]
pub(super) struct EarlyResponse {
    events: mpsc::Receiver<EarlyEvent>,
}

impl EarlyResponse {
    /// Starts the task that continues the call on `connection`. In both directions it may pause for `idle`.
    /// The connection is not used again.
    pub(super) fn new(connection: Box<Connection>, idle: Duration) -> Self {
        let (sender, events) = mpsc::channel(1);
        tokio::spawn(continue_call(connection, sender, idle));
        Self { events }
    }

    /// Reads more of the reply's body.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<EarlyEvent> {
        // If the task ended without an end of the body, the body is incomplete.
        let event = self.events.poll_recv(cx);
        event.map(|event| {
            event.unwrap_or(Some(Err(BodyError::Upstream(ConnectionError::ClosedEarly))))
        })
    }
}

/// Runs until the app stops reading, or both the request and the reply have ended.
async fn continue_call(
    mut connection: Box<Connection>,
    events: mpsc::Sender<EarlyEvent>,
    idle: Duration,
) {
    loop {
        let Ok(slot) = while_writing(&mut connection, events.reserve()).await else {
            return;
        };
        let mut closed = pin!(events.closed());
        let next = poll_fn(|cx| {
            connection.write_more(cx);
            match closed.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Next::AppGone),
                Poll::Pending => connection.poll_data(idle, cx).map(Next::Event),
            }
        });
        let Next::Event(event) = next.await else {
            return;
        };
        let more = matches!(event, Some(Ok(_)));
        slot.send(event);
        if !more {
            break;
        }
    }
    drop(events);
    let mut deadline = Deadline::default();
    poll_fn(|cx| {
        if connection.write_more(cx) {
            deadline.stop();
        }
        // After its reply, WeChat may never accept the rest of the request. The app may not read until it has
        // sent all of it.
        let limit = if connection.is_blocked() {
            idle.min(STALL_LIMIT)
        } else {
            idle
        };
        if connection.is_sent() || deadline.poll_elapsed(limit, cx) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// Waits for `other`, and writes the request meanwhile.
async fn while_writing<T>(connection: &mut Connection, other: impl Future<Output = T>) -> T {
    let mut other = pin!(other);
    poll_fn(|cx| {
        connection.write_more(cx);
        other.as_mut().poll(cx)
    })
    .await
}
