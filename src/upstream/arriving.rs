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

use super::{link::Link, pool::Pool};
use crate::body::BodyError;

/// The body of a reply that has not been read yet.
#[derive(Debug)]
pub struct Arriving {
    body: Incoming,
    idle: Duration,
    /// The connection it comes on. Dropped before the end, it is closed.
    link: Option<Box<Link>>,
    pool: Arc<Pool>,
}

impl Arriving {
    pub(super) fn new(body: Incoming, idle: Duration, link: Box<Link>, pool: Arc<Pool>) -> Self {
        let mut arriving = Self {
            body,
            idle,
            link: Some(link),
            pool,
        };
        arriving.release_at_end();
        arriving
    }

    fn release_at_end(&mut self) {
        if self.body.is_end_stream()
            && let Some(link) = self.link.take()
        {
            self.pool.put(link);
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
        let Some(link) = &mut this.link else {
            return Poll::Ready(None);
        };
        let polled = link.poll_frame(&mut this.body, this.idle, cx);
        match &polled {
            Poll::Ready(Some(Err(_))) => this.link = None,
            Poll::Ready(None) => {
                if let Some(link) = this.link.take() {
                    this.pool.put(link);
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
