//! A real Redis on a port of its own. It can be killed, restarted, stopped, emptied and made read-only.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use super::{PATIENCE, sidecar::temporary};

/// A Redis that is killed when this is dropped. It keeps nothing on disk, so a restart empties it.
pub struct Redis {
    port: u16,
    folder: PathBuf,
    arguments: Vec<String>,
    password: Option<String>,
    tls: bool,
    child: Mutex<Child>,
}

impl Redis {
    pub fn start() -> Self {
        Self::with(&[], None, false)
    }

    pub fn with_password(password: &str) -> Self {
        let arguments = ["--requirepass".to_owned(), password.to_owned()];
        Self::with(&arguments, Some(password), false)
    }

    /// A Redis that only speaks TLS. Its clients trust [`Self::ca`].
    pub fn with_tls() -> Self {
        Self::with(&[], None, true)
    }

    pub fn with(more: &[String], password: Option<&str>, tls: bool) -> Self {
        let folder = temporary("redis");
        std::fs::create_dir_all(&folder).unwrap();
        // Reserve a port, and give it back.
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = probe.local_addr().unwrap().port();
        drop(probe);
        let socket = folder.join("socket");
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let mut arguments = words("--bind 127.0.0.1 --appendonly no --save");
        arguments.push(String::new());
        arguments.extend(words(&format!("--dir {}", folder.display())));
        arguments.extend(words(&format!("--unixsocket {}", socket.display())));
        if tls {
            certify(&folder);
            let file = |name| folder.join(name).display().to_string();
            let (certificate, key) = (file("certificate.pem"), file("key.pem"));
            arguments.extend(words(&format!(
                "--port 0 --tls-port {port} --tls-auth-clients no --tls-cert-file {certificate} \
                 --tls-key-file {key} --tls-ca-cert-file {}",
                file("ca.pem")
            )));
        } else {
            arguments.extend(words(&format!("--port {port}")));
        }
        arguments.extend_from_slice(more);
        let child = spawn(&arguments);
        let redis = Self {
            port,
            folder,
            arguments,
            password: password.map(str::to_owned),
            tls,
            child: Mutex::new(child),
        };
        redis.until_ready();
        redis
    }

    pub fn url(&self) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The path of the root certificate that its clients must trust.
    pub fn ca(&self) -> String {
        self.folder.join("ca.pem").display().to_string()
    }

    /// Uses another password, which was set elsewhere.
    pub fn knows(&mut self, password: &str) {
        self.password = Some(password.to_owned());
    }

    pub fn kill(&self) {
        let mut child = self.child();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it again, on the same port, and empty.
    pub fn restart(&self) {
        self.kill();
        *self.child() = spawn(&self.arguments);
        self.until_ready();
    }

    /// Suspends it: it still listens, and answers nothing.
    pub fn stop(&self) {
        self.signal("-STOP");
    }

    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    /// Sets whether it accepts writes.
    pub fn writes(&self, writes: bool) {
        let () = match writes {
            true => self.command(&["REPLICAOF", "NO", "ONE"]),
            false => self.command(&["REPLICAOF", "127.0.0.1", "9"]),
        };
    }

    pub fn empty(&self) {
        self.command(&["FLUSHALL"])
    }

    pub fn get(&self, key: &str) -> Option<String> {
        self.command(&["GET", key])
    }

    pub fn set(&self, key: &str, value: &str, lives: Duration) {
        self.command(&["SET", key, value, "PX", &lives.as_millis().to_string()])
    }

    pub fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_command(words).unwrap()
    }

    fn try_command<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let socket = self.folder.join("socket");
        let login = self.password.as_ref();
        let login = login.map(|password| format!("?pass={password}"));
        let url = format!(
            "redis+unix://{}{}",
            socket.display(),
            login.unwrap_or_default()
        );
        let mut connection = redis::Client::open(url)?.get_connection()?;
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(*word);
        });
        command.query(&mut connection)
    }

    fn until_ready(&self) {
        let pause = Duration::from_millis(5);
        for _ in 0..PATIENCE.as_millis() / pause.as_millis() {
            if self.try_command::<String>(&["PING"]).is_ok() {
                return;
            }
            std::thread::sleep(pause);
        }
        panic!("redis-server does not start");
    }

    fn signal(&self, signal: &str) {
        super::signal::send(self.child().id(), signal);
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(arguments: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let missing = "redis-server cannot be started: run tests/run, which installs it";
    command.spawn().expect(missing)
}

/// Creates a certificate authority, and a certificate from it.
fn certify(folder: &std::path::Path) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let root = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap().pem();
    for (name, pem) in [
        ("ca.pem", root),
        ("certificate.pem", certificate),
        ("key.pem", key.serialize_pem()),
    ] {
        std::fs::write(folder.join(name), pem).unwrap();
    }
}
