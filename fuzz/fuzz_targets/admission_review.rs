//! The webhook's question: any bytes get an answer, and an injected pod needs no second injection.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wechat_sidecar::k8s::webhook::fuzz::review;

fuzz_target!(|data: &[u8]| review(data));
