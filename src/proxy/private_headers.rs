//! The headers of a call that concern the app and its own callers. Tencent's hosts do not get them.
//!
//! A service that traces its calls or copies the headers of its callers would otherwise send the ids of its traces, and the
//! cookies and addresses of its users, out of the company.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use http::{HeaderName, header};

/// These headers, as `--forward-header` names them.
pub const NAMES: [&str; 6] = [
    "authorization",
    "baggage",
    "cookie",
    "traceparent",
    "tracestate",
    "x-real-ip",
];

/// Which of [`NAMES`] are sent even so, and which of the others were met.
#[derive(Clone, Debug, Default)]
pub struct PrivateHeaders {
    /// A bit for each name that is sent.
    forwarded: u8,
    /// A bit for each name of which the log was told. All workers share it.
    told: Arc<AtomicU8>,
}

impl PrivateHeaders {
    /// Sends those at these places of [`NAMES`].
    pub fn forwarding(places: impl IntoIterator<Item = usize>) -> Self {
        let forwarded = places.into_iter().fold(0, |bits, at| bits | 1 << at);
        Self {
            forwarded,
            told: Arc::default(),
        }
    }

    /// Whether the header `name` of a call is not sent. The log is told of each name once.
    pub(super) fn hold_back(&self, name: &HeaderName) -> bool {
        let Some(at) = place(name) else {
            return false;
        };
        let bit = 1 << at;
        if self.forwarded & bit != 0 {
            return false;
        }
        let told = self.told.load(Ordering::Relaxed) & bit != 0;
        if !told && self.told.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            tell(NAMES[at]);
        }
        true
    }
}

#[cold]
fn tell(header: &'static str) {
    tracing::info!(
        header,
        "calls carry a header that is not sent to WeChat, because it is between the app and its own callers; if WeChat is to get it, set --forward-header to its name"
    );
}

/// The place of `name` in [`NAMES`].
fn place(name: &HeaderName) -> Option<usize> {
    match *name {
        header::AUTHORIZATION => Some(0),
        header::COOKIE => Some(2),
        _ => match name.as_str() {
            "baggage" => Some(1),
            "traceparent" => Some(3),
            "tracestate" => Some(4),
            "x-real-ip" => Some(5),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_held_back_unless_it_is_an_exception() {
        let (all, but_one) = (
            PrivateHeaders::default(),
            PrivateHeaders::forwarding([NAMES.len() - 1]),
        );
        for (at, name) in NAMES.into_iter().enumerate() {
            let header = HeaderName::from_static(name);
            assert_eq!(place(&header), Some(at));
            assert!(all.hold_back(&header), "{name}");
            assert_eq!(but_one.hold_back(&header), at + 1 < NAMES.len(), "{name}");
        }
        assert!(!all.hold_back(&header::USER_AGENT));
        assert_eq!(all.told.load(Ordering::Relaxed), 0b11_1111);
    }
}
