//! What a call carries: a text, a file or stdin, opened so that its length is known before it is sent.

use std::{
    env,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::PathBuf,
};

use bytes::Bytes;

use crate::os::{self, FileExt};

/// How much of an input without a length is held in memory. The rest of it goes through a file.
const MOST_HELD: u64 = 1 << 20;

/// An argument that is content, or names it.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Input {
    Text(String),
    File(PathBuf),
    Stdin,
}

/// An input that is open. A file may be large, and is read while it is sent.
#[derive(Debug)]
pub(super) enum Piece {
    Bytes(Bytes),
    File {
        file: File,
        /// How many bytes of it are left.
        left: u64,
    },
}

/// Why an input cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {error}")]
pub(super) struct InputError {
    name: String,
    #[source]
    error: io::Error,
}

impl Input {
    /// `@` and a path, `@-` for stdin, or a text.
    pub(super) fn parse(text: &str) -> Self {
        match text.strip_prefix('@') {
            Some(path) => Self::of_path(path),
            None => Self::Text(text.to_owned()),
        }
    }

    /// The file at `path`, or stdin for `-`.
    pub(super) fn of_path(path: &str) -> Self {
        match path {
            "-" => Self::Stdin,
            path => Self::File(path.into()),
        }
    }

    /// Opens it.
    pub(super) fn open(self) -> Result<Piece, InputError> {
        let (name, file) = match self {
            Self::Text(text) => return Ok(Piece::Bytes(text.into())),
            Self::File(path) => (path.display().to_string(), File::open(path)),
            Self::Stdin => ("stdin".to_owned(), os::stdin()),
        };
        let opened = file.and_then(Piece::of);
        opened.map_err(|error| InputError { name, error })
    }
}

impl Piece {
    fn of(mut file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        // The kernel's own files, such as /proc/version, are files that tell no length.
        if metadata.is_file() && metadata.len() > 0 {
            let at = file.stream_position()?;
            let left = metadata.len().saturating_sub(at);
            return Ok(Self::File { file, left });
        }
        // A pipe or a terminal tells its length at its end.
        let mut held = Vec::new();
        (&file).take(MOST_HELD).read_to_end(&mut held)?;
        if (held.len() as u64) < MOST_HELD {
            return Ok(Self::Bytes(held.into()));
        }
        let name = format!("wechat-sidecar-call-{:016x}", fastrand::u64(..));
        let mut spool = os::unnamed_file(&env::temp_dir().join(name))?;
        spool.write_all(&held)?;
        io::copy(&mut file, &mut spool)?;
        let left = spool.stream_position()?;
        spool.seek(SeekFrom::Start(0))?;
        Ok(Self::File { file: spool, left })
    }

    /// Its length.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { left, .. } => *left,
        }
    }

    /// The first byte that is no white space, if it is near the beginning.
    pub(super) fn first_letter(&self) -> Option<u8> {
        let mut start = [0; 256];
        let start = match self {
            Self::Bytes(bytes) => bytes.as_ref(),
            Self::File { file, .. } => {
                let mut file = file;
                let at = file.stream_position().ok()?;
                let read = file.read_at(&mut start, at).ok()?;
                &start[..read]
            }
        };
        let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
        start.trim_ascii_start().first().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_tells_no_length_is_read_to_its_end() {
        let piece = Input::parse("@/proc/version").open().unwrap();
        assert_eq!(
            piece.length(),
            fs::read("/proc/version").unwrap().len() as u64
        );
        assert_eq!(Input::parse("@/dev/null").open().unwrap().length(), 0);
    }
}
