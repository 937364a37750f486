//! Both languages have the same content, as far as a test can tell.

use std::{collections::BTreeSet, fs};

use super::page::{self, Block, Page, Section};

#[test]
fn every_page_has_a_chinese_version_and_no_chinese_page_stands_alone() {
    let expected: BTreeSet<String> = page::translated()
        .iter()
        .map(|page| page::chinese(&page.path))
        .collect();
    let found = page::all()
        .into_iter()
        .filter(Page::is_chinese)
        .map(|page| page.path);
    assert_eq!(found.collect::<BTreeSet<_>>(), expected);
}

/// Calls `check` with each section in English and in Chinese, and with its name.
fn each_section(check: impl Fn(&str, &Section, &Section)) {
    for english in page::translated() {
        let chinese = Page::read(&page::chinese(&english.path));
        let (ours, theirs) = (english.sections(), chinese.sections());
        let levels = |sections: &[Section]| {
            sections
                .iter()
                .map(|section| section.level)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            levels(&ours),
            levels(&theirs),
            "{}: other headings than in English",
            chinese.path
        );
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let place = format!(
                "{}, {:?} ({:?})",
                chinese.path, theirs.heading, ours.heading
            );
            check(&place, ours, theirs);
        }
    }
}

#[test]
fn both_languages_have_the_same_headings_paragraphs_and_tables() {
    each_section(|place, ours, theirs| {
        let shape = |section: &Section| {
            let tables = section.tables();
            tables
                .iter()
                .map(|table| (table.len(), table[0].len()))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            shape(ours),
            shape(theirs),
            "{place}: rows and columns of tables"
        );
        let points = |section: &Section| section.prose.iter().filter(|line| is_point(line)).count();
        assert_eq!(points(ours), points(theirs), "{place}: points of lists");
        let paragraphs = |section: &Section| {
            let text = section.text();
            text.split("\n\n")
                .filter(|text| !text.trim().is_empty())
                .count()
        };
        assert_eq!(paragraphs(ours), paragraphs(theirs), "{place}: paragraphs");
    });
}

fn is_point(line: &str) -> bool {
    let number = line.trim_start_matches(|letter: char| letter.is_ascii_digit());
    line.starts_with("- ") || (number.len() < line.len() && number.starts_with(". "))
}

#[test]
fn both_languages_name_the_same_flags_headers_codes_metrics_and_paths() {
    each_section(|place, ours, theirs| {
        let code = |section: &Section| section.code().into_iter().collect::<BTreeSet<_>>();
        assert_eq!(code(ours), code(theirs), "{place}: words in back quotes");
        assert_eq!(names(ours), names(theirs), "{place}: names in plain text");
    });
}

/// Flags, headers, variables, metrics and paths in plain text, as in the table of keys.
fn names(section: &Section) -> BTreeSet<String> {
    let text = section.words();
    let plain: String = text.split('`').step_by(2).collect();
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "-_/*.".contains(letter);
    let words = plain
        .split(|letter| !is_part(letter))
        .map(|word| word.trim_end_matches('.'));
    let is_name = |word: &&str| {
        let begins = ["--", "X-", "/"]
            .iter()
            .any(|prefix| word.starts_with(prefix));
        (begins || word.contains('_')) && word.len() > 2
    };
    words.filter(is_name).map(str::to_owned).collect()
}

#[test]
fn both_languages_have_the_same_numbers() {
    each_section(|place, ours, theirs| {
        assert_eq!(
            numbers(&ours.words()),
            numbers(&theirs.words()),
            "{place}: numbers"
        );
        for (ours, theirs) in ours
            .tables()
            .iter()
            .flatten()
            .zip(theirs.tables().iter().flatten())
        {
            let cells = |row: &[String]| row.iter().map(|cell| numbers(cell)).collect::<Vec<_>>();
            assert_eq!(cells(ours), cells(theirs), "{place}: {theirs:?}");
        }
    });
}

/// The numbers in a text, where 1,000 is 1000.
fn numbers(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_digit() || ",.".contains(letter);
    let words = text.split(|letter| !is_part(letter));
    let numbers = words.map(|word| word.trim_matches([',', '.']).replace(',', ""));
    numbers.filter(|number| !number.is_empty()).collect()
}

#[test]
fn both_languages_have_the_same_code_but_for_its_comments() {
    each_section(|place, ours, theirs| {
        let bare = |section: &Section| {
            section
                .blocks
                .iter()
                .map(without_comments)
                .collect::<Vec<_>>()
        };
        assert_eq!(bare(ours), bare(theirs), "{place}");
    });
}

fn without_comments(block: &Block) -> (String, String) {
    let code = block
        .text
        .lines()
        .map(|line| line.split(" # ").next().unwrap().trim_end());
    let code = code.filter(|line| !line.starts_with("# "));
    (block.language.clone(), code.collect::<Vec<_>>().join("\n"))
}

#[test]
fn both_languages_link_to_the_same_pages_and_headings() {
    for english in page::translated() {
        let chinese = Page::read(&page::chinese(&english.path));
        for (ours, theirs) in english.sections().iter().zip(&chinese.sections()) {
            let targets = |page: &Page, section: &Section| {
                let links = section.links();
                links
                    .iter()
                    .map(|link| target(page, link))
                    .collect::<BTreeSet<_>>()
            };
            let (ours, theirs_) = (targets(&english, ours), targets(&chinese, theirs));
            assert_eq!(ours, theirs_, "{}, {:?}", chinese.path, theirs.heading);
        }
    }
}

/// The English page that a link leads to, and the number of the heading there.
fn target(page: &Page, link: &str) -> (String, Option<usize>) {
    if link.contains("://") {
        return (link.to_owned(), None);
    }
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let path = match file {
        "" => page.path.clone(),
        file => page::resolve(&page.path, file),
    };
    let at = (!heading.is_empty()).then(|| {
        let sections = Page::read(&path).sections();
        let at = sections
            .iter()
            .position(|section| page::anchor(&section.heading) == heading);
        at.unwrap_or_else(|| panic!("{}: {link} leads to no heading", page.path))
    });
    let english = path.replace("docs/zh-CN/", "docs/").replace(".zh-CN.", ".");
    // A link to a page without a Chinese version leads to the English one.
    let chosen = if fs::exists(page::root().join(&english)).unwrap() {
        english
    } else {
        path
    };
    (chosen, at)
}
