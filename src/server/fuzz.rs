//! What the fuzzers of calls run (see `fuzz/`).

use super::{body_end::BodyEnd, framing_check::FramingCheck, request_line::RequestLine};
use crate::client::fuzz::chunked_end;

/// Reads `data` as the beginning of an app's connection.
pub fn request_head(data: &[u8]) {
    let check = |size: usize| {
        let (mut check, mut read) = (FramingCheck::default(), 0);
        let end = data.chunks(size).find_map(|bytes| {
            read += bytes.len();
            check.read(bytes)
        });
        end.map(|end| (end.bits, end.body, read - end.after))
    };
    let line = |size: usize| {
        let mut line = RequestLine::default();
        data.chunks(size).for_each(|piece| line.read(piece));
        line.fault()
    };
    let whole = check(data.len().max(1));
    for size in [1, 7] {
        assert_eq!(line(size), line(data.len().max(1)));
        match (whole, check(size)) {
            // A length in a line that is too long is not known if the line is cut.
            (Some((bits, _, head)), Some((same, BodyEnd::Unknown, end))) => {
                assert_eq!((bits, head), (same, end));
            }
            (whole, cut) => assert_eq!(whole, cut),
        }
    }
    if let Some((call, length)) = super::fast_path::parsed(data) {
        let (bits, body, head) = whole.expect("a head without an end");
        assert_eq!(head + call.body().len(), length);
        assert_eq!(body, BodyEnd::Left(call.body().len() as u64));
        assert_eq!(bits & FramingCheck::COMPLETE, FramingCheck::COMPLETE);
    }
}

/// Reads `data` as a chunked body.
pub fn chunked(data: &[u8]) {
    let Some(end) = chunked_end(data) else {
        return;
    };
    for size in [1, 5, data.len()] {
        let (mut body, mut read) = (BodyEnd::CHUNKED, 0);
        for piece in data.chunks(size) {
            let some = body.read(piece);
            read += some;
            if some < piece.len() {
                break;
            }
        }
        assert_eq!((read, body), (end, BodyEnd::Left(0)));
    }
}
