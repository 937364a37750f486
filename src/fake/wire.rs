//! One connection: it reads requests byte by byte, and writes their replies.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::watch,
    time::Instant,
};

use super::{
    actions,
    behaviour::{EarlyReply, HangUp},
    delivery::{self, AfterReply, Close, Delivery, PlannedReply},
    dispatch::{self, PathKind},
    head::{self, BodyFraming, Head},
    reply::WechatReply,
    shared::Fake,
    state::WechatState,
};

const HEAD_LIMIT: usize = 64 * 1024;

/// A request that cannot be answered normally.
#[derive(Debug)]
enum Trouble {
    /// The connection ended or broke.
    Gone,
    /// This is not HTTP.
    Malformed(Vec<u8>),
}

impl From<io::Error> for Trouble {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// A connection, and bytes that were read from it too early.
struct HttpConnection<S> {
    stream: S,
    read: BytesMut,
    number: u64,
    close_idle: watch::Receiver<()>,
}

/// Serves one connection until it ends.
pub(super) async fn serve(fake: &Fake, stream: impl AsyncRead + AsyncWrite + Unpin, number: u64) {
    let mut open = HttpConnection {
        stream,
        read: BytesMut::new(),
        number,
        close_idle: fake.close_idle.subscribe(),
    };
    loop {
        match open.serve_one(fake).await {
            Ok(AfterReply::Request) => {}
            Ok(AfterReply::Silence) => return open.until_closed().await,
            Ok(AfterReply::Close) => {
                // The client may have closed it already, which is fine.
                let _ = open.stream.shutdown().await;
                return;
            }
            Ok(AfterReply::Break) | Err(Trouble::Gone) => return,
            Err(Trouble::Malformed(bytes)) => return open.reject(fake, bytes).await,
        }
    }
}

/// Plays the scenes that are due with this request.
fn begin(state: &mut WechatState, head: &Head) -> (EarlyReply, PathKind) {
    let kind = PathKind::of(state, &head.call.path());
    if kind == PathKind::Api {
        actions::advance(state, true);
    }
    (state.behaviour.early_reply, kind)
}

impl<S: AsyncRead + AsyncWrite + Unpin> HttpConnection<S> {
    async fn serve_one(&mut self, fake: &Fake) -> Result<AfterReply, Trouble> {
        if !self.first_byte(fake).await? {
            return Ok(AfterReply::Close);
        }
        {
            let mut state = fake.state();
            actions::advance(&mut state, false);
            if state.behaviour.hangs_up(HangUp::BeforeReading) {
                return Ok(AfterReply::Break);
            }
        }
        let raw = self.head().await?;
        let Some(mut head) = head::parse(raw.clone(), self.number) else {
            return Err(Trouble::Malformed(raw));
        };
        head.call.number = fake.next_request();

        let (early, kind) = begin(&mut fake.state(), &head);
        let has_body = head.framing != BodyFraming::Nothing;
        if has_body && early != EarlyReply::Never && kind == PathKind::Api {
            return self.answer_early(fake, head, early).await;
        }
        if has_body && head.expects_continue() {
            self.stream
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .await?;
            self.stream.flush().await?;
        }
        match self.body(head.framing).await {
            Ok(body) => head.call.body = body,
            Err(trouble) => {
                fake.state().cut_short.push(head.call);
                fake.changed();
                return Err(trouble);
            }
        }
        self.answer(fake, head).await
    }

    /// Waits for a request to begin. Returns false if the fake closes the idle connection.
    async fn first_byte(&mut self, fake: &Fake) -> Result<bool, Trouble> {
        if !self.read.is_empty() {
            return Ok(true);
        }
        let limit = fake.state().behaviour.close_idle_after;
        let mut first = [0];
        let tired = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Read one byte only, so that a connection that is closed now has unread bytes.
            count = self.stream.read(&mut first) => match count? {
                0 => Err(Trouble::Gone),
                _ => {
                    self.read.extend_from_slice(&first);
                    Ok(true)
                }
            },
            () = tired => Ok(false),
            Ok(()) = self.close_idle.changed() => Ok(false),
        }
    }

    async fn head(&mut self) -> Result<Vec<u8>, Trouble> {
        loop {
            if let Some(at) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                return Ok(self.read.split_to(at + 4).to_vec());
            }
            if self.read.len() > HEAD_LIMIT {
                return Err(Trouble::Malformed(self.read.split().to_vec()));
            }
            self.more().await?;
        }
    }

    async fn body(&mut self, framing: BodyFraming) -> Result<Bytes, Trouble> {
        match framing {
            BodyFraming::Nothing => Ok(Bytes::new()),
            BodyFraming::Length(length) => self.take(length).await,
            BodyFraming::Chunked => self.chunks().await,
        }
    }

    /// Decodes a chunked body. Extensions and trailers are dropped.
    async fn chunks(&mut self) -> Result<Bytes, Trouble> {
        let mut body = BytesMut::new();
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let Ok(size) = usize::from_str_radix(size, 16) else {
                return Err(Trouble::Malformed(line.into_bytes()));
            };
            if size == 0 {
                break;
            }
            body.extend_from_slice(&self.take(size).await?);
            let end = self.line().await?;
            if !end.is_empty() {
                return Err(Trouble::Malformed(end.into_bytes()));
            }
        }
        while !self.line().await?.is_empty() {}
        Ok(body.freeze())
    }

    async fn line(&mut self) -> Result<String, Trouble> {
        loop {
            if let Some(at) = self.read.windows(2).position(|bytes| bytes == b"\r\n") {
                let line = self.read.split_to(at + 2);
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if self.read.len() > HEAD_LIMIT {
                return Err(Trouble::Malformed(self.read.split().to_vec()));
            }
            self.more().await?;
        }
    }

    async fn take(&mut self, length: usize) -> Result<Bytes, Trouble> {
        while self.read.len() < length {
            self.more().await?;
        }
        Ok(self.read.split_to(length).freeze())
    }

    async fn more(&mut self) -> Result<(), Trouble> {
        self.read.reserve(16 * 1024);
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(Trouble::Gone),
            _ => Ok(()),
        }
    }

    async fn answer(&mut self, fake: &Fake, head: Head) -> Result<AfterReply, Trouble> {
        let Head { mut call, last, .. } = head;
        let to_head = call.method == "HEAD";
        call.at = Instant::now();
        let PlannedReply {
            reply,
            mut delivery,
        } = dispatch::answer(&mut fake.state(), call);
        fake.changed();
        if last && delivery.close == Close::KeepOpen {
            delivery.close = Close::Announced;
        }
        Ok(delivery::send(&mut self.stream, &reply, &delivery, to_head).await?)
    }

    /// Answers a call before its body has arrived.
    async fn answer_early(
        &mut self,
        fake: &Fake,
        head: Head,
        early: EarlyReply,
    ) -> Result<AfterReply, Trouble> {
        let (number, framing) = (head.call.number, head.framing);
        let next = self.answer(fake, head).await?;
        match early {
            EarlyReply::Never | EarlyReply::ThenRead => {
                let body = self.body(framing).await?;
                let calls = &mut fake.state().calls;
                if let Some(call) = calls.iter_mut().find(|call| call.number == number) {
                    call.body = body;
                }
                fake.changed();
                Ok(next)
            }
            EarlyReply::ThenStopReading => std::future::pending().await,
            EarlyReply::ThenClose => Ok(AfterReply::Close),
        }
    }

    async fn reject(&mut self, fake: &Fake, bytes: Vec<u8>) {
        fake.state().malformed.push(bytes);
        fake.changed();
        let reply = WechatReply::status(400);
        let delivery = Delivery {
            close: Close::Announced,
            ..Delivery::default()
        };
        // The client may not wait for the answer.
        let _ = delivery::send(&mut self.stream, &reply, &delivery, false).await;
        let _ = self.stream.shutdown().await;
    }

    /// Sends nothing until the client closes the connection.
    async fn until_closed(&mut self) {
        let mut ignored = [0; 1024];
        while matches!(self.stream.read(&mut ignored).await, Ok(1..)) {}
    }
}
