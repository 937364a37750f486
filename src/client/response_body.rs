//! A reply's body on its way in; when it is through, its connection is free again.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Duration;

use super::{connection::Connection, early_response::EarlyResponse, pool::Pool};
use crate::body::request_body::BodyError;

/// The body of a reply that has not been read yet.
#[derive(Debug)]
pub struct ResponseBody {
    source: BodySource,
    /// Some of it came, and nobody has waited since.
    flows: bool,
    idle: Duration,
    pool: Arc<Pool>,
}

/// Where it comes from.
#[derive(Debug)]
enum BodySource {
    /// The connection that it comes on. Dropped before the end, it is closed.
    Link(Box<Connection>),
    /// Who has the connection.
    Aside(EarlyResponse),
    /// Nowhere any more, for this reason.
    Broken(Option<BodyError>),
    /// It has ended.
    Nothing,
}

impl ResponseBody {
    pub(super) fn new(link: Box<Connection>, idle: Duration, pool: Arc<Pool>) -> Self {
        let source = if link.is_sent() {
            BodySource::Link(link)
        } else {
            BodySource::Aside(EarlyResponse::new(link, idle))
        };
        let mut arriving = Self {
            source,
            flows: false,
            idle,
            pool,
        };
        arriving.release_at_end();
        arriving
    }

    fn release_at_end(&mut self) {
        if let BodySource::Link(link) = &self.source
            && link.left() == Some(0)
            && let BodySource::Link(link) = mem::replace(&mut self.source, BodySource::Nothing)
        {
            self.pool.put(link);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = match &mut this.source {
            BodySource::Link(link) => link.poll_data(this.idle, cx),
            BodySource::Aside(aside) => aside.poll_data(cx),
            BodySource::Broken(error) => Poll::Ready(error.take().map(Err)),
            BodySource::Nothing => Poll::Ready(None),
        };
        let flowed = mem::replace(&mut this.flows, polled.is_ready());
        let came = match ready!(polled) {
            // What came before it is sent first: hyper would forget it.
            Some(Err(error)) if flowed => {
                this.source = BodySource::Broken(Some(error));
                this.flows = false;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            came => came,
        };
        this.release_at_end();
        if !matches!(came, Some(Ok(_))) {
            this.source = BodySource::Nothing;
        }
        Poll::Ready(came.map(|came| came.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, BodySource::Nothing)
    }

    fn size_hint(&self) -> SizeHint {
        let left = match &self.source {
            BodySource::Link(link) => link.left(),
            BodySource::Aside(_) | BodySource::Broken(_) => None,
            BodySource::Nothing => Some(0),
        };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
