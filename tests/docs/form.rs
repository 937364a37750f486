//! Links have a target, lines are not too long, and the first page is short.

use std::fs;

use super::page::{self, Page};

/// The longest line of English prose.
const WIDEST: usize = 110;

/// The most words of the first page.
const LONGEST: usize = 1300;

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    for page in page::all() {
        let own = |heading: &str| has_heading(&page, heading);
        for link in page.sections().iter().flat_map(|section| section.links()) {
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            if file.is_empty() {
                assert!(own(heading), "{}: {link} leads to no heading", page.path);
                continue;
            }
            let path = page::resolve(&page.path, file);
            assert!(
                fs::exists(page::root().join(&path)).unwrap(),
                "{}: {link} leads nowhere",
                page.path
            );
            let found = heading.is_empty() || has_heading(&Page::read(&path), heading);
            assert!(found, "{}: {link} leads to no heading", page.path);
        }
    }
}

fn has_heading(page: &Page, anchor: &str) -> bool {
    let sections = page.sections();
    sections
        .iter()
        .any(|section| page::anchor(&section.heading) == anchor)
}

#[test]
fn every_file_that_a_page_names_exists() {
    let folders = ["benches/", "docs/", "examples/", "k8s/", "pgo/", "tests/"];
    for page in page::all() {
        for code in page.sections().iter().flat_map(|section| section.code()) {
            let path = code.split(' ').next().unwrap().trim_end_matches('/');
            let is_path = folders.iter().any(|folder| path.starts_with(folder));
            if is_path && !path.contains(['*', '…']) {
                assert!(
                    fs::exists(page::root().join(path)).unwrap(),
                    "{} names {path}",
                    page.path
                );
            }
        }
    }
}

#[test]
fn the_first_page_has_at_most_1300_words() {
    for path in ["README.md", "README.zh-CN.md"] {
        let words = words(&Page::read(path).text);
        assert!(words <= LONGEST, "{path} has {words} words");
    }
}

/// Counts words between spaces. Two Chinese characters count as one word.
fn words(text: &str) -> usize {
    let is_chinese = |letter: &char| ('\u{3400}'..='\u{9fff}').contains(letter);
    let chinese = text.chars().filter(is_chinese).count();
    let others = text.split(|letter: char| letter.is_whitespace() || is_chinese(&letter));
    others
        .filter(|word| word.contains(char::is_alphanumeric))
        .count()
        + chinese / 2
}

#[test]
fn lines_of_prose_are_wrapped_in_english_and_not_wrapped_in_chinese() {
    for page in page::for_users() {
        for section in page.sections() {
            let mut before = "";
            for line in &section.prose {
                let is_prose = !line.is_empty() && !line.starts_with(['|', '!']);
                if !page.is_chinese() {
                    let fits = line.chars().count() <= WIDEST || !line.contains(' ');
                    assert!(!is_prose || fits, "{}: {line}", page.path);
                } else if is_prose && !before.is_empty() {
                    let begins = line.starts_with("- ")
                        || line.starts_with(|first: char| first.is_ascii_digit());
                    assert!(begins, "{}: one line a paragraph: {line}", page.path);
                }
                before = line;
            }
        }
    }
}

/// Chinese has no spaces, so `**` between a full stop and a letter does not end bold text.
#[test]
fn bold_words_end_where_they_should() {
    for page in page::all() {
        for line in page.text.lines() {
            let parts: Vec<&str> = line.split("**").collect();
            for pair in parts.windows(2).skip(1).step_by(2) {
                let before = pair[0].ends_with(char::is_alphanumeric);
                let behind = pair[1].starts_with(char::is_alphanumeric);
                assert!(before || !behind, "{}: {line}", page.path);
            }
        }
    }
}

#[test]
fn pages_for_users_name_no_source_file() {
    for page in page::for_users() {
        for (at, line) in page.text.lines().enumerate() {
            assert!(
                !line.contains("src/") && !line.contains(".rs"),
                "{}:{}: {line}",
                page.path,
                at + 1
            );
        }
    }
}

#[test]
fn figures_are_those_of_the_newest_run() {
    let read = |name: &str| {
        let text = Page::read(&format!("benches/results/{name}")).text;
        // Columns are aligned with spaces there.
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let comparison = read("latest.md");
    let others = ["burst.md", "https.md", "accounts.md"].map(read);
    let date = comparison
        .split_whitespace()
        .find(|word| word.starts_with("20"))
        .unwrap();
    let date = date.trim_end_matches(',');
    for (path, least) in [("README.md", 8), ("docs/performance.md", 40)] {
        let page = Page::read(path);
        let figures = figures(&page);
        assert!(figures.len() >= least, "{path}: {figures:?}");
        for figure in figures {
            let is_in = |results: &String| results.contains(&figure);
            let is_new = is_in(&comparison) || others.iter().any(is_in);
            assert!(is_new, "{path}: {figure} is not in benches/results");
        }
        assert!(
            page.text.contains(date),
            "{path}: the newest run is of {date}"
        );
    }
}

/// Numbers with a range, such as `0.76 (0.66–0.90)`, and table cells that are a number with decimals.
fn figures(page: &Page) -> Vec<String> {
    let parts: Vec<&str> = page.text.split('(').collect();
    let with_range = parts.windows(2).filter_map(|pair| {
        let (range, _) = pair[1].split_once(')')?;
        let before = pair[0].trim_end().trim_end_matches("µs");
        let number = before.split_whitespace().next_back()?;
        is_range(range).then(|| format!("{number} ({range})"))
    });
    let sections = page.sections();
    let tables = sections.iter().flat_map(|section| section.tables());
    let cells = tables.flatten().flatten();
    let cells = cells.filter(|cell| cell.contains('.') && cell.parse::<f64>().is_ok());
    with_range.chain(cells).collect()
}

fn is_range(text: &str) -> bool {
    let numbers = text.split_once('–');
    numbers.is_some_and(|(low, high)| low.parse::<f64>().is_ok() && high.parse::<f64>().is_ok())
}
