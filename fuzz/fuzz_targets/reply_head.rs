//! The head of WeChat's reply: it is the same however it is cut, and its names keep their spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wechat_sidecar::client::fuzz::reply_head;

fuzz_target!(|data: &[u8]| reply_head(data));
