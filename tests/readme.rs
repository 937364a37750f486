//! What both READMEs list is what the code has: keys, metrics, errors, marks.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use wechat_sidecar::{
    config::{
        account_keys,
        keys::{self, ValueKind},
    },
    endpoint,
    inject::catalogue,
    kind,
    metrics::FAMILIES,
    proxy::{Mark, error::CODES},
};

const READMES: [&str; 2] = ["README.md", "README.zh-CN.md"];

/// The cells of every table row whose first cell is in back quotes or a number.
fn rows(readme: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(readme);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{readme}: {error}"));
    text.lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| {
            line.split(" | ")
                .map(|cell| cell.trim().to_owned())
                .collect()
        })
        .collect()
}

/// The first cells, without back quotes, that begin with `prefix`.
fn listed(readme: &str, prefix: &str) -> Vec<String> {
    rows(readme)
        .iter()
        .filter_map(|row| {
            row[0]
                .strip_prefix('`')?
                .strip_suffix('`')
                .map(str::to_owned)
        })
        .filter(|name| name.starts_with(prefix))
        .collect()
}

#[test]
fn the_table_of_keys_is_the_codes() {
    for readme in READMES {
        // An account's keys have a table of their own, with one column more.
        let rows = rows(readme).into_iter().filter(|row| row.len() == 3);
        let rows: Vec<_> = rows.collect();
        for key in keys::keys() {
            let name = format!("`{}`", key.name);
            let row = rows.iter().find(|row| row[0] == name);
            let row = row.unwrap_or_else(|| panic!("{readme} does not list {name}"));
            let default = match key.kind {
                ValueKind::Switch => "false",
                _ => key.default_text(),
            };
            let shown = row[1].trim_matches('`');
            // What depends on something is said in words, which may be Chinese.
            let in_words = default.contains(' ') && !shown.is_empty();
            assert!(
                shown == default || in_words,
                "{readme}, {name}: {shown:?} is not {default:?}"
            );
        }
        let known = keys::keys().iter().map(|key| key.name);
        let count = rows.iter().filter(|row| row[0].starts_with('`'));
        let metrics = FAMILIES.len();
        assert_eq!(
            count.count(),
            known.count() + metrics,
            "{readme} lists a key that is none"
        );
    }
}

#[test]
fn the_table_of_an_accounts_keys_is_the_codes() {
    let mut known: Vec<String> = account_keys().map(|key| format!("`{key}`")).collect();
    known.sort_unstable();
    for readme in READMES {
        let rows = rows(readme).into_iter();
        let rows = rows.filter(|row| row.len() == 4 && row[0].starts_with('`'));
        let mut listed: Vec<String> = rows.map(|mut row| row.swap_remove(0)).collect();
        listed.sort_unstable();
        assert_eq!(listed, known, "{readme}");
    }
}

#[test]
fn the_number_of_known_paths_is_the_tables() {
    for readme in READMES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(readme);
        let text = fs::read_to_string(path).unwrap().replace(',', "");
        for kind in [kind::Api::Wechat, kind::Api::Wecom] {
            let rows = endpoint::rows_of(kind).len();
            assert!(text.contains(&format!(" {rows} ")), "{readme}: {kind}");
        }
    }
}

#[test]
fn the_table_of_metrics_is_the_codes() {
    for readme in READMES {
        let names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(listed(readme, "wechat_sidecar_"), names, "{readme}");
        for family in FAMILIES {
            let rows = rows(readme);
            let row = rows
                .iter()
                .find(|row| row[0].trim_matches('`') == family.name)
                .unwrap();
            assert_eq!(row[1], family.kind, "{readme}: {}", family.name);
        }
    }
}

#[test]
fn the_tables_of_errors_and_marks_are_the_codes() {
    for readme in READMES {
        let rows = rows(readme);
        let errors: Vec<(i64, u16)> = rows
            .iter()
            .filter_map(|row| Some((row[0].parse().ok()?, row[1].parse().ok()?)))
            .collect();
        let codes: Vec<(i64, u16)> = CODES
            .iter()
            .map(|(code, status, _)| (*code, *status))
            .collect();
        assert_eq!(errors, codes, "{readme}");
        let marks: Vec<String> = rows
            .iter()
            .filter(|row| row.len() == 2)
            .filter_map(|row| {
                row[0]
                    .strip_prefix('`')?
                    .strip_suffix('`')
                    .map(str::to_owned)
            })
            .filter(|word| !word.starts_with("X-"))
            .collect();
        assert_eq!(marks, Mark::ALL.map(Mark::word), "{readme}");
    }
}

#[test]
fn the_table_of_injections_settings_is_the_codes() {
    for readme in ["k8s/README.md", "k8s/README.zh-CN.md"] {
        let rows = rows(readme);
        let rows: Vec<_> = rows
            .iter()
            .filter(|row| row.len() == 3 && row[0].starts_with('`'))
            .filter(|row| !row[0].contains('/'))
            .collect();
        let names: Vec<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
        let known: Vec<&str> = catalogue::settings().map(|setting| setting.name).collect();
        assert_eq!(names, known, "{readme}");
        for (row, setting) in rows.iter().zip(catalogue::settings()) {
            let shown = row[1].trim_matches('`');
            // What depends on something is said in words, which may be Chinese.
            let in_words = setting.preset.is_empty() && row[1] == shown;
            assert!(
                shown == setting.preset || in_words,
                "{readme}, {}: {shown:?} is not {:?}",
                setting.name,
                setting.preset
            );
        }
    }
}
