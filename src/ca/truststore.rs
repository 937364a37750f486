//! Java's own format of trusted certificates (JKS).
//!
//! Java reads it without a password; the digest at its end is for `keytool`, which wants one.

use std::time::{Duration, SystemTime};

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use rustls::pki_types::CertificateDer;

const MAGIC: u32 = 0xfeed_feed;
const VERSION: u32 = 2;
const TRUSTED: u32 = 2;

/// The password that Java's own store of roots has.
const PASSWORD: &str = "changeit";

/// What Java mixes into the digest.
const SALT: &[u8] = b"Mighty Aphrodite";

/// The contents of a store of `certificates`, each with its alias. `made` is when that was.
pub(super) fn jks(certificates: &[(String, &CertificateDer<'_>)], made: SystemTime) -> Vec<u8> {
    let made = made.duration_since(SystemTime::UNIX_EPOCH);
    let made = made.unwrap_or(Duration::ZERO).as_millis() as u64;
    let mut store = Vec::new();
    for number in [MAGIC, VERSION, certificates.len() as u32] {
        store.extend(number.to_be_bytes());
    }
    for (alias, certificate) in certificates {
        store.extend(TRUSTED.to_be_bytes());
        text(&mut store, alias);
        store.extend(made.to_be_bytes());
        text(&mut store, "X.509");
        store.extend((certificate.len() as u32).to_be_bytes());
        store.extend(certificate.iter());
    }
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for unit in PASSWORD.encode_utf16() {
        digest.update(&unit.to_be_bytes());
    }
    digest.update(SALT);
    digest.update(&store);
    store.extend(digest.finish().as_ref());
    store
}

/// A text of ASCII and fewer than 65,536 letters.
fn text(store: &mut Vec<u8>, text: &str) {
    store.extend((text.len() as u16).to_be_bytes());
    store.extend(text.as_bytes());
}
