//! Tests of how long a connection may pause, and of which bytes begin a call.

use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixStream},
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::{
    ca::{self, Authority},
    net::{read_ahead::ReadAhead, tls::ServerCertificates},
};

const IDLE: Duration = Duration::from_secs(60);

fn connect(state: Arc<ConnState>) -> (UnixStream, AppConnection) {
    let (app, stream) = UnixStream::pair().unwrap();
    let connection = AppConnection::new(AppStream::Unix(stream), state, IDLE);
    (app, connection)
}

#[tokio::test(start_paused = true)]
async fn a_head_in_drips_ends_after_half_a_minute_and_a_quiet_connection_after_three() {
    let (mut app, mut connection) = connect(ConnState::new());
    let began = Instant::now();
    let drips = async {
        loop {
            app.write_all(b"x").await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let error = tokio::select! {
        error = async { loop { if let Err(error) = connection.read_u8().await { break error } } } => error,
        () = drips => unreachable!(),
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(
        (HEAD_TIMEOUT..HEAD_TIMEOUT * 2).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );

    let (_app, mut connection) = connect(ConnState::new());
    let began = Instant::now();
    assert_eq!(connection.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(began.elapsed(), KEPT_ALIVE);
}

#[tokio::test]
async fn ends_of_lines_begin_no_call_and_are_not_kept() {
    let state = ConnState::new();
    let (mut app, mut connection) = connect(state.clone());
    app.write_all(b"\r\n").await.unwrap();
    connection.read_exact(&mut [0; 2]).await.unwrap();
    assert!(!state.is_reading());
    connection.rewind(b"\r\n");
    app.write_all(b"G").await.unwrap();
    assert_eq!(connection.read_u8().await.unwrap(), b'G');
    assert!(state.is_reading());
}

#[tokio::test(start_paused = true)]
async fn a_call_may_take_its_time() {
    let state = ConnState::new();
    let (mut app, mut connection) = connect(state.clone());
    app.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    connection.read_exact(&mut [0; 18]).await.unwrap();
    state.begin_call(false).unwrap();
    let guard = state.call_guard();
    let waited = tokio::time::timeout(KEPT_ALIVE * 2, connection.read(&mut [0; 8])).await;
    assert!(waited.is_err());
    drop(guard);
    assert!(!state.is_reading() && !state.is_unused());
}

#[tokio::test]
async fn rewound_bytes_come_before_those_that_were_rewound_earlier() {
    let (_app, mut connection) = connect(ConnState::new());
    connection.rewind(b"GET / HTTP/1.1\r\n\r\n");
    let mut some = [0; 4];
    connection.read_exact(&mut some).await.unwrap();
    connection.rewind(&some);
    let mut all = [0; 18];
    connection.read_exact(&mut all).await.unwrap();
    assert_eq!(&all, b"GET / HTTP/1.1\r\n\r\n");
}

#[tokio::test]
async fn a_call_behind_a_body_of_known_length_is_read_and_checked_by_itself() {
    let state = ConnState::new();
    let (mut app, mut connection) = connect(state.clone());
    let first = "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}";
    let second = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    app.write_all(format!("{first}{second}").as_bytes())
        .await
        .unwrap();
    let mut buf = [0; 256];
    assert_eq!(connection.read(&mut buf).await.unwrap(), first.len());
    state.begin_call(false).unwrap();
    drop(state.call_guard());
    assert_eq!(connection.read(&mut buf).await.unwrap(), second.len());
    assert_eq!(state.begin_call(true), Ok(()));
}

#[tokio::test]
async fn an_app_that_reads_nothing_cannot_keep_a_connection_by_its_farewell() {
    let hosts = vec!["api.weixin.qq.com".to_owned()];
    let authority = Authority::open(&ca::Options { dir: None, hosts }).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.root().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let client = client.with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let name = ServerName::try_from("api.weixin.qq.com").unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let accepted = ReadAhead::new(listener.accept().await.unwrap().0);
    let acceptor = TlsAcceptor::from(authority.config());
    let (app, stream) = tokio::join!(connector.connect(name, socket), acceptor.accept(accepted));
    let (_app, stream) = (app.unwrap(), AppStream::Tls(Box::new(stream.unwrap())));
    let idle = Duration::from_millis(500);
    let mut connection = AppConnection::new(stream, ConnState::new(), idle);
    let reply = vec![b'x'; 1 << 20];
    let full = async { while connection.write_all(&reply).await.is_ok() {} };
    assert!(timeout(idle / 2, full).await.is_err(), "it is never full");
    let closed = timeout(Duration::from_secs(20), connection.shutdown()).await;
    let error = closed.expect("it waits for ever").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}
