//! A reply's body on its way in; when it is through, its connection is free again.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Duration;

use super::pool::{Link, Pool};
use crate::body::{BodyError, IdleClock};

/// The body of a reply that has not been read yet.
#[derive(Debug)]
pub struct Arriving {
    body: Incoming,
    clock: IdleClock,
    /// The connection it comes on. Dropped before the end, it is closed.
    link: Option<(Link, Arc<Pool>)>,
}

impl Arriving {
    pub(super) fn new(body: Incoming, idle: Duration, link: Link, pool: Arc<Pool>) -> Self {
        let mut arriving = Self {
            body,
            clock: IdleClock::new(idle),
            link: Some((link, pool)),
        };
        arriving.release_at_end();
        arriving
    }

    fn release_at_end(&mut self) {
        if self.body.is_end_stream()
            && let Some((link, pool)) = self.link.take()
        {
            pool.put(link);
        }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        let polled = this.clock.watch(polled, cx);
        match &polled {
            Poll::Ready(Some(Err(_))) => this.link = None,
            Poll::Ready(None) => {
                if let Some((link, pool)) = this.link.take() {
                    pool.put(link);
                }
            }
            Poll::Ready(Some(Ok(_))) => this.release_at_end(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
