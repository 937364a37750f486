//! A token file in all the states that others may leave it in.

use std::{fs::FileTimes, sync::Arc};

use super::*;

/// A file of its own, removed in the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let name = format!("token-{}-{}", std::process::id(), fastrand::u64(..));
        Self(std::env::temp_dir().join(name))
    }

    fn with(text: &str) -> Self {
        let place = Self::new();
        place.write(text);
        place
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
    }

    /// As if it had been written that long ago.
    fn ages(&self, seconds: u64) {
        let file = fs::File::options().append(true).open(&self.0).unwrap();
        let then = SystemTime::now() - Duration::from_secs(seconds);
        file.set_times(FileTimes::new().set_modified(then)).unwrap();
    }

    fn issuer(&self) -> TokenFile {
        TokenFile::new(&self.0)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

async fn missing(issuer: &TokenFile) -> Result<(String, u64), String> {
    asked(issuer, Cause::Missing, None).await
}

async fn refused(issuer: &TokenFile, token: &str) -> Result<(String, u64), String> {
    let token = Token::new(Secret::new(token), USUAL);
    asked(issuer, Cause::Refusal, Some(Arc::new(token))).await
}

async fn asked(
    issuer: &TokenFile,
    cause: Cause,
    instead_of: Option<Arc<Token>>,
) -> Result<(String, u64), String> {
    let issued = issuer
        .fetch(FetchRequest {
            cause,
            current: instead_of,
        })
        .await;
    let issued = issued.map_err(|error| error.to_string())?;
    assert!(!issued.fetched, "a file is none of WeChat's quota");
    let left = issued.token.lifetime().as_secs_f64().round() as u64;
    Ok((issued.token.value().expose().to_owned(), left))
}

#[tokio::test]
async fn a_file_holds_a_bare_token_or_json() {
    for (text, left) in [
        ("TOKEN\n", 7200),
        (" TOKEN\r\n\n", 7200),
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
        let place = Place::with(text);
        let read = missing(&place.issuer()).await.unwrap();
        assert_eq!(read, ("TOKEN".to_owned(), left), "{text}");
    }
}

#[tokio::test]
async fn a_life_is_counted_from_the_files_modification() {
    let place = Place::with(r#"{"access_token":"TOKEN","expires_in":600}"#);
    place.ages(500);
    assert_eq!(missing(&place.issuer()).await.unwrap().1, 100);
    place.ages(601);
    let error = missing(&place.issuer()).await.unwrap_err();
    assert!(
        error.contains("token.file holds a token that has expired"),
        "{error}"
    );

    let place = Place::with("TOKEN");
    for (age, left) in [(1000, 6200), (7000, 300), (100_000, 300)] {
        place.ages(age);
        assert_eq!(missing(&place.issuer()).await.unwrap().1, left, "{age}");
    }
}

#[tokio::test]
async fn a_file_without_a_token_says_what_is_wrong_and_never_what_is_in_it() {
    let place = Place::new();
    let error = missing(&place.issuer()).await.unwrap_err();
    assert!(
        error.contains("token.file cannot be read: No such file"),
        "{error}"
    );
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
        place.write(text);
        let error = missing(&place.issuer()).await.unwrap_err();
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
    let place = Place::with("OLD");
    let issuer = place.issuer();
    missing(&issuer).await.unwrap();
    let writing = async {
        sleep(Duration::from_millis(300)).await;
        place.write("");
        sleep(Duration::from_millis(300)).await;
        place.write("NEW");
    };
    let started = Instant::now();
    let (replacement, ()) = tokio::join!(refused(&issuer, "OLD"), writing);
    assert_eq!(replacement.unwrap().0, "NEW");
    assert!(started.elapsed() < WAIT);
}

#[tokio::test]
async fn a_refused_token_that_stays_is_the_same_and_an_old_one_is_not_used_again() {
    let place = Place::with("STAYS");
    let issuer = place.issuer();
    assert_eq!(refused(&issuer, "STAYS").await.unwrap().0, "STAYS");
    place.ages(7300);
    assert_eq!(
        missing(&issuer).await.unwrap().0,
        "STAYS",
        "it may be right for longer"
    );
    for error in [
        refused(&issuer, "STAYS").await.unwrap_err(),
        missing(&issuer).await.unwrap_err(),
    ] {
        assert!(error.contains("has not changed for two hours"), "{error}");
    }
    assert!(issuer.poll().await.is_none());
    place.write("CHANGED");
    assert!(
        issuer
            .poll()
            .await
            .is_some_and(|token| token.value().expose() == "CHANGED")
    );
    assert_eq!(missing(&issuer).await.unwrap().0, "CHANGED");
}

#[tokio::test]
async fn a_look_sees_what_changed_behind_a_symbolic_link_and_nothing_else() {
    // As Kubernetes mounts secrets: the file is a link through a link to a folder that is swapped.
    let volume = Place::new();
    for (folder, token) in [("one", "TOKEN1"), ("two", "TOKEN2")] {
        fs::create_dir_all(volume.0.join(folder)).unwrap();
        fs::write(volume.0.join(folder).join("token"), token).unwrap();
    }
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, volume.0.join(name)).unwrap();
    link("one", "data");
    link("data/token", "token");
    let issuer = TokenFile::new(volume.0.join("token"));
    assert_eq!(missing(&issuer).await.unwrap().0, "TOKEN1");
    assert!(issuer.poll().await.is_none());

    link("two", "next");
    fs::rename(volume.0.join("next"), volume.0.join("data")).unwrap();
    let seen = issuer.poll().await.unwrap();
    assert_eq!(seen.value().expose(), "TOKEN2");
    assert!(issuer.poll().await.is_none());

    fs::remove_file(volume.0.join("token")).unwrap();
    assert!(issuer.poll().await.is_none());
    assert!(missing(&issuer).await.is_err());
    link("data/token", "token");
    assert_eq!(missing(&issuer).await.unwrap().0, "TOKEN2");
    fs::remove_dir_all(&volume.0).unwrap();
}

#[tokio::test]
async fn a_token_that_is_being_written_is_waited_for() {
    let place = Place::with("HALF");
    let issuer = place.issuer();
    let writing = async {
        sleep(Duration::from_millis(20)).await;
        place.write("HALF_AND_HALF");
    };
    let (read, ()) = tokio::join!(missing(&issuer), writing);
    assert_eq!(read.unwrap().0, "HALF_AND_HALF");
}
