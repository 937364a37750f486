//! Parses the head of a request, as strictly as a front server does.

use bytes::Bytes;
use tokio::time::Instant;

use super::call::RecordedCall;

/// A head, and the framing of its body.
#[derive(Debug)]
pub(super) struct Head {
    /// The call so far. Its number and its body are set later.
    pub(super) call: RecordedCall,
    pub(super) framing: BodyFraming,
    /// Whether the connection ends with this request.
    pub(super) last: bool,
}

impl Head {
    /// Whether the client sends the body only after a `100 Continue`.
    pub(super) fn expects_continue(&self) -> bool {
        let expect = self.call.header("expect");
        expect.is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
    }
}

/// The length of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    Nothing,
    Length(usize),
    Chunked,
}

/// Returns `None` if this is not HTTP/1, or if two servers could disagree about the end of the body.
pub(super) fn parse(raw: Vec<u8>, connection: u64) -> Option<Head> {
    let text = raw.strip_suffix(b"\r\n\r\n")?;
    // Each byte becomes the character of the same number, so nothing is lost.
    let text = text.iter().copied().map(char::from).collect::<String>();
    let mut lines = text.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_token = |word: &str| !word.is_empty() && word.bytes().all(is_token_byte);
    if !is_token(method) || target.is_empty() || words.next().is_some() {
        return None;
    }
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return None;
    }

    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if !is_token(name) || value.contains(['\r', '\n', '\0']) {
            return None;
        }
        headers.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    let mut call = RecordedCall {
        number: 0,
        connection,
        at: Instant::now(),
        method: method.to_owned(),
        target: target.to_owned(),
        headers,
        head: Vec::new(),
        body: Bytes::new(),
        token: None,
        refused: false,
        errcode: None,
        status: None,
    };
    call.token = call.parameter("access_token");
    if version == "HTTP/1.1" && call.header_all("host").count() != 1 {
        return None;
    }
    let framing = framing(&call)?;
    let closes = call
        .header_all("connection")
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("close"));
    let last = closes || version == "HTTP/1.0";
    call.head = raw;
    Some(Head {
        call,
        framing,
        last,
    })
}

fn framing(call: &RecordedCall) -> Option<BodyFraming> {
    let mut lengths = call.header_all("content-length");
    let length = lengths.next();
    if lengths.next().is_some() {
        return None;
    }
    let mut codings = call.header_all("transfer-encoding");
    let coding = codings.next();
    if codings.next().is_some() {
        return None;
    }
    match (length, coding) {
        (None, None) => Some(BodyFraming::Nothing),
        (Some(length), None) => {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let length = length.parse().ok().filter(|_| digits)?;
            Some(BodyFraming::Length(length))
        }
        (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") => {
            Some(BodyFraming::Chunked)
        }
        _ => None,
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
