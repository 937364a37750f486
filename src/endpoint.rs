//! Which credential a path takes, and the name it has in metrics.

use std::{borrow::Cow, collections::HashMap, sync::LazyLock};

use percent_encoding::percent_decode;

/// What WeChat wants with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The account's access_token in the query: almost everything.
    AccessToken,
    /// A token that only the caller can have (a user's, a third-party platform's): passed untouched.
    Own,
    /// No token at all.
    Nothing,
    /// AppID and AppSecret in the query: the logins of users.
    Secret,
    /// AppID and AppSecret, for a fetch of the token itself; never sent on.
    TokenFetch,
    /// AppID and AppSecret, to reset the account's quota: an operator's act.
    QuotaReset,
}

/// A path as the rules see it: decoded, in lower case, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint<'a> {
    path: Cow<'a, [u8]>,
    row: Option<usize>,
    /// What it takes.
    pub credential: Credential,
}

/// A path that a server could read in two ways, which is how a rule is slipped past.
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

/// `/path` TAB `credential`, from WeChat's own documents.
const TABLE: &str = include_str!("endpoint/table.tsv");

struct Row {
    /// As WeChat writes it, for metrics.
    label: &'static str,
    credential: Credential,
}

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| TABLE.lines().filter_map(row).collect());

static INDEX: LazyLock<HashMap<Box<[u8]>, usize>> = LazyLock::new(|| {
    let key = |row: &Row| {
        row.label
            .to_ascii_lowercase()
            .into_bytes()
            .into_boxed_slice()
    };
    ROWS.iter()
        .enumerate()
        .map(|(at, row)| (key(row), at))
        .collect()
});

fn row(line: &'static str) -> Option<Row> {
    let (label, credential) = line.split_once('\t')?;
    let credential = match (label, credential) {
        ("/cgi-bin/token" | "/cgi-bin/stable_token", _) => Credential::TokenFetch,
        ("/cgi-bin/clear_quota/v2", _) => Credential::QuotaReset,
        ("/sns/jscode2session" | "/sns/oauth2/access_token", _) => Credential::Secret,
        (_, "none") => Credential::Nothing,
        (_, "access_token") => Credential::AccessToken,
        _ => Credential::Own,
    };
    Some(Row { label, credential })
}

impl<'a> Endpoint<'a> {
    /// Reads the path of a request target, without its query.
    ///
    /// ```
    /// use wechat_sidecar::endpoint::{Credential, Endpoint};
    ///
    /// let call = Endpoint::of(b"/cgi-bin/user%2finfo");
    /// assert!(call.is_err());
    /// let call = Endpoint::of(b"/sns/%75serinfo").unwrap();
    /// assert_eq!(call.credential, Credential::Own);
    /// ```
    pub fn of(path: &'a [u8]) -> Result<Self, PathError> {
        // As the table has it, it is canonical.
        if let Some(row) = INDEX.get(path).copied() {
            return Ok(Self {
                path: Cow::Borrowed(path),
                row: Some(row),
                credential: ROWS[row].credential,
            });
        }
        let path = canonical(path)?;
        let row = INDEX.get(&*path).copied();
        let credential = row.map_or_else(|| guess(&path), |row| ROWS[row].credential);
        Ok(Self {
            path,
            row,
            credential,
        })
    }

    /// The decoded path, in lower case.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Where it stands in the table if it is written there exactly as in `raw`.
    pub fn plain_row(&self, raw: &str) -> Option<usize> {
        self.row.filter(|row| label(*row) == raw)
    }

    /// Where it stands in the table, if it does.
    pub fn row(&self) -> Option<usize> {
        self.row
    }
}

/// How many rows the table has.
pub fn rows() -> usize {
    ROWS.len()
}

/// The path in the table at `row`, as WeChat writes it.
pub fn label(row: usize) -> &'static str {
    ROWS[row].label
}

/// What a path takes that no document names: the account's token, unless its neighbours take another.
fn guess(path: &[u8]) -> Credential {
    const OF_OTHERS: [&[u8]; 4] = [
        b"/sns/",
        b"/componenttcb/",
        b"/wxa/component/",
        b"/cgi-bin/component/",
    ];
    const OURS: [&[u8]; 3] = [
        b"/cgi-bin/component/getprivacysetting",
        b"/cgi-bin/component/setprivacysetting",
        b"/cgi-bin/component/uploadprivacyextfile",
    ];
    if OF_OTHERS.iter().any(|start| path.starts_with(start)) && !OURS.contains(&path) {
        Credential::Own
    } else {
        Credential::AccessToken
    }
}

fn canonical(raw: &[u8]) -> Result<Cow<'_, [u8]>, PathError> {
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
    for segment in path[1..].split(|byte| *byte == b'/') {
        // Some servers take what follows a semicolon for a parameter of the segment.
        match segment
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default()
        {
            b"." | b".." => return Err(PathError::DotSegment),
            b"" if segment.is_empty() && path.len() > 1 => return Err(PathError::EmptySegment),
            _ => {}
        }
    }
    if path.iter().any(u8::is_ascii_uppercase) {
        path.to_mut().make_ascii_lowercase();
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(path: &str) -> Credential {
        Endpoint::of(path.as_bytes()).unwrap().credential
    }

    #[test]
    fn every_path_of_the_table_is_found_and_no_two_are_one() {
        assert_eq!(rows(), TABLE.lines().count());
        assert_eq!(INDEX.len(), rows());
        let words = [
            "access_token",
            "none",
            "user_access_token",
            "component_access_token",
            "component_in_access_token",
        ];
        for line in TABLE.lines() {
            let (_, credential) = line.split_once('\t').unwrap();
            assert!(words.contains(&credential), "{line}");
        }
        for (at, row) in ROWS.iter().enumerate() {
            assert_eq!(Endpoint::of(row.label.as_bytes()).unwrap().row(), Some(at));
        }
    }

    #[test]
    fn the_exceptions_of_the_documents_hold() {
        use Credential::{AccessToken, Nothing, Own, QuotaReset, Secret, TokenFetch};
        for (path, wanted) in [
            ("/cgi-bin/token", TokenFetch),
            ("/cgi-bin/stable_token", TokenFetch),
            ("/cgi-bin/clear_quota/v2", QuotaReset),
            ("/cgi-bin/component/clear_quota/v2", Nothing),
            ("/cgi-bin/component/api_component_token", Nothing),
            ("/cgi-bin/component/api_start_push_ticket", Nothing),
            ("/sns/jscode2session", Secret),
            ("/sns/oauth2/access_token", Secret),
            ("/sns/oauth2/refresh_token", Nothing),
            ("/sns/userinfo", Own),
            ("/sns/auth", Own),
            ("/sns/component/jscode2session", Own),
            ("/sns/oauth2/component/access_token", Own),
            ("/sns/something/new", Own),
            ("/cgi-bin/component/api_query_auth", Own),
            ("/cgi-bin/component/something_new", Own),
            ("/componenttcb/something_new", Own),
            ("/wxa/component/something_new", Own),
            ("/wxa/gettemplatelist", Own),
            ("/wxa/servicemarket/service/login_auth", Own),
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
    fn a_path_in_disguise_is_still_itself() {
        for path in [
            "/cgi-bin/%74oken",
            "/cgi-bin/token/",
            "/CGI-bin/Token",
            "/%63gi-bin/token",
        ] {
            assert_eq!(credential(path), Credential::TokenFetch, "{path}");
        }
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
            "/cgi-bin/token//",
            "cgi-bin/token",
            "*",
            "",
        ] {
            assert!(Endpoint::of(path.as_bytes()).is_err(), "{path}");
        }
    }
}
