//! What a server's certificate says of itself.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_parser::parse_x509_certificate;

use super::reason::shown;

/// The certificate that a server showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Its subject, on one line of bounded length.
    pub subject: String,
    /// Its issuer, likewise.
    pub issuer: String,
    /// Until when it is valid.
    pub not_after: SystemTime,
}

impl PeerCertificate {
    /// Reads a certificate; `None` if it is none.
    pub(crate) fn parse(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = parse_x509_certificate(certificate).ok()?;
        let not_after = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
        Some(Self {
            subject: shown(&parsed.subject().to_string()),
            issuer: shown(&parsed.issuer().to_string()),
            not_after: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(not_after))?,
        })
    }
}
