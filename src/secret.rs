//! Secrets, which must never be printed, and the files they come from.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret string. Only [`expose`](Self::expose) gives access to it.
///
/// It has neither `Display` nor `Debug`, so that no log, error or panic can format it:
///
/// ```compile_fail
/// println!("{:?}", wechat_sidecar::secret::Secret::new("hunter2"));
/// ```
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_debug_implementations)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(Zeroizing::new(value.into()))
    }

    /// The text itself. Every call is a place to review for leaks.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `guess` is this secret. The time of the comparison does not depend on how much of it is right.
    pub fn matches(&self, guess: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(guess).into()
    }
}

/// A secret that may change while the process runs: given as text, or reread from a file.
pub struct SecretSource {
    /// Locked while the secret is replaced.
    path: Mutex<Option<PathBuf>>,
    /// Whether the file is being read, so that a read that hangs is not started twice.
    reading: AtomicBool,
    /// The last secret that could be read.
    held: ArcSwap<Secret>,
}

impl SecretSource {
    /// A secret that never changes.
    pub fn fixed(secret: Secret) -> Self {
        Self::new(None, secret)
    }

    /// The secret in the file at `path`, [trimmed](trim). An empty file is an error, and so is one that is not UTF-8.
    pub fn file(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let secret = read(&path)?;
        Ok(Self::new(Some(path), secret))
    }

    fn new(path: Option<PathBuf>, secret: Secret) -> Self {
        Self {
            path: Mutex::new(path),
            reading: AtomicBool::new(false),
            held: ArcSwap::from_pointee(secret),
        }
    }

    /// The secret as it was last read.
    pub fn held(&self) -> Arc<Secret> {
        self.held.load_full()
    }

    /// Whether both come from the same source: the same file, or the same text.
    pub fn same_source(&self, other: &Self) -> bool {
        let (path, same_text) = (self.path(), || *self.held() == *other.held());
        path == other.path() && (path.is_some() || same_text())
    }

    /// Uses the source of `other` from now on.
    pub fn replace_with(&self, other: &Self) {
        let (path, held) = (other.path(), other.held());
        let mut current = self.lock();
        *current = path;
        self.held.store(held);
    }

    /// Reads the file again, if there is one. Returns whether the secret has changed. If the file cannot be read,
    /// for example in the middle of a rotation, the last good secret stays in use.
    pub fn reread(&self) -> bool {
        let Some(path) = self.path() else {
            return false;
        };
        if self.reading.swap(true, Ordering::Relaxed) {
            return false;
        }
        let read = read(&path);
        self.reading.store(false, Ordering::Relaxed);
        match read {
            Ok(secret) => {
                let current = self.lock();
                let changed = current.as_deref() == Some(&path) && secret != **self.held.load();
                if changed {
                    self.held.store(Arc::new(secret));
                }
                changed
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "a secret file cannot be read; keeping the last good secret");
                false
            }
        }
    }

    fn path(&self) -> Option<PathBuf> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.path.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretSource")
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

fn read(path: &Path) -> io::Result<Secret> {
    let invalid = |problem| io::Error::new(io::ErrorKind::InvalidData, problem);
    let bytes = Zeroizing::new(fs::read(path)?);
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(invalid("the file is UTF-16: save it as UTF-8"));
    }
    let text = std::str::from_utf8(&bytes);
    match trim(text.map_err(|_| invalid("the file is not UTF-8"))?) {
        "" => Err(invalid("the file is empty")),
        secret => Ok(Secret::new(secret)),
    }
}

/// `text` without the white space and byte order marks around it, which editors add.
pub fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_loses_its_newline_and_a_broken_one_keeps_the_last_good_secret() {
        let path = std::env::temp_dir().join(format!("secret-{}", std::process::id()));
        fs::write(&path, "one\r\n").unwrap();
        let source = SecretSource::file(&path).unwrap();
        assert_eq!(source.held().expose(), "one");
        assert!(!source.reread());
        fs::write(&path, "two\n").unwrap();
        assert!(source.reread());
        assert_eq!(source.held().expose(), "two");
        fs::write(&path, "\n").unwrap();
        assert!(!source.reread());
        assert_eq!(source.held().expose(), "two");
        fs::remove_file(&path).unwrap();
        assert!(!source.reread());
        assert!(SecretSource::file(&path).is_err());
    }

    #[test]
    fn what_editors_put_around_a_secret_is_not_a_part_of_it() {
        let path = std::env::temp_dir().join(format!("secret-around-{}", std::process::id()));
        for bytes in ["\u{feff}one\r\n", " \n\tone \n\n", "\n\u{feff} one\u{a0}"] {
            fs::write(&path, bytes).unwrap();
            let source = SecretSource::file(&path).unwrap();
            assert_eq!(source.held().expose(), "one", "{bytes:?}");
        }
        for (bytes, says) in [
            (&b"\xef\xbb\xbf \n"[..], "empty"),
            (b"\xff\xfeo\0n\0e\0", "UTF-16"),
            (b"one\xff", "not UTF-8"),
        ] {
            fs::write(&path, bytes).unwrap();
            let error = SecretSource::file(&path).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_secret_can_come_from_elsewhere_from_now_on() {
        let path = std::env::temp_dir().join(format!("secret-follow-{}", std::process::id()));
        fs::write(&path, "one").unwrap();
        let (source, fixed) = (
            SecretSource::fixed(Secret::new("zero")),
            SecretSource::fixed(Secret::new("two")),
        );
        let file = SecretSource::file(&path).unwrap();
        assert!(!source.same_source(&file) && !source.same_source(&fixed));
        source.replace_with(&file);
        assert_eq!(source.held().expose(), "one");
        fs::write(&path, "three").unwrap();
        // What a file says now is no difference.
        assert!(source.same_source(&SecretSource::file(&path).unwrap()));
        assert!(source.reread());
        assert_eq!(source.held().expose(), "three");
        source.replace_with(&fixed);
        assert!(!source.reread() && source.same_source(&fixed));
        assert_eq!(source.held().expose(), "two");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn only_the_whole_secret_matches() {
        let secret = Secret::new("abc");
        assert!(secret.matches(b"abc"));
        assert!(!secret.matches(b"ab") && !secret.matches(b"abd") && !secret.matches(b""));
    }
}
