//! The body of a reply. At its end the connection returns to the pool.

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
use crate::{body::error::BodyError, log::access::AccessRecord};

/// The unread part of a reply's body.
#[derive(Debug)]
pub struct ResponseBody {
    source: BodySource,
    /// Whether the last poll returned data.
    had_data: bool,
    idle: Duration,
    pool: Arc<Pool>,
    /// Is told of its bytes and of its end.
    record: Option<Box<AccessRecord>>,
}

/// The source of a body.
#[derive(Debug)]
enum BodySource {
    /// A connection. If it is dropped before the end of the body, it is closed.
    Connection(Box<Connection>),
    /// The task that has the connection.
    Early(EarlyResponse),
    /// It has failed. The error is returned once.
    Failed(Option<BodyError>),
    /// It has ended.
    Ended,
}

impl ResponseBody {
    pub(super) fn new(connection: Box<Connection>, idle: Duration, pool: Arc<Pool>) -> Self {
        let source = if connection.is_sent() {
            BodySource::Connection(connection)
        } else {
            BodySource::Early(EarlyResponse::new(connection, idle))
        };
        let mut body = Self {
            source,
            had_data: false,
            idle,
            pool,
            record: None,
        };
        body.release_at_end();
        body
    }

    /// Lets `record` know of the body from now on.
    pub fn record(&mut self, record: Box<AccessRecord>) {
        self.record = Some(record);
        self.note_end();
    }

    /// Completes the record when the body has ended.
    fn note_end(&mut self) {
        if matches!(self.source, BodySource::Ended)
            && let Some(mut record) = self.record.take()
        {
            record.complete();
        }
    }

    fn release_at_end(&mut self) {
        if let BodySource::Connection(connection) = &self.source
            && connection.remaining() == Some(0)
            && let BodySource::Connection(connection) =
                mem::replace(&mut self.source, BodySource::Ended)
        {
            self.pool.put(connection);
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
            BodySource::Connection(connection) => connection.poll_data(this.idle, cx),
            BodySource::Early(early) => early.poll_data(cx),
            BodySource::Failed(error) => Poll::Ready(error.take().map(Err)),
            BodySource::Ended => Poll::Ready(None),
        };
        let had_data = mem::replace(&mut this.had_data, polled.is_ready());
        let data = match ready!(polled) {
            // hyper drops unsent data on an error, so let it send the data first.
            Some(Err(error)) if had_data => {
                this.source = BodySource::Failed(Some(error));
                this.had_data = false;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            data => data,
        };
        this.release_at_end();
        match (&data, &mut this.record) {
            (Some(Ok(data)), Some(record)) => record.add_bytes(data.len()),
            // A body that breaks off is not complete.
            (Some(Err(_)), record) => drop(record.take()),
            _ => {}
        }
        if !matches!(data, Some(Ok(_))) {
            this.source = BodySource::Ended;
        }
        this.note_end();
        Poll::Ready(data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, BodySource::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        let left = match &self.source {
            BodySource::Connection(connection) => connection.remaining(),
            BodySource::Early(_) | BodySource::Failed(_) => None,
            BodySource::Ended => Some(0),
        };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
