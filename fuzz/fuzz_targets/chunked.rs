//! A chunked body: it is the same however it is cut, and both decoders see the same end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wechat_sidecar::server::fuzz::chunked;

fuzz_target!(|data: &[u8]| chunked(data));
