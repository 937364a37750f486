//! Upstreams that are no WeChat. Each does one unusual thing, and has a sidecar in front of it.

use std::{future::Future, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use super::{
    Sidecar, sidecar,
    wechat::tls::{self, Tls},
};

#[derive(Clone, Copy)]
pub enum Script {
    /// Answers each call with this, and closes the connection.
    Says(&'static str),
    /// Reads everything, and answers nothing.
    Reads,
    /// Reads a little, and then nothing more.
    Stops,
}

impl Script {
    async fn play(self, mut stream: TcpStream) {
        let mut bytes = vec![0; 1 << 16];
        match self {
            Self::Says(text) => {
                let _ = stream.read(&mut bytes).await;
                let _ = stream.write_all(text.as_bytes()).await;
                return;
            }
            Self::Reads => while matches!(stream.read(&mut bytes).await, Ok(1..)) {},
            Self::Stops => {
                let _ = stream.read(&mut bytes).await;
            }
        }
        std::future::pending::<()>().await;
    }
}

/// A sidecar without a token, for paths that take none of ours.
pub async fn before(script: Script, flags: &[&str]) -> Sidecar {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(script.play(stream));
        }
    });
    let mut command = sidecar::with_account();
    command.args(["--upstream", &url]).args(flags);
    Sidecar::spawn(command, None).await
}

/// A sidecar in front of a TLS server that answers each call with `{}`, and renews its keys `later`, when no call is
/// in flight. So there are bytes to read that are not a reply.
pub async fn before_renewed_keys(later: Duration, flags: &[&str]) -> Sidecar {
    let Tls { acceptor, ca_pem } = tls::prepare(&["localhost".to_owned()]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.unwrap();
            tokio::spawn(async move {
                let mut bytes = vec![0; 1 << 16];
                while matches!(stream.read(&mut bytes).await, Ok(1..)) {
                    let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
                    stream.write_all(reply).await.unwrap();
                    stream.flush().await.unwrap();
                    sleep(later).await;
                    stream.get_mut().1.refresh_traffic_keys().unwrap();
                    stream.flush().await.unwrap();
                }
            });
        }
    });
    let mut command = sidecar::with_account();
    let ca = sidecar::written("ca.pem", &ca_pem);
    command.args(["--upstream", &url, "--upstream-ca", &ca]);
    command.args(["--workers", "1"]).args(flags);
    Sidecar::spawn(command, None).await
}

/// Reads the head of the next call on a connection. `None` at its end, or for a token request.
pub async fn call_on<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    (!head.contains("/stable_token")).then_some(head)
}

/// A sidecar in front of a server that runs `play` for each connection.
pub async fn before_what<F, P>(play: P, flags: &[&str]) -> Sidecar
where
    F: Future<Output = ()> + Send + 'static,
    P: Fn(TcpStream) -> F + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(play(stream));
        }
    });
    let mut command = sidecar::with_account();
    command.args(["--upstream", &url]).args(flags);
    Sidecar::spawn(command, None).await
}
