//! A thin layer over tokio: task wakers, timers, sockets, signals, file watchers, threads that may block, what
//! is dropped there, long loops in pieces, and suspensions of the machine.

pub mod blocking;
pub mod control_group;
pub mod count_guard;
pub mod file_watcher;
pub mod pieces;
pub mod retire;
pub mod signals;
pub mod socket;
pub mod spare_files;
pub mod suspension;
pub mod task;
