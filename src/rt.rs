//! A thin layer over tokio: what wakes a task, timers and sockets.

pub mod count_guard;
pub mod socket;
pub mod task;
