//! Connections: names, addresses, certificates and sockets.

pub mod connection_error;
pub mod connector;
mod dial;
mod dial_error;
pub mod dns;
pub mod egress;
pub mod inspect;
pub mod listen_addr;
pub mod origin;
pub(crate) mod race;
pub(crate) mod read_ahead;
pub(crate) mod stream;
pub mod tls;
