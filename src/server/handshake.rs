//! The TLS handshake with an app.

use std::{io, sync::Arc};

use bytes::Bytes;
use rustls::{AlertDescription, Error, server::Acceptor};
use tokio::{
    net::TcpStream,
    time::{Duration, sleep, timeout},
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::Drain;
use crate::net::{read_ahead::ReadAhead, tls::ServerCertificates};

/// How long a handshake may take, and how long when the process ends.
const LIMIT: Duration = Duration::from_secs(10);
const LIMIT_WHEN_DRAINING: Duration = Duration::from_secs(1);

/// A connection with TLS.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: Box<TlsStream<ReadAhead>>,
    /// The name of a host that the app asked for, in lower case.
    pub(super) server_name: Option<Arc<str>>,
}

/// Why there is no TLS. The subject, 'it', is the app.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// It sent nothing. Probes do that.
    #[error("it sent nothing")]
    Silent,
    /// The process ended before the handshake did. Nobody is to blame.
    #[error("the sidecar stopped before the handshake was over")]
    Stopped,
    /// It begins as HTTP does.
    #[error("it speaks plain HTTP")]
    NotTls(TcpStream),
    /// It asked for a name without a certificate.
    #[error(
        "it asked for {0}, and this sidecar has certificates for WeChat's hosts and its upstreams only"
    )]
    UnknownName(Arc<str>),
    /// It does not trust the certificate.
    #[error(
        "it does not trust the sidecar's certificate ({0:?}): let it trust ca.crt, as 'wechat-sidecar ca --for LANGUAGE' says"
    )]
    Distrusted(AlertDescription),
    /// It gave up for a reason that has nothing to do with trust.
    #[error("it gave up ({0:?}): its own error or log says why")]
    GaveUp(AlertDescription),
    /// It speaks HTTP/2 alone.
    #[error("it offers HTTP/2 alone, and this port speaks HTTP/1.1: let it offer both")]
    NoHttp1,
    /// It has no version of TLS, or no cipher, in common with this program.
    #[error("it has no version or cipher of TLS in common with this program ({0:?})")]
    Incompatible(rustls::PeerIncompatible),
    /// It took too long.
    #[error("it did not finish the handshake within {LIMIT:?}")]
    TimedOut,
    /// It closed the connection before the handshake was over.
    #[error(
        "it closed the connection during the handshake, as some clients do that do not trust the sidecar's certificate: let it trust ca.crt, as 'wechat-sidecar ca --for LANGUAGE' says"
    )]
    Closed,
    /// Anything else.
    #[error("the handshake failed: {0}")]
    Failed(String),
}

/// Waits for the app's handshake. `early` are bytes of it that were read already.
pub(super) async fn accept(
    socket: TcpStream,
    early: Bytes,
    certificates: &dyn ServerCertificates,
    drain: &Drain,
) -> Result<Accepted, HandshakeError> {
    let hurry = async {
        drain.drain_started().await;
        sleep(LIMIT_WHEN_DRAINING).await;
    };
    tokio::select! {
        accepted = timeout(LIMIT, shake_hands(socket, early, certificates)) => {
            accepted.unwrap_or(Err(HandshakeError::TimedOut))
        }
        () = hurry => Err(HandshakeError::Stopped),
    }
}

async fn shake_hands(
    socket: TcpStream,
    early: Bytes,
    certificates: &dyn ServerCertificates,
) -> Result<Accepted, HandshakeError> {
    let first = match early.first() {
        Some(first) => *first,
        None => {
            let mut first = [0];
            match socket.peek(&mut first).await {
                Ok(0) | Err(_) => return Err(HandshakeError::Silent),
                Ok(_) => first[0],
            }
        }
    };
    if first.is_ascii_alphabetic() {
        return Err(HandshakeError::NotTls(socket));
    }
    let stream = ReadAhead::behind(early.into(), socket);
    let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await;
    let begun = begun.map_err(|error| reason(&error, None))?;
    let name = begun
        .client_hello()
        .server_name()
        .map(str::to_ascii_lowercase);
    let server_name: Option<Arc<str>> = name.map(Into::into);
    // For a name that it does not have, this sends the alert.
    let stream = begun.into_stream(certificates.config()).await;
    let unknown = server_name.as_ref().filter(|name| !certificates.has(name));
    let stream = stream.map_err(|error| reason(&error, unknown))?;
    Ok(Accepted {
        stream: Box::new(stream),
        server_name,
    })
}

/// Why the handshake failed with `error`. `unknown` is the name that the app asked for, if there is no certificate for it.
fn reason(error: &io::Error, unknown: Option<&Arc<str>>) -> HandshakeError {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    match (tls, unknown) {
        (Some(Error::AlertReceived(alert)), _) if is_of_trust(*alert) => {
            HandshakeError::Distrusted(*alert)
        }
        (Some(Error::AlertReceived(alert)), _) => HandshakeError::GaveUp(*alert),
        (Some(Error::NoApplicationProtocol), _) => HandshakeError::NoHttp1,
        (Some(Error::PeerIncompatible(why)), _) => HandshakeError::Incompatible(why.clone()),
        (Some(_), Some(name)) => HandshakeError::UnknownName(name.clone()),
        (Some(error), None) => HandshakeError::Failed(error.to_string()),
        (None, _) => HandshakeError::Closed,
    }
}

/// Whether clients send this alert about a certificate that they do not trust.
fn is_of_trust(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::DecryptError
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_alert_about_a_certificate_is_taken_for_distrust() {
        let said = |alert| reason(&io::Error::other(Error::AlertReceived(alert)), None).to_string();
        for alert in [
            AlertDescription::UnknownCA,
            AlertDescription::CertificateExpired,
        ] {
            assert!(said(alert).contains("does not trust"), "{alert:?}");
        }
        for alert in [
            AlertDescription::InternalError,
            AlertDescription::UserCanceled,
        ] {
            assert!(said(alert).starts_with("it gave up"), "{alert:?}");
        }
    }
}
