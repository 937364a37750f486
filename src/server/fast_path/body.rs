//! Reads the rest of a plain call's body into a buffer of exactly its size.
//!
//! hyper would read it into a buffer that grows to the next power of two and stays with the call, beside the copy that
//! is held. An app sends a body right behind its head. If it does not, hyper goes on.

use std::future::poll_fn;

use bytes::Bytes;
use http::Request;
use tokio::time::{Duration, Instant, timeout_at};

use super::{Exit, READ_SIZE, SHARED, parse::Plain};
use crate::{
    body::{buffered::reserved, request_body::RequestBody},
    proxy::Proxy,
    server::app_connection::AppConnection,
};

/// The largest call, head and body, that is read here.
pub(super) const LARGEST: usize = 256 * 1024;

/// How long the rest may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// A call of which the head has arrived, and perhaps a part of the body.
pub(super) struct Begun {
    plain: Plain,
    /// All that has arrived.
    bytes: Vec<u8>,
}

impl Begun {
    /// The call that begins with `bytes`.
    pub(super) fn new(plain: Plain, bytes: &[u8]) -> Self {
        let bytes = bytes.to_vec();
        Self { plain, bytes }
    }

    /// Reads the rest. If there is no memory for it, or if it does not come at once, all bytes are given back.
    pub(super) async fn read(
        mut self,
        io: &mut AppConnection,
        proxy: &Proxy,
    ) -> Result<Request<RequestBody>, Exit> {
        let end = self.plain.end;
        let Some(reservation) = proxy.reserve_for(end) else {
            io.rewind(&self.bytes);
            return Err(Exit::Other);
        };
        self.bytes.reserve_exact(end - self.bytes.len());
        let deadline = Instant::now() + PATIENCE;
        while self.bytes.len() < end {
            match timeout_at(deadline, self.more(io)).await {
                Ok(true) => {}
                // hyper finds out what became of the rest, and the call is counted.
                Ok(false) | Err(_) => {
                    io.rewind(&self.bytes);
                    return Err(Exit::Other);
                }
            }
        }
        let body = Bytes::from(self.bytes).slice(self.plain.start..);
        let body = RequestBody::reserved(reserved(body, reservation));
        Ok(self.plain.call.map(|_| body))
    }

    /// Reads some more. Returns whether the app still sends.
    async fn more(&mut self, io: &mut AppConnection) -> bool {
        let Self { plain, bytes } = self;
        poll_fn(|cx| {
            SHARED.with_borrow_mut(|shared| {
                shared.resize(READ_SIZE, 0);
                let most = READ_SIZE.min(plain.end - bytes.len());
                io.poll_take(&mut shared[..most], cx).map(|read| {
                    let read = read.unwrap_or(0);
                    bytes.extend_from_slice(&shared[..read]);
                    read > 0
                })
            })
        })
        .await
    }
}
