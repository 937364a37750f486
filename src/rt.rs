//! A thin layer over tokio: what wakes a task, timers, sockets, files and suspensions.

pub mod count_guard;
pub mod file_watcher;
pub mod socket;
pub mod suspension;
pub mod task;
