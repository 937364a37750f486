//! A reply in chunks (RFC 9112 §7.1): its bytes, without what stands between them.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use crate::fault::Fault;

/// How long the line before a chunk may be.
const LONGEST_LINE: usize = 4096;

/// How much may follow the last chunk. It is not passed on: WeChat sends nothing there.
const LARGEST_TRAILER: usize = 16 * 1024;

/// What comes next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Chunks {
    /// The line before a chunk.
    #[default]
    Size,
    /// So many bytes of one.
    Data(u64),
    /// The end of its line.
    EndOfData,
    /// Lines up to an empty one, of so many bytes at most.
    Trailer(usize),
    /// Nothing.
    Ended,
}

impl Chunks {
    /// Takes from the beginning of `input` all that is no data, as far as it has come.
    pub(super) fn advance(&mut self, input: &mut BytesMut) -> Result<(), Fault> {
        loop {
            *self = match *self {
                Self::Data(_) | Self::Ended => return Ok(()),
                Self::Size => match line(input, LONGEST_LINE)? {
                    None => return Ok(()),
                    Some(length) => {
                        let size = size(&input[..length])?;
                        input.advance(length + 2);
                        match size {
                            0 => Self::Trailer(LARGEST_TRAILER),
                            size => Self::Data(size),
                        }
                    }
                },
                Self::EndOfData => {
                    if !b"\r\n".starts_with(&input[..input.len().min(2)]) {
                        return Err(Fault::Chunk);
                    }
                    if input.len() < 2 {
                        return Ok(());
                    }
                    input.advance(2);
                    Self::Size
                }
                Self::Trailer(left) => match line(input, left)? {
                    None => return Ok(()),
                    Some(length) => {
                        input.advance(length + 2);
                        match length {
                            0 => Self::Ended,
                            _ => Self::Trailer(left.saturating_sub(length + 2)),
                        }
                    }
                },
            }
        }
    }

    /// Takes what has come of a chunk.
    pub(super) fn take(&mut self, input: &mut BytesMut) -> Option<Bytes> {
        let Self::Data(left) = self else { return None };
        let data = take(input, left)?;
        if *left == 0 {
            *self = Self::EndOfData;
        }
        Some(data)
    }
}

/// Takes what is here of the next `left` bytes, and counts them.
pub(super) fn take(input: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
    let some = usize::try_from(*left)
        .unwrap_or(usize::MAX)
        .min(input.len());
    if some == 0 {
        return None;
    }
    *left -= some as u64;
    // All of it is given away as it is; a part has to be counted by whom it is kept.
    let data = if some == input.len() {
        std::mem::take(input)
    } else {
        input.split_to(some)
    };
    Some(data.freeze())
}

/// How long the first line is without its end, once that is here.
fn line(input: &[u8], limit: usize) -> Result<Option<usize>, Fault> {
    match memchr(b'\n', input) {
        Some(end) if end > limit || end == 0 || input[end - 1] != b'\r' => Err(Fault::Chunk),
        Some(end) => Ok(Some(end - 1)),
        None if input.len() > limit => Err(Fault::Chunk),
        None => Ok(None),
    }
}

/// The size that a line says: digits, and then maybe blanks and extensions.
fn size(line: &[u8]) -> Result<u64, Fault> {
    let is_digit = |byte: &u8| byte.is_ascii_hexdigit();
    let digits = line.iter().take_while(|byte| is_digit(byte)).count();
    let (digits, rest) = line.split_at(digits);
    let rest = rest.trim_ascii_start();
    if digits.len() > 16 || !(rest.is_empty() || rest[0] == b';') || rest.contains(&b'\r') {
        return Err(Fault::Chunk);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| Fault::Chunk)?;
    u64::from_str_radix(digits, 16).map_err(|_| Fault::Chunk)
}
