//! The first line of a head, as far as it tells what is wrong with a call that cannot be parsed.

use crate::proxy::cause::HeadFault;

/// What was seen of a first line whose bytes arrive in pieces.
#[derive(Debug, Default)]
pub(super) struct RequestLine {
    /// Its beginning.
    start: [u8; PREFACE.len()],
    /// The length of this beginning.
    length: usize,
    /// How many blanks were in it. A sound one has two.
    blanks: u32,
    /// The first byte of the target that must be percent-encoded.
    raw_byte: Option<u8>,
    /// How much was read behind the second blank.
    version: usize,
    /// Whether that is no version, but more of the target. hyper does not wait for the third blank to say so.
    is_no_version: bool,
    /// The line has ended.
    ended: bool,
}

/// With this line, a client of HTTP/2 begins.
const PREFACE: &[u8; 12] = b"PRI * HTTP/2";

/// With this, a version begins.
const VERSION: &[u8] = b"HTTP/";

/// With these bytes, a client of TLS begins.
const HANDSHAKE: &[u8] = b"\x16\x03";

impl RequestLine {
    /// Reads the next bytes of a head.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        if self.ended {
            return;
        }
        for byte in bytes {
            match byte {
                // Empty lines may come before it.
                b'\r' | b'\n' if self.length == 0 => continue,
                b'\n' => {
                    self.ended = true;
                    return;
                }
                b' ' => self.blanks += 1,
                b'\r' => {}
                byte if self.blanks == 2 && self.version < VERSION.len() => {
                    self.is_no_version |= VERSION[self.version] != *byte;
                    self.version += 1;
                }
                byte if self.blanks > 0 && self.raw_byte.is_none() && !is_of_a_uri(*byte) => {
                    self.raw_byte = Some(*byte);
                }
                _ => {}
            }
            if let Some(room) = self.start.get_mut(self.length) {
                *room = *byte;
                self.length += 1;
            }
        }
    }

    /// What is wrong with it, or else with its head.
    pub(super) fn fault(&self) -> HeadFault {
        let start = &self.start[..self.length];
        match self.raw_byte {
            _ if start.starts_with(HANDSHAKE) => HeadFault::Tls,
            _ if start == PREFACE => HeadFault::Http2,
            Some(byte) => HeadFault::RawByte(byte),
            None if self.blanks > 2 || self.is_no_version => HeadFault::RawByte(b' '),
            None => HeadFault::Unsound,
        }
    }
}

/// Whether `byte` may stand in a URI as it is (RFC 3986).
fn is_of_a_uri(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_nobody_can_parse_says_what_it_is() {
        use HeadFault::{Http2, RawByte, Tls, Unsound};
        for (head, fault) in [
            (&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], Tls),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Http2),
            (
                b"GET /x?name=\xd5\xc5 HTTP/1.1\r\nHost: a\r\n\r\n",
                RawByte(0xd5),
            ),
            (b"\r\n\r\nGET /\xe5\xbc\xa0 HTTP/1.1\r\n\r\n", RawByte(0xe5)),
            (b"GET /x?q={\"a\"} HTTP/1.1\r\n\r\n", RawByte(b'{')),
            (b"GET /x y HTTP/1.1\r\n\r\n", RawByte(b' ')),
            (b"GET /x y", RawByte(b' ')),
            (b"GET /x HT", Unsound),
            (b"GET /x\0 HTTP/1.1\r\n\r\n", RawByte(0)),
            (b"GET /x HTTP/1.1\r\nno colon \xff\r\n\r\n", Unsound),
            (b"GET /x HTTP/9.9\r\n\r\n", Unsound),
            (b"P\xffST /x HTTP/1.1\r\n\r\n", Unsound),
            (b"", Unsound),
        ] {
            for size in [1, 3, head.len().max(1)] {
                let mut line = RequestLine::default();
                head.chunks(size).for_each(|piece| line.read(piece));
                assert_eq!(line.fault(), fault, "{head:?} in pieces of {size}");
            }
        }
    }
}
