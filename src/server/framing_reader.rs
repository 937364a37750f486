//! Follows the calls in the bytes of an app's connection: it checks each head, and holds back bytes of the next call.
//!
//! Apps may send a call before they have the reply to the one before. hyper would parse both from one buffer. A head
//! that came together with an earlier call could then not be checked, because nobody knows where it begins. So the
//! reader ends the bytes that it passes on where a call ends. The rest is rewound: it is read, and checked, when the next
//! call is.
//!
//! Where the framing is not sound, the end of the body is not known. hyper refuses such a call. If it did not, a head
//! behind it would be [`HeadSeen::Partly`].

use bytes::{Buf, Bytes};
use tokio::io::ReadBuf;

use super::{
    body_end::BodyEnd,
    framing_check::FramingCheck,
    request_line::RequestLine,
    state::{CallPhase, ConnState},
};

/// How much of the current head passed through the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeadSeen {
    /// All of it.
    Whole,
    /// Its first bytes came with the call before, and were not checked.
    Partly,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct FramingReader {
    check: FramingCheck,
    /// The first line of the current head.
    line: RequestLine,
    head_seen: HeadSeen,
    /// The current head is complete.
    head_complete: bool,
    /// What is left of the body behind the last head.
    body: BodyEnd,
    /// Bytes were passed on that are not known to belong to the current call.
    passed_more: bool,
    /// Bytes of the next call that were read too early. They are read and checked again.
    rewound: Bytes,
}

impl FramingReader {
    pub(super) fn new() -> Self {
        Self {
            check: FramingCheck::default(),
            line: RequestLine::default(),
            head_seen: HeadSeen::Whole,
            head_complete: false,
            body: BodyEnd::Left(0),
            passed_more: false,
            rewound: Bytes::new(),
        }
    }

    /// Gives back bytes that were read and not parsed. They begin behind the last call, and are read and checked
    /// again.
    pub(super) fn rewind(&mut self, bytes: &[u8]) {
        // Bytes that were given back before come after these.
        let bytes = [bytes, &self.rewound].concat();
        self.body = BodyEnd::Left(0);
        self.rewound = if is_blank(&bytes) {
            Bytes::new()
        } else {
            bytes.into()
        };
    }

    /// The bytes that were given back and not read again.
    pub(super) fn into_rewound(self) -> Bytes {
        self.rewound
    }

    /// Whether bytes that were given back are still to be read.
    pub(super) fn has_rewound(&self) -> bool {
        !self.rewound.is_empty()
    }

    /// Reads bytes that were given back, as far as they belong to this call.
    pub(super) fn read_rewound(&mut self, buf: &mut ReadBuf<'_>, state: &ConnState) {
        let some = self.rewound.len().min(buf.remaining());
        let bytes = self.rewound.slice(..some);
        let bytes_of_this_call = self.scan_head_and_split(&bytes, state);
        buf.put_slice(&bytes[..bytes_of_this_call]);
        self.rewound.advance(bytes_of_this_call);
        if self.rewound.is_empty() {
            // An empty rest would keep the memory of all of it.
            self.rewound = Bytes::new();
        }
    }

    /// Takes note of `bytes` that the socket had. Returns how many belong to this call. The others are held back.
    pub(super) fn pass_on(&mut self, bytes: &[u8], state: &ConnState) -> usize {
        let bytes_of_this_call = self.scan_head_and_split(bytes, state);
        self.rewound = Bytes::copy_from_slice(&bytes[bytes_of_this_call..]);
        bytes_of_this_call
    }

    /// Records a call that was read without this.
    #[cfg(feature = "fast_path")]
    pub(super) fn note_call(&mut self) {
        self.body = BodyEnd::Left(0);
        self.passed_more = false;
    }

    /// Whether bytes that may be the next call's were passed on with this call.
    pub(super) fn has_passed_next(&self) -> bool {
        self.passed_more
    }

    /// The first line of the head that was read last.
    pub(super) fn request_line(&self) -> &RequestLine {
        &self.line
    }

    /// Follows the phases through bytes that are being read, and checks heads. Returns how many of the bytes belong to
    /// this call.
    fn scan_head_and_split(&mut self, bytes: &[u8], state: &ConnState) -> usize {
        match state.phase() {
            // Some apps send a line break after a body. It does not begin a call.
            CallPhase::Waiting if is_blank(bytes) => return bytes.len(),
            CallPhase::Waiting => self.begin_head(state),
            CallPhase::Reading if !self.head_complete => {}
            CallPhase::Reading | CallPhase::Calling => match self.split_body(bytes) {
                // hyper wants more than the call has, so one of us is wrong. No bytes at all would mean the end.
                0 => self.body = BodyEnd::Unknown,
                some => return some,
            },
        }
        if self.head_complete {
            return self.split_body(bytes);
        }
        self.line.read(bytes);
        let Some(end) = self.check.read(bytes) else {
            return bytes.len();
        };
        self.head_complete = true;
        self.body = end.body;
        self.passed_more = false;
        state.set_head(match self.head_seen {
            HeadSeen::Whole => end.bits,
            HeadSeen::Partly => 0,
        });
        let head = bytes.len() - end.after;
        if end.after == 0 {
            return head;
        }
        head + self.split_body(&bytes[head..])
    }

    fn begin_head(&mut self, state: &ConnState) {
        self.head_seen = match self.body {
            BodyEnd::Unknown => HeadSeen::Partly,
            BodyEnd::Left(_) | BodyEnd::Chunked(_) => HeadSeen::Whole,
        };
        self.check = FramingCheck::default();
        self.line = RequestLine::default();
        self.head_complete = false;
        state.enter(CallPhase::Reading);
    }

    /// Follows a body through `bytes`. Returns how many belong to this call.
    fn split_body(&mut self, bytes: &[u8]) -> usize {
        let some = self.body.read(bytes);
        let rest = &bytes[some..];
        let is_more = !rest.is_empty() && is_blank(rest);
        self.passed_more |= is_more || self.body == BodyEnd::Unknown;
        if is_more { bytes.len() } else { some }
    }
}

/// Whether `bytes` are only line breaks.
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}
