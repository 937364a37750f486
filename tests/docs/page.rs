//! A page of the documents, parsed as far as the tests need it.

use std::{
    fs,
    path::{Path, PathBuf},
};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A Markdown file.
pub(crate) struct Page {
    /// Its path from the root of the repository.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A heading, and everything up to the next one.
pub(crate) struct Section {
    pub(crate) level: usize,
    pub(crate) heading: String,
    /// All lines outside of code blocks.
    pub(crate) prose: Vec<String>,
    pub(crate) blocks: Vec<Block>,
}

/// A code block.
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
}

impl Page {
    pub(crate) fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path));
        let text = text.unwrap_or_else(|error| panic!("{path}: {error}"));
        Self {
            path: path.to_owned(),
            text,
        }
    }

    pub(crate) fn is_chinese(&self) -> bool {
        self.path.contains("zh-CN")
    }

    pub(crate) fn sections(&self) -> Vec<Section> {
        let mut sections: Vec<Section> = Vec::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            if line.starts_with('#') {
                let heading = line.trim_start_matches('#');
                sections.push(Section {
                    level: line.len() - heading.len(),
                    heading: heading.trim().to_owned(),
                    prose: Vec::new(),
                    blocks: Vec::new(),
                });
                continue;
            }
            let section = sections.last_mut();
            let section =
                section.unwrap_or_else(|| panic!("{}: begins with no heading", self.path));
            let Some(language) = line.strip_prefix("```") else {
                section.prose.push(line.to_owned());
                continue;
            };
            let code = lines.by_ref().take_while(|line| *line != "```");
            section.blocks.push(Block {
                language: language.to_owned(),
                text: code.map(|line| format!("{line}\n")).collect(),
            });
        }
        sections
    }

    /// The rows of the table whose first column is called `first`, without its heading.
    pub(crate) fn table(&self, first: &str) -> Vec<Vec<String>> {
        let sections = self.sections();
        let mut tables = sections.iter().flat_map(Section::tables);
        let table = tables.find(|table| table[0][0] == first);
        let table = table.unwrap_or_else(|| panic!("{}: no table of {first:?}", self.path));
        table.into_iter().skip(1).collect()
    }
}

impl Section {
    /// Each table as rows: the heading first, without the line below it.
    pub(crate) fn tables(&self) -> Vec<Vec<Vec<String>>> {
        let mut tables: Vec<Vec<Vec<String>>> = Vec::new();
        let mut inside = false;
        for line in &self.prose {
            let row = line.strip_prefix('|').and_then(|row| row.strip_suffix('|'));
            let Some(row) = row else {
                inside = false;
                continue;
            };
            if !inside {
                tables.push(Vec::new());
            }
            inside = true;
            if !row.trim_start_matches(['-', '|']).is_empty() {
                let cells = row.split('|').map(|cell| cell.trim().to_owned());
                tables.last_mut().unwrap().push(cells.collect());
            }
        }
        tables
    }

    /// Its prose as one text.
    pub(crate) fn text(&self) -> String {
        self.prose.join("\n")
    }

    /// The texts in back quotes.
    pub(crate) fn code(&self) -> Vec<String> {
        let text = self.text();
        let parts = text.split('`').skip(1).step_by(2);
        parts.map(|code| code.replace('\n', " ")).collect()
    }

    /// The targets of links and pictures.
    pub(crate) fn links(&self) -> Vec<String> {
        let text = self.text();
        let targets = text.split("](").skip(1);
        targets
            .filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()))
            .collect()
    }

    /// Its prose without the targets of links.
    pub(crate) fn words(&self) -> String {
        let mut words = String::new();
        let text = self.text();
        for (at, part) in text.split("](").enumerate() {
            let part = match at {
                0 => part,
                _ => part.split_once(')').map_or("", |(_, rest)| rest),
            };
            words += part;
            words.push(' ');
        }
        words
    }
}

/// The anchor that GitHub makes of a heading.
pub(crate) fn anchor(heading: &str) -> String {
    let heading = heading.to_lowercase();
    let kept = heading
        .chars()
        .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.collect::<String>().replace(' ', "-")
}

/// The target of `link` on the page `from`, as a path from the root of the repository.
pub(crate) fn resolve(from: &str, link: &str) -> String {
    let mut path = PathBuf::from(from);
    path.pop();
    for part in link.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            assert!(path.pop(), "{from}: {link} leads out of the repository");
        } else {
            path.push(part);
        }
    }
    path.to_str().unwrap().to_owned()
}

/// The English pages that have a Chinese version. The pages for developers are in English only.
pub(crate) fn translated() -> Vec<Page> {
    let is_translated = |path: &str| {
        let is_in_docs = path.starts_with("docs/") && path != "docs/performance-notes.md";
        path == "README.md" || is_in_docs
    };
    let pages = all().into_iter();
    pages
        .filter(|page| !page.is_chinese() && is_translated(&page.path))
        .collect()
}

/// The pages for users, in both languages.
pub(crate) fn for_users() -> Vec<Page> {
    let chinese = all().into_iter().filter(Page::is_chinese);
    translated().into_iter().chain(chinese).collect()
}

/// The path of the Chinese version of a page.
pub(crate) fn chinese(english: &str) -> String {
    match english.strip_prefix("docs/") {
        Some(name) => format!("docs/zh-CN/{name}"),
        None => english.replace(".md", ".zh-CN.md"),
    }
}

/// Every page of the repository.
pub(crate) fn all() -> Vec<Page> {
    let mut paths = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                if !name.starts_with('.') && name != "target" {
                    folders.push(format!("{folder}{name}/"));
                }
            } else if name.ends_with(".md") {
                paths.push(format!("{folder}{name}"));
            }
        }
    }
    paths.sort_unstable();
    paths.iter().map(|path| Page::read(path)).collect()
}
