//! A nameserver for tests, on a loopback address and a port of its own.

use std::{
    collections::HashMap,
    fs,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use tokio::{
    net::UdpSocket,
    time::{Duration, sleep},
};

use super::{Resolver, files::SystemFiles};

/// How a nameserver answers for a name.
#[derive(Clone, Debug)]
pub(crate) enum Zone {
    /// With these addresses, for this many seconds.
    At(Vec<IpAddr>, u32),
    /// The same, but a query for AAAA is dropped.
    OnlyA(Vec<IpAddr>),
    /// Not at all.
    Silent,
    /// It failed.
    ServFail,
}

/// A nameserver. Names that it was not told about do not exist.
#[derive(Clone)]
pub(crate) struct FakeDns(Arc<FakeState>);

struct FakeState {
    names: Mutex<HashMap<String, Zone>>,
    /// How long it takes to answer.
    delay: Mutex<Duration>,
    /// The names that it was asked for, with `A` or `AAAA`. Repetitions are left out.
    asked: Mutex<Vec<String>>,
}

/// Several nameservers, and the files that name them.
pub(crate) struct FakeSystem {
    pub(crate) servers: Vec<FakeDns>,
    files: SystemFiles,
}

impl FakeDns {
    /// Answers for `name` like this from now on.
    pub(crate) fn set(&self, name: &str, zone: Zone) {
        self.0.names.lock().unwrap().insert(name.to_owned(), zone);
    }

    /// Answers for `name` with these addresses for a minute.
    pub(crate) fn at(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().unwrap());
        self.set(name, Zone::At(addresses.collect(), 60));
    }

    /// Takes that long to answer.
    pub(crate) fn delay(&self, delay: Duration) {
        *self.0.delay.lock().unwrap() = delay;
    }

    /// What it was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.asked.lock().unwrap())
    }

    async fn serve(self, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut buffer = [0; 4096];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let Some(reply) = self.reply(&Message::from_vec(&buffer[..length]).unwrap()) else {
                continue;
            };
            let (socket, delay) = (socket.clone(), *self.0.delay.lock().unwrap());
            tokio::spawn(async move {
                sleep(delay).await;
                socket.send_to(&reply, from).await.unwrap();
            });
        }
    }

    fn reply(&self, query: &Message) -> Option<Vec<u8>> {
        let question = query.queries[0].clone();
        let (name, family) = (question.name().to_string(), question.query_type());
        let text = format!("{name} {family}");
        let mut asked = self.0.asked.lock().unwrap();
        if !asked.contains(&text) {
            asked.push(text);
        }
        let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
        reply.add_query(question.clone());
        let zone = self.0.names.lock().unwrap().get(&name).cloned();
        let (addresses, ttl) = match zone {
            Some(Zone::At(addresses, ttl)) => (addresses, ttl),
            Some(Zone::OnlyA(addresses)) if family == RecordType::A => (addresses, 60),
            Some(Zone::OnlyA(_) | Zone::Silent) => return None,
            Some(Zone::ServFail) => {
                reply.metadata.response_code = ResponseCode::ServFail;
                (Vec::new(), 0)
            }
            None => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                (Vec::new(), 0)
            }
        };
        let its = |address: &&IpAddr| address.is_ipv6() == (family == RecordType::AAAA);
        let name: &Name = question.name();
        let records = addresses
            .iter()
            .filter(its)
            .map(|address| Record::from_rdata(name.clone(), ttl, RData::from(*address)));
        reply.add_answers(records);
        Some(reply.to_vec().unwrap())
    }
}

impl FakeSystem {
    /// This many nameservers, which serve on the current runtime, and an empty hosts file.
    pub(crate) async fn start(servers: usize) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let sockets = loop {
            if let Some(sockets) = bind(servers).await {
                break sockets;
            }
        };
        let port = sockets[0].local_addr().unwrap().port();
        let servers = sockets.into_iter().map(|socket| {
            let server = FakeDns(Arc::new(FakeState {
                names: Mutex::default(),
                delay: Mutex::default(),
                asked: Mutex::default(),
            }));
            tokio::spawn(server.clone().serve(socket));
            server
        });
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = |name: &str| {
            std::env::temp_dir().join(format!("dns-{name}-{}-{count}", std::process::id()))
        };
        let system = Self {
            servers: servers.collect(),
            files: SystemFiles {
                hosts: file("hosts"),
                resolv_conf: file("resolv-conf"),
                port,
            },
        };
        system.write("", "");
        system
    }

    /// Writes the hosts file, and a resolv.conf with `more` lines.
    pub(crate) fn write(&self, hosts: &str, more: &str) {
        let lines = (1..=self.servers.len()).map(|at| format!("nameserver {}\n", ip(at)));
        let resolv_conf = lines.collect::<String>() + more;
        fs::write(&self.files.hosts, hosts).unwrap();
        fs::write(&self.files.resolv_conf, resolv_conf).unwrap();
    }

    /// The path of its resolv.conf.
    pub(crate) fn resolv_conf(&self) -> &PathBuf {
        &self.files.resolv_conf
    }

    /// A resolver that knows nothing yet.
    pub(crate) fn resolver(&self) -> Resolver {
        Resolver::with_files(None, self.files.clone())
    }
}

impl Drop for FakeSystem {
    fn drop(&mut self) {
        for path in self.files.paths() {
            let _ = fs::remove_file(path);
        }
    }
}

/// The address of the nameserver with this number, which begins with 1.
fn ip(at: usize) -> IpAddr {
    IpAddr::from([127, 0, 0, u8::try_from(at).unwrap()])
}

/// Sockets on one port.
async fn bind(count: usize) -> Option<Vec<UdpSocket>> {
    let mut sockets = vec![UdpSocket::bind((ip(1), 0)).await.unwrap()];
    let port = sockets[0].local_addr().unwrap().port();
    for at in 2..=count {
        sockets.push(UdpSocket::bind((ip(at), port)).await.ok()?);
    }
    Some(sockets)
}
