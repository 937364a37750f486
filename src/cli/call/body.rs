//! A body that is read while it is sent, with a length that is known before.

use std::{
    collections::VecDeque,
    io::{self, Read},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{input::Piece, progress::Progress};

/// How much of a file is read at once.
const CHUNK: usize = 64 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct OutgoingBody {
    pieces: VecDeque<Piece>,
    left: u64,
    progress: Progress,
}

impl OutgoingBody {
    pub(super) fn new(pieces: VecDeque<Piece>) -> Self {
        let left = pieces.iter().map(Piece::length).sum();
        Self {
            pieces,
            left,
            progress: Progress::new("sent", Some(left)),
        }
    }

    /// Its length.
    pub(super) fn length(&self) -> u64 {
        self.left
    }

    /// The next bytes; `None` at the end.
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        while let Some(piece) = self.pieces.front_mut() {
            let bytes = match piece {
                Piece::Bytes(bytes) => std::mem::take(bytes),
                Piece::File { left: 0, .. } => Bytes::new(),
                Piece::File { file, left } => {
                    let most = usize::try_from(*left).unwrap_or(CHUNK).min(CHUNK);
                    let mut chunk = vec![0; most];
                    let read = file.read(&mut chunk)?;
                    if read == 0 {
                        let problem = "a file became shorter while it was sent";
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem));
                    }
                    chunk.truncate(read);
                    *left -= read as u64;
                    chunk.into()
                }
            };
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
            self.pieces.pop_front();
        }
        Ok(None)
    }
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = self.next().transpose();
        if let Some(Ok(bytes)) = &next {
            let sent = bytes.len() as u64;
            self.left -= sent;
            self.progress.advance(sent);
        }
        if self.left == 0 {
            self.progress.finish();
        }
        Poll::Ready(next.map(|next| next.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
