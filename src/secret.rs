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

/// A secret that may change while the process runs. It is given as text, or loaded from a file.
pub struct SecretSource {
    /// Locked while the secret is replaced.
    origin: Mutex<SecretOrigin>,
    /// Whether the file is being read, so that a read that hangs is not started twice.
    reading: AtomicBool,
    /// Whether the file could not be read the last time, which is logged once.
    is_unreadable: AtomicBool,
    /// The last secret that could be read.
    held: ArcSwap<Secret>,
}

/// Where a secret comes from.
#[derive(Clone, Debug, Default)]
struct SecretOrigin {
    /// The file that holds it.
    path: Option<PathBuf>,
    /// The setting that holds it, or names the file.
    setting: Option<Arc<str>>,
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
            origin: Mutex::new(SecretOrigin {
                path,
                setting: None,
            }),
            reading: AtomicBool::new(false),
            is_unreadable: AtomicBool::new(false),
            held: ArcSwap::from_pointee(secret),
        }
    }

    /// The same secret, given by `setting`: a variable, or a key in a file.
    pub fn given_by(self, setting: impl Into<Arc<str>>) -> Self {
        self.lock().setting = Some(setting.into());
        self
    }

    /// Where it was read from, for advice: the file, and the setting that names it. `None` if nobody said.
    pub fn place(&self) -> Option<String> {
        let SecretOrigin { path, setting } = self.lock().clone();
        match (path, setting) {
            (Some(path), Some(setting)) => Some(format!("the file {} ({setting})", path.display())),
            (Some(path), None) => Some(format!("the file {}", path.display())),
            (None, setting) => setting.as_deref().map(str::to_owned),
        }
    }

    /// The file that it is read from, if there is one.
    pub fn file_path(&self) -> Option<PathBuf> {
        self.lock().path.clone()
    }

    /// The variable, or the key in a file, that holds it or names its file. `None` if nobody said.
    pub fn setting(&self) -> Option<Arc<str>> {
        self.lock().setting.clone()
    }

    /// The secret as it was last read.
    pub fn held(&self) -> Arc<Secret> {
        self.held.load_full()
    }

    /// Whether both come from the same source: the same file, or the same text.
    pub fn same_source(&self, other: &Self) -> bool {
        let (path, same_text) = (self.file_path(), || *self.held() == *other.held());
        path == other.file_path() && (path.is_some() || same_text())
    }

    /// Uses the source of `other` from now on.
    pub fn replace_with(&self, other: &Self) {
        let (origin, held) = (other.lock().clone(), other.held());
        let mut current = self.lock();
        *current = origin;
        self.held.store(held);
    }

    /// Reads the file again, if there is one. Returns whether the secret has changed. If the file cannot be read,
    /// for example in the middle of a rotation, the last good secret stays in use.
    pub fn reload(&self) -> bool {
        let Some(path) = self.file_path() else {
            return false;
        };
        if self.reading.swap(true, Ordering::Relaxed) {
            return false;
        }
        let read = read(&path);
        self.reading.store(false, Ordering::Relaxed);
        let was_unreadable = self.is_unreadable.swap(read.is_err(), Ordering::Relaxed);
        match read {
            Ok(secret) => {
                let current = self.lock();
                let changed = current.path.as_ref() == Some(&path) && secret != **self.held.load();
                if changed {
                    self.held.store(Arc::new(secret));
                }
                changed
            }
            Err(error) => {
                if !was_unreadable {
                    tracing::warn!(file = %path.display(), %error, "a secret file cannot be read; keeping the last good secret");
                }
                false
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, SecretOrigin> {
        self.origin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretSource")
            .field("path", &self.file_path())
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
        assert!(!source.reload());
        fs::write(&path, "two\n").unwrap();
        assert!(source.reload());
        assert_eq!(source.held().expose(), "two");
        fs::write(&path, "\n").unwrap();
        assert!(!source.reload());
        assert_eq!(source.held().expose(), "two");
        fs::remove_file(&path).unwrap();
        assert!(!source.reload());
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
            SecretSource::fixed(Secret::new("two")).given_by("WECHAT_SECRET"),
        );
        let file = SecretSource::file(&path).unwrap();
        assert!(!source.same_source(&file) && !source.same_source(&fixed));
        source.replace_with(&file);
        assert_eq!(source.held().expose(), "one");
        let place = format!("the file {}", path.display());
        assert_eq!(source.place(), Some(place));
        fs::write(&path, "three").unwrap();
        // A difference in the content of the file does not count.
        assert!(source.same_source(&SecretSource::file(&path).unwrap()));
        assert!(source.reload());
        assert_eq!(source.held().expose(), "three");
        source.replace_with(&fixed);
        assert!(!source.reload() && source.same_source(&fixed));
        assert_eq!(source.place().as_deref(), Some("WECHAT_SECRET"));
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
