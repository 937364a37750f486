//! Certificates in DER: their dates, and the same in PEM.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use x509_parser::{parse_x509_certificate, time::ASN1Time};

/// When a certificate is valid; `None` if it is none.
pub(crate) fn validity(der: &[u8]) -> Option<Range<SystemTime>> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let at = |time: ASN1Time| {
        let seconds = u64::try_from(time.timestamp()).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    };
    let validity = certificate.validity();
    Some(at(validity.not_before)?..at(validity.not_after)?)
}

/// A certificate in PEM, with lines of 64 characters, which all programs read (RFC 7468).
pub(crate) fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (at, letter) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(letter);
    }
    pem + "\n-----END CERTIFICATE-----\n"
}
