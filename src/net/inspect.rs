//! Connects to one address of a host, to say how long that takes and which certificate is shown there.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rustls::pki_types::ServerName;
use tokio::{
    net::TcpStream,
    time::{Duration, Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::{
    dns::Resolver,
    egress::{Egress, EgressError},
    origin::Origin,
    tls::{self, PeerCertificate, TlsRoots},
};

/// A host, and how it is connected.
#[derive(Clone, Debug)]
pub struct InspectedHost {
    /// The host. Its prefix does not matter.
    pub origin: Origin,
    /// The trusted roots, if it speaks TLS.
    pub tls: Option<TlsRoots>,
    /// The limit for one address.
    pub limit: Duration,
}

/// What was found at one address.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// How long it took to connect, with the proxy if there is one.
    pub connect: Duration,
    /// The TLS handshake, if the host speaks TLS.
    pub handshake: Option<Handshake>,
}

/// A TLS handshake that succeeded.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// How long it took.
    pub took: Duration,
    /// The certificate of the host.
    pub certificate: Option<PeerCertificate>,
}

/// Why an address cannot be used. The subject, 'it', is the host.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// TCP failed.
    #[error("it cannot be connected: {0}")]
    Connect(#[source] io::Error),
    /// The proxy failed, or refused.
    #[error("the egress proxy {0}: {1}")]
    Proxy(Egress, #[source] EgressError),
    /// The connection broke in the handshake.
    #[error("it breaks the connection in the TLS handshake: {0}")]
    Broken(#[source] io::Error),
    /// The certificate is not valid, or the host does not speak TLS.
    #[error("TLS fails: {0}")]
    Tls(String),
    /// It does not answer.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

impl InspectError {
    /// What to look at, if its kind says so.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::TimedOut(_) => {
                Some("look for a firewall or a NetworkPolicy that drops what is sent there")
            }
            Self::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Some("nothing listens there, or a firewall refuses: look at host and port")
            }
            Self::Proxy(..) => Some("look at the proxy, its credentials and what it allows"),
            Self::Broken(_) => Some("look for a proxy or a firewall that allows no TLS to there"),
            Self::Connect(_) | Self::Tls(_) => None,
        }
    }

    /// Whether this machine has no route to such an address, as to one of IPv6 in many networks.
    pub fn has_no_route(&self) -> bool {
        let Self::Connect(error) = self else {
            return false;
        };
        matches!(
            error.kind(),
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable
        )
    }
}

impl InspectedHost {
    /// Connects to the host at this address.
    pub async fn inspect(&self, ip: IpAddr) -> Result<Inspection, InspectError> {
        self.limited(async {
            let address = SocketAddr::new(ip, self.origin.port);
            TcpStream::connect(address)
                .await
                .map_err(InspectError::Connect)
        })
        .await
    }

    /// Connects to the host through `egress`, which has these addresses.
    pub async fn inspect_through(
        &self,
        egress: &Egress,
        addresses: &[IpAddr],
        dns: &Resolver,
    ) -> Result<Inspection, InspectError> {
        let addresses = addresses.iter().map(|ip| SocketAddr::new(*ip, egress.port));
        let Origin { host, port, .. } = &self.origin;
        self.limited(async {
            let stream = egress.connect(host, *port, addresses.collect(), dns);
            stream
                .await
                .map_err(|error| InspectError::Proxy(egress.clone(), error))
        })
        .await
    }

    async fn limited(
        &self,
        connecting: impl Future<Output = Result<TcpStream, InspectError>>,
    ) -> Result<Inspection, InspectError> {
        let inspecting = async {
            let started = Instant::now();
            let stream = connecting.await?;
            let connect = started.elapsed();
            let handshake = match &self.tls {
                Some(tls) => Some(self.handshake(stream, tls).await?),
                None => None,
            };
            Ok(Inspection { connect, handshake })
        };
        let inspected = timeout(self.limit, inspecting).await;
        inspected.unwrap_or(Err(InspectError::TimedOut(self.limit)))
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        tls: &TlsRoots,
    ) -> Result<Handshake, InspectError> {
        let name = ServerName::try_from(self.origin.host.clone())
            .map_err(|_| InspectError::Tls("no certificate can have this name".to_owned()))?;
        let started = Instant::now();
        // One that resumes no session, so that each address shows its certificate.
        let connector = TlsConnector::from(Arc::new(tls.following().clone()));
        let secured = connector.connect(name, stream).await;
        let secured = secured.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                InspectError::Tls(tls::reason(&error))
            }
            _ => InspectError::Broken(error),
        })?;
        let certificates = secured.get_ref().1.peer_certificates();
        let certificate = certificates.and_then(<[_]>::first);
        Ok(Handshake {
            took: started.elapsed(),
            certificate: certificate.and_then(PeerCertificate::parse),
        })
    }
}
