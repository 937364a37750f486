//! Tests of connections that break, stall, or send too much.

use tokio::{io::AsyncReadExt, time::advance};

use super::*;

#[tokio::test]
async fn an_answer_that_came_before_the_connection_broke_is_read() {
    let (ours, mut theirs) = pair().await;
    let mut connection = connection(ours);
    theirs.set_zero_linger().unwrap();
    let huge: &'static [u8] = vec![b'x'; 64 << 20].leak();
    let early = async {
        theirs.read_exact(&mut [0; 100]).await.unwrap();
        let said = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n";
        theirs.write_all(said).await.unwrap();
        drop(theirs);
        // It has arrived by then, and so has the reset behind it.
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    connection.begin(call(&Method::POST, huge), true);
    let began = poll_fn(|cx| Poll::Ready(connection.poll_write(cx).is_pending())).await;
    assert!(began);
    early.await;
    let head = poll_fn(|cx| connection.poll_reply(&OPTIONS, cx))
        .await
        .unwrap();
    assert_eq!(head.status(), 413);
    assert!(connection.is_sent() && !connection.is_free());
}

#[tokio::test]
async fn a_head_may_come_in_drips_and_has_an_end() {
    for (size, fits) in [(MAX_HEAD - 100, true), (MAX_HEAD + SMALL_READ, false)] {
        let (ours, mut theirs) = pair().await;
        let mut connection = connection(ours);
        let long = format!(
            "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n",
            "x".repeat(size)
        );
        let saying = async {
            theirs.read_exact(&mut [0; 20]).await.unwrap();
            for part in long.as_bytes().chunks(1000) {
                if theirs.write_all(part).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            theirs
        };
        let reading = reply(&mut connection, call(&Method::GET, b""));
        let (head, _theirs) = tokio::join!(reading, saying);
        match head {
            Ok(head) => assert!(fits && head.headers()["x"].len() == size),
            Err(SendError::Broken { error, .. }) => {
                assert!(error == ConnectionError::LargeHead && !fits)
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_after_a_stall_was_not_closing_when_the_call_was_sent() {
    for (reused, stall, expected) in [
        (true, Duration::ZERO, true),
        (true, AT_ONCE * 2, false),
        (false, Duration::ZERO, false),
    ] {
        let (ours, theirs) = pair().await;
        let mut connection = connection(ours);
        connection.begin(call(&Method::POST, vec![b'x'; 64 << 20].leak()), reused);
        assert!(poll_fn(|cx| Poll::Ready(connection.poll_write(cx).is_pending())).await);
        advance(stall).await;
        theirs.set_zero_linger().unwrap();
        drop(theirs);
        let broken = poll_fn(|cx| connection.poll_reply(&OPTIONS, cx)).await;
        assert!(
            matches!(broken, Err(SendError::Broken { was_closing, .. }) if was_closing == expected),
            "{broken:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_time_out_names_the_limit_that_has_passed() {
    let options = Options {
        reply_timeout: Duration::from_secs(20),
        ..OPTIONS
    };
    let huge: &'static [u8] = vec![b'x'; 64 << 20].leak();
    for (body, is_stalled) in [(&b""[..], false), (huge, true)] {
        let (ours, _theirs) = pair().await;
        let mut connection = connection(ours);
        connection.begin(call(&Method::POST, body), true);
        match poll_fn(|cx| connection.poll_reply(&options, cx)).await {
            Err(SendError::TimedOut(limit)) => {
                assert!(!is_stalled && limit == options.reply_timeout)
            }
            Err(SendError::Stalled(limit)) => assert!(is_stalled && limit == options.idle_timeout),
            other => panic!("{other:?}"),
        }
    }
}
