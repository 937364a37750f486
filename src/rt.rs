//! A thin layer over tokio: task wakers, timers, sockets, signals, file watchers and suspensions of the machine.

pub mod count_guard;
pub mod file_watcher;
pub mod memory_limit;
pub mod signals;
pub mod socket;
pub mod spare_files;
pub mod suspension;
pub mod task;
