//! A thin layer over tokio: task wakers, timers, sockets, file watchers, threads that may block, and suspensions of
//! the machine.

pub mod blocking;
pub mod count_guard;
pub mod file_watcher;
pub mod socket;
pub mod suspension;
pub mod task;
