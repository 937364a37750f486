//! Scans heads for what frames the body. hyper accepts a Content-Length beside a Transfer-Encoding without telling.

use memchr::memchr;

use super::body_end::BodyEnd;
use crate::body::content_length;

/// The scan of a head whose bytes arrive in pieces.
#[derive(Debug)]
pub(super) struct FramingCheck {
    /// The beginning of a line whose end has not arrived.
    begun: [u8; LONGEST],
    /// The length of this beginning.
    column: usize,
    /// Whether there was a Content-Length.
    has_length: bool,
    /// The value of the Content-Length, if there is one only, and its line is not too long.
    length: Option<u64>,
    /// Whether there was a Transfer-Encoding.
    has_coding: bool,
    /// Whether a line was read that is not empty. Empty lines before it do not end the head.
    any: bool,
}

/// The end of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeadEnd {
    /// [`FramingCheck::COMPLETE`], together with [`FramingCheck::CONTENT_LENGTH`] if the head has one.
    pub(super) bits: u8,
    /// The body behind it.
    pub(super) body: BodyEnd,
    /// How many of the bytes read last follow the head.
    pub(super) after: usize,
}

/// How much of a line is kept whose end has not arrived: a name and a number.
const LONGEST: usize = 48;

const LENGTH: &[u8] = b"content-length";
const CODING: &[u8] = b"transfer-encoding";

impl Default for FramingCheck {
    fn default() -> Self {
        Self {
            begun: [0; LONGEST],
            column: 0,
            has_length: false,
            length: None,
            has_coding: false,
            any: false,
        }
    }
}

impl FramingCheck {
    pub(super) const COMPLETE: u8 = 1;
    pub(super) const CONTENT_LENGTH: u8 = 2;

    /// Scans the next bytes. Returns the end of the head once it is complete.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Option<HeadEnd> {
        while let Some(end) = memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            let ends = if self.column > 0 {
                self.keep(line);
                let (begun, column) = (self.begun, self.column);
                self.column = 0;
                self.read_line(&begun[..column], column < LONGEST)
            } else {
                self.read_line(line, true)
            };
            if ends {
                let end = self.end(bytes.len());
                *self = Self::default();
                return Some(end);
            }
        }
        self.keep(bytes);
        None
    }

    /// Reads a line, or the beginning of one that is too long to be kept whole. Returns whether it ends the head.
    fn read_line(&mut self, line: &[u8], is_whole: bool) -> bool {
        if matches!(line, [] | [b'\r']) {
            return self.any;
        }
        self.any = true;
        match line.first() {
            Some(b'c' | b'C') if begins_with(line, LENGTH) => {
                let known = is_whole && !self.has_length;
                self.length = known.then(|| length(&line[LENGTH.len()..])).flatten();
                self.has_length = true;
            }
            Some(b't' | b'T') => self.has_coding |= begins_with(line, CODING),
            _ => {}
        }
        false
    }

    fn end(&self, after: usize) -> HeadEnd {
        let (bits, body) = match (self.has_length, self.has_coding) {
            (false, false) => (0, BodyEnd::Left(0)),
            (false, true) => (0, BodyEnd::CHUNKED),
            (true, false) => {
                let left = self.length.map_or(BodyEnd::Unknown, BodyEnd::Left);
                (Self::CONTENT_LENGTH, left)
            }
            (true, true) => (Self::CONTENT_LENGTH, BodyEnd::Unknown),
        };
        HeadEnd {
            bits: Self::COMPLETE | bits,
            body,
            after,
        }
    }

    /// Keeps the beginning of a line.
    fn keep(&mut self, part: &[u8]) {
        let room = &mut self.begun[self.column..];
        let some = part.len().min(room.len());
        room[..some].copy_from_slice(&part[..some]);
        self.column += some;
    }
}

/// Whether `line` is the header `name`.
fn begins_with(line: &[u8], name: &[u8]) -> bool {
    let Some((begin, rest)) = line.split_at_checked(name.len()) else {
        return false;
    };
    let ends = rest.first().is_none_or(|byte| !is_of_a_name(*byte));
    ends && begin.eq_ignore_ascii_case(name)
}

/// Whether the name of a header can have this byte: a `tchar` of RFC 9110.
fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Parses the length in a header line, behind the name.
fn length(value: &[u8]) -> Option<u64> {
    content_length::parse(value.strip_prefix(b":")?.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_length_is_found_however_the_head_is_cut() {
        for (head, bits) in [
            ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", FramingCheck::COMPLETE),
            (
                "POST / HTTP/1.1\r\nCONTENT-length: 5\r\n\r\nhello",
                FramingCheck::COMPLETE | FramingCheck::CONTENT_LENGTH,
            ),
            (
                "\r\nP / H\r\ncontent-length: 0\r\n\r\n",
                FramingCheck::COMPLETE | FramingCheck::CONTENT_LENGTH,
            ),
            (
                "POST /content-length HTTP/1.1\nx: content-length\n\n",
                FramingCheck::COMPLETE,
            ),
            (
                "P / H\r\nContent-Lengt: 1\r\nxContent-Length: 1\r\nContent-Length-X: 1\r\n\r\n",
                FramingCheck::COMPLETE,
            ),
        ] {
            for cut in 1..head.len() {
                let mut scan = FramingCheck::default();
                let found = head
                    .as_bytes()
                    .chunks(cut)
                    .find_map(|bytes| scan.read(bytes))
                    .map(|end| end.bits);
                assert_eq!(found, Some(bits), "{head} in pieces of {cut}");
            }
        }
        for (fields, body) in [
            ("Content-Length: 12", BodyEnd::Left(12)),
            ("content-length:0 ", BodyEnd::Left(0)),
            ("Content-Length: 1\r\nContent-Length: 2", BodyEnd::Unknown),
            ("Content-Length: 1, 2", BodyEnd::Unknown),
            ("Content-Length: +1", BodyEnd::Unknown),
            ("Content-Length : 1", BodyEnd::Unknown),
            ("Transfer-Encoding: chunked", BodyEnd::CHUNKED),
            (
                "transfer-encoding:chunked\r\nContent-Length: 1",
                BodyEnd::Unknown,
            ),
            ("Transfer-Encodings: chunked", BodyEnd::Left(0)),
            ("Host: a", BodyEnd::Left(0)),
            // A fuzzer's: these are other names.
            ("Content-Length#: 12", BodyEnd::Left(0)),
            ("Transfer-Encoding!: chunked", BodyEnd::Left(0)),
            // A fuzzer's: this line is not empty.
            ("X: y\r\n\r\r\nHost: a", BodyEnd::Left(0)),
        ] {
            let head = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\nhello");
            for cut in 1..head.len() {
                let mut check = FramingCheck::default();
                let mut read = 0;
                let end = head.as_bytes().chunks(cut).find_map(|bytes| {
                    read += bytes.len();
                    check.read(bytes)
                });
                let end = end.unwrap();
                assert_eq!(end.body, body, "{fields} in pieces of {cut}");
                assert_eq!(
                    read - end.after,
                    head.len() - 5,
                    "{fields} in pieces of {cut}"
                );
            }
        }
        let long = format!(
            "POST / HTTP/1.1\r\nContent-Length: {}1\r\n\r\n",
            " ".repeat(40)
        );
        for (size, body) in [(long.len(), BodyEnd::Left(1)), (30, BodyEnd::Unknown)] {
            let mut check = FramingCheck::default();
            let end = long
                .as_bytes()
                .chunks(size)
                .find_map(|bytes| check.read(bytes));
            assert_eq!(end.unwrap().body, body);
        }
        assert_eq!(
            FramingCheck::default().read(b"POST / HTTP/1.1\r\nHost: a\r\n"),
            None
        );
    }
}
