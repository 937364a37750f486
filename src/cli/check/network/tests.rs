//! Tests of the hosts that are used, with a nameserver and servers of their own.

use std::{fs, sync::Arc, time::SystemTime};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    cli::check::report::Severity,
    net::{
        dns::fake::{FakeSystem, Zone},
        tls::load,
    },
};

const LIMIT: Duration = Duration::from_millis(300);

fn host(url: &str, tls: Option<TlsRoots>) -> InspectedHost {
    let origin = Origin::parse_private(url, true).unwrap();
    InspectedHost {
        origin,
        tls,
        limit: LIMIT,
    }
}

/// What is said of these hosts, which stand in for each other.
async fn say(system: &FakeSystem, hosts: Vec<InspectedHost>) -> Vec<Finding> {
    let group = HostGroup {
        what: None,
        hosts,
        dns: system.resolver(),
        egress: None,
    };
    told(&group.look(Instant::now() + LIMIT * 5).await)
}

fn of(findings: &[Finding], check: Check) -> Vec<(Severity, &str)> {
    let of_it = findings.iter().filter(|finding| finding.check == check);
    of_it
        .map(|finding| (finding.severity, finding.sentence.as_str()))
        .collect()
}

async fn listening(address: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn one_dead_address_of_two_is_a_warning_and_two_are_a_failure() {
    let system = FakeSystem::start(1).await;
    system.servers[0].at("a.test.", &["127.0.0.2", "127.0.0.3"]);
    let (live, port) = listening("127.0.0.3:0").await;
    let url = format!("http://a.test:{port}");
    let findings = say(&system, vec![host(&url, None)]).await;
    let [(Severity::Ok, found)] = of(&findings, Check::Dns)[..] else {
        panic!("{findings:?}")
    };
    assert!(
        found.starts_with("a.test is at 127.0.0.2, 127.0.0.3, found in "),
        "{found}"
    );
    let [dead, good] = of(&findings, Check::Connect)[..] else {
        panic!("{findings:?}")
    };
    assert_eq!((dead.0, good.0), (Severity::Warning, Severity::Ok));
    let name = format!("{url} at 127.0.0.2: it cannot be connected: Connection refused");
    assert!(dead.1.starts_with(&name), "{dead:?}");
    assert!(good.1.contains("at 127.0.0.3 is connected in "), "{good:?}");
    drop(live);
    let findings = say(&system, vec![host(&url, None)]).await;
    let all = of(&findings, Check::Connect);
    assert!(
        all.len() == 2
            && all
                .iter()
                .all(|(severity, _)| *severity == Severity::Failed)
    );
}

#[tokio::test]
async fn a_host_is_no_failure_while_another_stands_in_for_it() {
    let system = FakeSystem::start(1).await;
    system.servers[0].at("b.test.", &["127.0.0.3"]);
    let (_live, port) = listening("127.0.0.3:0").await;
    let live = host(&format!("http://b.test:{port}"), None);
    let unknown = host("http://a.test:1", None);
    let findings = say(&system, vec![unknown.clone(), live]).await;
    let [(severity, sentence), _] = of(&findings, Check::Dns)[..] else {
        panic!("{findings:?}")
    };
    assert_eq!(severity, Severity::Warning);
    assert!(sentence.starts_with("the name a.test cannot be resolved: there is no such name"));
    let findings = say(&system, vec![unknown]).await;
    assert_eq!(of(&findings, Check::Dns)[0].0, Severity::Failed);
}

#[tokio::test]
async fn silence_is_bounded() {
    let system = FakeSystem::start(1).await;
    system.servers[0].set("a.test.", Zone::Silent);
    // It accepts, and says nothing.
    let (_silent, port) = listening("127.0.0.1:0").await;
    let tls = load(None).unwrap();
    let hosts = vec![
        host("http://a.test:1", None),
        host(&format!("https://127.0.0.1:{port}"), Some(tls)),
    ];
    let started = Instant::now();
    let findings = say(&system, hosts).await;
    assert!(started.elapsed() < LIMIT * 8, "{:?}", started.elapsed());
    let [(Severity::Failed, dns)] = of(&findings, Check::Dns)[..] else {
        panic!("{findings:?}")
    };
    assert!(dns.contains("no nameserver of /etc/resolv.conf answered within"));
    let [(Severity::Failed, silent)] = of(&findings, Check::Connect)[..] else {
        panic!("{findings:?}")
    };
    assert!(silent.ends_with("no answer within 300ms"), "{silent}");
}

#[tokio::test]
async fn a_certificate_is_told_with_its_end_and_one_for_another_name_with_the_reason() {
    let system = FakeSystem::start(1).await;
    system.servers[0].at("a.test.", &["127.0.0.2"]);
    system.servers[0].at("b.test.", &["127.0.0.2"]);
    let (roots, acceptor) = in_ten_days("a.test");
    let (listener, port) = listening("127.0.0.2:0").await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(acceptor.accept(stream));
        }
    });
    let at = |name: &str| host(&format!("https://{name}:{port}"), Some(roots.clone()));
    let findings = say(&system, vec![at("a.test")]).await;
    let [(Severity::Ok, tls)] = of(&findings, Check::Tls)[..] else {
        panic!("{findings:?}")
    };
    assert!(tls.contains("with TLS in "), "{tls}");
    let [(Severity::Warning, ends)] = of(&findings, Check::Certificate)[..] else {
        panic!("{findings:?}")
    };
    assert!(
        ends.contains("for 9 days") && ends.contains("CN=the subject"),
        "{ends}"
    );
    // Wrong TLS is a failure, though another host works.
    let findings = say(&system, vec![at("b.test"), at("a.test")]).await;
    let [(Severity::Failed, wrong), (Severity::Ok, _)] = of(&findings, Check::Tls)[..] else {
        panic!("{findings:?}")
    };
    assert!(
        wrong.contains("its certificate is for a.test, and not for b.test"),
        "{wrong}"
    );
}

/// A server's certificate for `name` which ends within ten days, and roots that trust it.
fn in_ten_days(name: &str) -> (TlsRoots, TlsAcceptor) {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    let end = SystemTime::now() + Duration::from_secs(10 * 86_400 - 60);
    params.not_after = end.into();
    let common_name = rcgen::DnType::CommonName;
    params.distinguished_name.push(common_name, "the subject");
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let path = std::env::temp_dir().join(format!("check-ca-{}", std::process::id()));
    fs::write(&path, certificate.pem()).unwrap();
    let roots = load(Some(&path)).unwrap();
    fs::remove_file(path).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (roots, TlsAcceptor::from(Arc::new(server)))
}
