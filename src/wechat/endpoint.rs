//! Endpoints: the credential that a path takes, and its label in metrics.

mod table;

use std::{borrow::Cow, collections::HashSet, sync::LazyLock};

use percent_encoding::percent_decode;

use super::api::Api;
pub use table::{label, rows, rows_of};

/// The token endpoint of WeChat's that takes its parameters in its body.
pub const STABLE_TOKEN: &str = "/cgi-bin/stable_token";

/// Tells what is left of the quota of an endpoint.
pub const QUOTA_GET: &str = "/cgi-bin/openapi/quota/get";

/// The credential that a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The account's access_token in the query: almost everything.
    AccessToken,
    /// A token that only the caller can have, such as a user's or a third party's. It is passed unchanged.
    CallersToken,
    /// No token at all.
    Nothing,
    /// AppID and AppSecret in the query, for user logins.
    Secret,
    /// AppID and AppSecret, or corpid and secret, for a token request. It is answered here and never sent on.
    TokenRequest,
    /// AppID and AppSecret, to reset the account's quota. That is for operators.
    QuotaReset,
}

/// A path in canonical form: decoded, in lower case, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint<'a> {
    path: Cow<'a, [u8]>,
    row: Option<usize>,
    is_trimmed: bool,
    /// The credential that it takes.
    pub credential: Credential,
}

/// Why a path is ambiguous. Two servers could interpret it differently, which would evade rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `.` or `..` as a segment, encoded or not.
    #[error("the path has a dot segment")]
    DotSegment,
    /// `%2F`, a backslash, or NUL.
    #[error("the path has an encoded slash, a backslash or a NUL")]
    HiddenSeparator,
    /// `//` inside.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// It does not begin with a slash.
    #[error("the path does not begin with a slash")]
    NotAPath,
}

impl<'a> Endpoint<'a> {
    /// Reads the path of a request target, without its query, for a call to `api`.
    ///
    /// ```
    /// use wechat_sidecar::wechat::{
    ///     api::Api,
    ///     endpoint::{Credential, Endpoint},
    /// };
    ///
    /// let call = Endpoint::of(Api::Wechat, b"/cgi-bin/user%2finfo");
    /// assert!(call.is_err());
    /// let call = Endpoint::of(Api::Wechat, b"/sns/%75serinfo").unwrap();
    /// assert_eq!(call.credential, Credential::CallersToken);
    /// ```
    pub fn of(api: Api, path: &'a [u8]) -> Result<Self, PathError> {
        // Paths of the table are canonical.
        if let Some(row) = table::find(api, path) {
            return Ok(Self {
                path: Cow::Borrowed(path),
                row: Some(row),
                is_trimmed: false,
                credential: table::credential(row),
            });
        }
        let (path, is_trimmed) = match (api, path) {
            (Api::Wecom, DOUBLED) => (Cow::Borrowed(UNDOUBLED), false),
            _ => canonical(path)?,
        };
        let row = table::find(api, &path);
        let credential = row.map_or_else(|| guess(api, &path), table::credential);
        Ok(Self {
            path,
            row,
            is_trimmed,
            credential,
        })
    }

    /// The decoded path, in lower case.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Whether parameters or white space were removed from the path, which not all servers do.
    pub fn is_trimmed(&self) -> bool {
        self.is_trimmed
    }

    /// Whether it may take a code that works only once, so that a call must not be sent twice.
    pub fn is_login(&self) -> bool {
        const LOGINS: [&[u8]; 5] = [
            b"/getuserinfo",
            b"/getuserinfo3rd",
            b"/getuserdetail3rd",
            b"/jscode2session",
            b"/get_login_info",
        ];
        self.path.starts_with(b"/sns/") || LOGINS.iter().any(|login| self.path.ends_with(login))
    }

    /// Its row in the tables, if it is in one.
    pub fn row(&self) -> Option<usize> {
        self.row
    }
}

/// Whether a path of the tables begins with this segment, ignoring case.
pub fn is_top_level(segment: &str) -> bool {
    static ALL: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let first = |row| label(row)[1..].split('/').next().unwrap_or_default();
        (0..rows())
            .map(|row| first(row).to_ascii_lowercase())
            .collect()
    });
    ALL.contains(&segment.to_ascii_lowercase())
}

/// The credential of an undocumented path: the account's token, unless similar paths take another one.
fn guess(api: Api, path: &[u8]) -> Credential {
    let begins = |starts: &[&[u8]]| starts.iter().any(|start| path.starts_with(start));
    match api {
        Api::Wechat if begins(&OF_PLATFORMS) && !OURS.contains(&path) => Credential::CallersToken,
        Api::Wecom if begins(&OF_PROVIDERS) => Credential::CallersToken,
        Api::Wecom if path.starts_with(OF_ROBOTS) => Credential::Nothing,
        Api::Wechat | Api::Wecom => Credential::AccessToken,
    }
}

/// Prefixes of paths for WeChat's third-party platforms.
const OF_PLATFORMS: [&[u8]; 4] = [
    b"/sns/",
    b"/componenttcb/",
    b"/wxa/component/",
    b"/cgi-bin/component/",
];

/// Paths below them that accounts call, too.
const OURS: [&[u8]; 3] = [
    b"/cgi-bin/component/getprivacysetting",
    b"/cgi-bin/component/setprivacysetting",
    b"/cgi-bin/component/uploadprivacyextfile",
];

/// Prefixes of paths for WeCom's suites, service providers and devices.
const OF_PROVIDERS: [&[u8]; 5] = [
    b"/cgi-bin/service/",
    b"/cgi-bin/license/",
    b"/cgi-bin/openhw/",
    b"/cgi-bin/paytool/",
    b"/cgi-bin/advanced_api/",
];

/// The prefix of paths for WeCom's group robots, which have a key of their own.
const OF_ROBOTS: &[u8] = b"/cgi-bin/webhook/";

/// A path of WeCom's as WxJava's constant has it. No other path may have two slashes in it.
const DOUBLED: &[u8] = b"/cgi-bin/oa/meetingroom//book_by_meeting";

/// The same path as its document has it.
const UNDOUBLED: &[u8] = b"/cgi-bin/oa/meetingroom/book_by_meeting";

/// The canonical form of a path, and whether it was trimmed.
fn canonical(raw: &[u8]) -> Result<(Cow<'_, [u8]>, bool), PathError> {
    if raw.first() != Some(&b'/') {
        return Err(PathError::NotAPath);
    }
    let mut path: Cow<'_, [u8]> = percent_decode(raw).into();
    let slashes = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'/').count();
    if path.iter().any(|byte| matches!(byte, b'\\' | 0)) || slashes(&path) != slashes(raw) {
        return Err(PathError::HiddenSeparator);
    }
    if path.len() > 1 && path.ends_with(b"/") {
        path = match path {
            Cow::Borrowed(path) => Cow::Borrowed(&path[..path.len() - 1]),
            Cow::Owned(mut path) => {
                path.pop();
                Cow::Owned(path)
            }
        };
    }
    let is_trimmed = path.iter().any(|byte| *byte == b';' || *byte <= b' ');
    if is_trimmed {
        path = Cow::Owned(plain(&path));
    }
    for segment in path[1..].split(|byte| *byte == b'/') {
        match segment {
            b"." | b".." => return Err(PathError::DotSegment),
            b"" if path.len() > 1 => return Err(PathError::EmptySegment),
            _ => {}
        }
    }
    if path.iter().any(u8::is_ascii_uppercase) {
        path.to_mut().make_ascii_lowercase();
    }
    Ok((path, is_trimmed))
}

/// `path` as servers read it that take what follows a semicolon for a parameter of the segment, and drop white space
/// around a segment.
fn plain(path: &[u8]) -> Vec<u8> {
    let segments = path.split(|byte| *byte == b'/').map(|segment| {
        let name = segment
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default();
        let start = name.iter().take_while(|byte| **byte <= b' ').count();
        let end = name.iter().rev().take_while(|byte| **byte <= b' ').count();
        name.get(start..name.len() - end).unwrap_or_default()
    });
    segments.collect::<Vec<_>>().join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(path: &str) -> Credential {
        Endpoint::of(Api::Wechat, path.as_bytes())
            .unwrap()
            .credential
    }

    #[test]
    fn every_path_of_the_tables_is_found_and_no_two_are_one() {
        let tables = [
            (Api::Wechat, include_str!("endpoint/wechat.tsv")),
            (Api::Wecom, include_str!("endpoint/wecom.tsv")),
        ];
        let mut rows = 0..rows();
        for (api, text) in tables {
            assert_eq!(rows_of(api).len(), text.lines().count());
            for line in text.lines() {
                let (path, _) = line.split_once('\t').unwrap();
                let row = rows.next();
                assert_eq!(label(row.unwrap()), path);
                let endpoint = Endpoint::of(api, path.as_bytes()).unwrap();
                assert_eq!(endpoint.row(), row, "{path}");
                let lower = path.to_ascii_lowercase();
                for near in [&lower[1..], &format!("{lower}x"), &lower[..lower.len() - 1]] {
                    let near = table::find(api, near.as_bytes());
                    assert_ne!(near, row, "{path}");
                }
            }
        }
        assert_eq!(rows.next(), None);
    }

    #[test]
    fn the_exceptions_of_the_documents_hold() {
        use Credential::{AccessToken, CallersToken, Nothing, QuotaReset, Secret, TokenRequest};
        for (path, wanted) in [
            ("/cgi-bin/token", TokenRequest),
            ("/cgi-bin/stable_token", TokenRequest),
            ("/cgi-bin/clear_quota/v2", QuotaReset),
            ("/cgi-bin/component/clear_quota/v2", Nothing),
            ("/cgi-bin/component/api_component_token", Nothing),
            ("/cgi-bin/component/api_start_push_ticket", Nothing),
            ("/sns/jscode2session", Secret),
            ("/sns/oauth2/access_token", Secret),
            ("/sns/oauth2/refresh_token", Nothing),
            ("/sns/userinfo", CallersToken),
            ("/sns/auth", CallersToken),
            ("/sns/component/jscode2session", CallersToken),
            ("/sns/oauth2/component/access_token", CallersToken),
            ("/sns/something/new", CallersToken),
            ("/cgi-bin/component/api_query_auth", CallersToken),
            ("/cgi-bin/component/something_new", CallersToken),
            ("/componenttcb/something_new", CallersToken),
            ("/wxa/component/something_new", CallersToken),
            ("/wxa/gettemplatelist", CallersToken),
            ("/wxa/servicemarket/service/login_auth", CallersToken),
            ("/cgi-bin/component/getprivacysetting", AccessToken),
            ("/cgi-bin/component/setprivacysetting", AccessToken),
            ("/cgi-bin/component/uploadprivacyextfile", AccessToken),
            ("/cgi-bin/get_api_domain_ip", AccessToken),
            ("/cgi-bin/getcallbackip", AccessToken),
            ("/cgi-bin/callback/check", AccessToken),
            ("/cgi-bin/clear_quota", AccessToken),
            ("/cgi-bin/openapi/quota/get", AccessToken),
            ("/wxa/checksession", AccessToken),
            ("/brand/new", AccessToken),
            ("/", AccessToken),
        ] {
            assert_eq!(credential(path), wanted, "{path}");
        }
    }

    #[test]
    fn wecom_has_paths_and_exceptions_of_its_own() {
        use Credential::{AccessToken, CallersToken, Nothing, TokenRequest};
        for (path, wanted) in [
            ("/cgi-bin/gettoken", TokenRequest),
            ("/cgi-bin/GetToken/", TokenRequest),
            ("/cgi-bin/message/send", AccessToken),
            ("/cgi-bin/miniprogram/jscode2session", AccessToken),
            ("/cgi-bin/auth/getuserinfo", AccessToken),
            ("/cgi-bin/getcallbackip", AccessToken),
            ("/cgi-bin/corpgroup/corp/gettoken", AccessToken),
            ("/cgi-bin/token", AccessToken),
            ("/sns/userinfo", AccessToken),
            ("/cgi-bin/service/get_provider_token", Nothing),
            ("/cgi-bin/service/get_suite_token", Nothing),
            ("/cgi-bin/openhw/get_model_token", Nothing),
            ("/cgi-bin/webhook/send", Nothing),
            ("/cgi-bin/webhook/something_new", Nothing),
            ("/cgi-bin/service/get_corp_token", CallersToken),
            ("/cgi-bin/service/get_login_info", CallersToken),
            ("/cgi-bin/service/something_new", CallersToken),
            ("/cgi-bin/license/something_new", CallersToken),
            ("/cgi-bin/openhw/something_new", CallersToken),
            ("/cgi-bin/paytool/something_new", CallersToken),
            ("/cgi-bin/advanced_api/something_new", CallersToken),
            (
                "/cgi-bin/idconvert/upgrade_chatid_for_new_corp",
                CallersToken,
            ),
            ("/cgi-bin/hardware/get_device_feature", CallersToken),
            ("/cgi-bin/something/new", AccessToken),
        ] {
            let endpoint = Endpoint::of(Api::Wecom, path.as_bytes()).unwrap();
            assert_eq!(endpoint.credential, wanted, "{path}");
        }
    }

    #[test]
    fn a_path_in_disguise_is_still_itself() {
        for path in [
            "/cgi-bin/%74oken",
            "/cgi-bin/token/",
            "/CGI-bin/Token",
            "/%63gi-bin/token",
            "/cgi-bin/token;",
            "/cgi-bin;a=b/token;jsessionid=1;x/",
            "/cgi-bin/token%20",
            "/cgi-bin/%09token%20%0d%0A",
            "/cgi-bin/token%20;%20",
            "/cgi-bin/token%3Bx",
        ] {
            assert_eq!(credential(path), Credential::TokenRequest, "{path}");
        }
        for path in ["/cgi-bin/clear_quota/v2;", "/cgi-bin/clear_quota/v2%20"] {
            assert_eq!(credential(path), Credential::QuotaReset, "{path}");
        }
        for doubled in [DOUBLED, UNDOUBLED] {
            let endpoint = Endpoint::of(Api::Wecom, doubled).unwrap();
            assert!(endpoint.path() == UNDOUBLED && endpoint.row().is_some());
        }
        assert!(Endpoint::of(Api::Wechat, DOUBLED).is_err());
    }

    #[test]
    fn a_path_with_two_readings_is_refused() {
        for path in [
            "/cgi-bin/../cgi-bin/token",
            "/cgi-bin/./token",
            "/cgi-bin/%2e%2E/x",
            "/..",
            "/cgi-bin%2ftoken",
            "/cgi-bin%5Ctoken",
            "/cgi-bin\\token",
            "/cgi-bin/token%00",
            "/cgi-bin//token",
            "/cgi-bin/..;/token",
            "/cgi-bin/%20../token",
            "/cgi-bin/;/token",
            "/cgi-bin/%20/token",
            "/cgi-bin/token/;",
            "/cgi-bin/token//",
            "cgi-bin/token",
            "*",
            "",
        ] {
            assert!(
                Endpoint::of(Api::Wechat, path.as_bytes()).is_err(),
                "{path}"
            );
        }
    }
}
