//! What the fuzzer of replies runs (see `fuzz/`).

use bytes::BytesMut;

use super::{
    chunked::ChunkedDecoder,
    header_names::{HeaderNames, write_usual},
    response_head::{Framing, parse},
};

/// Parses `data` as the head of a reply, whole and in pieces.
pub fn reply_head(data: &[u8]) {
    for is_head in [false, true] {
        let whole = parse(data, is_head);
        let Ok((parsed, Some(head))) = whole else {
            continue;
        };
        assert!(parsed <= data.len());
        for cut in [parsed / 2, parsed - 1] {
            // An error here would be one of the whole, and a head that is complete earlier another one.
            let (start, part) = parse(&data[..cut], is_head).expect("a part is refused");
            assert!(part.is_none() && start <= cut);
            // Interim replies are dropped as soon as they are parsed.
            let (rest, head) = parse(&data[start..], is_head).expect("the rest is refused");
            assert!(head.is_some() && start + rest == parsed);
        }
        if is_head {
            assert_eq!(head.framing, Framing::NoMoreData);
        }
        let mut written = b"HTTP/1.1 200 OK\r\n".to_vec();
        for (name, value) in head.head.headers() {
            write_usual(&mut written, name.as_str());
            written.extend_from_slice(&[b": ", value.as_bytes(), b"\r\n"].concat());
        }
        if let Some(names) = head.head.extensions().get::<HeaderNames>() {
            let before = written.clone();
            names.restore(&mut written);
            assert!(written.eq_ignore_ascii_case(&before));
        }
        for line in written
            .split(|byte| *byte == b'\n')
            .skip(1)
            .filter(|line| !line.is_empty())
        {
            let name = line.split(|byte| *byte == b':').next().expect("a name");
            let spelt = data.windows(name.len()).any(|window| window == name);
            assert!(spelt, "{:?}", String::from_utf8_lossy(name));
        }
    }
}

/// Decodes `data` as a chunked body, whole and in pieces. Returns how many bytes it has, if it has ended.
pub fn chunked_end(data: &[u8]) -> Option<usize> {
    let whole = decoded(&[data]);
    let cut = data
        .first()
        .map_or(0, |first| usize::from(*first) % data.len());
    let (first, second) = data.split_at(cut);
    let pieces = decoded(&[first, second]);
    if let (Some(whole), Some(pieces)) = (&whole, &pieces) {
        assert_eq!(whole, pieces);
    }
    let (data_of_body, ended, rest) = whole?;
    assert!(data_of_body.len() <= data.len());
    ended.then(|| data.len() - rest)
}

/// The data, whether the body has ended, and how many bytes follow. `None` if it is malformed.
fn decoded(pieces: &[&[u8]]) -> Option<(Vec<u8>, bool, usize)> {
    let (mut decoder, mut input, mut all) =
        (ChunkedDecoder::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            decoder.advance(&mut input).ok()?;
            match decoder.take(&mut input) {
                Some(data) => all.extend_from_slice(&data),
                None => break,
            }
        }
    }
    Some((all, decoder == ChunkedDecoder::Ended, input.len()))
}
