//! The house stands on its floors: a module uses only what `lib.rs` lists in the groups above its own.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file of more lines holds more than one thing.
const LONGEST: usize = 400;

/// A file of `src`.
struct Source {
    /// Its path below `src`, such as `keeper/pace.rs`.
    name: String,
    text: String,
}

impl Source {
    /// The top-level module that it belongs to.
    fn module(&self) -> &str {
        self.name.split(['/', '.']).next().unwrap()
    }

    /// Its code, without comments.
    fn code(&self) -> String {
        let lines = self.text.lines();
        let code = lines.map(|line| line.split("//").next().unwrap());
        code.collect::<Vec<_>>().join("\n")
    }
}

fn sources() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(&src)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                let text = fs::read_to_string(path).unwrap();
                found.push(Source { name, text });
            }
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

/// The modules that `lib` declares, each with the number of its group. Groups are set apart by empty
/// lines.
fn floors(lib: &str) -> Vec<(usize, String)> {
    let groups = lib.split("\n\n").enumerate();
    let lines = groups.flat_map(|(height, group)| group.lines().map(move |line| (height, line)));
    lines
        .filter_map(|(height, line)| {
            let name = line.strip_prefix("pub mod ")?.strip_suffix(';')?;
            Some((height, name.to_owned()))
        })
        .collect()
}

/// What `code` names right behind `crate::`, alone or in braces.
fn used(code: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => names.extend(first_words(list)),
            None => names.extend(word(rest)),
        }
    }
    names
}

/// The first word of each item of a list whose opening brace is gone.
fn first_words(list: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, char) in list.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                words.extend(word(&list[start..at]));
                start = at + 1;
                if char == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    words
}

/// The word that `text` begins with, if it does.
fn word(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let end = text.find(|char: char| !(char.is_alphanumeric() || char == '_'));
    Some(&text[..end.unwrap_or(text.len())]).filter(|word| !word.is_empty())
}

#[test]
fn what_is_used_is_found() {
    assert_eq!(used("use crate::a; crate::b::C; pub(crate) fn"), ["a", "b"]);
    assert_eq!(
        used("use crate::{\n  a::{self, x::y},\n  b, c::*,\n};\nfn d()"),
        ["a", "b", "c"]
    );
}

#[test]
fn every_module_uses_only_what_lies_below() {
    let sources = sources();
    let lib = &sources
        .iter()
        .find(|source| source.name == "lib.rs")
        .unwrap()
        .text;
    let floors = floors(lib);
    assert!(floors.len() > 10, "lib.rs lists no floors");
    let height = |module: &str| {
        let floor = floors.iter().find(|(_, name)| name == module);
        floor.map(|(height, _)| *height)
    };
    let mut wrong = Vec::new();
    for source in &sources {
        let module = source.module();
        if ["lib", "main"].contains(&module) {
            continue;
        }
        let own = height(module).unwrap_or_else(|| panic!("lib.rs does not list {module}"));
        for other in used(&source.code()) {
            if other != module && height(other).is_some_and(|other| other >= own) {
                wrong.push(format!(
                    "src/{} uses `{other}`, which does not lie below",
                    source.name
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_and_none_is_long() {
    let mut wrong = Vec::new();
    for Source { name, text } in &sources() {
        if !text.starts_with("//! ") {
            wrong.push(format!("src/{name} does not open with a sentence"));
        }
        let lines = text.lines().count();
        if lines > LONGEST {
            wrong.push(format!("src/{name} has {lines} lines"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn one_file_knows_how_tokens_are_requested() {
    for source in &sources() {
        let may = source.name == "issuer/request.rs";
        let names = source.code().contains("reqwest");
        assert!(may || !names, "src/{} names reqwest", source.name);
    }
}

#[test]
fn no_clock_is_one_that_tests_cannot_pause() {
    for source in &sources() {
        let code = source.code();
        let mut imports = code.split("use std::").skip(1);
        let imported = imports.any(|rest| rest.split(';').next().unwrap().contains("Instant"));
        let named = code.contains("std::time::Instant");
        assert!(!imported && !named, "src/{} takes std's clock", source.name);
    }
}
