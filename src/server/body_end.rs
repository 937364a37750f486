//! Finds the end of a body in the bytes of an app's connection.

use memchr::memchr;

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// So many bytes.
    Left(u64),
    /// Chunks.
    Chunked(ChunkScan),
    /// Nobody knows.
    Unknown,
}

/// What comes next in a chunked body. This only follows a sound body to its end; hyper is who checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkScan {
    /// The size of a chunk, of which this much was read; `None` before its first digit.
    Size(Option<u64>),
    /// The rest of the line with that size.
    Extension(u64),
    /// So many bytes of a chunk with its line break.
    Data(u64),
    /// A line of trailers. An empty one ends the body.
    Trailer(TrailerLine),
}

/// What was read of a line of trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrailerLine {
    Nothing,
    OneCr,
    Something,
}

impl BodyEnd {
    /// A chunked body.
    pub(super) const CHUNKED: Self = Self::Chunked(ChunkScan::Size(None));

    /// Follows the body through `bytes`. Returns how many of them belong to it.
    pub(super) fn read(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Left(left) => {
                let some = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= some as u64;
                some
            }
            Self::Chunked(_) => self.read_chunks(bytes),
            Self::Unknown => bytes.len(),
        }
    }

    fn read_chunks(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let (Self::Chunked(scan), Some(rest)) = (*self, bytes.get(at..))
            && !rest.is_empty()
        {
            let (some, next) = scan.step(rest);
            at += some;
            *self = next;
        }
        match self {
            Self::Unknown => bytes.len(),
            Self::Left(_) | Self::Chunked(_) => at,
        }
    }
}

impl ChunkScan {
    /// Reads some of `bytes`, which are not empty. Returns how many, and what comes next.
    fn step(self, bytes: &[u8]) -> (usize, BodyEnd) {
        let then = |scan| BodyEnd::Chunked(scan);
        match (self, bytes[0]) {
            (Self::Size(Some(size)), b'\n') | (Self::Extension(size), b'\n') => match size {
                0 => (1, then(Self::Trailer(TrailerLine::Nothing))),
                size => (1, then(Self::Data(size.saturating_add(2)))),
            },
            (Self::Size(read), byte) => match (char::from(byte).to_digit(16), read) {
                (Some(digit), _) => {
                    let size = read.unwrap_or_default().checked_mul(16);
                    let size = size.map(|size| then(Self::Size(Some(size + u64::from(digit)))));
                    (1, size.unwrap_or(BodyEnd::Unknown))
                }
                (None, Some(size)) => (1, then(Self::Extension(size))),
                (None, None) => (1, BodyEnd::Unknown),
            },
            (Self::Extension(_), _) => {
                let line = memchr(b'\n', bytes).unwrap_or(bytes.len());
                (line, then(self))
            }
            (Self::Data(left), _) => {
                let some = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                match left - some as u64 {
                    0 => (some, then(Self::Size(None))),
                    left => (some, then(Self::Data(left))),
                }
            }
            (Self::Trailer(line), byte) => {
                let line = match (byte, line) {
                    (b'\n', TrailerLine::Something) => TrailerLine::Nothing,
                    (b'\n', _) => return (1, BodyEnd::Left(0)),
                    (b'\r', TrailerLine::Nothing) => TrailerLine::OneCr,
                    _ => TrailerLine::Something,
                };
                (1, then(Self::Trailer(line)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_where_it_ends_however_it_is_cut() {
        for (start, body) in [
            (BodyEnd::Left(0), ""),
            (BodyEnd::Left(5), "hello"),
            (BodyEnd::CHUNKED, "0\r\n\r\n"),
            // A fuzzer's: the first of these lines of trailers is not empty.
            (BodyEnd::CHUNKED, "0\r\n\r\r\n\r\n"),
            (BodyEnd::CHUNKED, "5\r\nhello\r\n0\r\n\r\n"),
            (
                BodyEnd::CHUNKED,
                "00a;ext=\"1\"\r\n01234\r\n\r\n9\r\nA \r\n0123456789\r\n000\r\nX: 1\r\nY:\r\n\r\n",
            ),
        ] {
            let all = format!("{body}GET / HTTP/1.1\r\n\r\n");
            for size in 1..=all.len() {
                let (mut end, mut read) = (start, 0);
                for piece in all.as_bytes().chunks(size) {
                    let some = end.read(piece);
                    read += some;
                    if some < piece.len() {
                        break;
                    }
                }
                assert_eq!((read, end), (body.len(), BodyEnd::Left(0)), "{body} {size}");
            }
        }
    }

    #[test]
    fn chunks_that_are_none_are_followed_no_further() {
        for body in [
            "x\r\n",
            "\r\n",
            "-1\r\n",
            "fffffffffffffffff\r\n",
            "2\r\n{}\r\n;\r\n",
        ] {
            let mut end = BodyEnd::CHUNKED;
            assert_eq!(end.read(body.as_bytes()), body.len(), "{body}");
            assert_eq!(end, BodyEnd::Unknown, "{body}");
        }
    }
}
