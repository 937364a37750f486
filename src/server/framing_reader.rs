//! Follows the calls in the bytes of an app's connection: it checks each head, and holds back bytes of the next call.
//!
//! Apps may send a call before they have the reply to the one before. hyper would parse both from one buffer. A head
//! that came together with an earlier call could then not be checked, because nobody knows where it begins. So the
//! reader ends the bytes that it passes on where a body of known length ends. The rest is rewound: it is read, and
//! checked, when the next call is.
//!
//! The end of a chunked body is not known here. A head behind such a body in the same read is [`HeadSeen::Partly`].

use bytes::{Buf, Bytes};
use tokio::io::ReadBuf;

use super::{
    framing_check::FramingCheck,
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
    head_seen: HeadSeen,
    /// The current head is complete.
    head_complete: bool,
    /// How many bytes were read after the last head. Those beyond its body belong to the next call.
    bytes_after_head: u64,
    /// The last four of these bytes. A chunked body ends with an empty line, and a part of a head does not.
    last_bytes: [u8; 4],
    /// Bytes of the next call that were read too early. They are read and checked again.
    rewound: Bytes,
}

impl FramingReader {
    pub(super) fn new() -> Self {
        Self {
            check: FramingCheck::default(),
            head_seen: HeadSeen::Whole,
            head_complete: false,
            bytes_after_head: 0,
            last_bytes: [0; 4],
            rewound: Bytes::new(),
        }
    }

    /// Gives back bytes that were read and not parsed. They begin behind the last call, and are read and checked
    /// again.
    pub(super) fn rewind(&mut self, bytes: &[u8]) {
        // Bytes that were given back before come after these.
        let bytes = [bytes, &self.rewound].concat();
        self.bytes_after_head = 0;
        self.last_bytes = *b"\r\n\r\n";
        self.rewound = if is_blank(&bytes) {
            Bytes::new()
        } else {
            bytes.into()
        };
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

    /// Records a call with a body of `length` bytes that was read without this.
    #[cfg(feature = "fast_path")]
    pub(super) fn note_call(&mut self, length: u64) {
        self.bytes_after_head = length;
    }

    /// Whether bytes of the next call were passed on with this call.
    pub(super) fn has_passed_next(&self, state: &ConnState) -> bool {
        self.bytes_after_head > state.body_length()
    }

    /// Follows the phases through bytes that are being read, and checks heads. Returns how many of the bytes belong to
    /// this call. Those behind a body of known length are the next call.
    fn scan_head_and_split(&mut self, bytes: &[u8], state: &ConnState) -> usize {
        match state.phase() {
            // Some apps send a line break after a body. It does not begin a call.
            CallPhase::Waiting if is_blank(bytes) => return bytes.len(),
            CallPhase::Waiting => self.begin_head(state),
            CallPhase::Reading if !self.head_complete => {}
            CallPhase::Reading | CallPhase::Calling => {
                self.count_after_head(bytes);
                return bytes.len();
            }
        }
        let Some(end) = self.check.read(bytes) else {
            return bytes.len();
        };
        self.head_complete = true;
        self.bytes_after_head = 0;
        let head = bytes.len() - end.after;
        let length = end.length.and_then(|length| usize::try_from(length).ok());
        let body = length.map_or(end.after, |length| length.min(end.after));
        let bytes_of_this_call = if is_blank(&bytes[head + body..]) {
            bytes.len()
        } else {
            head + body
        };
        self.count_after_head(&bytes[head..bytes_of_this_call]);
        state.set_head(match self.head_seen {
            HeadSeen::Whole => end.bits,
            HeadSeen::Partly => 0,
        });
        bytes_of_this_call
    }

    fn begin_head(&mut self, state: &ConnState) {
        let follows_a_call = match state.body_length() {
            u64::MAX => self.last_bytes == *b"\r\n\r\n",
            length => self.is_blank_after(length),
        };
        self.head_seen = if follows_a_call {
            HeadSeen::Whole
        } else {
            HeadSeen::Partly
        };
        self.check = FramingCheck::default();
        self.head_complete = false;
        state.enter(CallPhase::Reading);
    }

    /// Counts bytes that were read after a head, and keeps the last four.
    fn count_after_head(&mut self, bytes: &[u8]) {
        self.bytes_after_head += bytes.len() as u64;
        let new = &bytes[bytes.len().saturating_sub(4)..];
        self.last_bytes.rotate_left(new.len());
        self.last_bytes[4 - new.len()..].copy_from_slice(new);
    }

    /// Whether only line breaks were read after a body of `length` bytes.
    fn is_blank_after(&self, length: u64) -> bool {
        let surplus = usize::try_from(self.bytes_after_head.saturating_sub(length));
        let last = surplus
            .ok()
            .and_then(|surplus| self.last_bytes.len().checked_sub(surplus));
        last.is_some_and(|at| is_blank(&self.last_bytes[at..]))
    }
}

/// Whether `bytes` are only line breaks.
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}
