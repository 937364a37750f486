//! Spells the names of a reply's headers as WeChat did, below hyper, which writes all of them in the usual spelling.

use std::io::IoSlice;

use bytes::{Buf, Bytes};
use memchr::memmem;

use crate::client::header_names::HeaderNames;

/// The beginning of what hyper writes next, with other spellings. It replaces as many bytes of hyper's.
#[derive(Debug, Default)]
pub(super) struct Respelled(Bytes);

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

impl Respelled {
    /// Takes the head of a reply with these names. hyper writes each head whole at the end of `bytes`, which may begin with
    /// what is left of heads before it.
    pub(super) fn take(&mut self, bytes: &[u8], names: &HeaderNames) {
        let Some(others) = bytes.strip_suffix(END_OF_HEAD) else {
            return;
        };
        let start = memmem::rfind(others, END_OF_HEAD).map_or(0, |at| at + END_OF_HEAD.len());
        let mut all = [&self.0, bytes.get(self.0.len()..).unwrap_or_default()].concat();
        if let Some(head) = all
            .get_mut(start..)
            .filter(|head| head.starts_with(b"HTTP/1."))
        {
            names.restore(head);
            self.0 = all.into();
        }
    }

    /// Whether nothing is left to replace.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What to write instead of `bufs`. It has the same length.
    pub(super) fn instead_of<'a>(&'a self, bufs: &'a [IoSlice<'_>]) -> Vec<IoSlice<'a>> {
        let mut instead = vec![IoSlice::new(&self.0)];
        let mut replaced = self.0.len();
        for buf in bufs {
            let some = replaced.min(buf.len());
            replaced -= some;
            if some < buf.len() {
                instead.push(IoSlice::new(&buf[some..]));
            }
        }
        instead
    }

    /// This many bytes were written.
    pub(super) fn written(&mut self, count: usize) {
        self.0.advance(count.min(self.0.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"HTTP/1.1 is no head here\r\nEtag: 1\r\n\r\n";

    fn names(name: &str) -> HeaderNames {
        HeaderNames::unusual([name.as_bytes()].into_iter()).unwrap()
    }

    /// All that is written of these `bufs`, a few bytes at a time.
    fn written(respelled: &mut Respelled, bufs: &[&[u8]], size: usize) -> Vec<u8> {
        let mut written = Vec::new();
        let all = bufs.concat();
        while written.len() < all.len() {
            // As hyper does, from the first byte that was not written.
            let mut skipped = written.len();
            let left: Vec<_> = bufs
                .iter()
                .filter_map(|buf| {
                    let some = skipped.min(buf.len());
                    skipped -= some;
                    (some < buf.len()).then(|| IoSlice::new(&buf[some..]))
                })
                .collect();
            let instead: Vec<u8> = respelled
                .instead_of(&left)
                .iter()
                .flat_map(|buf| buf.to_vec())
                .collect();
            let some = size.min(instead.len());
            written.extend_from_slice(&instead[..some]);
            respelled.written(some);
        }
        written
    }

    #[test]
    fn a_head_is_spelt_anew_and_no_byte_of_a_body_is() {
        let earlier = b": 1\r\nEtag: 0\r\n\r\n".as_slice();
        let head = b"HTTP/1.1 200 OK\r\nEtag: 1\r\nX-Ours: 1\r\n\r\n".as_slice();
        let respelt = b"HTTP/1.1 200 OK\r\nETag: 1\r\nX-Ours: 1\r\n\r\n".as_slice();
        for first in [&[head][..], &[earlier, head]] {
            let first = first.concat();
            let expected = [&first[..first.len() - head.len()], respelt, BODY].concat();
            for size in 1..expected.len() {
                let mut respelled = Respelled::default();
                respelled.take(&first, &names("ETag"));
                assert_eq!(written(&mut respelled, &[&first, BODY], size), expected);
                assert!(respelled.is_empty());
            }
        }
        let mut respelled = Respelled::default();
        respelled.take(b"no head", &names("ETag"));
        respelled.take(b"Etag: 1\r\n\r\n", &names("ETag"));
        assert!(respelled.is_empty());
    }

    #[test]
    fn a_second_head_may_come_before_the_first_is_written() {
        let head = "HTTP/1.1 304 Not Modified\r\nEtag: 1\r\n\r\n";
        let mut respelled = Respelled::default();
        respelled.take(head.as_bytes(), &names("ETag"));
        respelled.written(20);
        let both = format!("{}{head}", &head[20..]);
        respelled.take(both.as_bytes(), &names("eTAG"));
        let expected = format!(
            "{}{}",
            head[20..].replace("Etag", "ETag"),
            head.replace("Etag", "eTAG")
        );
        assert_eq!(
            written(&mut respelled, &[both.as_bytes()], 7),
            expected.as_bytes()
        );
    }
}
