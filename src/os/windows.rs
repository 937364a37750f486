//! Windows, for development: what it does instead of Unix.

mod unix_socket;

use std::{
    env,
    fs::{DirBuilder, File, Metadata, OpenOptions},
    future,
    io::{self, IoSlice, Read, Seek, SeekFrom, Write},
    os::windows::{
        fs::{MetadataExt, OpenOptionsExt as _},
        io::AsHandle,
    },
    path::Path,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{SendFlags, send, sockopt::set_tcp_keepidle},
};
use tokio::signal::windows::{CtrlBreak, CtrlC, ctrl_break, ctrl_c};

/// It takes the developer mode of Windows.
pub use std::os::windows::fs::symlink_file as symlink;
/// Files and sockets are not one thing here. Sockets are what it is asked of.
pub use std::os::windows::io::AsSocket as AsFd;
pub use unix_socket::{StdUnixStream, UnixListener, UnixStream, bind_unix_socket};

use super::{FileAccess, OpenFileLimit};

/// Neither the standard library nor tokio has Unix sockets here: to listen on one is an error of the configuration.
pub const HAS_UNIX_SOCKETS: bool = false;

/// Windows keeps this name for it, in every folder.
pub const NULL_DEVICE: &str = "NUL";

/// Sockets are counted, and files hardly.
pub const TOO_MANY_FILES: [Errno; 1] = [Errno::MFILE];

/// Has Windows remove a file when its last handle is closed (CreateFileW, FILE_FLAG_DELETE_ON_CLOSE).
const DELETE_ON_CLOSE: u32 = 0x0400_0000;

/// An event of the console, where Unix has a signal.
#[derive(Debug)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt(CtrlC),
    /// Ctrl-Break, which another process can send, too.
    Break(CtrlBreak),
    /// Nothing like it exists.
    Never,
}

impl Signal {
    /// Waits for the next one.
    pub async fn recv(&mut self) -> Option<()> {
        match self {
            Self::Interrupt(event) => event.recv().await,
            Self::Break(event) => event.recv().await,
            Self::Never => future::pending().await,
        }
    }
}

/// Ctrl-Break is what stops a program from without, as SIGTERM does.
pub fn terminate() -> io::Result<Signal> {
    ctrl_break().map(Signal::Break)
}

/// Ctrl-C is the same on both.
pub fn interrupt() -> io::Result<Signal> {
    ctrl_c().map(Signal::Interrupt)
}

/// No event asks a program to read its configuration again. The file is watched all the same.
pub fn hangup() -> io::Result<Signal> {
    Ok(Signal::Never)
}

/// A socket takes several buffers by a call that rustix does not have. The first one is sent, and the caller goes on.
pub fn writev(socket: impl AsFd, bufs: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
    let first = bufs.iter().find(|buf| !buf.is_empty());
    first.map_or(Ok(0), |buf| send(socket, buf, SendFlags::empty()))
}

/// Windows before version 10, and Wine, do not know the option. A connection is probed after two hours there.
pub fn set_keepalive_idle(socket: impl AsFd, idle: Duration) -> io::Result<()> {
    let _ = set_tcp_keepidle(socket, idle);
    Ok(())
}

/// Standard input is a handle, which becomes a file as well.
pub fn stdin() -> io::Result<File> {
    Ok(io::stdin().as_handle().try_clone_to_owned()?.into())
}

/// The standard library's own, since it alone writes UTF-8 to a console, which has another encoding.
pub fn stdout() -> io::Result<impl Write + Send + 'static> {
    Ok(io::stdout())
}

/// The same of standard error.
pub fn stderr() -> io::Result<impl Write + Send + 'static> {
    Ok(io::stderr())
}

/// Files have lists of who may do what, and no mode. They are not looked at: who may read a secret is the developer's
/// affair.
pub fn file_access(_: &Metadata) -> Option<FileAccess> {
    None
}

/// A file keeps the rights of its folder.
pub fn set_mode(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
}

/// So does an open one.
pub fn set_file_mode(_: &File, _: u32) -> io::Result<()> {
    Ok(())
}

/// A file is made with the rights of its folder.
pub trait OpenOptionsExt {
    /// Changes nothing.
    fn mode(&mut self, mode: u32) -> &mut Self;
}

impl OpenOptionsExt for OpenOptions {
    fn mode(&mut self, _: u32) -> &mut Self {
        self
    }
}

/// So is a folder.
pub trait DirBuilderExt {
    /// Changes nothing.
    fn mode(&mut self, mode: u32) -> &mut Self;
}

impl DirBuilderExt for DirBuilder {
    fn mode(&mut self, _: u32) -> &mut Self {
        self
    }
}

/// Reads at a place of a file.
pub trait FileExt {
    /// Windows moves the cursor by that, so it is put back.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl FileExt for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut file = self;
        let before = file.stream_position()?;
        file.seek(SeekFrom::Start(offset))?;
        let read = file.read(buf);
        file.seek(SeekFrom::Start(before))?;
        read
    }
}

/// The standard library tells no number of a file. The times of its creation and of its last write stand for it.
pub fn file_version(metadata: &Metadata) -> (u64, u64, i64, i64) {
    (metadata.creation_time(), metadata.last_write_time(), 0, 0)
}

/// A file that is open cannot be removed. Windows itself removes it when it is closed, and opens it for nobody else.
pub fn unnamed_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true);
    let options = options.share_mode(0).custom_flags(DELETE_ON_CLOSE);
    options.open(path)
}

/// Users have no numbers.
pub fn user() -> Option<u32> {
    None
}

/// Nor have groups.
pub fn groups() -> Vec<u32> {
    Vec::new()
}

/// Memory alone limits threads.
pub fn thread_limit() -> Option<(u32, u64)> {
    None
}

/// Memory alone limits handles.
pub fn open_file_limit() -> OpenFileLimit {
    OpenFileLimit {
        current: None,
        maximum: None,
    }
}

/// There is nothing to raise.
pub fn raise_open_file_limit() -> io::Result<()> {
    Ok(())
}

/// Nothing is counted in ticks, because there is no /proc.
pub fn clock_ticks_per_second() -> u64 {
    1
}

/// Nothing is counted in pages, for the same reason.
pub fn page_size() -> usize {
    1
}

/// Windows tells its name to each process.
pub fn host_name() -> String {
    env::var("COMPUTERNAME").unwrap_or_default()
}
