//! A call that WeChat answered before it had all of it: it goes on in a task of its own, since an app that
//! still sends may not read yet.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{sync::mpsc, time::Duration};

use super::connection::Connection;
use crate::{
    body::request_body::BodyError, net::connection_error::ConnectionError, rt::task::Deadline,
};

/// How long WeChat may take nothing of a call that it has answered.
const STUCK: Duration = Duration::from_secs(5);

/// What comes of the reply; `None` is its end.
type EarlyEvent = Option<Result<Bytes, BodyError>>;

/// The reply to a call that goes on aside.
#[derive(Debug)]
pub(super) struct EarlyResponse {
    reply: mpsc::Receiver<EarlyEvent>,
}

impl EarlyResponse {
    /// Lets the call on `link` go on; either way it may pause for `idle`. The connection carries no other.
    pub(super) fn new(link: Box<Connection>, idle: Duration) -> Self {
        let (sender, reply) = mpsc::channel(1);
        tokio::spawn(go_on(link, sender, idle));
        Self { reply }
    }

    /// The next of the reply's body.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<EarlyEvent> {
        // Without a word about its end it has none.
        let came = self.reply.poll_recv(cx);
        came.map(|came| came.unwrap_or(Some(Err(BodyError::Reply(ConnectionError::Ended)))))
    }
}

/// Until the app does not read any more, or both have come to their end.
async fn go_on(mut link: Box<Connection>, reply: mpsc::Sender<EarlyEvent>, idle: Duration) {
    loop {
        let Ok(room) = meanwhile(&mut link, reply.reserve()).await else {
            return;
        };
        let mut left = pin!(reply.closed());
        let came = poll_fn(|cx| {
            link.send_on(cx);
            match left.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => link.poll_data(idle, cx).map(Some),
            }
        });
        let Some(came) = came.await else { return };
        let more = matches!(came, Some(Ok(_)));
        room.send(came);
        if !more {
            break;
        }
    }
    drop(reply);
    let mut clock = Deadline::default();
    poll_fn(|cx| {
        if link.send_on(cx) {
            clock.stop();
        }
        // Who has answered and takes no more may never do so, and the app may read nothing until it has sent all.
        let limit = if link.is_blocked() {
            idle.min(STUCK)
        } else {
            idle
        };
        if link.is_sent() || clock.poll_elapsed(limit, cx) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// Waits for `other`, and sends on.
async fn meanwhile<T>(link: &mut Connection, other: impl Future<Output = T>) -> T {
    let mut other = pin!(other);
    poll_fn(|cx| {
        link.send_on(cx);
        other.as_mut().poll(cx)
    })
    .await
}
