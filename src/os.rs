//! What Unix and Windows have each in its own way. A module that needs one of these names no system itself.
//!
//! Linux and macOS are `unix`, and all that serves in production runs there. `windows` is for development: each item of
//! it says what Windows does instead.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::*;
#[cfg(windows)]
pub use windows::*;

/// Who owns a file, and its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileAccess {
    /// The user that owns it.
    pub uid: u32,
    /// The group that owns it.
    pub gid: u32,
    /// The permissions.
    pub mode: u32,
}

/// How many files this process may open. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFileLimit {
    /// The limit now.
    pub current: Option<u64>,
    /// That to which the process may raise it.
    pub maximum: Option<u64>,
}
