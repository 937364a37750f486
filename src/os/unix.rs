//! Linux and macOS.

use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::sockopt::set_tcp_keepidle,
    process::{Resource, getegid, geteuid, getgroups, getrlimit, getuid, setrlimit},
    system::uname,
};
use tokio::signal::unix::{SignalKind, signal};

pub use rustix::{
    io::writev,
    param::{clock_ticks_per_second, page_size},
};
pub use std::os::{
    fd::AsFd,
    unix::{
        fs::{DirBuilderExt, FileExt, OpenOptionsExt, symlink},
        net::UnixStream as StdUnixStream,
    },
};
pub use tokio::{
    net::{UnixListener, UnixStream},
    signal::unix::Signal,
};

use super::{FileAccess, OpenFileLimit};

/// Whether there are Unix sockets.
pub const HAS_UNIX_SOCKETS: bool = true;

/// A file that has nothing in it.
pub const NULL_DEVICE: &str = "/dev/null";

/// The errors of opening one file too many.
pub const TOO_MANY_FILES: [Errno; 2] = [Errno::MFILE, Errno::NFILE];

/// The most files that macOS lets a process open whose limit has no maximum: its OPEN_MAX, see setrlimit(2) there.
const OPEN_MAX: Option<u64> = if cfg!(target_os = "macos") {
    Some(10_240)
} else {
    None
};

/// SIGTERM. From now on it does not end the process. This must be called on a runtime, as the next two.
pub fn terminate() -> io::Result<Signal> {
    signal(SignalKind::terminate())
}

/// SIGINT, which Ctrl-C sends.
pub fn interrupt() -> io::Result<Signal> {
    signal(SignalKind::interrupt())
}

/// SIGHUP.
pub fn hangup() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Binds a Unix socket that its user and its group may connect to.
pub fn bind_unix_socket(path: &Path) -> io::Result<UnixListener> {
    remove_stale(path)?;
    let listener = UnixListener::bind(path)?;
    set_mode(path, 0o660)?;
    Ok(listener)
}

/// Removes a Unix socket that no process listens on any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match StdUnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens on it",
        )),
    }
}

/// Sets how long a connection is idle before it is probed.
pub fn set_keepalive_idle(socket: impl AsFd, idle: Duration) -> io::Result<()> {
    Ok(set_tcp_keepidle(socket, idle)?)
}

/// Standard input, as a file.
pub fn stdin() -> io::Result<File> {
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

/// Standard output, without the lock and the buffer of the standard library.
pub fn stdout() -> io::Result<File> {
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}

/// The same of standard error.
pub fn stderr() -> io::Result<File> {
    Ok(io::stderr().as_fd().try_clone_to_owned()?.into())
}

/// Who owns the file that `metadata` is of, and its mode. `None` where files have no such.
pub fn file_access(metadata: &Metadata) -> Option<FileAccess> {
    Some(FileAccess {
        uid: metadata.uid(),
        gid: metadata.gid(),
        mode: metadata.mode() & 0o7777,
    })
}

/// Sets the mode of the file or folder at `path`.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Sets the mode of an open file.
pub fn set_file_mode(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode))
}

/// Changes when the file is written or another one takes its place: its device and number, and the time of its last
/// change, which no program can set.
pub fn file_version(metadata: &Metadata) -> (u64, u64, i64, i64) {
    let (changed, nanoseconds) = (metadata.ctime(), metadata.ctime_nsec());
    (metadata.dev(), metadata.ino(), changed, nanoseconds)
}

/// A new file at `path` that only this process can open, and that is gone when it is closed.
pub fn unnamed_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true).mode(0o600);
    let file = options.open(path)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// The user as whom this process opens files. `None` where users have no numbers.
pub fn user() -> Option<u32> {
    Some(geteuid().as_raw())
}

/// The groups as which this process opens files.
pub fn groups() -> Vec<u32> {
    let groups = getgroups().unwrap_or_default();
    let groups = groups.into_iter().chain([getegid()]);
    groups.map(|group| group.as_raw()).collect()
}

/// The user of this process, and how many threads all processes of that user may have together. `None` if nothing limits
/// them, as with root.
pub fn thread_limit() -> Option<(u32, u64)> {
    let user = getuid();
    let limit = getrlimit(Resource::Nproc).current?;
    (!user.is_root()).then(|| (user.as_raw(), limit))
}

/// How many files this process may open.
pub fn open_file_limit() -> OpenFileLimit {
    let limit = getrlimit(Resource::Nofile);
    OpenFileLimit {
        current: limit.current,
        maximum: limit.maximum.or(OPEN_MAX),
    }
}

/// Raises that limit as far as the system allows.
pub fn raise_open_file_limit() -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    let most = open_file_limit().maximum;
    if limit.current < most {
        limit.current = most;
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(())
}

/// The name of this machine.
pub fn host_name() -> String {
    uname().nodename().to_string_lossy().into_owned()
}
