//! The target of the request to WeChat: path and query, with our token instead of the caller's.

use percent_encoding::percent_decode;

/// The change to a query.
#[derive(Clone, Copy)]
pub(super) enum Edit<'a> {
    /// It stays as it is.
    Keep,
    /// The caller's token is removed.
    Without,
    /// The caller's token is replaced by this one, which is percent-encoded.
    Token(&'a str),
    /// The caller's token and secret are removed, and ours are added.
    Secret {
        /// Our AppID, if the caller sent none.
        appid: Option<&'a str>,
        /// Our secret, percent-encoded.
        secret: &'a str,
    },
}

/// Appends the target: `prefix`, and then path and query byte for byte, with the changes of `edit`.
pub(super) fn write(
    whole: &mut Vec<u8>,
    prefix: &str,
    path: &str,
    query: Option<&str>,
    edit: Edit<'_>,
) {
    let mut put = |parts: &[&str]| {
        (parts.iter()).for_each(|part| whole.extend_from_slice(part.as_bytes()));
    };
    put(&[prefix, path]);
    if let Edit::Keep = edit {
        if let Some(query) = query {
            put(&["?", query]);
        }
        return;
    }
    let mut mark = "?";
    let mut mark = || std::mem::replace(&mut mark, "&");
    for parameter in query
        .filter(|query| !query.is_empty())
        .into_iter()
        .flat_map(|query| query.split('&'))
    {
        if !is_removed(parameter, edit) {
            put(&[mark(), parameter]);
        }
    }
    match edit {
        Edit::Keep | Edit::Without => {}
        Edit::Token(token) => put(&[mark(), "access_token=", token]),
        Edit::Secret { appid, secret } => {
            if let Some(appid) = appid {
                put(&[mark(), "appid=", appid]);
            }
            put(&[mark(), "secret=", secret]);
        }
    }
}

fn is_removed(parameter: &str, edit: Edit<'_>) -> bool {
    let name = parameter.split('=').next().unwrap_or_default();
    if named(name, "access_token") {
        return true;
    }
    let Edit::Secret { appid, .. } = edit else {
        return false;
    };
    named(name, "secret") || (appid.is_some() && named(name, "appid"))
}

/// Whether the raw `name` decodes to `wanted`.
pub(super) fn named(name: &str, wanted: &str) -> bool {
    name == wanted || (name.contains('%') && percent_decode(name.as_bytes()).eq(wanted.bytes()))
}

/// The decoded values of all parameters called `wanted`.
pub(super) fn values<'a>(query: Option<&'a str>, wanted: &'a str) -> impl Iterator<Item = String> {
    let parameters = query.into_iter().flat_map(|query| query.split('&'));
    parameters.filter_map(move |parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = || {
            percent_decode(value.as_bytes())
                .decode_utf8_lossy()
                .into_owned()
        };
        named(name, wanted).then(value)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with_token(target_in: &str) -> String {
        let (path, query) = target_in
            .split_once('?')
            .map_or((target_in, None), |(p, q)| (p, Some(q)));
        let sent = written("", path, query, Edit::Token("T"));
        let behind = written("/wx", path, query, Edit::Token("T"));
        assert_eq!(behind, format!("/wx{sent}"));
        sent
    }

    fn written(prefix: &str, path: &str, query: Option<&str>, edit: Edit<'_>) -> String {
        let mut whole = Vec::new();
        write(&mut whole, prefix, path, query, edit);
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn the_token_is_put_in_and_the_rest_stays_byte_for_byte() {
        for (came, sent) in [
            ("/x", "/x?access_token=T"),
            ("/x?", "/x?access_token=T"),
            ("/x?a=1", "/x?a=1&access_token=T"),
            ("/x?a=1&", "/x?a=1&&access_token=T"),
            ("/x?access_token=old", "/x?access_token=T"),
            ("/x?access_token=old&a=1", "/x?a=1&access_token=T"),
            (
                "/x?a=1&access_token=old&access_token=older&b",
                "/x?a=1&b&access_token=T",
            ),
            ("/x?access_token", "/x?access_token=T"),
            ("/x?%61ccess%5Ftoken=old", "/x?access_token=T"),
            (
                "/x?access_tokens=1&xaccess_token=2",
                "/x?access_tokens=1&xaccess_token=2&access_token=T",
            ),
            (
                "/x?b=%2B+%e4%bd&&a=&a=",
                "/x?b=%2B+%e4%bd&&a=&a=&access_token=T",
            ),
            ("/%61/b?q=a?b", "/%61/b?q=a?b&access_token=T"),
        ] {
            assert_eq!(with_token(came), sent, "{came}");
        }
    }

    #[test]
    fn a_login_gets_our_secret_and_loses_the_callers() {
        let edit = |appid| Edit::Secret { appid, secret: "S" };
        let sent = |query, appid| written("", "/sns/jscode2session", Some(query), edit(appid));
        assert_eq!(
            sent("js_code=1", Some("wx1")),
            "/sns/jscode2session?js_code=1&appid=wx1&secret=S"
        );
        assert_eq!(
            sent(
                "appid=wx1&%73ecret=x&access_token=y&js_code=1&secret=z",
                None
            ),
            "/sns/jscode2session?appid=wx1&js_code=1&secret=S"
        );
    }

    proptest! {
        #[test]
        fn rewriting_agrees_with_a_plain_reference(
            parts in prop::collection::vec(
                prop_oneof![
                    Just("access_token=x".to_owned()),
                    Just("%61ccess_token".to_owned()),
                    Just("access%5ftoken=%26".to_owned()),
                    Just(String::new()),
                    "[a-z%+_.~=]{0,8}",
                ],
                0..6,
            ),
        ) {
            let query = parts.join("&");
            let kept: Vec<&str> = query
                .split('&')
                .filter(|part| {
                    let name = part.split('=').next().unwrap();
                    percent_decode(name.as_bytes()).collect::<Vec<u8>>() != b"access_token"
                })
                .chain(["access_token=T"])
                .collect();
            let expected = if query.is_empty() { "/x?access_token=T".to_owned() } else { format!("/x?{}", kept.join("&")) };
            prop_assert_eq!(with_token(&format!("/x?{query}")), expected);
        }
    }
}
