//! Sends a reply, whole or with the configured faults.

use std::io;

use bytes::Bytes;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::Duration,
};

use super::{
    behaviour::{Behaviour, HangUp},
    reply::WechatReply,
};

/// How a reply is sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Delivery {
    /// The delay before the head.
    pub(super) delay: Duration,
    pub(super) fault: DeliveryFault,
    pub(super) chunked: bool,
    pub(super) split: bool,
    pub(super) interim_100: bool,
    pub(super) close: Close,
}

/// A reply, and how it is delivered.
#[derive(Debug)]
pub(super) struct PlannedReply {
    pub(super) reply: WechatReply,
    pub(super) delivery: Delivery,
}

/// The fault, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum DeliveryFault {
    #[default]
    None,
    /// The connection is closed without a reply.
    NoReply,
    /// The connection stays open without a reply.
    Stall,
    /// Half of the head, then the connection is closed.
    MidHead,
    /// The head and half of the body, then the connection is closed.
    MidBody,
    /// The head and half of the body, then silence.
    StallBody,
}

/// What happens to the connection after a whole reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Close {
    #[default]
    KeepOpen,
    Announced,
    Silently,
}

impl Delivery {
    /// The delivery that is configured for a call to this path.
    pub(super) fn of_api_call(behaviour: &mut Behaviour, path: &str) -> Self {
        let fault = if behaviour.hangs_up(HangUp::AfterRequest) {
            DeliveryFault::NoReply
        } else if behaviour.stall {
            DeliveryFault::Stall
        } else if behaviour.hangs_up(HangUp::MidHead) {
            DeliveryFault::MidHead
        } else if behaviour.hangs_up(HangUp::MidBody) {
            DeliveryFault::MidBody
        } else if behaviour.stall_body {
            DeliveryFault::StallBody
        } else {
            DeliveryFault::None
        };
        let close = if behaviour.connection_close {
            Close::Announced
        } else if behaviour.close_after_reply {
            Close::Silently
        } else {
            Close::KeepOpen
        };
        Self {
            delay: behaviour.delay(path),
            fault,
            chunked: behaviour.chunked_replies,
            split: behaviour.split_writes,
            interim_100: behaviour.interim_100,
            close,
        }
    }

    /// Whether there is a reply at all.
    pub(super) fn replies(&self) -> bool {
        !matches!(self.fault, DeliveryFault::NoReply | DeliveryFault::Stall)
    }
}

/// What to do with the connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterReply {
    /// Read the next request.
    Request,
    /// Keep it open, and send nothing more.
    Silence,
    /// Shut it down properly.
    Close,
    /// Drop it at once.
    Break,
}

/// Sends `reply`, without its body for a HEAD request.
pub(super) async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    reply: &WechatReply,
    delivery: &Delivery,
    to_head: bool,
) -> io::Result<AfterReply> {
    if delivery.interim_100 {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        stream.flush().await?;
    }
    if !delivery.delay.is_zero() {
        tokio::time::sleep(delivery.delay).await;
    }
    let chunked = delivery.chunked && !to_head && !forbids_body(reply.status);
    let head = head_of(reply, chunked, delivery.close);
    let body = if to_head || forbids_body(reply.status) {
        Bytes::new()
    } else if chunked {
        in_chunks(&reply.body)
    } else {
        reply.body.clone()
    };

    let (bytes, next) = match delivery.fault {
        DeliveryFault::NoReply => return Ok(AfterReply::Break),
        DeliveryFault::Stall => return Ok(AfterReply::Silence),
        DeliveryFault::MidHead => (
            head.as_bytes()[..head.len() / 2].to_vec(),
            AfterReply::Break,
        ),
        DeliveryFault::MidBody => (
            [head.as_bytes(), &body[..body.len() / 2]].concat(),
            AfterReply::Break,
        ),
        DeliveryFault::StallBody => (
            [head.as_bytes(), &body[..body.len() / 2]].concat(),
            AfterReply::Silence,
        ),
        DeliveryFault::None => {
            let next = match delivery.close {
                Close::KeepOpen => AfterReply::Request,
                Close::Announced | Close::Silently => AfterReply::Close,
            };
            ([head.as_bytes(), &body].concat(), next)
        }
    };
    if delivery.split {
        write_split(stream, &bytes).await?;
    } else {
        stream.write_all(&bytes).await?;
    }
    stream.flush().await?;
    Ok(next)
}

fn head_of(reply: &WechatReply, chunked: bool, close: Close) -> String {
    let connection = match close {
        Close::Announced => "close",
        Close::KeepOpen | Close::Silently => "keep-alive",
    };
    let (status, reason) = (reply.status, reason(reply.status));
    let mut head = format!("HTTP/1.1 {status} {reason}\r\nConnection: {connection}\r\n");
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if chunked {
        head.push_str("Transfer-Encoding: chunked\r\n");
    } else if !forbids_body(reply.status) {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    head.push_str("\r\n");
    head
}

fn forbids_body(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        302 => "Found",
        400 => "Bad Request",
        404 => "Not Found",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}

/// The first chunks are small, so that even a short reply has several.
fn in_chunks(body: &[u8]) -> Bytes {
    let mut chunked = Vec::with_capacity(body.len() + 64);
    let (mut rest, mut size) = (body, 16);
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
        (rest, size) = (after, (size * 2).min(64 * 1024));
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    chunked.into()
}

/// Writes a few bytes at a time, and larger pieces after 4 KiB.
async fn write_split(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    const IN_SMALL_PIECES: usize = 4096;
    let mut written = 0;
    while written < bytes.len() {
        let size = if written < IN_SMALL_PIECES {
            1 + written % 3
        } else {
            1500
        };
        let end = (written + size).min(bytes.len());
        stream.write_all(&bytes[written..end]).await?;
        stream.flush().await?;
        // Give the reader time to see this piece alone.
        tokio::task::yield_now().await;
        written = end;
    }
    Ok(())
}
