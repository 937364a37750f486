//! Reads heads as they pass, for what hyper does not tell: a Content-Length beside a coding.

use memchr::memchr;

/// A head while it passes.
#[derive(Debug, Default)]
pub(super) struct FramingCheck {
    /// How a line began whose end has not come.
    begun: [u8; NAME.len()],
    /// How much of it came, at most [`NAME`]'s length.
    column: usize,
    found: bool,
    /// What a Content-Length says that is the only one, and came in one piece.
    length: Option<u64>,
    /// A line was read: an empty one before the first is not the end.
    any: bool,
}

/// The end of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeadEnd {
    /// [`FramingCheck::COMPLETE`], and [`FramingCheck::CONTENT_LENGTH`] if there is one.
    pub(super) bits: u8,
    /// What its Content-Length says, if that is known.
    pub(super) length: Option<u64>,
    /// How many bytes came after it.
    pub(super) after: usize,
}

const NAME: &[u8; 14] = b"content-length";

impl FramingCheck {
    pub(super) const COMPLETE: u8 = 1;
    pub(super) const CONTENT_LENGTH: u8 = 2;

    /// Takes the next bytes. Returns the head's end once it is complete.
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
                self.length = is_sound.then(|| number(&line[NAME.len()..])).flatten();
            }
            self.any |= !is_empty;
            self.found |= is_length;
        }
        self.keep(bytes);
        None
    }

    /// Keeps the beginning of a line.
    fn keep(&mut self, part: &[u8]) {
        // Alone it may be all that an empty line has before its end.
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

/// The number behind a header's name.
fn number(value: &[u8]) -> Option<u64> {
    let digits = value.strip_prefix(b":")?.trim_ascii();
    std::str::from_utf8(digits).ok()?.parse().ok()
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
