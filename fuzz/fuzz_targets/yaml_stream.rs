//! A stream of YAML for `inject`: what has no workload stays as it is, and a second run changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wechat_sidecar::k8s::inject::{
    Injector,
    stream::{Direction, transform},
};

fuzz_target!(|text: &str| {
    let injector = Injector::default();
    let Ok(done) = transform(&injector, text, Direction::In) else {
        return;
    };
    let again = transform(&injector, &done.text, Direction::In).expect("its own output is refused");
    assert_eq!(again.text, done.text, "a second injection changes something");
    // A stream that stays as it is may have a mistake where nobody looked.
    if done.text != text.trim_start_matches('\u{feff}') {
        let out = transform(&injector, &done.text, Direction::Out);
        assert!(out.is_ok(), "{out:?}");
    }
});
