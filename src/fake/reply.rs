//! A reply in WeChat's form: HTTP 200 with an errcode, and a content type that is not reliable.

use bytes::Bytes;
use serde_json::{Value, json};

/// The content type of most replies. `encoding` is WeChat's own spelling.
pub(super) const JSON: &str = "application/json; encoding=utf-8";
/// The content type of all of /sns, and of errors if success would be a picture or a file.
pub(super) const TEXT: &str = "text/plain";
/// What a gateway or a captive portal answers.
pub(super) const PAGE: &str = "<html><body><h1>Bad Gateway</h1></body></html>";

/// A status, headers and a body. The framing is added when it is sent.
#[derive(Clone, Debug)]
pub(super) struct WechatReply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
    /// The errcode in the body, if it has one.
    pub(super) errcode: Option<i64>,
}

impl WechatReply {
    /// `value` as JSON of the usual content type.
    pub(super) fn json(value: &Value) -> Self {
        let errcode = value["errcode"].as_i64();
        Self {
            errcode,
            ..Self::bytes(JSON, value.to_string())
        }
    }

    /// An error: HTTP 200, errcode and errmsg.
    pub(super) fn error(errcode: i64) -> Self {
        Self::json(&json!({ "errcode": errcode, "errmsg": errmsg(errcode) }))
    }

    /// `{"errcode":0,"errmsg":"ok"}`
    pub(super) fn ok() -> Self {
        Self::json(&json!({ "errcode": 0, "errmsg": "ok" }))
    }

    /// HTTP 200 with this body.
    pub(super) fn bytes(content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status: 200,
            headers: vec![("Content-Type".to_owned(), content_type.to_owned())],
            body: body.into(),
            errcode: None,
        }
    }

    /// A bare status with an empty body.
    pub(super) fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            errcode: None,
        }
    }

    /// The same reply as `text/plain`.
    pub(super) fn into_text(mut self) -> Self {
        self.set_content_type(TEXT);
        self
    }

    /// Sets another content type.
    pub(super) fn set_content_type(&mut self, content_type: &str) {
        self.headers.retain(|(name, _)| name != "Content-Type");
        self.headers
            .push(("Content-Type".to_owned(), content_type.to_owned()));
    }

    /// Whether this says that the token was rejected.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.errcode, Some(40001 | 40014 | 42001))
    }
}

/// WeChat's message for a code, with a new `rid:` for codes that have one.
pub(super) fn errmsg(errcode: i64) -> String {
    let text = match errcode {
        -1 => "system error",
        40001 => {
            "invalid credential, access_token is invalid or not latest, could get access_token by \
             getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"
        }
        40014 => return "invalid access_token".to_owned(),
        40002 => "invalid grant_type",
        40003 => "invalid openid",
        40007 => "invalid media_id",
        40013 => "invalid appid",
        40029 => "invalid code",
        40030 => "invalid refresh_token",
        40097 => "invalid args",
        40125 => "invalid appsecret",
        40163 => "code been used",
        40164 => "invalid ip 114.221.21.30 ipv6 ::ffff:114.221.21.30, not in whitelist",
        40243 => "AppSecret has been frozen",
        41001 => "access_token missing",
        41002 => "appid missing",
        41003 => "refresh_token missing",
        41004 => "appsecret missing",
        41005 => "media data missing",
        41008 => "missing code",
        42001 => "access_token expired",
        43001 => "require GET method",
        43002 => "require POST method",
        45009 => "reach max api daily quota limit",
        45011 => "api minute-quota reach limit, must slower, retry next minute",
        47001 => "data format error",
        48001 => "api unauthorized",
        50002 => "user limited",
        50004 => "api forbidden",
        50007 => "account frozen",
        76001 => "rid not found",
        76002 => "rid is error",
        76003 => "could not query this rid, no permission",
        76021 => "cgi_path not found, please check",
        76022 => "could not use this cgi_path, no permission",
        89501 | 89503 => "this IP is waiting for the confirmation of an administrator",
        89506 => "this IP was refused twice, ask again after 24 hours",
        89507 => "this IP was refused, ask again after 1 hour",
        61004 => "access clientip is not registered, requestIP: 114.221.21.30",
        _ => "error",
    };
    let part = || fastrand::u32(..);
    format!("{text} rid: {:08x}-{:08x}-{:08x}", part(), part(), part())
}
