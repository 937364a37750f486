//! The documented paths of WeChat and WeCom. The two tables are read on the first lookup.

use std::{borrow::Cow, collections::HashMap, ops::Range, sync::LazyLock};

use super::Credential;
use crate::wechat::api::Api;

/// Each line has a path as its document writes it, a tab, and its credential.
const WECHAT: &str = include_str!("wechat.tsv");
const WECOM: &str = include_str!("wecom.tsv");

/// A path of one of the tables.
struct Row {
    label: &'static str,
    credential: Credential,
}

/// Both tables, WeChat's rows first.
struct Tables {
    rows: Vec<Row>,
    /// The row of each path, in lower case.
    wechat: HashMap<Cow<'static, [u8]>, usize>,
    wecom: HashMap<Cow<'static, [u8]>, usize>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut rows = Vec::new();
    let wechat = read(WECHAT, &mut rows);
    let wecom = read(WECOM, &mut rows);
    Tables {
        rows,
        wechat,
        wecom,
    }
});

fn read(table: &'static str, rows: &mut Vec<Row>) -> HashMap<Cow<'static, [u8]>, usize> {
    let mut found = HashMap::with_capacity(table.lines().count());
    // A test checks the format of each line.
    for row in table.lines().filter_map(row) {
        let label = row.label.as_bytes();
        let key = match label.iter().any(u8::is_ascii_uppercase) {
            true => Cow::Owned(label.to_ascii_lowercase()),
            false => Cow::Borrowed(label),
        };
        found.insert(key, rows.len());
        rows.push(row);
    }
    found
}

fn row(line: &'static str) -> Option<Row> {
    let (label, credential) = line.split_once('\t')?;
    let credential = match credential {
        "access_token" => Credential::AccessToken,
        "none" => Credential::Nothing,
        "secret" => Credential::Secret,
        "token_request" => Credential::TokenRequest,
        "quota_reset" => Credential::QuotaReset,
        "user_access_token" | "component_access_token" | "component_in_access_token" => {
            Credential::CallersToken
        }
        "suite_access_token" | "provider_access_token" => Credential::CallersToken,
        "device_access_token" | "model_access_token" => Credential::CallersToken,
        _ => return None,
    };
    Some(Row { label, credential })
}

/// The row of `path`, in lower case, in the table of `api`.
pub(super) fn find(api: Api, path: &[u8]) -> Option<usize> {
    match api {
        Api::Wechat => TABLES.wechat.get(path).copied(),
        Api::Wecom => TABLES.wecom.get(path).copied(),
    }
}

/// The credential of the path at `row`.
pub(super) fn credential(row: usize) -> Credential {
    TABLES.rows[row].credential
}

/// How many rows both tables have.
pub fn rows() -> usize {
    TABLES.rows.len()
}

/// The rows of the table of `api`.
pub fn rows_of(api: Api) -> Range<usize> {
    let first = TABLES.wechat.len();
    match api {
        Api::Wechat => 0..first,
        Api::Wecom => first..rows(),
    }
}

/// The path at `row`, as its document writes it.
pub fn label(row: usize) -> &'static str {
    TABLES.rows[row].label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_tables_is_a_path_and_its_credential_and_none_stands_there_twice() {
        for table in [WECHAT, WECOM] {
            for line in table.lines() {
                assert!(row(line).is_some(), "{line}");
            }
            let mut paths: Vec<_> = table.lines().map(str::to_ascii_lowercase).collect();
            let count = paths.len();
            paths.sort_unstable();
            paths.dedup_by(|one, other| one.split('\t').next() == other.split('\t').next());
            assert_eq!(paths.len(), count);
        }
        assert_eq!(rows(), WECHAT.lines().count() + WECOM.lines().count());
    }
}
