//! The listener, and its connections.

use std::sync::{Arc, atomic::Ordering};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::Duration,
};
use tokio_rustls::TlsAcceptor;

use super::{shared::Fake, wire};

/// Counts a connection while this lives.
struct OpenConnection(Arc<Fake>);

impl OpenConnection {
    fn new(fake: Arc<Fake>) -> (Self, u64) {
        let number = fake.accepted.fetch_add(1, Ordering::SeqCst) + 1;
        fake.open.fetch_add(1, Ordering::SeqCst);
        fake.changed();
        (Self(fake), number as u64)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        self.0.changed();
    }
}

/// The connections are tasks of this set, so they end with it.
pub(super) async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, fake: Arc<Fake>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, tls.clone(), fake.clone()));
                }
                // The process probably has too many open files. Wait until some are closed.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, fake: Arc<Fake>) {
    let (counted, number) = OpenConnection::new(fake);
    // Without it, small pieces would be delayed. An error does not matter.
    let _ = stream.set_nodelay(true);
    match tls {
        None => wire::serve(&counted.0, stream, number).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                wire::serve(&counted.0, stream, number).await;
            }
        }
    }
}
