//! An error in a setting, with the place where it was given.

use std::fmt::Display;

/// A sentence for the operator. It names the place, and never repeats a secret or a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct SettingError<P: Display> {
    place: P,
    problem: String,
}

impl<P: Display> SettingError<P> {
    /// An error with this `problem` at `place`.
    pub fn new(place: P, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self { place, problem }
    }
}
