//! Files that are whole whenever somebody reads them.

use std::{
    fs::{self, Metadata, OpenOptions},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use super::error::CaError;
use crate::os::{OpenOptionsExt, file_access, set_file_mode, set_mode, symlink};

/// The beginning of the names of what is not complete.
const INCOMPLETE: &str = ".incomplete-";

/// When something incomplete is certainly left over from a process that ended.
const LEFT_OVER: Duration = Duration::from_secs(60);

/// Everybody may read.
const PUBLIC_FOLDER: u32 = 0o755;
const PUBLIC_FILE: u32 = 0o644;

/// A path in `dir` for something that is not complete yet.
pub(super) fn incomplete(dir: &Path) -> PathBuf {
    dir.join(format!("{INCOMPLETE}{:016x}", fastrand::u64(..)))
}

/// Removes from `dir` what processes that ended did not complete.
pub(super) fn remove_left_over(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(INCOMPLETE);
        let made = entry.metadata().and_then(|found| found.modified()).ok();
        let age = made.and_then(|made| made.elapsed().ok());
        if is_ours && age.is_some_and(|age| age > LEFT_OVER) {
            let path = entry.path();
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }
}

/// The error of not being able to write `path`.
pub(super) fn cannot_write(path: &Path) -> impl FnOnce(io::Error) -> CaError {
    let path = path.to_owned();
    move |error| CaError::Write { path, error }
}

/// Whether everybody may list a folder and open what is in it.
pub(super) fn is_open(dir: &Path) -> bool {
    fs::metadata(dir).is_ok_and(|found| has_mode(&found, |mode| mode & 0o005 == 0o005))
}

/// Whether the mode of a file is `good`, or files have none.
fn has_mode(found: &Metadata, good: impl FnOnce(u32) -> bool) -> bool {
    file_access(found).is_none_or(|access| good(access.mode))
}

/// Makes a folder of ours in the folder `dir`, and opens it to everybody if it is there and closed.
pub(super) fn own_folder(dir: &Path) -> Result<(), CaError> {
    public_folder(dir)?;
    if is_open(dir) {
        return Ok(());
    }
    set_mode(dir, PUBLIC_FOLDER).map_err(cannot_write(dir))
}

/// Tries to write a file in `dir`, or in the folder in which it would be made. None is left.
pub(super) fn try_to_write(dir: &Path) -> Result<(), CaError> {
    let mut above = dir.ancestors();
    let there = above.find(|dir| fs::symlink_metadata(dir).is_ok());
    let there = there.unwrap_or(dir);
    let file = incomplete(there);
    let mut options = OpenOptions::new();
    let made = options.write(true).create_new(true).open(&file);
    let written = made.and_then(|mut made| made.write_all(b"x"));
    let _ = fs::remove_file(&file);
    written.map_err(cannot_write(there))
}

/// Makes a folder that everybody may read, and those above it, if there is none.
pub(super) fn public_folder(dir: &Path) -> Result<(), CaError> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(above) = dir.parent() {
        public_folder(above)?;
    }
    match fs::create_dir(dir) {
        // The umask may have taken something away.
        Ok(()) => set_mode(dir, PUBLIC_FOLDER),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
    .map_err(cannot_write(dir))
}

/// Makes `name` in `dir` a file with these contents that everybody may read. It is written elsewhere in `dir` first.
pub(super) fn public_file(dir: &Path, name: &str, contents: &[u8]) -> Result<(), CaError> {
    let path = dir.join(name);
    let is_there = || {
        let found = fs::symlink_metadata(&path).ok()?;
        let is_open = has_mode(&found, |mode| mode & 0o777 == PUBLIC_FILE);
        Some(is_open && fs::read(&path).ok()? == contents)
    };
    if is_there() == Some(true) {
        return Ok(());
    }
    replace(dir, &path, |incomplete| {
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(PUBLIC_FILE);
        let mut file = options.open(incomplete)?;
        // The umask may have taken something away.
        set_file_mode(&file, PUBLIC_FILE)?;
        file.write_all(contents)?;
        file.sync_all()
    })
}

/// Makes `name` in `dir` a link to `target`.
pub(super) fn link(dir: &Path, name: &str, target: &str) -> Result<(), CaError> {
    let path = dir.join(name);
    match fs::read_link(&path) {
        Ok(found) if found == Path::new(target) => Ok(()),
        _ => replace(dir, &path, |incomplete| symlink(target, incomplete)),
    }
}

fn replace(
    dir: &Path,
    path: &Path,
    make: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), CaError> {
    let incomplete = incomplete(dir);
    let made = make(&incomplete).and_then(|()| fs::rename(&incomplete, path));
    if made.is_err() {
        let _ = fs::remove_file(&incomplete);
    }
    made.map_err(cannot_write(path))
}

/// Removes `path`, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), CaError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(cannot_write(path)(error)),
        _ => Ok(()),
    }
}
