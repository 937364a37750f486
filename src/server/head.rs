//! Reads heads as they pass, for what hyper does not tell: a Content-Length beside a coding.

use memchr::memchr;

/// A head while it passes.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// How many bytes of the line are read; only the first few matter.
    column: usize,
    /// Whether they are those of `content-length`.
    matches: bool,
    found: bool,
    /// A line was read: an empty one before the first is not the end.
    begun: bool,
}

impl Head {
    pub(super) const COMPLETE: u8 = 1;
    pub(super) const CONTENT_LENGTH: u8 = 2;

    /// Takes the next bytes. Once the head is complete: its bits, and how many bytes come after it.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Option<(u8, usize)> {
        const NAME: &[u8] = b"content-length";
        while let Some((&byte, rest)) = bytes.split_first() {
            bytes = rest;
            match byte {
                b'\n' if self.column == 0 && self.begun => {
                    let found = if self.found { Self::CONTENT_LENGTH } else { 0 };
                    *self = Self::default();
                    return Some((Self::COMPLETE | found, bytes.len()));
                }
                b'\n' => {
                    self.column = 0;
                    continue;
                }
                b'\r' => continue,
                _ => self.begun = true,
            }
            self.matches = (self.column == 0 || self.matches)
                && match NAME.get(self.column) {
                    Some(wanted) => byte.eq_ignore_ascii_case(wanted),
                    None => false,
                };
            self.column += 1;
            if self.column == NAME.len() && self.matches {
                self.found = true;
            }
            if !self.matches {
                // Nothing else on this line matters.
                let line = memchr(b'\n', bytes).unwrap_or(bytes.len());
                bytes = &bytes[line..];
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_length_is_found_however_the_head_is_cut() {
        for (head, bits) in [
            ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", Head::COMPLETE),
            (
                "POST / HTTP/1.1\r\nCONTENT-length: 5\r\n\r\nhello",
                Head::COMPLETE | Head::CONTENT_LENGTH,
            ),
            (
                "\r\nP / H\r\ncontent-length: 0\r\n\r\n",
                Head::COMPLETE | Head::CONTENT_LENGTH,
            ),
            (
                "POST /content-length HTTP/1.1\nx: content-length\n\n",
                Head::COMPLETE,
            ),
            (
                "P / H\r\nContent-Lengt: 1\r\nxContent-Length: 1\r\n\r\n",
                Head::COMPLETE,
            ),
        ] {
            for cut in 1..head.len() {
                let mut scan = Head::default();
                let found = head
                    .as_bytes()
                    .chunks(cut)
                    .find_map(|bytes| scan.read(bytes))
                    .map(|(bits, _)| bits);
                assert_eq!(found, Some(bits), "{head} in pieces of {cut}");
            }
        }
        assert_eq!(
            Head::default().read(b"POST / HTTP/1.1\r\nHost: a\r\n"),
            None
        );
    }
}
