//! An app that writes the bytes of its calls itself, and reads replies byte for byte.

use std::{fmt, io};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::{PATIENCE, Sidecar};

/// The connection of an app.
pub struct App(pub BufReader<TcpStream>);

/// A reply that came back on it.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.head, self.text())
    }
}

impl App {
    pub async fn to(sidecar: &Sidecar) -> Self {
        let stream = sidecar.connect().await;
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends bytes. The sidecar may close the connection before all are sent.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.get_mut().write_all(bytes.as_ref()).await
    }

    pub async fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = timeout(PATIENCE, self.0.read_line(&mut head))
                .await
                .expect("no reply");
            assert_ne!(
                read.expect("the connection broke"),
                0,
                "closed after {head:?}"
            );
        }
        head
    }

    /// Reads a reply with a length, or a head alone.
    pub async fn reply(&mut self) -> Reply {
        let head = self.head().await;
        let length = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
        timeout(PATIENCE, self.0.read_exact(&mut body))
            .await
            .expect("no body")
            .unwrap();
        Reply {
            status: head[9..12].parse().unwrap(),
            head,
            body,
        }
    }
}

/// The head of a POST.
pub fn post(target: &str, headers: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n")
}

/// Reads the rest of a connection, which must end without an error.
pub async fn rest(mut stream: impl AsyncRead + Unpin) -> String {
    let mut rest = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut rest))
        .await
        .expect("it stays open")
        .unwrap();
    rest
}
