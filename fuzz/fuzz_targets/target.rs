//! The target of a call and the headers of its reply: our token goes in once, and comes back in no header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wechat_sidecar::proxy::fuzz::target;

fuzz_target!(|data: &[u8]| target(data));
