//! A body read up to a limit: either all of it, or its beginning and the rest.
//!
//! Both directions need this. A call whose body is buffered whole can be sent twice. A reply that is buffered whole
//! can be checked for an error code before it is passed on. Only a whole body can be copied.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use super::{
    budget::{ByteBudget, Reservation},
    collected::Collected,
};
use crate::wechat::errcode;

/// See the [module](self).
pub enum BufferedBody<B> {
    /// The whole body is buffered. The bytes of a call own their reservation. They keep it as long as a copy of them
    /// exists, for example in the queue of a connection to a WeChat that does not read.
    Whole(Bytes),
    /// The body did not fit.
    Partial {
        /// The bytes that were read already.
        prefix: Bytes,
        /// The rest. It is boxed, because it is rare and larger than the other variant.
        rest: Box<B>,
    },
}

/// The owner of a call's bytes.
struct ReservedBytes {
    bytes: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for ReservedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why a body of unknown length cannot be buffered. It would be needed whole, to send it with a Content-Length.
#[derive(Debug, thiserror::Error)]
pub enum BufferError<E> {
    /// It is larger than allowed.
    #[error("the body is larger than may be held")]
    TooLarge,
    /// The budget is used up.
    #[error("there is no room to hold the body")]
    NoRoom,
    /// It could not be read.
    #[error("the body could not be read")]
    Read(#[source] E),
}

/// The step by which the reservation of a body of unknown length grows.
const STEP: usize = 64 * 1024;

impl<B> fmt::Debug for BufferedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the bytes, which are data of the app's.
        let (variant, bytes) = match self {
            Self::Whole(bytes) => ("Whole", bytes),
            Self::Partial { prefix, .. } => ("Partial", prefix),
        };
        f.debug_struct(variant)
            .field("bytes", &bytes.len())
            .finish_non_exhaustive()
    }
}

impl<B> BufferedBody<B> {
    /// A body whose bytes are given.
    pub fn ready(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(bytes.into())
    }

    /// All bytes, if the body is buffered whole.
    pub fn whole(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(bytes) => Some(bytes),
            Self::Partial { .. } => None,
        }
    }

    /// The bytes that are here: all of them, or those that were read.
    pub fn start(&self) -> &Bytes {
        match self {
            Self::Whole(held) => held,
            Self::Partial { prefix, .. } => prefix,
        }
    }

    /// A copy for a second send. `None` if the body is not buffered whole.
    pub fn try_clone(&self) -> Option<Self> {
        match self {
            Self::Whole(bytes) => Some(Self::Whole(bytes.clone())),
            Self::Partial { .. } => None,
        }
    }
}

impl<B> BufferedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// Reads a reply as long as it may still be a refusal: it must begin like a JSON object, and have at most `limit`
    /// bytes.
    pub async fn peek(mut body: B, limit: usize) -> Result<Self, B::Error> {
        let declared = body.size_hint();
        if declared.lower() > limit as u64 {
            return Ok(Self::partial(Bytes::new(), body));
        }
        let mut read = Collected::default();
        while !body.is_end_stream()
            && let Some(frame) = body.frame().await
        {
            let Ok(data) = frame?.into_data() else { break };
            read.push(data);
            let enough = read.len() as u64 >= declared.exact().unwrap_or(u64::MAX);
            let hopeless = errcode::can_carry(read.bytes()) == Some(false);
            if read.len() > limit || (hopeless && !enough) {
                return Ok(Self::partial(read.into_bytes(), body));
            }
        }
        Ok(Self::ready(read.into_bytes()))
    }

    /// Reads a call's body, so that the call can be sent again.
    ///
    /// A declared length is reserved at once, with `overhead` for what the call takes beside it; without one, all of
    /// this is reserved already. If that fails, or if the length is larger than `limit`, the body is
    /// returned unread. A body without a declared length must be buffered, because WeChat needs a Content-Length.
    pub async fn buffer(
        mut body: B,
        overhead: Option<usize>,
        limit: usize,
        budget: &'static ByteBudget,
    ) -> Result<Self, BufferError<B::Error>> {
        if body.is_end_stream() {
            return Ok(Self::ready(Bytes::new()));
        }
        let Some(overhead) = overhead else {
            if body.size_hint().lower() > limit as u64 {
                return Ok(Self::partial(Bytes::new(), body));
            }
            let bytes = body.collect().await.map_err(BufferError::Read)?;
            return Ok(Self::Whole(bytes.to_bytes()));
        };
        let Some(length) = body.size_hint().exact() else {
            return Self::buffer_undeclared(body, overhead, limit, budget).await;
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let reservation =
            (length <= limit).then(|| budget.reserve(length.saturating_add(overhead)));
        let Some(reservation) = reservation.flatten() else {
            return Ok(Self::partial(Bytes::new(), body));
        };
        let mut read = Collected::with_capacity(length);
        while !body.is_end_stream()
            && let Some(frame) = body.frame().await
        {
            // Trailers end a body. WeChat neither sends nor reads them.
            let Ok(data) = frame.map_err(BufferError::Read)?.into_data() else {
                break;
            };
            read.push(data);
        }
        Ok(Self::held(read.into_bytes(), reservation))
    }

    async fn buffer_undeclared(
        mut body: B,
        overhead: usize,
        limit: usize,
        budget: &'static ByteBudget,
    ) -> Result<Self, BufferError<B::Error>> {
        let mut reservation = budget.reserve(overhead).ok_or(BufferError::NoRoom)?;
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(BufferError::Read)?.into_data() else {
                break;
            };
            let length = read.len() + data.len();
            if length > limit {
                return Err(BufferError::TooLarge);
            }
            if length > read.capacity() {
                let wanted = length.max((read.capacity() * 2).clamp(STEP, limit.max(STEP)));
                if !reservation.grow(wanted - read.capacity()) {
                    return Err(BufferError::NoRoom);
                }
                read.reserve_exact(wanted - read.len());
            }
            read.extend_from_slice(&data);
        }
        Ok(Self::held(read.into(), reservation))
    }

    fn held(bytes: Bytes, reservation: Reservation) -> Self {
        Self::Whole(reserved(bytes, reservation))
    }

    fn partial(prefix: Bytes, rest: B) -> Self {
        let rest = Box::new(rest);
        Self::Partial { prefix, rest }
    }
}

/// The same bytes, which keep the reservation as long as a copy of them exists.
pub fn reserved(bytes: Bytes, reservation: Reservation) -> Bytes {
    Bytes::from_owner(ReservedBytes {
        bytes,
        _reservation: reservation,
    })
}

impl<B> Body for BufferedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) | Self::Partial { prefix: bytes, .. } if !bytes.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))))
            }
            Self::Whole(_) => Poll::Ready(None),
            Self::Partial { rest, .. } => Poll::Ready(ready!(Pin::new(rest).poll_frame(cx))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Partial { prefix, rest } => prefix.is_empty() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Partial { prefix, rest } => {
                let (prefix, rest) = (prefix.len() as u64, rest.size_hint());
                let mut hint = SizeHint::new();
                hint.set_lower(prefix + rest.lower());
                if let Some(upper) = rest.upper() {
                    hint.set_upper(prefix + upper);
                }
                hint
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn chunks(parts: &[&'static str]) -> impl Body<Data = Bytes, Error = std::io::Error> + Unpin {
        let frames: Vec<_> = parts
            .iter()
            .map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes()))))
            .collect();
        StreamBody::new(futures_util::stream::iter(frames))
    }

    async fn text<B: Body<Data = Bytes> + Unpin>(body: BufferedBody<B>) -> Bytes
    where
        B::Error: std::fmt::Debug,
    {
        body.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_call_that_fits_is_held_and_sent_twice() {
        let budget = ByteBudget::new(1 << 20);
        let body = BufferedBody::buffer(chunks(&["hello ", "world"]), Some(0), 11, budget)
            .await
            .unwrap();
        let again = body.try_clone().unwrap();
        // The bytes are data of the app's.
        assert_eq!(format!("{body:?}"), "Whole { bytes: 11, .. }");
        assert!(budget.held() >= 11);
        assert_eq!(text(body).await, "hello world");
        assert!(budget.held() >= 11);
        assert_eq!(text(again).await, "hello world");
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn a_call_of_unknown_length_is_held_or_refused() {
        let budget = ByteBudget::new(3 * STEP);
        let large = BufferedBody::buffer(chunks(&["hello ", "world"]), Some(0), 10, budget).await;
        assert!(matches!(large, Err(BufferError::TooLarge)));
        let _taken = budget.reserve(3 * STEP - 10).unwrap();
        let crowded =
            BufferedBody::buffer(chunks(&["hello ", "world"]), Some(0), 1 << 20, budget).await;
        assert!(matches!(crowded, Err(BufferError::NoRoom)));
        assert_eq!(budget.held(), 3 * STEP - 10);
    }

    #[tokio::test]
    async fn a_declared_call_without_room_is_not_read_at_all() {
        let budget = ByteBudget::new(8);
        for limit in [4, 100] {
            let body = Full::new(Bytes::from_static(b"0123456789"));
            let body = BufferedBody::buffer(body, Some(0), limit, budget)
                .await
                .unwrap();
            assert!(matches!(&body, BufferedBody::Partial { prefix, .. } if prefix.is_empty()));
            assert!(body.try_clone().is_none() && !body.is_end_stream());
            assert_eq!(body.size_hint().exact(), Some(10));
            assert_eq!(budget.held(), 0);
        }
    }

    #[tokio::test]
    async fn what_a_call_takes_beside_its_body_counts() {
        let budget = ByteBudget::new(100);
        let body = || Full::<Bytes>::from("0123456789");
        let held = BufferedBody::buffer(body(), Some(50), 10, budget)
            .await
            .unwrap();
        assert!(held.whole().is_some() && budget.held() == 60);
        let second = BufferedBody::buffer(body(), Some(50), 10, budget)
            .await
            .unwrap();
        assert!(second.whole().is_none() && budget.held() == 60);
        let chunked = BufferedBody::buffer(chunks(&["x"]), Some(50), 10, budget).await;
        assert!(matches!(chunked, Err(BufferError::NoRoom)));
    }

    #[tokio::test]
    async fn a_reply_is_read_only_while_it_can_be_a_refusal() {
        for (parts, limit, whole) in [
            (&["{\"errcode\"", ":0}"][..], 100, true),
            (&[" ", "\r\n{", "}"], 100, true),
            (&["{", "\"long\"", ":1}"], 9, false),
            (&["\u{7f}PNG", "..."], 100, false),
            (&[" ", " ", "x", "y"], 100, false),
            (&[], 100, true),
        ] {
            let body = BufferedBody::peek(chunks(parts), limit).await.unwrap();
            assert_eq!(body.whole().is_some(), whole, "{parts:?}");
            assert_eq!(text(body).await, parts.concat());
        }
    }

    #[tokio::test]
    async fn a_prefix_yet_to_send_is_not_the_end() {
        let body = BufferedBody::Partial {
            prefix: Bytes::from_static(b"hello"),
            rest: Box::new(Full::<Bytes>::default()),
        };
        assert!(!body.is_end_stream());
        assert_eq!(text(body).await, "hello");
    }
}
