//! Certificates: those that are trusted, and those that are shown to apps. Certificates of servers are always verified.

mod certificate;
mod files;
mod reason;
mod roots;
mod server_certificates;
mod verifier;

pub use certificate::PeerCertificate;
pub use files::{TrustFiles, WatchedRoots};
pub use reason::{explain, reason};
pub use roots::{TlsError, TlsRoots, certificates, load, public_roots};
pub use server_certificates::ServerCertificates;
