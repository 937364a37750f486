//! Trusted certificates. Certificates of servers are always verified.

mod files;
mod reason;
mod roots;
mod verifier;

pub use files::{TrustFiles, WatchedRoots};
pub use reason::{explain, reason};
pub use roots::{TlsError, TlsRoots, load};
