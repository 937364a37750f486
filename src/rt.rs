//! A thin layer over tokio: what wakes a task, timers, sockets and files.

pub mod count_guard;
pub mod file_watcher;
pub mod socket;
pub mod task;
