//! A fake WeChat and the real sidecar in front of it, on ports of their own.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod sidecar;
pub mod wechat;

#[allow(unused_imports)]
pub use self::{
    sidecar::{Reply, Sidecar},
    wechat::{APPID, SECRET, Wechat},
};
