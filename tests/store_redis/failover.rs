//! A failover that leaves the connection to the old primary open, as those of cloud providers do.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use super::{TOKEN, call, fetches, until};
use crate::support::{Redis, Sidecar, Wechat};

/// A name of a Redis that leads to another one after a failover. Connections stay where they are.
struct Relay {
    url: String,
    target: Arc<AtomicU16>,
}

impl Relay {
    async fn to(redis: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let target = Arc::new(AtomicU16::new(port(redis)));
        let current = target.clone();
        tokio::spawn(async move {
            while let Ok((mut app, _)) = listener.accept().await {
                let port = current.load(Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut redis = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    let _ = copy_bidirectional(&mut app, &mut redis).await;
                });
            }
        });
        Self { url, target }
    }

    fn switch(&self, redis: &Redis) {
        self.target.store(port(redis), Ordering::SeqCst);
    }
}

fn port(redis: &Redis) -> u16 {
    let url = redis.url();
    url.rsplit_once(':').unwrap().1.parse().unwrap()
}

fn replicate(replica: &Redis, primary: &Redis) {
    let port = port(primary).to_string();
    let () = replica.command(&["REPLICAOF", "127.0.0.1", &port]);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn after_a_failover_the_new_primary_is_used_and_nobody_fetches_alone() {
    let wechat = Wechat::calm().await;
    let at_once = ["--repl-diskless-sync-delay", "0"].map(str::to_owned);
    let [old, new] = [(); 2].map(|()| Redis::with(&at_once, None, false));
    replicate(&new, &old);
    let relay = Relay::to(&old).await;
    let flags = ["--token-api", "classic", "--store", &relay.url];
    let mut sidecar = Sidecar::with(&wechat, &flags).await;
    let token = call(&wechat, &sidecar).await;
    until("replicated", || new.get(TOKEN).as_ref() == Some(&token)).await;

    let () = new.command(&["REPLICAOF", "NO", "ONE"]);
    replicate(&old, &new);
    relay.switch(&new);
    wechat.rotate();
    let other = call(&wechat, &sidecar).await;
    assert_ne!(other, token);
    assert_eq!(new.get(TOKEN).unwrap(), other);
    assert_eq!(fetches(&wechat), 2);
    sidecar.line("over: the store of shared tokens is away").await;
    let log = sidecar.log();
    assert!(log.contains("READONLY"), "{log}");
    assert!(!log.contains("without the store"), "{log}");
    let account = format!("{{account=\"{}\",event=\"alone\"}}", crate::support::APPID);
    let alone = format!("wechat_sidecar_store_events_total{account}");
    assert_eq!(sidecar.metric(&alone).await, 0.0);
}
