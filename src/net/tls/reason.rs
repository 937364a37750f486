//! Says in a sentence why TLS with a server fails.

use std::{
    io,
    time::{Duration, SystemTime},
};

use rustls::{CertificateError, Error, pki_types::UnixTime};

/// How much of a text is repeated that the server sent, in characters.
const LONGEST: usize = 200;

/// Why nobody who is trusted has issued a server's certificate. The subject, 'it', is the server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Untrusted {
    /// The certificate is its own issuer.
    #[error(
        "its certificate is signed by itself, and is not trusted: name exactly this certificate by {setting}"
    )]
    SelfSigned {
        /// The setting that would name it.
        setting: &'static str,
    },
    /// A named certificate has the same subject.
    #[error(
        "its certificate is signed by itself, and is another one than that in the file of {setting}"
    )]
    OtherThanNamed {
        /// The setting that names the other.
        setting: &'static str,
    },
    /// The certificate is for an authority, and not for a server.
    #[error(
        "its certificate is one of an authority (CA:TRUE), and none of a server: name exactly this certificate by {setting}"
    )]
    Authority {
        /// The setting that would name it.
        setting: &'static str,
    },
    /// It sent only its own certificate.
    #[error("its certificate is issued by {}, which is not trusted, and it sends no intermediate certificate: let it send the whole chain, or name the root certificate by {setting}", shown(.issuer))]
    NoIntermediate {
        /// The issuer of the certificate.
        issuer: String,
        /// The setting that would name a root.
        setting: &'static str,
    },
    /// The chain that it sent leads to nobody who is trusted.
    #[error("its certificate is issued by {}, which is not trusted: name the root certificate by {setting}", shown(.issuer))]
    Issuer {
        /// The issuer of the last certificate of the chain.
        issuer: String,
        /// The setting that would name a root.
        setting: &'static str,
    },
}

/// Why a handshake failed. The subject, 'it', is the server.
pub fn reason(error: &io::Error) -> String {
    explain(error).unwrap_or_else(|| error.to_string())
}

/// The same for any error that may be about a handshake, or contain one.
pub fn explain(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref() {
        return Some(of_tls(error));
    }
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    explain(inner)
}

fn of_tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::InvalidMessage(_) => {
            "it does not speak TLS: is this a port for plain HTTP, or does a proxy answer?"
                .to_owned()
        }
        Error::AlertReceived(alert) => format!("it breaks the handshake off ({alert:?})"),
        Error::PeerIncompatible(_) => {
            format!("it has no version or cipher of TLS in common with this program ({error})")
        }
        error => error.to_string(),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let expected = expected.to_str();
            let presented: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            match presented.is_empty() {
                true => format!(
                    "its certificate names no host as a subjectAltName, and so not {expected} (a common name does not count)"
                ),
                false => {
                    let presented = shown(&presented.join(", "));
                    format!("its certificate is for {presented}, and not for {expected}")
                }
            }
        }
        CertificateError::ExpiredContext { not_after, .. } => {
            let date = date(*not_after);
            format!("its certificate expired on {date}: renew it, or set this machine's clock")
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            let date = date(*not_before);
            format!("its certificate is not valid before {date}: is this machine's clock right?")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for servers (by its extendedKeyUsage)".to_owned()
        }
        CertificateError::Other(other) => match other.0.downcast_ref::<Untrusted>() {
            Some(untrusted) => untrusted.to_string(),
            None => format!("its certificate cannot be used ({})", other.0),
        },
        error => format!("its certificate cannot be used ({error})"),
    }
}

/// `DnsName("a.example")` as `a.example`.
fn bare(name: &str) -> &str {
    let inner = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

fn date(time: UnixTime) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()));
    match time {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => "a date far away".to_owned(),
    }
}

/// A text of the server's on one line of bounded length.
pub(super) fn shown(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(LONGEST).collect()
}
