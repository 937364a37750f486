//! An error in the configuration, with the place of the value.

use std::{fmt, path::PathBuf};

use crate::settings::error::SettingError;

/// Why the program does not start, as a sentence for the operator.
pub type ConfigError = SettingError<Provenance>;

/// The place of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// A flag.
    Flag(&'static str),
    /// An environment variable.
    Variable(String),
    /// A key of the file.
    File {
        /// The key.
        key: String,
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// A line of the file that has no key.
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// A default.
    Default(&'static str),
}

impl Provenance {
    /// The same without a line, which may be another one when the file has changed.
    pub fn without_line(&self) -> String {
        match self {
            Self::File { key, path, .. } => format!("{key} in {}", path.display()),
            Self::Line { path, .. } => path.display().to_string(),
            Self::Flag(_) | Self::Variable(_) | Self::Default(_) => self.to_string(),
        }
    }
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Variable(name) => f.write_str(name),
            Self::File { key, path, line } => {
                write!(f, "{key} in {}, line {line}", path.display())
            }
            Self::Line { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Default(name) => write!(f, "the default of --{name}"),
        }
    }
}
