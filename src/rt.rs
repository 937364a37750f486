//! A thin layer over tokio: task wakers, timers, sockets, file watchers and suspensions of the machine.

pub mod count_guard;
pub mod file_watcher;
pub mod socket;
pub mod suspension;
pub mod task;
