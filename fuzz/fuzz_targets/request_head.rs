//! The head of an app's call: the fast path, the check of its framing and the split of calls agree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wechat_sidecar::server::fuzz::request_head;

fuzz_target!(|data: &[u8]| request_head(data));
