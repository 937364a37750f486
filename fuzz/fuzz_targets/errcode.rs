//! The scan for an errcode: of valid JSON it reads what a parser does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use wechat_sidecar::wechat::{api::Api, errcode};

fuzz_target!(|data: &[u8]| {
    let code = errcode::errcode(data);
    errcode::Verdict::of(Api::Wechat, data);
    errcode::Verdict::of(Api::Wecom, data);
    errcode::rid(data);
    errcode::ip(data);
    // What cannot carry a code has none.
    if errcode::can_carry(data) == Some(false) {
        assert_eq!(code, None);
    }
    // A key that is written with an escape, or twice, is read in another way than by a parser.
    let words = data.windows(9).filter(|word| *word == b"\"errcode\"");
    let Ok(Value::Object(object)) = serde_json::from_slice(data) else {
        return;
    };
    if data.contains(&b'\\') || words.count() != 1 {
        return;
    }
    let at_top = object.get("errcode");
    let value = at_top.or_else(|| object.get("base_resp")?.get("errcode"));
    match value {
        Some(Value::Number(number)) if number.is_i64() => assert_eq!(code, number.as_i64()),
        Some(Value::String(_) | Value::Number(_)) => {}
        Some(_) | None => assert_eq!(code, None),
    }
});
