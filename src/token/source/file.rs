//! Tokens from a file that something else keeps fresh.
//!
//! The file holds the bare token, or JSON: `{"access_token": …}` with `expires_in`, counted from the
//! file's modification, or `expires_at`, a Unix time. Where neither is said, a token is good for the
//! usual two hours, and longer as long as the file vouches for it; until WeChat refuses it.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::SystemTime,
};

use serde_json::Value;
use tokio::{
    task::spawn_blocking,
    time::{Duration, Instant, sleep, timeout},
};
use zeroize::Zeroizing;

use super::{
    FetchRequest, FetchedToken, TokenError, TokenSource,
    lifetime::{self, USUAL, VOUCHED},
};
use crate::{metrics::Cause, secret::Secret, token::Token};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// How long a refusal waits for another token in the file: whoever writes it may be about to.
const WAIT: Duration = Duration::from_secs(2);

/// How often it looks meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// A file on a network may take its time.
const SLOWEST: Duration = Duration::from_secs(5);

/// A file that changed this short a time ago may be half written.
const SETTLED: Duration = Duration::from_millis(50);

/// A token is far smaller.
const LARGEST: u64 = 64 * 1024;

/// Takes an account's tokens from a file.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    known: Mutex<LastRead>,
}

/// What is known of the file's content.
#[derive(Default)]
struct LastRead {
    /// How it was marked when it was last read and made sense.
    mark: Option<FileStamp>,
    /// Older than tokens get, and refused: not used again.
    dead: Option<Secret>,
    /// What was wrong with it when it was last looked at.
    problem: Option<String>,
}

/// What the system says of a file; it changes when the content does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FileStamp {
    file: (u64, u64),
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What the file holds.
struct TokenDocument {
    mark: FileStamp,
    token: Secret,
    /// What is left of its life, if that is said.
    left: Option<Duration>,
    /// Since the file was modified.
    age: Duration,
}

impl TokenFile {
    /// The file at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            known: Mutex::default(),
        }
    }

    /// Reads the file, wherever that may block.
    async fn read(&self) -> Result<TokenDocument, String> {
        let path = self.path.clone();
        let read = spawn_blocking(move || settled(&path));
        match timeout(SLOWEST, read).await {
            Ok(Ok(content)) => content,
            Ok(Err(_)) => Err("cannot be read".to_owned()),
            Err(_) => Err("cannot be read in time".to_owned()),
        }
    }

    /// The token in `content`, if it can still be used.
    fn take(&self, content: TokenDocument) -> Result<FetchedToken, TokenError> {
        let mut known = self.known();
        if known.dead.as_ref() == Some(&content.token) {
            return Err(unusable(DEAD));
        }
        known.dead = None;
        known.mark = Some(content.mark.clone());
        known.problem = None;
        let token = content.into_token().map_err(|problem| unusable(&problem))?;
        let fetched = false;
        Ok(FetchedToken { token, fetched })
    }

    /// The token that WeChat just refused, when the file goes on saying that it is the one.
    fn insist(&self, content: TokenDocument) -> Result<FetchedToken, TokenError> {
        if content.is_old() {
            self.known().dead = Some(content.token.clone());
        }
        self.take(content)
    }

    /// The token in the file, if the file changed since it was last read.
    async fn changed(&self) -> Result<Option<Token>, String> {
        let path = self.path.clone();
        let look = spawn_blocking(move || stamp(&path));
        let mark = match timeout(SLOWEST, look).await {
            Ok(Ok(mark)) => mark?,
            _ => return Err("cannot be looked at".to_owned()),
        };
        if self.known().mark.as_ref() == Some(&mark) {
            return Ok(None);
        }
        let content = self.read().await?;
        match self.take(content) {
            Ok(issued) => Ok(Some(issued.token)),
            // Why the token cannot be used is said when one is needed.
            Err(_) => Ok(None),
        }
    }

    fn known(&self) -> MutexGuard<'_, LastRead> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenSource for TokenFile {
    async fn fetch(&self, wanted: FetchRequest) -> Result<FetchedToken, TokenError> {
        let until = Instant::now() + WAIT;
        let refused = wanted.current.filter(|_| wanted.cause == Cause::Refusal);
        loop {
            let last = refused.is_none() || Instant::now() >= until;
            match (self.read().await, &refused) {
                (Ok(content), Some(refused)) if content.token == *refused.value() => {
                    if last {
                        return self.insist(content);
                    }
                }
                (Ok(content), _) => return self.take(content),
                (Err(problem), _) if last => return Err(unusable(&problem)),
                (Err(_), _) => {}
            }
            sleep(PAUSE).await;
        }
    }

    async fn poll(&self) -> Option<Token> {
        let changed = self.changed().await;
        let mut known = self.known();
        match changed {
            Ok(token) => {
                known.problem = None;
                token
            }
            Err(problem) => {
                if known.problem.as_ref() != Some(&problem) {
                    tracing::warn!("token.file {problem}; keeping the last good token");
                    known.problem = Some(problem);
                }
                None
            }
        }
    }

    fn poll_interval(&self) -> Option<Duration> {
        Some(LOOK)
    }
}

const DEAD: &str =
    "holds a token that WeChat refuses, and has not changed for two hours: what keeps it fresh?";

/// An error about the file. Its path is not repeated: it may be a secret by mistake.
fn unusable(problem: &str) -> TokenError {
    TokenError::Unusable(format!("token.file {problem}"))
}

impl TokenDocument {
    /// Whether no token is said to live, or lives, for that long.
    fn is_old(&self) -> bool {
        self.left.is_none() && self.age > USUAL
    }

    fn into_token(self) -> Result<Token, String> {
        let usual = || USUAL.saturating_sub(self.age).max(VOUCHED);
        let left = self.left.unwrap_or_else(usual);
        if left.is_zero() {
            let problem = "holds a token that has expired by its own word: what keeps it fresh?";
            return Err(problem.to_owned());
        }
        Ok(Token::new(self.token, left))
    }
}

/// What the file at `path` holds once nobody is writing it any more, as far as can be seen.
fn settled(path: &Path) -> Result<TokenDocument, String> {
    let mut found = read(path);
    for _ in 0..5 {
        let recent = match &found {
            Ok(content) => content.age < SETTLED,
            // It may be written just now, or about to be renamed into place.
            Err(_) => true,
        };
        if !recent {
            break;
        }
        thread::sleep(SETTLED);
        let again = read(path);
        let rests = match (&found, &again) {
            (Ok(found), Ok(again)) => found.mark == again.mark,
            (Err(found), Err(again)) => found == again,
            _ => false,
        };
        found = again;
        if rests {
            break;
        }
    }
    found
}

fn stamp(path: &Path) -> Result<FileStamp, String> {
    let metadata = fs::metadata(path).map_err(|error| cannot(&error))?;
    Ok(FileStamp::of(&metadata))
}

impl FileStamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn read(path: &Path) -> Result<TokenDocument, String> {
    let file = fs::File::open(path).map_err(|error| cannot(&error))?;
    let metadata = file.metadata().map_err(|error| cannot(&error))?;
    if !metadata.is_file() {
        return Err("is not a file".to_owned());
    }
    let mut text = Zeroizing::new(String::new());
    let length = file.take(LARGEST + 1).read_to_string(&mut text);
    if length.map_err(|error| cannot(&error))? as u64 > LARGEST {
        return Err("is far too large for a token".to_owned());
    }
    // A time in the future is as good as now.
    let modified = metadata.modified().map_err(|error| cannot(&error))?;
    let age = SystemTime::now().duration_since(modified);
    let age = age.unwrap_or_default();
    let (token, left) = understand(&text, age)?;
    Ok(TokenDocument {
        mark: FileStamp::of(&metadata),
        token,
        left,
        age,
    })
}

fn cannot(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

/// The token in `text`, and what is left of its life, if that is said.
fn understand(text: &str, age: Duration) -> Result<(Secret, Option<Duration>), String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if !text.starts_with('{') {
        return Ok((plausible(text)?, None));
    }
    let json: Value =
        serde_json::from_str(text).map_err(|_| "begins like JSON and is none".to_owned())?;
    let token = json.get("access_token").and_then(Value::as_str);
    let token = token.ok_or_else(|| "is JSON without an access_token".to_owned())?;
    let token = plausible(token)?;
    let said = |name: &str| json.get(name).filter(|value| !value.is_null());
    let left = match (said("expires_at"), said("expires_in")) {
        (Some(at), _) => lifetime::left(at, age),
        (None, Some(seconds)) => lifetime::left(seconds, age),
        (None, None) => return Ok((token, None)),
    };
    let left = left.ok_or_else(|| "has an expiry that is no number".to_owned())?;
    Ok((token, Some(left)))
}

fn plausible(token: &str) -> Result<Secret, String> {
    if token.is_empty() || token.len() > 4096 || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("does not hold a token, which is one word".to_owned());
    }
    Ok(Secret::new(token))
}

impl std::fmt::Debug for LastRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known")
            .field("mark", &self.mark)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
