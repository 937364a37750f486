//! The trace that a call belongs to, as its caller says in `traceparent` (W3C Trace Context, level 1).

use http::HeaderMap;

/// The id of a trace.
pub(super) type TraceId = [u8; 16];

/// The id of a span.
pub(super) type SpanId = [u8; 8];

/// The bit of the flags that says that the caller records its own span.
const SAMPLED: u8 = 1;

/// The caller's span. All that is missing if it sent none, or none that can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TraceContext {
    pub(super) parent: Option<(TraceId, SpanId)>,
    flags: u8,
}

impl TraceContext {
    /// What the headers of a call say.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all("traceparent").iter();
        match (values.next(), values.next()) {
            (Some(only), None) => parse(only.as_bytes()).unwrap_or_default(),
            // Two parents are as good as none.
            _ => Self::default(),
        }
    }

    /// Whether the caller has decided that this trace is not recorded.
    pub(super) fn is_unsampled(self) -> bool {
        self.parent.is_some() && self.flags & SAMPLED == 0
    }
}

/// Reads `00-<trace id>-<span id>-<flags>`. A later version may have more after it.
fn parse(text: &[u8]) -> Option<TraceContext> {
    let (known, more) = text.split_at_checked(55)?;
    let mut parts = known.split(|byte| *byte == b'-');
    let version: [u8; 1] = hex(parts.next()?)?;
    let (trace, span) = (hex(parts.next()?)?, hex(parts.next()?)?);
    let [flags] = hex(parts.next()?)?;
    let is_sound = match version {
        [0] => more.is_empty(),
        [0xff] => false,
        _ => more.is_empty() || more[0] == b'-',
    };
    let is_sound = is_sound && trace != [0; 16] && span != [0; 8];
    is_sound.then_some(TraceContext {
        parent: Some((trace, span)),
        flags,
    })
}

/// Reads exactly so many bytes of lower-case hexadecimal.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn of(values: &[&str]) -> TraceContext {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("traceparent", HeaderValue::from_str(value).unwrap());
        }
        TraceContext::of(&headers)
    }

    #[test]
    fn a_parent_is_read_with_its_flags() {
        for (version, flags, sampled) in [
            ("00", "01", true),
            ("00", "00", false),
            ("00", "03", true),
            ("cc", "fe", false),
        ] {
            let context = of(&[&format!("{version}-{TRACE}-b7ad6b7169203331-{flags}")]);
            let (trace, span) = context.parent.unwrap();
            assert_eq!((trace[0], trace[15]), (0x0a, 0x9c));
            assert_eq!(span, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
            assert_eq!(context.is_unsampled(), !sampled, "{version} {flags}");
        }
        let later = format!("01-{TRACE}-b7ad6b7169203331-01-more");
        assert!(of(&[&later]).parent.is_some());
    }

    #[test]
    fn what_is_not_sound_is_no_parent() {
        let good = format!("00-{TRACE}-b7ad6b7169203331-01");
        for bad in [
            String::new(),
            good[..54].to_owned(),
            format!("{good}-more"),
            good.to_uppercase(),
            good.replacen("00", "ff", 1),
            good.replace(TRACE, &"0".repeat(32)),
            good.replace("b7ad6b7169203331", "0000000000000000"),
            good.replace('-', "_"),
            good.replacen('-', "0", 1),
        ] {
            assert_eq!(of(&[&bad]), TraceContext::default(), "{bad}");
        }
        assert_eq!(of(&[&good, &good]), TraceContext::default());
        assert!(!TraceContext::default().is_unsampled());
    }
}
