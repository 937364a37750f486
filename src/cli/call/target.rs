//! The target of the call: its path, and the parameters of its query, encoded.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::wechat::{
    api::Api,
    endpoint::{Credential, Endpoint, PathError},
};

/// What is encoded in a path and a query that are given as they are. A percent sign is part of an encoding there.
const RAW: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What is encoded in a parameter.
const PARAMETER: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The target of a call. It has no `Debug`, because a query may be private.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct CallTarget(String);

/// Why there is no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetUsageError {
    /// The path is none.
    #[error("the path begins with a slash, without https:// and the host: /cgi-bin/user/get")]
    Path,
    /// This parameter, counted from 1.
    #[error("parameter {0} behind the path is none: write name=value")]
    Parameter(usize),
    /// Its path could be read in two ways, and would be sent in one of them.
    #[error("{0}: write it as WeChat's documents do")]
    Ambiguous(PathError),
    /// It is a token request.
    #[error(
        "a token request is not made, because its reply may be a token, which would be printed: other calls get one put in"
    )]
    TokenRequest,
}

impl CallTarget {
    /// `path` may have a query already.
    pub(super) fn new<'a>(
        path: &str,
        parameters: impl Iterator<Item = &'a String>,
    ) -> Result<Self, TargetUsageError> {
        if !path.starts_with('/') || path.starts_with("//") {
            return Err(TargetUsageError::Path);
        }
        let mut target = utf8_percent_encode(path, RAW).to_string();
        for (at, parameter) in parameters.enumerate() {
            let pair = parameter
                .split_once('=')
                .filter(|(name, _)| !name.is_empty());
            let (name, value) = pair.ok_or(TargetUsageError::Parameter(at + 1))?;
            target.push(match target.contains('?') {
                true => '&',
                false => '?',
            });
            target.extend(utf8_percent_encode(name, PARAMETER));
            target.push('=');
            target.extend(utf8_percent_encode(value, PARAMETER));
        }
        let target = Self(target);
        // The client would send another path in place of one with dots in it.
        let read = |api| Endpoint::of(api, target.path().as_bytes()).err();
        if let (Some(problem), Some(_)) = (read(Api::Wechat), read(Api::Wecom)) {
            return Err(TargetUsageError::Ambiguous(problem));
        }
        let takes = |api, has_account| target.credential(api, has_account);
        let mut all = [Api::Wechat, Api::Wecom].into_iter();
        let is_token_request = |taken| taken == Some(Credential::TokenRequest);
        match all.any(|api| {
            [false, true]
                .map(|own| takes(api, own))
                .into_iter()
                .any(is_token_request)
        }) {
            true => Err(TargetUsageError::TokenRequest),
            false => Ok(target),
        }
    }

    /// It as a request has it.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The first segment of its path, which may be an account's.
    pub(super) fn first_segment(&self) -> &str {
        self.path()[1..].split('/').next().unwrap_or_default()
    }

    /// The credential that it takes at `api`, if its path is one. It may have an account's segment before it.
    pub(super) fn credential(&self, api: Api, has_account: bool) -> Option<Credential> {
        let path = match has_account {
            true => &self.path()[1 + self.first_segment().len()..],
            false => self.path(),
        };
        let endpoint = Endpoint::of(api, path.as_bytes());
        endpoint.ok().map(|endpoint| endpoint.credential)
    }

    fn path(&self) -> &str {
        self.0.split('?').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str, parameters: &[&str]) -> Result<String, TargetUsageError> {
        let parameters: Vec<String> = parameters.iter().map(|one| (*one).to_owned()).collect();
        CallTarget::new(path, parameters.iter()).map(|target| target.0)
    }

    #[test]
    fn parameters_are_encoded_and_a_query_that_is_there_stays() {
        for (path, parameters, expected) in [
            ("/a", &[][..], "/a"),
            ("/a", &["b=c"], "/a?b=c"),
            ("/a?x=%20", &["b=c", "d="], "/a?x=%20&b=c&d="),
            ("/a", &["b=1&c=2 +/%=#"], "/a?b=1%26c%3D2%20%2B%2F%25%3D%23"),
            ("/a", &["名=微信"], "/a?%E5%90%8D=%E5%BE%AE%E4%BF%A1"),
            ("/a b#c", &[], "/a%20b%23c"),
            ("/a?b=/../%2f", &[], "/a?b=/../%2f"),
        ] {
            assert_eq!(target(path, parameters).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for path in ["", "cgi-bin/x", "https://api.weixin.qq.com/x", "//host/x"] {
            assert_eq!(target(path, &[]), Err(TargetUsageError::Path), "{path}");
        }
        for wrong in ["b", "=c", ""] {
            let found = target("/a", &["x=y", wrong]);
            assert_eq!(found, Err(TargetUsageError::Parameter(2)), "{wrong}");
        }
        for path in [
            "/cgi-bin/token",
            "/cgi-bin/stable_token",
            "/CGI-BIN/%74oken/?grant_type=x",
            "/wx0123456789abcdef/cgi-bin/token",
            "/cgi-bin/gettoken?corpid=x",
        ] {
            assert_eq!(
                target(path, &[]),
                Err(TargetUsageError::TokenRequest),
                "{path}"
            );
        }
    }

    #[test]
    fn a_path_that_could_be_read_as_another_one_is_refused() {
        for path in [
            "/cgi-bin/./token",
            "/x/../cgi-bin/token?grant_type=client_credential",
            "/cgi-bin/%2e/token",
            "/cgi-bin/%2E%2e/cgi-bin/token",
            "/wx0123456789abcdef/../cgi-bin/user/get",
            "/cgi-bin\\token",
            "/cgi-bin%2ftoken",
            "/cgi-bin//user/get",
        ] {
            let found = target(path, &[]);
            assert!(
                matches!(found, Err(TargetUsageError::Ambiguous(_))),
                "{path}: {found:?}"
            );
        }
    }
}
