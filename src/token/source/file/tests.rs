//! Tests of a token file in all the states that its writer may leave it in.

use std::{fs::FileTimes, process::Command, sync::Arc};

use futures_util::FutureExt;
use tokio::time::advance;

use super::*;

/// A temporary file, removed when this is dropped.
struct TempFile(PathBuf);

impl TempFile {
    fn new() -> Self {
        let name = format!("token-{}-{}", std::process::id(), fastrand::u64(..));
        Self(std::env::temp_dir().join(name))
    }

    fn with(text: &str) -> Self {
        let file = Self::new();
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
    }

    /// Sets the time of modification to that long ago.
    fn ages(&self, seconds: u64) {
        let file = fs::File::options().append(true).open(&self.0).unwrap();
        let then = SystemTime::now() - Duration::from_secs(seconds);
        file.set_times(FileTimes::new().set_modified(then)).unwrap();
    }

    fn source(&self) -> TokenFile {
        TokenFile::new(&self.0)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

async fn missing(source: &TokenFile) -> Result<(String, u64), String> {
    fetch(source, Cause::Missing, None).await
}

async fn refused(source: &TokenFile, token: &str) -> Result<(String, u64), String> {
    let token = Token::new(Secret::new(token), USUAL);
    fetch(source, Cause::Refusal, Some(Arc::new(token))).await
}

async fn fetch(
    source: &TokenFile,
    cause: Cause,
    current: Option<Arc<Token>>,
) -> Result<(String, u64), String> {
    let fetched = source.fetch(FetchRequest { cause, current }).await;
    let fetched = fetched.map_err(|error| error.to_string())?;
    assert!(!fetched.fetched, "a file is none of WeChat's quota");
    let left = fetched.token.lifetime().as_secs_f64().round() as u64;
    Ok((fetched.token.value().expose().to_owned(), left))
}

#[tokio::test]
async fn a_file_holds_a_bare_token_or_json() {
    for (text, left) in [
        ("TOKEN\n", 7200),
        (" TOKEN\r\n\n", 7200),
        ("\u{feff}TOKEN\n", 7200),
        ("\"TOKEN\"\n", 7200),
        ("'TOKEN'", 7200),
        (
            "\u{feff}{\"access_token\":\"TOKEN\",\"expires_in\":600.0}",
            600,
        ),
        (r#"{"access_token":"TOKEN"}"#, 7200),
        (r#"{"access_token":"TOKEN","expires_in":600}"#, 600),
        (
            r#"{"expires_in":"600","access_token":"TOKEN","more":[]}"#,
            600,
        ),
        (
            r#"{"access_token":"TOKEN","expires_at":null,"expires_in":600}"#,
            600,
        ),
    ] {
        let file = TempFile::with(text);
        let read = missing(&file.source()).await.unwrap();
        assert_eq!(read, ("TOKEN".to_owned(), left), "{text}");
    }
}

#[tokio::test]
async fn a_life_is_counted_from_the_files_modification() {
    let file = TempFile::with(r#"{"access_token":"TOKEN","expires_in":600}"#);
    file.ages(500);
    assert_eq!(missing(&file.source()).await.unwrap().1, 100);
    file.ages(601);
    let error = missing(&file.source()).await.unwrap_err();
    assert!(error.contains("holds a token that has expired"), "{error}");

    let file = TempFile::with("TOKEN");
    for (age, left) in [(1000, 6200), (7000, 300), (100_000, 300)] {
        file.ages(age);
        assert_eq!(missing(&file.source()).await.unwrap().1, left, "{age}");
    }
}

#[tokio::test]
async fn a_file_without_a_token_says_what_is_wrong_and_never_what_is_in_it() {
    let file = TempFile::new();
    let error = missing(&file.source()).await.unwrap_err();
    assert!(error.contains("cannot be read: No such file"), "{error}");
    for (text, says) in [
        ("", "is empty"),
        ("\n \n", "is empty"),
        (r#"{"access_token":"HUNTER2","expires"#, "begins like JSON"),
        (r#"{"token":"HUNTER2"}"#, "without an access_token"),
        (r#"{"access_token":""}"#, "which is one word"),
        (
            r#"{"access_token":"HUNTER2","expires_in":"soon"}"#,
            "no number",
        ),
        ("HUNTER2 HUNTER2", "which is one word"),
        (&"HUNTER2".repeat(20_000), "far too large"),
    ] {
        file.write(text);
        let error = missing(&file.source()).await.unwrap_err();
        assert!(
            error.contains(says) && !error.contains("HUNTER2"),
            "{error}"
        );
    }
    let error = missing(&TokenFile::new(std::env::temp_dir()))
        .await
        .unwrap_err();
    assert!(error.contains("token.file"), "{error}");
}

#[tokio::test]
async fn a_refusal_waits_a_moment_for_whoever_writes_the_file() {
    let file = TempFile::with("OLD");
    let source = file.source();
    missing(&source).await.unwrap();
    let writing = async {
        sleep(Duration::from_millis(300)).await;
        file.write("");
        sleep(Duration::from_millis(300)).await;
        file.write("NEW");
    };
    let started = Instant::now();
    let (replacement, ()) = tokio::join!(refused(&source, "OLD"), writing);
    assert_eq!(replacement.unwrap().0, "NEW");
    assert!(started.elapsed() < REFUSAL_WAIT);
}

#[tokio::test]
async fn a_refused_token_that_stays_is_the_same_and_an_old_one_is_not_used_again() {
    let file = TempFile::with("STAYS");
    let source = file.source();
    assert_eq!(refused(&source, "STAYS").await.unwrap().0, "STAYS");
    file.ages(7300);
    assert_eq!(
        missing(&source).await.unwrap().0,
        "STAYS",
        "it may be right for longer"
    );
    for error in [
        refused(&source, "STAYS").await.unwrap_err(),
        missing(&source).await.unwrap_err(),
    ] {
        assert!(error.contains("has not changed for two hours"), "{error}");
    }
    assert!(source.poll().await.is_none());
    file.write("CHANGED");
    assert!(
        source
            .poll()
            .await
            .is_some_and(|token| token.value().expose() == "CHANGED")
    );
    assert_eq!(missing(&source).await.unwrap().0, "CHANGED");
}

#[tokio::test]
async fn a_poll_returns_a_change_behind_a_symbolic_link_and_nothing_else() {
    // As Kubernetes mounts secrets: the file is a link through a link to a folder that is swapped.
    let volume = TempFile::new();
    for (folder, token) in [("one", "TOKEN1"), ("two", "TOKEN2")] {
        fs::create_dir_all(volume.0.join(folder)).unwrap();
        fs::write(volume.0.join(folder).join("token"), token).unwrap();
    }
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, volume.0.join(name)).unwrap();
    link("one", "data");
    link("data/token", "token");
    let source = TokenFile::new(volume.0.join("token"));
    assert_eq!(missing(&source).await.unwrap().0, "TOKEN1");
    assert!(source.poll().await.is_none());

    link("two", "next");
    fs::rename(volume.0.join("next"), volume.0.join("data")).unwrap();
    let seen = source.poll().await.unwrap();
    assert_eq!(seen.value().expose(), "TOKEN2");
    assert!(source.poll().await.is_none());

    fs::remove_file(volume.0.join("token")).unwrap();
    assert!(source.poll().await.is_none());
    assert!(missing(&source).await.is_err());
    link("data/token", "token");
    assert_eq!(missing(&source).await.unwrap().0, "TOKEN2");
    fs::remove_dir_all(&volume.0).unwrap();
}

#[tokio::test]
async fn a_token_that_is_being_written_is_waited_for() {
    let file = TempFile::with("HALF");
    let source = file.source();
    let writing = async {
        sleep(Duration::from_millis(20)).await;
        file.write("HALF_AND_HALF");
    };
    let (read, ()) = tokio::join!(missing(&source), writing);
    assert_eq!(read.unwrap().0, "HALF_AND_HALF");
}

#[tokio::test(start_paused = true)]
async fn while_one_read_hangs_no_other_begins() {
    // Nobody writes to the pipe, so opening it hangs.
    let pipe = TempFile::new();
    let made = Command::new("mkfifo").arg(&pipe.0).status().unwrap();
    assert!(made.success());
    let source = TokenFile::new(&pipe.0);
    for began in [true, false] {
        let (begin, has_begun) = std::sync::mpsc::channel();
        let reading = source.off_runtime(move |path| {
            begin.send(()).unwrap();
            Ok(fs::read(path)?)
        });
        let mut reading = std::pin::pin!(reading);
        assert!(reading.as_mut().now_or_never().is_none());
        // Other tests of this process read, too.
        while began && has_begun.try_recv().is_err() {
            assert!(reading.as_mut().now_or_never().is_none());
            std::thread::yield_now();
        }
        advance(READ_TIMEOUT + Duration::from_millis(1)).await;
        assert_eq!(reading.await, Err(FileError::ReadTimedOut));
        assert!(has_begun.try_recv().is_err());
    }
    drop(fs::File::options().write(true).open(&pipe.0).unwrap());
    assert_eq!(source.off_runtime(|_| Ok(())).await, Ok(()));
}
