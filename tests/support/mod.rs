//! A fake WeChat with the real sidecar in front of it, on ports of their own.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod app;
pub mod egress;
pub mod fake_process;
pub mod redis;
pub mod scripted;
pub mod sdk;
pub mod sidecar;
pub mod signal;

use std::time::Duration;

#[allow(unused_imports)]
pub use wechat_sidecar::fake as wechat;

#[allow(unused_imports)]
pub use self::{
    app::App,
    fake_process::FakeProcess,
    redis::Redis,
    sidecar::{Reply, Sidecar},
    wechat::{APPID, SECRET, Wechat},
};

/// How long a test waits for something that must happen. The sidecar itself waits longer for a silent app.
pub const PATIENCE: Duration = Duration::from_secs(30);
