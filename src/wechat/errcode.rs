//! Error codes of WeChat and WeCom, which arrive with HTTP 200, and whether a reply refuses the token.

use std::{net::IpAddr, sync::LazyLock};

use memchr::memmem::{self, Finder};

use super::api::Api;

static KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"errcode\""));

/// The token has expired.
pub const EXPIRED: i64 = 42001;

/// The codes that reject the token. WeChat checks the token before it processes a call. WeCom's 40001 is about a
/// secret, and never answers a call with a token.
pub const fn refusals(api: Api) -> &'static [i64] {
    match api {
        Api::Wechat => &[40001, 40014, EXPIRED],
        Api::Wecom => &[40014, EXPIRED],
    }
}

/// Whether `code` means that the IP of calls is not on the account's whitelist.
pub const fn is_about_the_ip(api: Api, code: i64) -> bool {
    match api {
        Api::Wechat => matches!(code, 40164 | 61004),
        Api::Wecom => matches!(code, 60020 | 301042),
    }
}

/// The result of a call, according to its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No error code, or 0.
    Accepted,
    /// Another error, which is the app's to handle.
    Errcode(i64),
    /// The token has expired or was replaced. Another one may be accepted.
    Refused(i64),
    /// An error page of a gateway in front of the API, which says nothing of the token. [`of`](Self::of), which sees the
    /// body alone, takes it for accepted.
    UpstreamError,
}

impl Verdict {
    /// Reads the whole `body` of a reply of `api`. It may be anything at all.
    ///
    /// ```
    /// use wechat_sidecar::wechat::{api::Api, errcode::Verdict};
    ///
    /// let wechat = |body| Verdict::of(Api::Wechat, body);
    /// let stale = br#"{"errcode":42001,"errmsg":"access_token expired"}"#;
    /// assert_eq!(wechat(stale), Verdict::Refused(42001));
    /// let busy = br#"{"errmsg":"system error","errcode":"-1"}"#;
    /// assert_eq!(wechat(busy), Verdict::Errcode(-1));
    /// assert_eq!(wechat(b"\xff\xd8\xff\xe0 a picture"), Verdict::Accepted);
    /// ```
    pub fn of(api: Api, body: &[u8]) -> Self {
        match errcode(body) {
            None | Some(0) => Self::Accepted,
            Some(code) if refusals(api).contains(&code) => Self::Refused(code),
            Some(code) => Self::Errcode(code),
        }
    }
}

/// Whether a reply that begins with `start` can contain an errcode. `None` if more of it is needed.
pub fn can_carry(start: &[u8]) -> Option<bool> {
    skip_blank(start).map(|at| start[at] == b'{')
}

/// The reply's own error code: at top level or in `base_resp`, as a number or a string, at any position.
///
/// Bodies can be invalid JSON (raw control characters, broken UTF-8 in nicknames), so this scans
/// and never parses. Codes nested elsewhere or inside strings are data. Where there are several,
/// the first counts.
pub fn errcode(body: &[u8]) -> Option<i64> {
    // The usual beginning of replies to a POST.
    if let Some([b',' | b'}', ..]) = body.strip_prefix(b"{\"errcode\":0") {
        return Some(0);
    }
    let mut at = skip_blank(body)?;
    // Most long replies do not contain the word. This search is thirty times as fast as the scan below.
    if body[at] != b'{' || KEY.find(body).is_none() {
        return None;
    }
    let mut depth = 0_usize;
    let mut in_base_resp = false;
    while at < body.len() {
        match body[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                match depth {
                    0 => return None,
                    1 => in_base_resp = false,
                    _ => {}
                }
            }
            b'"' => {
                let (text, end) = string(body, at + 1);
                at = end;
                if depth == 1 || (depth == 2 && in_base_resp) {
                    let Some(value) = after_colon(body, at) else {
                        continue;
                    };
                    if text == b"errcode"
                        && let Some(code) = number(body, value)
                    {
                        return Some(code);
                    }
                    if depth == 1 && text == b"base_resp" {
                        in_base_resp = body.get(value) == Some(&b'{');
                    }
                    at = value;
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// The `rid` that WeChat's support asks for, out of an errmsg.
pub fn rid(body: &[u8]) -> Option<&str> {
    const MARK: &[u8] = b"rid: ";
    let mut places = memmem::find_iter(body, MARK);
    // Not the end of a longer word.
    let at = places.find(|at| *at == 0 || !body[at - 1].is_ascii_alphanumeric())?;
    let rest = &body[at + MARK.len()..];
    let end = rest
        .iter()
        .position(|byte| !(byte.is_ascii_hexdigit() || *byte == b'-'))
        .unwrap_or(rest.len());
    let rid = std::str::from_utf8(&rest[..end.min(64)]).ok()?;
    rid.contains('-').then_some(rid)
}

/// The first IP in an errmsg: the one that WeChat or WeCom sees the call come from.
pub fn ip(body: &[u8]) -> Option<IpAddr> {
    let part_of_one = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    let words = body.split(|byte| !part_of_one(byte));
    let read = |word: &[u8]| {
        std::str::from_utf8(word)
            .ok()?
            .trim_end_matches('.')
            .parse()
            .ok()
    };
    words.filter(|word| word.len() >= 3).find_map(read)
}

/// The position of the first byte after white space and byte order marks; `None` if it has not arrived yet.
fn skip_blank(bytes: &[u8]) -> Option<usize> {
    const BOM: &[u8] = b"\xef\xbb\xbf";
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        if rest[0].is_ascii_whitespace() {
            at += 1;
        } else if rest.starts_with(BOM) {
            at += BOM.len();
        } else if BOM.starts_with(rest) {
            return None;
        } else {
            return Some(at);
        }
    }
}

/// The content of the string that begins at `start`, and the place after its closing quote.
fn string(body: &[u8], start: usize) -> (&[u8], usize) {
    let mut at = start;
    while at < body.len() {
        match body[at] {
            b'"' => return (&body[start..at], at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    (&body[start..], body.len())
}

/// Where the value begins, if a colon comes next.
fn after_colon(body: &[u8], at: usize) -> Option<usize> {
    let colon = skip_space(body, at);
    (body.get(colon) == Some(&b':')).then(|| skip_space(body, colon + 1))
}

fn skip_space(body: &[u8], mut at: usize) -> usize {
    while body.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// The whole number at `at`, bare or in quotes.
fn number(body: &[u8], at: usize) -> Option<i64> {
    let text = match body.get(at)? {
        b'"' => string(body, at + 1).0.trim_ascii(),
        _ => {
            let rest = &body[at..];
            let end = rest
                .iter()
                .position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
                .unwrap_or(rest.len());
            &rest[..end]
        }
    };
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn wechat(body: &[u8]) -> Verdict {
        Verdict::of(Api::Wechat, body)
    }

    #[test]
    fn each_kind_has_refusals_of_its_own() {
        use Verdict::{Errcode, Refused};
        for (code, of_wechat, of_wecom) in [
            (40001, Refused(40001), Errcode(40001)),
            (40014, Refused(40014), Refused(40014)),
            (42001, Refused(42001), Refused(42001)),
            (41001, Errcode(41001), Errcode(41001)),
            (60020, Errcode(60020), Errcode(60020)),
        ] {
            let body = format!(r#"{{"ip_list":[],"errcode":{code},"errmsg":"x"}}"#);
            assert_eq!(wechat(body.as_bytes()), of_wechat);
            assert_eq!(Verdict::of(Api::Wecom, body.as_bytes()), of_wecom);
        }
    }

    #[test]
    fn finds_a_refusal_wherever_wechat_puts_it() {
        let refused = [
            r#"{"errcode":40001,"errmsg":"invalid credential"}"#,
            r#"{"errmsg":"access_token expired","errcode":42001}"#,
            r#"{ "errcode" : "40014" }"#,
            "\u{feff} \r\n\t{\"errcode\":40001}\n",
            r#"{"base_resp":{"ret":0,"errcode":40001}}"#,
            r#"{"data":[{"errcode":0}],"errcode":40001}"#,
            "{\"nick\":\"\u{1}\n\",\"errcode\":40001,",
            r#"{"errcode":40001,"errmsg":"cut off"#,
        ];
        for body in refused {
            assert!(
                matches!(wechat(body.as_bytes()), Verdict::Refused(_)),
                "{body}"
            );
        }
        let broken = b"{\"nickname\":\"\xff\xfe\\\"\",\"errcode\":40001}";
        assert_eq!(wechat(broken), Verdict::Refused(40001));
    }

    #[test]
    fn a_code_that_is_not_the_replys_own_is_data() {
        let accepted = [
            r#"{"list":[{"errcode":40001}]}"#,
            r#"{"data":{"errcode":40001}}"#,
            r#"{"data":{"base_resp":{"errcode":40001}}}"#,
            r#"{"base_resp":[{"errcode":40001}]}"#,
            r#"{"msg":"\"errcode\":40001"}"#,
            r#"{"msg":"{\"errcode\":40001}"}"#,
            r#"{"errcode":0,"errmsg":"40001"}"#,
            r#"[{"errcode":40001}]"#,
            r#"{}{"errcode":40001}"#,
            r#"{"xerrcode":40001,"errcodes":40001}"#,
            r#"{"errcode":400010}"#,
            r#"{"errcode":null}"#,
            "errcode 40001",
            "",
        ];
        for body in accepted {
            assert!(
                !matches!(wechat(body.as_bytes()), Verdict::Refused(_)),
                "{body}"
            );
        }
        assert_eq!(wechat(br#"{"errcode":45009}"#), Verdict::Errcode(45009));
    }

    #[test]
    fn a_reply_can_be_told_from_its_first_byte_that_counts() {
        assert_eq!(can_carry(b"\xef\xbb\xbf {"), Some(true));
        assert_eq!(can_carry(b"\xff\xd8"), Some(false));
        assert_eq!(can_carry(b"[1]"), Some(false));
        assert_eq!(can_carry(b" \r\n"), None);
        assert_eq!(can_carry(b"\xef\xbb"), None);
        assert_eq!(can_carry(b""), None);
    }

    #[test]
    fn the_rid_is_found() {
        let body = br#"{"errcode":-1,"errmsg":"system error rid: 60891646-03eed615-7f6889ef"}"#;
        assert_eq!(rid(body), Some("60891646-03eed615-7f6889ef"));
        for none in ["rid: \"x", "hybrid: 1-2", "rid: 13800138000", "rid: words"] {
            assert_eq!(rid(none.as_bytes()), None, "{none}");
        }
        assert_eq!(rid(b"a grid: 1-2, rid: 3-4"), Some("3-4"));
    }

    #[test]
    fn the_ip_is_found() {
        for (body, found) in [
            (
                "not allow to access from your ip, hint: [1695863164339604070459795], from ip: 221.182.171.162, more info at https://open.work.weixin.qq.com/devtool/query?e=60020",
                Some("221.182.171.162"),
            ),
            (
                "invalid ip 114.221.21.30 ipv6 ::ffff:114.221.21.30, not in whitelist",
                Some("114.221.21.30"),
            ),
            ("from ip: 2001:db8::1.", Some("2001:db8::1")),
            ("no address: 1.2.3, dead:beef", None),
        ] {
            assert_eq!(ip(body.as_bytes()), found.map(|ip| ip.parse().unwrap()));
        }
    }

    /// The code that the scan must find in valid JSON, according to a real parser.
    fn reference(value: &Value) -> Option<i64> {
        let code = |value: &Value| match value.get("errcode")? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        for (key, child) in value.as_object()? {
            match key.as_str() {
                "errcode" if code(value).is_some() => return code(value),
                "base_resp" if child.is_object() && code(child).is_some() => return code(child),
                _ => {}
            }
        }
        None
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let key = prop_oneof![
            Just("errcode".to_owned()),
            Just("base_resp".to_owned()),
            Just("errmsg".to_owned()),
            "[a-z\"\\\\{}:,é\u{1}]{0,6}",
        ];
        let leaf = prop_oneof![
            Just(json!(40001)),
            Just(json!("42001")),
            Just(json!(" 40014 ")),
            Just(json!(0)),
            Just(json!(null)),
            Just(json!(40001.5)),
            any::<i64>().prop_map(|n| json!(n)),
            "\\PC{0,12}".prop_map(|s| json!(s)),
            "[\"\\\\{}\\[\\]:,\n]{0,12}".prop_map(|s| json!(s)),
        ];
        leaf.prop_recursive(4, 48, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::vec((key.clone(), inner), 0..6)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_scan_agrees_with_a_parser(value in json_value()) {
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                prop_assert_eq!(errcode(text.as_bytes()), reference(&value), "{}", text);
            }
        }

        #[test]
        fn the_scan_survives_anything(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            errcode(&bytes);
            bytes.insert(0, b'{');
            errcode(&bytes);
        }
    }
}
