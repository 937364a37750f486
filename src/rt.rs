//! A thin layer over tokio: task wakers, timers, sockets and file watchers.

pub mod count_guard;
pub mod file_watcher;
pub mod socket;
pub mod task;
