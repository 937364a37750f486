//! Writes the reply to a plain call.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::SystemTime,
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Response, StatusCode, header};
use http_body::Body;
use hyper::ext::ReasonPhrase;
use tokio::io::AsyncWrite;

use crate::{
    client::header_names::{HeaderNames, write_usual},
    proxy::{Reply, ReplyBody},
    server::app_connection::AppConnection,
};

/// How a reply's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReplyFraming {
    /// There is no body, or nothing of it is left to frame.
    Nothing,
    /// It ends after so many more bytes.
    Length(u64),
    /// It ends with an empty chunk.
    Chunked,
}

/// The reply could not be written to its end. The connection is of no use any more.
#[derive(Debug)]
pub(super) struct Error;

/// The next chunk of a body.
enum NextChunk {
    Data(Bytes),
    /// It is not there yet.
    Later,
    End,
}

/// A body up to this size is written together with the head.
const SMALL_BODY: usize = 2048;

/// Sends all of `reply`. `ahead` is an empty buffer for its head.
pub(super) async fn send(
    io: &mut AppConnection,
    reply: Reply,
    ahead: &mut Vec<u8>,
) -> Result<(), Error> {
    let (head, mut body) = reply.into_parts();
    let head = Response::from_parts(head, ());
    let mut framing = framing(&head, &body);
    encode(ahead, &head, framing);
    loop {
        let next = poll_fn(|cx| poll_next(&mut body, io, ahead.is_empty(), cx));
        let data = match next.await? {
            NextChunk::Data(data) => data,
            NextChunk::End => break,
            NextChunk::Later => {
                write(io, &mut [ahead]).await?;
                ahead.clear();
                continue;
            }
        };
        match &mut framing {
            ReplyFraming::Nothing => {}
            ReplyFraming::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Error)?;
                if data.len() <= SMALL_BODY && *left == 0 {
                    ahead.extend_from_slice(&data);
                    break;
                }
                write(io, &mut [ahead, &data]).await?;
                ahead.clear();
            }
            ReplyFraming::Chunked if data.is_empty() => {}
            ReplyFraming::Chunked => {
                ahead.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                let end: &[u8] = if body.is_end_stream() {
                    framing = ReplyFraming::Nothing;
                    b"\r\n0\r\n\r\n"
                } else {
                    b"\r\n"
                };
                write(io, &mut [ahead, &data, end]).await?;
                ahead.clear();
            }
        }
        if body.is_end_stream() {
            break;
        }
    }
    match framing {
        ReplyFraming::Length(1..) => return Err(Error),
        ReplyFraming::Chunked => ahead.extend_from_slice(b"0\r\n\r\n"),
        ReplyFraming::Nothing | ReplyFraming::Length(0) => {}
    }
    write(io, &mut [ahead]).await?;
    ahead.clear();
    Ok(())
}

/// Polls the next chunk of `body`. Waits for it only if `all_sent`; else the head is sent first.
#[inline(always)]
fn poll_next(
    body: &mut ReplyBody,
    io: &mut AppConnection,
    all_sent: bool,
    cx: &mut Context<'_>,
) -> Poll<Result<NextChunk, Error>> {
    match Pin::new(body).poll_frame(cx) {
        Poll::Ready(Some(Ok(frame))) => {
            let data = frame.into_data().unwrap_or_default();
            Poll::Ready(Ok(NextChunk::Data(data)))
        }
        Poll::Ready(None) => Poll::Ready(Ok(NextChunk::End)),
        Poll::Ready(Some(Err(_))) => Poll::Ready(Err(Error)),
        Poll::Pending if !all_sent => Poll::Ready(Ok(NextChunk::Later)),
        // The app has hung up.
        Poll::Pending if io.peer_closed(cx) => Poll::Ready(Err(Error)),
        Poll::Pending => Poll::Pending,
    }
}

fn framing(head: &Response<()>, body: &ReplyBody) -> ReplyFraming {
    let status = head.status();
    if status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    {
        return ReplyFraming::Nothing;
    }
    let stated = || {
        let stated = head.headers().get(header::CONTENT_LENGTH)?;
        stated.to_str().ok()?.parse().ok()
    };
    match body.size_hint().exact().or_else(stated) {
        Some(length) => ReplyFraming::Length(length),
        None => ReplyFraming::Chunked,
    }
}

/// Writes a reply's head into `bytes`, which is empty.
fn encode(bytes: &mut Vec<u8>, head: &Response<()>, framing: ReplyFraming) {
    let status = head.status();
    let reason = head.extensions().get::<ReasonPhrase>();
    let reason = reason.map_or_else(
        || status.canonical_reason().unwrap_or_default().as_bytes(),
        ReasonPhrase::as_bytes,
    );
    for part in [
        b"HTTP/1.1 ",
        status.as_str().as_bytes(),
        b" ",
        reason,
        b"\r\n",
    ] {
        bytes.extend_from_slice(part);
    }
    let dated = fields(bytes, head.headers());
    match framing {
        ReplyFraming::Nothing => {}
        ReplyFraming::Length(length) => {
            bytes.extend_from_slice(b"Content-Length: ");
            bytes.extend_from_slice(length.to_string().as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        ReplyFraming::Chunked => bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    if !dated {
        let now = httpdate::fmt_http_date(SystemTime::now());
        bytes.extend_from_slice(format!("Date: {now}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    if let Some(names) = head.extensions().get::<HeaderNames>() {
        names.restore(bytes);
    }
}

/// Writes all headers except those that frame a body. Returns whether there is a date.
fn fields(bytes: &mut Vec<u8>, headers: &HeaderMap) -> bool {
    let mut dated = false;
    for (name, value) in headers {
        match *name {
            header::TRANSFER_ENCODING | header::CONTENT_LENGTH => continue,
            header::DATE => dated = true,
            _ => {}
        }
        write_usual(bytes, name.as_str());
        for part in [b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    dated
}

/// Writes all of `parts`, however little the app takes at a time.
async fn write(io: &mut AppConnection, parts: &mut [&[u8]]) -> Result<(), Error> {
    poll_fn(|cx| poll_write(io, parts, cx))
        .await
        .map_err(|_| Error)
}

fn poll_write(
    io: &mut AppConnection,
    parts: &mut [&[u8]],
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while parts.iter().any(|part| !part.is_empty()) {
        let mut slices = [IoSlice::new(&[]); 3];
        let mut filled = 0;
        for part in parts.iter().filter(|part| !part.is_empty()) {
            slices[filled] = IoSlice::new(part);
            filled += 1;
        }
        let mut written = ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices[..filled]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        for part in parts.iter_mut() {
            let some = written.min(part.len());
            part.advance(some);
            written -= some;
        }
    }
    io.poll_sent(cx)
}
