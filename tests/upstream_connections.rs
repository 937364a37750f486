//! Requests and replies on connections to WeChat that break off or come too early. Each reply reaches its own call,
//! and the app is told nothing that the sidecar does not know.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use support::{
    App, PATIENCE, Sidecar,
    scripted::{before_what, call_on},
    sidecar,
    wechat::tls::{self, Tls},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::server::TlsStream;

/// Paths that take no token of ours. A call to the first may be repeated, one to the second may not.
const SAFE: &str = "/cgi-bin/component/api_query_auth?component_access_token=x";
const ONCE: &str = "/sns/userinfo?access_token=x";

const FINE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

#[tokio::test]
async fn of_a_call_that_wechat_may_have_seen_it_is_not_said_that_nothing_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(AtomicUsize::new(0));
    let (close, closed) = oneshot::channel::<()>();
    let count = seen.clone();
    let serving = async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let count = count.clone();
            tokio::spawn(async move {
                // The first call is answered. At the second, the connection is closed.
                while call_on(&mut stream).await.is_some()
                    && count.fetch_add(1, Ordering::Relaxed) == 0
                {
                    stream.write_all(FINE).await.unwrap();
                }
            });
        }
    };
    tokio::spawn(async move {
        tokio::select! { () = serving => {}, _ = closed => {} }
    });
    let mut command = sidecar::with_account();
    command.args(["--upstream", &url, "--workers", "1"]);
    let sidecar = Sidecar::spawn(command, None).await;
    assert_eq!(sidecar.get(SAFE).await.status, 200);
    close.send(()).unwrap();
    sleep(Duration::from_millis(50)).await;
    let reply = sidecar.get(SAFE).await;
    assert_eq!((reply.status, reply.errcode()), (502, Some(990500)));
    assert!(
        reply.text().contains("the outcome is unknown"),
        "{}",
        reply.text()
    );
    assert_eq!(seen.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn only_a_connection_that_ends_without_a_reply_is_a_reason_to_send_a_call_again() {
    for (answer, sent) in [
        ("", 2),
        ("HTTP/1.1 200 OK\r\nContent-Le", 1),
        ("no HTTP at all\r\n\r\n", 1),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
            1,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            1,
        ),
    ] {
        let seen = Arc::new(AtomicUsize::new(0));
        let count = seen.clone();
        let play = move |mut stream: TcpStream| {
            let count = count.clone();
            async move {
                while call_on(&mut stream).await.is_some() {
                    // The second call fails.
                    if count.fetch_add(1, Ordering::Relaxed) == 1 {
                        stream.write_all(answer.as_bytes()).await.unwrap();
                        return;
                    }
                    stream.write_all(FINE).await.unwrap();
                }
            }
        };
        let sidecar = before_what(play, &["--workers", "1"]).await;
        assert_eq!(sidecar.get(SAFE).await.status, 200);
        let reply = sidecar.get(SAFE).await;
        assert_eq!(
            reply.status,
            if sent == 2 { 200 } else { 502 },
            "{answer:?}"
        );
        assert_eq!(seen.load(Ordering::Relaxed), 1 + sent, "{answer:?}");
        // The code of a login works once, so the call is not sent again.
        let seen_before = seen.load(Ordering::Relaxed);
        assert_eq!(sidecar.get(ONCE).await.status, 200);
        assert_eq!(seen.load(Ordering::Relaxed), seen_before + 1);
    }
}

#[tokio::test]
async fn an_early_refusal_reaches_an_app_whose_upload_is_cut_off() {
    let play = |mut stream: TcpStream| async move {
        if call_on(&mut stream).await.is_some() {
            let refusal = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge";
            let _ = stream.write_all(refusal).await;
        }
    };
    let sidecar = before_what(play, &["--replay-limit", "1MiB"]).await;
    // The first body is held, the second one is streamed.
    for size in [900_000, 9_000_000] {
        for _ in 0..10 {
            let (mut read, mut write) = sidecar.connect().await.into_split();
            let writing = tokio::spawn(async move {
                let head = format!(
                    "POST {ONCE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
                );
                write.write_all(head.as_bytes()).await.unwrap();
                // The sidecar may stop reading, so this may fail.
                let _ = write.write_all(&vec![b' '; size]).await;
                write
            });
            let mut status = [0; 12];
            let came = timeout(PATIENCE, read.read_exact(&mut status)).await;
            came.expect("no reply").unwrap();
            assert_eq!(String::from_utf8_lossy(&status), "HTTP/1.1 413", "{size}");
            writing.abort();
        }
    }
}

#[tokio::test]
async fn a_connection_is_given_up_with_the_app_that_it_answers_early() {
    let play = |mut stream: TcpStream| async move {
        if call_on(&mut stream).await.is_some() {
            let begun = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\nbegun";
            stream.write_all(begun).await.unwrap();
            std::future::pending::<()>().await;
        }
    };
    let sidecar = before_what(play, &["--replay-limit", "1KiB"]).await;
    let mut app = App::to(&sidecar).await;
    app.send(support::app::post(ONCE, "Content-Length: 1000000"))
        .await;
    app.send(vec![b'x'; 20_000]).await;
    assert!(app.head().await.starts_with("HTTP/1.1 200"));
    const OPEN: &str = "wechat_sidecar_connections{side=\"upstream\"}";
    assert_eq!(sidecar.metric(OPEN).await, 1.0);
    let began = Instant::now();
    drop(app);
    sidecar.becomes(OPEN, 0.0).await;
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn an_app_that_reads_last_gets_an_early_answer_though_wechat_takes_no_more() {
    let play = |mut stream: TcpStream| async move {
        if call_on(&mut stream).await.is_some() {
            stream.write_all(FINE).await.unwrap();
            std::future::pending::<()>().await;
        }
    };
    let sidecar = before_what(play, &["--replay-limit", "1KiB"]).await;
    let mut app = App::to(&sidecar).await;
    app.send(support::app::post(ONCE, "Content-Length: 30000000"))
        .await;
    let upload = app.send(vec![b'x'; 30_000_000]);
    // If WeChat stopped reading, it would have a minute.
    timeout(Duration::from_secs(20), upload)
        .await
        .expect("nobody reads");
    assert_eq!(app.reply().await.text(), "{}");
}

#[tokio::test]
async fn what_a_reply_without_a_body_brings_is_no_other_calls_reply() {
    for says in ["Content-Length: 59", "Transfer-Encoding: chunked"] {
        let play = move |mut stream: TcpStream| async move {
            while let Some(head) = call_on(&mut stream).await {
                if head.contains("odd") {
                    let head = format!("HTTP/1.1 204 No Content\r\n{says}\r\n\r\n");
                    stream.write_all(head.as_bytes()).await.unwrap();
                    sleep(Duration::from_millis(2)).await;
                    let other = [
                        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                        &b"other"[..],
                    ];
                    let _ = stream.write_all(&other.concat()).await;
                } else {
                    stream.write_all(FINE).await.unwrap();
                }
            }
        };
        let sidecar = before_what(play, &["--workers", "1"]).await;
        for _ in 0..20 {
            assert_eq!(sidecar.post(&format!("{ONCE}&odd"), "").await.status, 204);
            let reply = sidecar.post(ONCE, "").await;
            assert_eq!(
                (reply.status, reply.text()),
                (200, "{}".to_owned()),
                "{says}"
            );
        }
    }
}

#[tokio::test]
async fn a_get_that_wechat_worked_on_is_not_sent_again() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let play = move |mut stream: TcpStream| {
        let count = count.clone();
        async move {
            while call_on(&mut stream).await.is_some() {
                if count.fetch_add(1, Ordering::Relaxed) == 1 {
                    sleep(Duration::from_millis(1500)).await;
                    return;
                }
                stream.write_all(FINE).await.unwrap();
            }
        }
    };
    let sidecar = before_what(play, &["--workers", "1"]).await;
    assert_eq!(sidecar.get(SAFE).await.status, 200);
    assert_eq!(sidecar.get(SAFE).await.errcode(), Some(990_500));
    assert_eq!(seen.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn the_time_for_a_reply_begins_with_the_last_byte_of_an_upload() {
    let play = |mut stream: TcpStream| async move {
        while matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {}
    };
    let flags = ["--replay-limit", "1KiB", "--upstream-timeout", "3s"];
    let sidecar = before_what(play, &flags).await;
    let mut app = App::to(&sidecar).await;
    app.send(support::app::post(ONCE, "Content-Length: 2000"))
        .await;
    app.send([b'x'; 1000]).await;
    sleep(Duration::from_millis(800)).await;
    app.send([b'x'; 1000]).await;
    let began = Instant::now();
    assert_eq!(app.reply().await.status, 504);
    let waited = began.elapsed().as_secs_f64();
    assert!((2.9..5.0).contains(&waited), "{waited}");
}

#[tokio::test]
async fn what_came_of_a_reply_that_breaks_off_is_seen_by_the_app() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n",
    ] {
        let play = move |mut stream: TcpStream| async move {
            if call_on(&mut stream).await.is_some() {
                let some = [head.as_bytes(), &[b'x'; 5000]].concat();
                stream.write_all(&some).await.unwrap();
            }
        };
        let sidecar = before_what(play, &[]).await;
        for _ in 0..20 {
            let call =
                format!("POST {ONCE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
            let came = sidecar.raw(call).await;
            assert!(
                came.starts_with("HTTP/1.1 200") && came.contains("xxx"),
                "{came}"
            );
            assert!(!came.ends_with("0\r\n\r\n"), "{came}");
        }
    }
}

#[tokio::test]
async fn an_app_that_hangs_up_by_half_sees_that_its_reply_is_not_whole() {
    let play = |mut stream: TcpStream| async move {
        if call_on(&mut stream).await.is_some() {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n";
            let some = [&head[..], &[b'x'; 5000], b"\r\n"].concat();
            stream.write_all(&some).await.unwrap();
            std::future::pending::<()>().await;
        }
    };
    let sidecar = before_what(play, &[]).await;
    for headers in [
        "Content-Length: 0",
        "Content-Length: 0\r\nConnection: close",
    ] {
        let mut app = App::to(&sidecar).await;
        app.send(support::app::post(ONCE, headers)).await;
        app.head().await;
        app.0.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let ended = timeout(PATIENCE, app.0.read_to_end(&mut rest)).await;
        // An error counts as an end, too.
        let _ = ended.expect("it goes on");
        assert!(
            rest.starts_with(b"1388\r\n") && !rest.ends_with(b"0\r\n\r\n"),
            "{headers}"
        );
    }
}

#[tokio::test]
async fn an_upload_goes_on_though_its_reply_has_begun() {
    let play = |mut stream: TcpStream| async move {
        if call_on(&mut stream).await.is_some() {
            let begun = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{}";
            stream.write_all(begun).await.unwrap();
            stream.read_exact(&mut vec![0; 9_000_000]).await.unwrap();
            stream.write_all(b"\r\n").await.unwrap();
        }
    };
    let sidecar = before_what(play, &["--replay-limit", "1MiB"]).await;
    let reply = timeout(PATIENCE, sidecar.post(ONCE, vec![b'x'; 9_000_000]));
    let reply = reply.await.expect("it ends");
    assert_eq!((reply.status, reply.text()), (200, "{}\r\n".to_owned()));
}

#[tokio::test]
async fn a_reply_may_pause_for_as_long_as_its_upload_goes_on() {
    let play = |mut stream: TcpStream| async move {
        if call_on(&mut stream).await.is_some() {
            let begun = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
            stream.write_all(begun).await.unwrap();
            stream.read_exact(&mut vec![0; 8000]).await.unwrap();
            stream.write_all(b"{}").await.unwrap();
        }
    };
    let flags = ["--replay-limit", "1KiB", "--idle-timeout", "2s"];
    let sidecar = before_what(play, &flags).await;
    let mut app = App::to(&sidecar).await;
    app.send(support::app::post(ONCE, "Content-Length: 8000"))
        .await;
    for _ in 0..8 {
        sleep(Duration::from_millis(500)).await;
        app.send([b'x'; 1000]).await;
    }
    let reply = app.reply().await;
    assert_eq!((reply.status, reply.text()), (200, "{}".to_owned()));
}

/// A sidecar in front of a TLS server that runs `play` for each connection.
async fn before_tls<F, P>(play: P, flags: &[&str]) -> Sidecar
where
    F: Future<Output = io::Result<()>> + Send + 'static,
    P: Fn(TlsStream<TcpStream>) -> F + Clone + Send + 'static,
{
    let Tls { acceptor, ca_pem } = tls::prepare(&["localhost".to_owned()]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (stream, play) = (acceptor.accept(stream), play.clone());
            tokio::spawn(async move {
                let stream = stream.await?;
                play(stream).await
            });
        }
    });
    let mut command = sidecar::with_account();
    let (url, ca) = (
        format!("https://localhost:{port}"),
        sidecar::written("ca.pem", &ca_pem),
    );
    command
        .args(["--upstream", &url, "--upstream-ca", &ca])
        .args(flags);
    Sidecar::spawn(command, None).await
}

#[tokio::test]
async fn a_reply_that_tls_ends_has_ended_though_the_socket_has_not() {
    let play = |mut stream: TlsStream<TcpStream>| async move {
        if call_on(&mut stream).await.is_some() {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nall").await?;
            stream.get_mut().1.send_close_notify();
            stream.flush().await?;
            std::future::pending::<()>().await;
        }
        Ok(())
    };
    let sidecar = before_tls(play, &[]).await;
    let reply = timeout(PATIENCE, sidecar.get(ONCE)).await.expect("it ends");
    assert_eq!((reply.status, reply.text()), (200, "all".to_owned()));
}

/// Answers calls with replies of every shape, some of them before all of the call has arrived.
async fn answer<S>(stream: S, mut rng: Rng, renew: fn(&mut S)) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = tokio::io::BufReader::new(stream);
    while let Some(head) = call_on(&mut stream).await {
        let field = |from: &str, to: &str| {
            let found = head
                .split(from)
                .nth(1)
                .and_then(|rest| rest.split(to).next());
            found.unwrap_or_default().to_owned()
        };
        let (number, length) = (field("number=", " "), field("content-length: ", "\r"));
        let mut sent = vec![0; length.parse().unwrap_or(0)];
        let early = sent.len() > 3000 && rng.u8(..3) == 0;
        if !early {
            stream.read_exact(&mut sent).await?;
        }
        let size = [0, 100, 4096, 5000, 16_384, 100_000, 700_000][rng.usize(..7)];
        let body = body_of(&number, size);
        let mut reply = Vec::new();
        if rng.bool() {
            reply.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 7\r\n\r\n");
        }
        reply.extend_from_slice(format!("HTTP/1.1 200 OK\r\nX-Number: {number}\r\n").as_bytes());
        let shape = rng.u8(..9);
        match shape {
            _ if head.starts_with("HEAD") => reply.extend_from_slice(b"Content-Length: 9\r\n\r\n"),
            0 => reply.extend_from_slice(b"Connection: close\r\n\r\n"),
            1..5 => reply.extend_from_slice(format!("Content-Length: {size}\r\n\r\n").as_bytes()),
            _ => reply.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n"),
        }
        match shape {
            _ if head.starts_with("HEAD") => {}
            0..5 => reply.extend_from_slice(&body),
            _ => {
                let most = [20, 5000, 1 << 20][rng.usize(..3)];
                for chunk in body.chunks(most) {
                    reply.extend_from_slice(format!("{:x} ;a=b\r\n", chunk.len()).as_bytes());
                    reply.extend_from_slice(chunk);
                    reply.extend_from_slice(b"\r\n");
                }
                reply.extend_from_slice(b"0\r\nX-Trailer: 1\r\n\r\n");
            }
        }
        let mut left = &reply[..];
        while !left.is_empty() {
            if rng.u8(..4) == 0 {
                renew(stream.get_mut());
            }
            let most = [left.len(), 40, 20_000][rng.usize(..3)];
            let (now, later) = left.split_at(rng.usize(1..=most.min(left.len())));
            stream.write_all(now).await?;
            stream.flush().await?;
            left = later;
        }
        if early {
            stream.read_exact(&mut sent).await?;
        }
        assert!(sent.iter().all(|byte| *byte == number.as_bytes()[0]));
        if shape == 0 && !head.starts_with("HEAD") {
            return stream.shutdown().await;
        }
    }
    Ok(())
}

fn body_of(number: &str, size: usize) -> Vec<u8> {
    number.bytes().cycle().take(size).collect()
}

/// Hundreds of concurrent calls share a few connections.
async fn each_gets_its_own(sidecar: Sidecar) {
    let sidecar = Arc::new(sidecar);
    let mut apps = JoinSet::new();
    for app in 0..20_u64 {
        let sidecar = sidecar.clone();
        apps.spawn(async move {
            let (mut rng, client) = (Rng::with_seed(app), sidecar::client());
            for call in 0..25 {
                let number = format!("{}-{app}-{call}", rng.u8(..10));
                let url = format!("{}{ONCE}&number={number}", sidecar.url);
                let size = [0, 5, 2048, 2049, 90_000, 290_000, 1_500_000][rng.usize(..7)];
                let request = match rng.u8(..5) {
                    0 => client.get(url),
                    1 => client.head(url),
                    _ => client.post(url).body(vec![number.as_bytes()[0]; size]),
                };
                let reply = timeout(PATIENCE, sidecar.send(request))
                    .await
                    .expect("a reply");
                assert_eq!(
                    (reply.status, reply.header("x-number")),
                    (200, Some(&*number))
                );
                assert!(reply.body == body_of(&number, reply.body.len()), "{number}");
            }
        });
    }
    while let Some(ended) = apps.join_next().await {
        ended.unwrap();
    }
    assert!(!sidecar.log().contains("panicked"));
}

const FEW: [&str; 6] = [
    "--workers",
    "2",
    "--replay-limit",
    "300KiB",
    "--max-upstream",
    "12",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_gets_its_own_reply() {
    let seeds = AtomicUsize::new(0);
    let play = move |stream| {
        let rng = Rng::with_seed(seeds.fetch_add(1, Ordering::Relaxed) as u64);
        async { drop(answer(stream, rng, |_| {}).await) }
    };
    each_gets_its_own(before_what(play, &FEW).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_gets_its_own_reply_by_tls_with_keys_that_change_meanwhile() {
    let seeds = Arc::new(AtomicUsize::new(0));
    let play = move |stream| {
        let rng = Rng::with_seed(seeds.fetch_add(1, Ordering::Relaxed) as u64);
        let renew = |stream: &mut TlsStream<TcpStream>| {
            stream.get_mut().1.refresh_traffic_keys().unwrap();
        };
        answer(stream, rng, renew)
    };
    each_gets_its_own(before_tls(play, &FEW).await).await;
}
