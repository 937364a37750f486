//! Open files that are kept in reserve, so that a few connections can be accepted when no more files may be opened.

use std::{
    fs::File,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::os::{NULL_DEVICE, TOO_MANY_FILES};

/// See the [module](self).
#[derive(Debug)]
pub struct SpareFiles {
    wanted: usize,
    files: Mutex<Vec<File>>,
}

impl SpareFiles {
    /// Opens so many, or as many as may be.
    pub fn new(wanted: usize) -> Self {
        let files = Mutex::default();
        let spare = Self { wanted, files };
        spare.refill();
        spare
    }

    /// Closes one, for an `error` that says that no more files may be opened. Returns whether there was one.
    pub fn give_way(&self, error: &io::Error) -> bool {
        let kinds = TOO_MANY_FILES.map(|errno| Some(errno.raw_os_error()));
        kinds.contains(&error.raw_os_error()) && self.lock().pop().is_some()
    }

    /// Opens those again that were closed, as far as that is possible.
    pub fn refill(&self) {
        let mut files = self.lock();
        while files.len() < self.wanted
            && let Ok(file) = File::open(NULL_DEVICE)
        {
            files.push(file);
        }
    }

    /// Whether one was closed and not opened again.
    pub fn is_short(&self) -> bool {
        self.lock().len() < self.wanted
    }

    fn lock(&self) -> MutexGuard<'_, Vec<File>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
