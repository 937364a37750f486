//! Verifies certificates of servers, against trusted roots and against certificates that are trusted themselves.
//!
//! `openssl req -x509` makes a certificate that signs itself and is marked as an authority. webpki takes none like
//! that from a server, whatever the roots are. If the operator names exactly this certificate, there is nothing to
//! find out about its issuer. Its host name and its dates still count, and the server must hold its key.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{ParsedCertificate, VerifierBuilderError},
};
use x509_parser::parse_x509_certificate;

use super::reason::Untrusted;

/// See the [module](self).
pub(super) struct Verifier {
    /// The setting that names trusted certificates, for advice.
    setting: &'static str,
    trusted: ArcSwap<Trusted>,
}

/// What is trusted now.
pub(super) struct Trusted {
    roots: Arc<WebPkiServerVerifier>,
    /// The certificates that the operator named. Each is a root, and also trusted itself.
    named: Vec<CertificateDer<'static>>,
}

impl Trusted {
    pub(super) fn new(
        roots: RootCertStore,
        named: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let roots = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build()?;
        Ok(Self { roots, named })
    }

    /// Why nobody who is trusted has issued the certificate of a server that sent `chain` behind it.
    fn untrusted(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        setting: &'static str,
    ) -> Option<Untrusted> {
        let (_, parsed) = parse_x509_certificate(certificate).ok()?;
        let (subject, issuer) = (parsed.subject(), parsed.issuer());
        if subject == issuer {
            let has_its_name = |named: &CertificateDer<'_>| {
                let named = parse_x509_certificate(named);
                named.is_ok_and(|(_, named)| named.subject() == subject)
            };
            return Some(match self.named.iter().any(has_its_name) {
                true => Untrusted::OtherThanNamed { setting },
                false => Untrusted::SelfSigned { setting },
            });
        }
        if parsed.is_ca() {
            return Some(Untrusted::Authority { setting });
        }
        let Some(last) = chain.last() else {
            let issuer = issuer.to_string();
            return Some(Untrusted::NoIntermediate { issuer, setting });
        };
        let (_, last) = parse_x509_certificate(last).ok()?;
        let issuer = last.issuer().to_string();
        Some(Untrusted::Issuer { issuer, setting })
    }
}

impl Verifier {
    pub(super) fn new(trusted: Arc<Trusted>, setting: &'static str) -> Self {
        Self {
            setting,
            trusted: ArcSwap::new(trusted),
        }
    }

    /// Trusts others from now on.
    pub(super) fn trust(&self, trusted: Arc<Trusted>) {
        self.trusted.store(trusted);
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let trusted = self.trusted.load();
        if trusted.named.iter().any(|named| named == certificate) {
            verify_dates(certificate, now)?;
            verify_server_name(&ParsedCertificate::try_from(certificate)?, host)?;
            return Ok(ServerCertVerified::assertion());
        }
        let verified = trusted
            .roots
            .verify_server_cert(certificate, chain, host, ocsp, now);
        verified.map_err(|error| match error {
            Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::Other(_),
            ) => {
                let reason = trusted.untrusted(certificate, chain, self.setting);
                reason.map_or(error, |reason| {
                    CertificateError::Other(OtherError(Arc::new(reason))).into()
                })
            }
            error => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let roots = &self.trusted.load().roots;
        roots.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let roots = &self.trusted.load().roots;
        roots.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trusted.load().roots.supported_verify_schemes()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

/// Whether the certificate is valid at this time.
fn verify_dates(certificate: &CertificateDer<'_>, time: UnixTime) -> Result<(), CertificateError> {
    let parsed = parse_x509_certificate(certificate);
    let (_, parsed) = parsed.map_err(|_| CertificateError::BadEncoding)?;
    let validity = parsed.validity();
    let unix = |seconds: i64| {
        let seconds = u64::try_from(seconds).unwrap_or(0);
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
    };
    let not_before = unix(validity.not_before.timestamp());
    let not_after = unix(validity.not_after.timestamp());
    if time < not_before {
        return Err(CertificateError::NotValidYetContext { time, not_before });
    }
    if time > not_after {
        return Err(CertificateError::ExpiredContext { time, not_after });
    }
    Ok(())
}
