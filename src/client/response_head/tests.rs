//! Heads, sound and unsound.

use super::*;

fn read(head: &str) -> Result<ResponseHead, ConnectionError> {
    let (length, head_of) = parse(head.as_bytes(), false)?;
    assert_eq!(length, head.len());
    Ok(head_of.expect("all of it"))
}

#[test]
fn a_head_says_how_its_body_ends_and_whether_the_connection_does() {
    let chunked = || Framing::Chunked(ChunkedDecoder::default());
    for (head, framing, keep_alive) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            Framing::Length(5),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length:5 \r\nContent-Length: 5, 05\r\n\r\n",
            Framing::Length(5),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            Framing::NoMoreData,
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
            Framing::Length(5),
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, CLOSE\r\nConnection: keep-alive\r\n\r\n",
            Framing::Length(5),
            false,
        ),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
            Framing::Length(5),
            false,
        ),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n\r\n",
            Framing::Length(5),
            true,
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", Framing::UntilClose, false),
        ("HTTP/1.1 200\r\n\r\n", Framing::UntilClose, false),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked \r\n\r\n",
            chunked(),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            chunked(),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n",
            Framing::Length(5),
            true,
        ),
        (
            "HTTP/1.0 304 Not Modified\r\nTransfer-Encoding: gzip, chunked\r\nContent-Length: x\r\n\r\n",
            Framing::NoMoreData,
            false,
        ),
        // A server that says both may mean either.
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            chunked(),
            false,
        ),
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
            Framing::NoMoreData,
            true,
        ),
        // What it announces may come.
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
            Framing::NoMoreData,
            false,
        ),
        (
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
            Framing::NoMoreData,
            false,
        ),
        (
            "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
            Framing::NoMoreData,
            true,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            Framing::NoMoreData,
            false,
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            Framing::Length(5),
            true,
        ),
    ] {
        let read = read(head).unwrap();
        assert_eq!(
            (read.framing, read.keep_alive),
            (framing, keep_alive),
            "{head}"
        );
    }
    let (_, head) = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true).unwrap();
    let head = head.unwrap();
    assert_eq!((head.framing, head.keep_alive), (Framing::NoMoreData, true));
    assert_eq!(head.head.headers()[header::CONTENT_LENGTH], "5");
}

#[test]
fn a_head_that_two_could_read_in_two_ways_is_none() {
    let many = format!(
        "HTTP/1.1 200 OK\r\n{}\r\n",
        "X: 1\r\n".repeat(MAX_HEADERS + 1)
    );
    for (head, error) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            ConnectionError::Length,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n",
            ConnectionError::Length,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            ConnectionError::Length,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
            ConnectionError::Length,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5 5\r\n\r\n",
            ConnectionError::Length,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n",
            ConnectionError::Length,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            ConnectionError::Coding,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
            ConnectionError::Coding,
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            ConnectionError::Coding,
        ),
        ("HTTP/1.1 200 OK\r\nX : 1\r\n\r\n", ConnectionError::Head),
        (
            "HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\n\r\n",
            ConnectionError::Head,
        ),
        ("HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", ConnectionError::Head),
        ("HTTP/1.1 099 OK\r\n\r\n", ConnectionError::Head),
        ("HTTP/2 200 OK\r\n\r\n", ConnectionError::Head),
        ("220 mail ready\r\n\r\n", ConnectionError::Head),
        (&many, ConnectionError::LargeHead),
    ] {
        assert_eq!(read(head).unwrap_err(), error, "{head}");
    }
}

#[test]
fn what_is_of_one_connection_is_not_a_header_and_all_else_is() {
    let head = read("HTTP/1.1 200 Fine\r\nConnection: keep-alive\r\nConnection: x-hop, close\r\nX-Hop: 1\r\nSet-Cookie: a\r\nSET-COOKIE:  b \r\nX-Empty:\r\nX-High: \u{e9}\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n").unwrap().head;
    let headers: Vec<_> = head
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    let expected: [(_, &[u8]); 6] = [
        ("connection", b"x-hop, close"),
        ("x-hop", b"1"),
        ("set-cookie", b"a"),
        ("set-cookie", b"b"),
        ("x-empty", b""),
        ("x-high", "\u{e9}".as_bytes()),
    ];
    assert_eq!(headers, expected);
    let reason = head.extensions().get::<ReasonPhrase>().unwrap();
    assert_eq!(reason.as_bytes(), b"Fine");
    let usual = read("HTTP/1.1 404 Not Found\r\nContent-Length: 05\r\n\r\n")
        .unwrap()
        .head;
    assert!(usual.extensions().get::<ReasonPhrase>().is_none());
    assert_eq!(usual.headers()[header::CONTENT_LENGTH], "5");
}

#[test]
fn a_head_that_is_cut_is_waited_for() {
    let head = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    for length in 0..head.len() {
        let (understood, read) = parse(&head.as_bytes()[..length], false).unwrap();
        assert!(read.is_none() && [0, 25].contains(&understood), "{length}");
    }
}
