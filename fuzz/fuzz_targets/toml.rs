//! The configuration file: no text makes it fail otherwise than with a sentence, which tells no value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wechat_sidecar::config::fuzz::file;

fuzz_target!(|text: &str| file(text));
