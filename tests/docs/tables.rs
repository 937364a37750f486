//! The tables of the pages agree with the code.

use std::collections::BTreeSet;

use wechat_sidecar::{
    cli::check::Check,
    config::{
        account_keys,
        keys::{self, ValueKind},
    },
    k8s::inject::setting,
    lang::Lang,
    metrics::{FAMILIES, Outcome, process},
    problems::{Cure, Kind},
    proxy::{Mark, error::CODES},
    token::source::redis::COMMANDS,
    wechat::{
        api,
        codes::{self, CodeList},
        endpoint,
    },
};

use super::page::{self, Page};

/// A page of `docs` in both languages.
fn both(name: &str) -> [Page; 2] {
    let english = format!("docs/{name}.md");
    [Page::read(&english), Page::read(&page::chinese(&english))]
}

/// The table of `page` whose first column is called `ours` in English, or `theirs` in Chinese.
fn table(page: &Page, ours: &str, theirs: &str) -> Vec<Vec<String>> {
    page.table(if page.is_chinese() { theirs } else { ours })
}

/// The first cells, without back quotes.
fn firsts(rows: &[Vec<String>]) -> Vec<&str> {
    rows.iter().map(|row| row[0].trim_matches('`')).collect()
}

#[test]
fn the_table_of_keys_is_the_codes() {
    for page in both("configuration") {
        let rows = table(&page, "key", "配置项");
        let known: Vec<&str> = keys::keys().iter().map(|key| key.name).collect();
        assert_eq!(firsts(&rows), known, "{}", page.path);
        for (row, key) in rows.iter().zip(keys::keys()) {
            let default = match key.kind {
                ValueKind::Switch => "false",
                _ => key.default_text(),
            };
            // A default that depends on something is a phrase, which may be Chinese.
            let in_words = default.contains(' ') && !row[1].is_empty();
            let shown = row[1].trim_matches('`');
            assert!(
                shown == default || in_words,
                "{}: {row:?} is not {default:?}",
                page.path
            );
        }
    }
}

#[test]
fn the_table_of_an_accounts_keys_is_the_codes() {
    let known: BTreeSet<String> = account_keys().collect();
    for page in both("accounts") {
        let rows = table(&page, "key of an account", "账号的键");
        let listed = firsts(&rows).into_iter().map(str::to_owned);
        assert_eq!(listed.collect::<BTreeSet<_>>(), known, "{}", page.path);
        assert_eq!(rows.len(), known.len(), "{} lists a key twice", page.path);
    }
}

#[test]
fn the_number_of_known_paths_is_the_codes() {
    for page in both("calls") {
        let text = page.text.replace(',', "");
        for kind in [api::Api::Wechat, api::Api::Wecom] {
            let rows = endpoint::rows_of(kind).len();
            assert!(
                text.contains(&format!(" {rows} ")),
                "{}: {kind} {rows}",
                page.path
            );
        }
    }
}

#[test]
fn the_table_of_metrics_is_the_codes() {
    for page in both("metrics") {
        let rows = table(&page, "metric", "指标");
        let listed: Vec<(&str, &str)> = firsts(&rows)
            .into_iter()
            .zip(rows.iter().map(|row| &*row[1]))
            .collect();
        let known: Vec<_> = FAMILIES
            .iter()
            .map(|family| (family.name, family.kind))
            .collect();
        assert_eq!(listed, known, "{}", page.path);
    }
}

#[test]
fn the_table_of_the_series_of_processes_is_the_codes() {
    for page in both("metrics") {
        let rows = table(&page, "series", "序列");
        let listed: Vec<(&str, &str)> = firsts(&rows)
            .into_iter()
            .zip(rows.iter().map(|row| &*row[1]))
            .collect();
        let known: Vec<_> = process::FAMILIES
            .iter()
            .map(|family| (family.name, family.kind))
            .collect();
        assert_eq!(listed, known, "{}", page.path);
    }
}

#[test]
fn the_table_of_outcomes_is_the_codes() {
    for page in both("metrics") {
        let rows = table(&page, "outcome", "结果");
        let known: BTreeSet<&str> = Outcome::ALL.iter().map(|outcome| outcome.label()).collect();
        assert_eq!(BTreeSet::from_iter(firsts(&rows)), known, "{}", page.path);
    }
}

#[test]
fn the_table_of_problems_is_the_codes() {
    for page in both("operations") {
        let rows = table(&page, "kind", "种类");
        let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.label()).collect();
        assert_eq!(firsts(&rows), known, "{}", page.path);
        for (row, kind) in rows.iter().zip(Kind::ALL) {
            let (ours, theirs) = match kind.cure() {
                Cure::Acceptance => ("an accepted call", "一次被接受的调用"),
                Cure::Reply => ("a call without an error", "一次没有出错的调用"),
                Cure::Part => ("the next success", "下一次成功"),
                Cure::Silence => ("silence", "不再发生"),
            };
            let (cure, lang) = match page.is_chinese() {
                true => (theirs, Lang::Zh),
                false => (ours, Lang::En),
            };
            assert_eq!(row[3], cure, "{row:?}");
            assert_eq!(row[2], kind.advice_in(lang), "{}", page.path);
        }
    }
}

#[test]
fn the_table_of_checks_is_the_codes() {
    for page in both("operations") {
        let rows = table(&page, "check", "检查");
        let known: Vec<&str> = Check::ALL.iter().map(|check| check.name()).collect();
        assert_eq!(firsts(&rows), known, "{}", page.path);
    }
}

#[test]
fn the_table_of_errors_is_the_codes() {
    for page in both("errors") {
        let rows = page.table("errcode");
        let listed: Vec<(i64, u16)> = rows
            .iter()
            .map(|row| (row[0].parse().unwrap(), row[1].parse().unwrap()))
            .collect();
        assert_eq!(listed, CODES, "{}", page.path);
        let ours = codes::all().filter(|row| row.list == CodeList::Sidecar);
        assert_eq!(ours.count(), CODES.len(), "rows of the table of codes");
        for row in &rows {
            let meaning = codes::meanings(row[0].parse().unwrap())
                .find(|row| row.list == CodeList::Sidecar)
                .unwrap_or_else(|| panic!("{row:?}"))
                .meaning;
            let sentence = match page.is_chinese() {
                true => format!("{}。", meaning.zh),
                false => format!("{}.", capitalised(meaning.en)),
            };
            assert_eq!(row[2].replace('`', ""), sentence, "{}", page.path);
        }
    }
}

/// The clause with a capital letter at its beginning.
fn capitalised(clause: &str) -> String {
    let (first, rest) = clause.split_at(1);
    first.to_ascii_uppercase() + rest
}

#[test]
fn the_table_of_the_headers_words_is_the_codes() {
    for page in both("calls") {
        let rows = page.table("`X-Wechat-Sidecar`");
        assert_eq!(firsts(&rows), Mark::ALL.map(Mark::word), "{}", page.path);
    }
}

#[test]
fn the_table_of_injections_settings_is_the_codes() {
    for page in both("kubernetes") {
        let rows = table(&page, "setting", "设置");
        let known: Vec<&str> = setting::settings().map(|setting| setting.name).collect();
        assert_eq!(firsts(&rows), known, "{}", page.path);
        for (row, setting) in rows.iter().zip(setting::settings()) {
            // A default that depends on something is a phrase, which may be Chinese.
            let in_words = setting.preset.is_empty() && !row[1].starts_with('`');
            let shown = row[1].trim_matches('`');
            assert!(
                shown == setting.preset || in_words,
                "{}: {row:?}",
                page.path
            );
        }
    }
}

/// The names in back quotes of each cell after the first two.
fn codes(row: &[String]) -> Vec<Vec<&str>> {
    let cells = row.iter().skip(2);
    cells
        .map(|cell| cell.split('`').skip(1).step_by(2).collect())
        .collect()
}

#[test]
fn the_table_of_a_tokens_states_is_the_codes() {
    let source = Page::read("src/token/keeper/confidence.rs").text;
    let rows = source
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `"));
    let rows: Vec<Vec<String>> = rows
        .map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    for page in both("tokens") {
        let shown = table(&page, "state", "状态");
        assert_eq!(shown.len(), rows.len(), "{}", page.path);
        for (shown, row) in shown.iter().zip(&rows) {
            assert_eq!(shown[0].trim_matches('`'), row[0].trim_matches('`'));
            assert_eq!(
                codes(shown),
                codes(row)[..codes(shown).len()],
                "{}",
                page.path
            );
        }
    }
}

#[test]
fn the_acl_allows_the_commands_that_the_code_sends() {
    for page in both("replicas") {
        let lines = page.text.lines();
        let acl: Vec<&str> = lines.filter(|line| line.starts_with("ACL ")).collect();
        let [acl] = acl[..] else {
            panic!("{}: {acl:?}", page.path);
        };
        let allowed: Vec<&str> = acl.split(" +").skip(1).collect();
        assert_eq!(allowed, COMMANDS, "{}", page.path);
    }
}
