//! Scans heads for a Content-Length beside a Transfer-Encoding, which hyper accepts without telling.

use memchr::memchr;

use crate::body::content_length;

/// The scan of a head whose bytes arrive in pieces.
#[derive(Debug, Default)]
pub(super) struct FramingCheck {
    /// The beginning of a line whose end has not arrived.
    begun: [u8; NAME.len()],
    /// The length of this beginning, at most that of [`NAME`].
    column: usize,
    /// Whether there was a Content-Length.
    found: bool,
    /// The value of the Content-Length, if there is one only and its line arrived in one piece.
    length: Option<u64>,
    /// Whether a line was read that is not empty. Empty lines before it do not end the head.
    any: bool,
}

/// The end of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeadEnd {
    /// [`FramingCheck::COMPLETE`], together with [`FramingCheck::CONTENT_LENGTH`] if the head has one.
    pub(super) bits: u8,
    /// The value of its Content-Length, if it is known.
    pub(super) length: Option<u64>,
    /// How many of the bytes read last follow the head.
    pub(super) after: usize,
}

const NAME: &[u8; 14] = b"content-length";

impl FramingCheck {
    pub(super) const COMPLETE: u8 = 1;
    pub(super) const CONTENT_LENGTH: u8 = 2;

    /// Scans the next bytes. Returns the end of the head once it is complete.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Option<HeadEnd> {
        while let Some(end) = memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            let (is_empty, is_length) = if self.column == 0 {
                let is_length = matches!(line.first(), Some(b'c' | b'C')) && begins_with_name(line);
                (matches!(line, [] | [b'\r']), is_length)
            } else {
                self.keep(line);
                (false, begins_with_name(&self.begun[..self.column]))
            };
            let in_one_piece = self.column == 0;
            self.column = 0;
            if is_empty && self.any {
                let found = if self.found { Self::CONTENT_LENGTH } else { 0 };
                let end = HeadEnd {
                    bits: Self::COMPLETE | found,
                    length: self.length,
                    after: bytes.len(),
                };
                *self = Self::default();
                return Some(end);
            }
            if is_length {
                let is_sound = in_one_piece && !self.found;
                self.length = is_sound.then(|| length(&line[NAME.len()..])).flatten();
            }
            self.any |= !is_empty;
            self.found |= is_length;
        }
        self.keep(bytes);
        None
    }

    /// Keeps the beginning of a line.
    fn keep(&mut self, part: &[u8]) {
        // A line that is empty except for a CR must still count as empty.
        let part = part.strip_suffix(b"\r").unwrap_or(part);
        let room = &mut self.begun[self.column..];
        let some = part.len().min(room.len());
        room[..some].copy_from_slice(&part[..some]);
        self.column += some;
    }
}

fn begins_with_name(line: &[u8]) -> bool {
    line.get(..NAME.len())
        .is_some_and(|name| name.eq_ignore_ascii_case(NAME))
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
                "P / H\r\nContent-Lengt: 1\r\nxContent-Length: 1\r\n\r\n",
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
        for (fields, length) in [
            ("Content-Length: 12", Some(12)),
            ("content-length:0 ", Some(0)),
            ("Content-Length: 1\r\nContent-Length: 2", None),
            ("Content-Length: 1, 2", None),
            ("Content-Length: +1", None),
            ("Content-Length : 1", None),
            ("Host: a", None),
        ] {
            let head = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\nhello");
            let end = FramingCheck::default().read(head.as_bytes()).unwrap();
            assert_eq!((end.length, end.after), (length, 5), "{fields}");
        }
        assert_eq!(
            FramingCheck::default().read(b"POST / HTTP/1.1\r\nHost: a\r\n"),
            None
        );
    }
}
