//! What is wrong with a configuration, and where it was said.

use std::{fmt, path::PathBuf};

/// Why the program does not start: a sentence for the operator, which names the place and never
/// repeats a secret or a URL.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ConfigError {
    place: Provenance,
    problem: String,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// The command line.
    Flag(&'static str),
    /// The environment.
    Variable(String),
    /// A key in the file.
    File {
        /// Which key.
        key: String,
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// A line of the file that has no key.
    Line {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// Nobody said it.
    Default(&'static str),
}

impl ConfigError {
    /// `problem` at `place`.
    pub fn new(place: Provenance, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self { place, problem }
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
