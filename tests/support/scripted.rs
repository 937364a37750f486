//! Upstreams that are no WeChat: each does one odd thing, and a sidecar stands before it.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Sidecar, sidecar};

#[derive(Clone, Copy)]
pub enum Script {
    /// Answers each call with this, and closes.
    Says(&'static str),
    /// Takes everything and says nothing.
    Reads,
    /// Takes a little and nothing more.
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
