//! Reads tokens from a file that something else keeps fresh.
//!
//! The file holds the bare token, or JSON: `{"access_token": …}` with `expires_in`, counted from the
//! file's modification, or `expires_at`, a Unix time. Without either, a token lives for the usual two
//! hours. After that, the file vouches for it for a while at each read, until WeChat refuses it.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::SystemTime,
};

use serde_json::Value;
use tokio::{
    sync,
    time::{Duration, Instant, sleep, timeout},
};
use zeroize::Zeroizing;

use super::{
    FetchRequest, FetchedToken, TokenError, TokenSource, lenient,
    lifetime::{self, USUAL, VOUCHED},
};
use crate::{
    metrics::Cause,
    os::file_version,
    rt::blocking::{blocking_at, gather},
    secret::{self, Secret},
    token::Token,
};

/// How often the file is polled.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// How long a refusal waits for another token in the file, whose writer may just be renewing it.
const REFUSAL_WAIT: Duration = Duration::from_secs(2);

/// How often the file is read meanwhile.
const REFUSAL_POLL: Duration = Duration::from_millis(100);

/// The time limit of a read. The file may be on a network.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// A file that changed less than this ago may be half written.
const SETTLE_TIME: Duration = Duration::from_millis(50);

/// The largest file that is read. Tokens are far smaller.
const MAX_SIZE: u64 = 64 * 1024;

/// Reads an account's tokens from a file.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    /// Held by the thread that reads. A read may hang, and then no other begins.
    reading: Arc<sync::Mutex<()>>,
    last_read: Mutex<LastRead>,
}

/// The result of the last read.
#[derive(Default)]
struct LastRead {
    /// The stamp of the file when it was last read and valid.
    stamp: Option<FileStamp>,
    /// A token that WeChat refused and that is older than tokens live. It is not used again.
    dead: Option<Secret>,
    /// The error of the last poll.
    error: Option<FileError>,
}

/// The metadata of a file that changes with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FileStamp {
    version: (u64, u64, i64, i64),
    length: u64,
    modified: Option<SystemTime>,
}

/// The content of the file.
struct TokenDocument {
    stamp: FileStamp,
    token: Secret,
    /// The rest of its lifetime, if the file states it.
    remaining: Option<Duration>,
    /// The time since the file was modified.
    age: Duration,
}

/// Why the file has no usable token. The text goes on after `token.file` and its path. It holds nothing of the content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum FileError {
    #[error("cannot be read: {0}")]
    Io(String),
    #[error("cannot be read")]
    ReadPanicked,
    #[error("cannot be read in time")]
    ReadTimedOut,
    #[error("is not a file")]
    NotAFile,
    #[error("is far too large for a token")]
    TooLarge,
    #[error("is empty")]
    Empty,
    #[error("begins like JSON and is none")]
    NotJson,
    #[error("is JSON without an access_token")]
    NoAccessToken,
    #[error("has an expiry that is no number")]
    Expiry,
    #[error("does not hold a token, which is one word")]
    NotAToken,
    #[error("holds a token that has expired by its own word: what keeps it fresh?")]
    Expired,
    #[error(
        "holds a token that WeChat refuses, and has not changed for two hours: what keeps it fresh?"
    )]
    Dead,
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

impl TokenFile {
    /// The file at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            reading: Arc::default(),
            last_read: Mutex::default(),
        }
    }

    /// What is wrong with the file since the last poll, though a token of it may be in use.
    pub fn problem(&self) -> Option<TokenError> {
        let error = self.last_read().error.clone()?;
        Some(self.token_error(&error))
    }

    /// The error as a sentence that names the file. A path without a slash may be a token by mistake, and is not
    /// repeated.
    fn token_error(&self, error: &FileError) -> TokenError {
        let path = self.path.display().to_string();
        TokenError::Unusable(match path.contains('/') {
            true => format!("token.file {path} {error}"),
            false => format!("token.file {error}"),
        })
    }

    /// Calls `read` with the path, on a thread that may block. There is one such thread at a time: the next read
    /// waits for it, which counts towards its own time limit.
    async fn off_runtime<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Path) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, FileError> {
        let (path, reading) = (self.path.clone(), self.reading.clone());
        let read = async {
            let reading = reading.lock_owned().await;
            let file = path.clone();
            blocking_at(&file, move || {
                let result = read(&path);
                drop(reading);
                result
            })
            .await
        };
        match timeout(READ_TIMEOUT, read).await {
            Ok(Some(result)) => result,
            Ok(None) => Err(FileError::ReadPanicked),
            Err(_) => Err(FileError::ReadTimedOut),
        }
    }

    /// Reads the file.
    async fn read(&self) -> Result<TokenDocument, FileError> {
        self.off_runtime(read_settled).await
    }

    /// Returns the token in `document`, if it is still usable.
    fn take(&self, document: TokenDocument) -> Result<FetchedToken, FileError> {
        let mut last = self.last_read();
        if last.dead.as_ref() == Some(&document.token) {
            return Err(FileError::Dead);
        }
        last.dead = None;
        last.stamp = Some(document.stamp.clone());
        last.error = None;
        let token = document.into_token()?;
        let fetched = false;
        Ok(FetchedToken { token, fetched })
    }

    /// Handles a file that still holds the token that WeChat just refused.
    fn take_refused(&self, document: TokenDocument) -> Result<FetchedToken, FileError> {
        if document.is_old() {
            self.last_read().dead = Some(document.token.clone());
        }
        self.take(document)
    }

    /// Returns the token in the file, if the file changed since it was last read.
    async fn changed(&self) -> Result<Option<Token>, FileError> {
        let stamp = self.off_runtime(stamp).await?;
        if self.last_read().stamp.as_ref() == Some(&stamp) {
            return Ok(None);
        }
        let document = self.read().await?;
        match self.take(document) {
            Ok(fetched) => Ok(Some(fetched.token)),
            // The error is reported when a token is needed.
            Err(_) => Ok(None),
        }
    }

    fn last_read(&self) -> MutexGuard<'_, LastRead> {
        self.last_read
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenSource for TokenFile {
    async fn fetch(&self, request: FetchRequest) -> Result<FetchedToken, TokenError> {
        let deadline = Instant::now() + REFUSAL_WAIT;
        let refused = request.current.filter(|_| request.cause == Cause::Refusal);
        loop {
            let last = refused.is_none() || Instant::now() >= deadline;
            match (self.read().await, &refused) {
                (Ok(document), Some(refused)) if document.token == *refused.value() => {
                    if last {
                        let taken = self.take_refused(document);
                        return taken.map_err(|error| self.token_error(&error));
                    }
                }
                (Ok(document), _) => {
                    let taken = self.take(document);
                    return taken.map_err(|error| self.token_error(&error));
                }
                (Err(error), _) if last => return Err(self.token_error(&error)),
                (Err(_), _) => {}
            }
            sleep(REFUSAL_POLL).await;
        }
    }

    async fn poll(&self) -> Option<Token> {
        gather().await;
        let changed = self.changed().await;
        let mut last = self.last_read();
        match changed {
            Ok(token) => {
                last.error = None;
                token
            }
            Err(error) => {
                // The account's problems tell of the first one.
                let is_another = last.error.as_ref().is_some_and(|known| *known != error);
                if is_another {
                    let error = self.token_error(&error);
                    tracing::warn!("{error}; keeping the last good token");
                }
                last.error = Some(error);
                None
            }
        }
    }

    fn poll_interval(&self) -> Option<Duration> {
        Some(POLL_INTERVAL)
    }
}

impl TokenDocument {
    /// Whether it states no lifetime and is older than tokens live.
    fn is_old(&self) -> bool {
        self.remaining.is_none() && self.age > USUAL
    }

    fn into_token(self) -> Result<Token, FileError> {
        let usual = || USUAL.saturating_sub(self.age).max(VOUCHED);
        let remaining = self.remaining.unwrap_or_else(usual);
        if remaining.is_zero() {
            return Err(FileError::Expired);
        }
        Ok(Token::new(self.token, remaining))
    }
}

/// Reads the file at `path`, and waits if it seems that it is being written.
fn read_settled(path: &Path) -> Result<TokenDocument, FileError> {
    let mut found = read(path);
    for _ in 0..5 {
        let recent = match &found {
            Ok(document) => document.age < SETTLE_TIME,
            // It may be half written, or about to be renamed into place.
            Err(_) => true,
        };
        if !recent {
            break;
        }
        thread::sleep(SETTLE_TIME);
        let again = read(path);
        let is_settled = match (&found, &again) {
            (Ok(found), Ok(again)) => found.stamp == again.stamp,
            (Err(found), Err(again)) => found == again,
            _ => false,
        };
        found = again;
        if is_settled {
            break;
        }
    }
    found
}

fn stamp(path: &Path) -> Result<FileStamp, FileError> {
    let metadata = fs::metadata(path)?;
    Ok(FileStamp::of(&metadata))
}

impl FileStamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            version: file_version(metadata),
            length: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

fn read(path: &Path) -> Result<TokenDocument, FileError> {
    let file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(FileError::NotAFile);
    }
    let mut text = Zeroizing::new(String::new());
    let length = file.take(MAX_SIZE + 1).read_to_string(&mut text)?;
    if length as u64 > MAX_SIZE {
        return Err(FileError::TooLarge);
    }
    // A time in the future counts as now.
    let modified = metadata.modified()?;
    let age = SystemTime::now().duration_since(modified);
    let age = age.unwrap_or_default();
    let (token, remaining) = parse(&text, age)?;
    Ok(TokenDocument {
        stamp: FileStamp::of(&metadata),
        token,
        remaining,
        age,
    })
}

/// Reads the token in `text`, and the rest of its lifetime, if the text states it.
fn parse(text: &str, age: Duration) -> Result<(Secret, Option<Duration>), FileError> {
    let text = secret::trim(text);
    if text.is_empty() {
        return Err(FileError::Empty);
    }
    if !text.starts_with('{') {
        return Ok((parse_value(&lenient::unquoted(text))?, None));
    }
    let json: Value = serde_json::from_str(text).map_err(|_| FileError::NotJson)?;
    let token = json.get("access_token").and_then(Value::as_str);
    let token = token.ok_or(FileError::NoAccessToken)?;
    let token = parse_value(token)?;
    let field = |name: &str| json.get(name).filter(|value| !value.is_null());
    let remaining = match (field("expires_at"), field("expires_in")) {
        (Some(at), _) => lifetime::remaining(at, age),
        (None, Some(seconds)) => lifetime::remaining(seconds, age),
        (None, None) => return Ok((token, None)),
    };
    Ok((token, Some(remaining.ok_or(FileError::Expiry)?)))
}

fn parse_value(token: &str) -> Result<Secret, FileError> {
    if token.is_empty() || token.len() > 4096 || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(FileError::NotAToken);
    }
    Ok(Secret::new(token))
}

impl std::fmt::Debug for LastRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LastRead")
            .field("stamp", &self.stamp)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
