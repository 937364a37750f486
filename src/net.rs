//! Connections: names, addresses, certificates and sockets.

pub mod connection_error;
pub mod connector;
pub mod dns;
pub mod egress;
pub mod listen_addr;
pub mod origin;
pub(crate) mod read_ahead;
pub(crate) mod stream;
pub mod tls;
