//! The certificates that the API server will trust: a new one, and those that it already trusts.

use std::time::SystemTime;

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{certificate::not_after, error::BundleError};
use crate::ca::der;

/// The certificates of a bundle that have not expired.
pub(super) fn read(text: &str) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    if text.trim().is_empty() {
        return Err(BundleError::Empty);
    }
    let pem = if text.contains("-----BEGIN") {
        text.as_bytes().to_vec()
    } else {
        let text: String = text.split_whitespace().collect();
        let decoded = STANDARD.decode(text);
        decoded.map_err(|_| BundleError::NoCertificate)?
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|_| BundleError::BrokenPem)?;
    if found.is_empty() {
        return Err(BundleError::NoCertificate);
    }
    let now = SystemTime::now();
    let mut valid = Vec::new();
    for certificate in found {
        let end = not_after(&certificate).ok_or(BundleError::NoExpiry)?;
        if end > now {
            valid.push(certificate);
        }
    }
    Ok(valid)
}

/// The new one first, and each certificate once.
pub(super) fn pem(new: &CertificateDer<'static>, old: &[CertificateDer<'static>]) -> String {
    let mut all = vec![new];
    for certificate in old {
        if !all.contains(&certificate) {
            all.push(certificate);
        }
    }
    all.into_iter().map(|one| der::pem(one)).collect()
}
