//! Checks the floor plan: a module uses only modules that `lib.rs` lists in the groups above its own.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The most lines of a file. A longer one holds more than one thing.
const LONGEST_FILE: usize = 400;

/// The most lines of a function. A longer one does more than one thing. A test may be a long table.
const LONGEST_FUNCTION: usize = 60;

/// The most parameters of a function, without `self`. With more, it needs a type.
const MOST_PARAMETERS: usize = 5;

/// Names that each module may use for a type of its own.
const EVERYBODYS: [&str; 3] = ["Options", "Error", "Status"];

/// A file of `src`.
struct Source {
    /// Its path below `src`, such as `token/keeper.rs`.
    name: String,
    text: String,
}

impl Source {
    /// Its module, such as `["token", "keeper"]`; empty for `lib.rs`.
    fn module(&self) -> Vec<String> {
        let name = self.name.strip_suffix(".rs").unwrap();
        let parts = name.split('/').filter(|part| *part != "lib");
        parts.map(str::to_owned).collect()
    }

    /// Its code, without comments.
    fn code(&self) -> String {
        let lines = self.text.lines();
        let code = lines.map(|line| line.split("//").next().unwrap());
        code.collect::<Vec<_>>().join("\n")
    }

    /// The modules and items of this crate that it uses, as paths from the root of the crate. Inline modules are
    /// skipped, because they are its tests.
    fn uses(&self) -> Vec<Vec<String>> {
        let code = self.code();
        let code = code.split("\nmod tests {").next().unwrap();
        let mut found = Vec::new();
        for start in ["crate::", "super::"] {
            for (at, _) in code.match_indices(start) {
                let before = code[..at].chars().next_back().unwrap_or(' ');
                if before.is_alphanumeric() || before == '_' || before == ':' || before == '$' {
                    continue;
                }
                found.extend(self.expand(&code[at..]));
            }
        }
        found
    }

    /// The paths at the beginning of a text that starts with `crate::` or `super::`.
    fn expand(&self, text: &str) -> Vec<Vec<String>> {
        let mut base = self.module();
        let mut rest = text;
        if let Some(after) = rest.strip_prefix("crate::") {
            (base, rest) = (Vec::new(), after);
        }
        while let Some(after) = rest.strip_prefix("super::") {
            base.pop();
            rest = after;
        }
        let mut paths = Vec::new();
        tree(base, &mut rest.chars().peekable(), &mut paths);
        paths
    }
}

/// Reads the rest of a path: a name and more, or names in braces.
fn tree(
    mut base: Vec<String>,
    text: &mut std::iter::Peekable<std::str::Chars<'_>>,
    paths: &mut Vec<Vec<String>>,
) {
    loop {
        while text.next_if(|char| char.is_whitespace()).is_some() {}
        if text.next_if_eq(&'{').is_some() {
            while text.peek().is_some_and(|char| *char != '}') {
                tree(base.clone(), text, paths);
                while text
                    .next_if(|char| char.is_whitespace() || *char == ',')
                    .is_some()
                {}
            }
            text.next();
            return;
        }
        let mut word = String::new();
        while let Some(char) = text.next_if(|char| char.is_alphanumeric() || "_*".contains(*char)) {
            word.push(char);
        }
        if word.is_empty() {
            text.next();
            return;
        }
        if word != "self" {
            base.push(word);
        }
        let mut ahead = text.clone();
        if (ahead.next(), ahead.next()) != (Some(':'), Some(':')) {
            paths.push(base);
            // A rename: `as` and a name.
            while text.next_if(|char| !",};\n".contains(*char)).is_some() {}
            return;
        }
        *text = ahead;
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

/// Fails, and lists all problems.
fn none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The modules that `lib` declares, each with the number of its group. Empty lines separate the groups.
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

#[test]
fn what_is_used_is_found() {
    let text = "use crate::{\n  a::{self, x::y as z},\n  b,\n};\nuse super::c::{D, e};\nfn f() -> crate::g::H {\n";
    let source = Source {
        name: "one/two.rs".to_owned(),
        text: text.to_owned(),
    };
    let found: BTreeSet<String> = source.uses().iter().map(|path| path.join("::")).collect();
    let expected = ["a", "a::x::y", "b", "g::H", "one::c::D", "one::c::e"];
    assert_eq!(found, expected.map(str::to_owned).into());
}

#[test]
fn every_module_uses_only_what_lies_below() {
    let sources = sources();
    let lib = sources
        .iter()
        .find(|source| source.name == "lib.rs")
        .unwrap();
    let floors = floors(&lib.text);
    assert!(floors.len() > 10, "lib.rs lists no floors");
    let height = |module: &str| {
        let floor = floors.iter().find(|(_, name)| name == module);
        floor.map(|(height, _)| *height)
    };
    let mut wrong = Vec::new();
    for source in sources
        .iter()
        .filter(|source| !["lib.rs", "main.rs"].contains(&&*source.name))
    {
        let module = &source.module()[0];
        let own = height(module).unwrap_or_else(|| panic!("lib.rs does not list {module}"));
        let code = source.code();
        let all = code
            .match_indices("crate::")
            .flat_map(|(at, _)| source.expand(&code[at..]));
        let others: BTreeSet<String> = all.filter_map(|path| path.first().cloned()).collect();
        for other in others {
            if other != *module && height(&other).is_some_and(|other| other >= own) {
                let name = &source.name;
                wrong.push(format!(
                    "src/{name} uses `{other}`, which does not lie below"
                ));
            }
        }
    }
    none(wrong);
}

#[test]
fn only_the_app_and_the_command_line_know_the_configuration() {
    let mut wrong = Vec::new();
    for source in &sources() {
        let may = ["config", "app", "cli", "main"];
        let module = source.module();
        let knows = source.uses().iter().any(|path| path[0] == "config");
        if knows && !may.contains(&module.first().map_or("lib", |name| name)) {
            wrong.push(format!("src/{} imports config", source.name));
        }
    }
    none(wrong);
}

/// For each folder, which of its modules use which. A file and the folder of the same name count as one.
fn uses_within_folders(
    sources: &[Source],
) -> BTreeMap<Vec<String>, BTreeMap<String, BTreeSet<String>>> {
    let modules: BTreeSet<Vec<String>> = sources.iter().map(Source::module).collect();
    let mut folders: BTreeMap<_, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for source in sources {
        let module = source.module();
        for path in source.uses() {
            let common = module
                .iter()
                .zip(&path)
                .take_while(|(one, other)| one == other)
                .count();
            // Both are in the same folder, and neither contains the other.
            if common < module.len() && common < path.len() && modules.contains(&path[..=common]) {
                let folder = folders.entry(module[..common].to_vec()).or_default();
                folder
                    .entry(module[common].clone())
                    .or_default()
                    .insert(path[common].clone());
            }
        }
    }
    folders
}

#[test]
fn no_modules_of_a_folder_form_a_circle() {
    let mut wrong = Vec::new();
    for (folder, mut uses) in uses_within_folders(&sources()) {
        // A module that uses none of those that are left is in no circle.
        loop {
            let left: BTreeSet<String> = uses.keys().cloned().collect();
            uses.values_mut()
                .for_each(|used| used.retain(|name| left.contains(name)));
            let before = uses.len();
            uses.retain(|_, used| !used.is_empty());
            if uses.len() == before {
                break;
            }
        }
        if !uses.is_empty() {
            wrong.push(format!("src/{}: {uses:?}", folder.join("/")));
        }
    }
    none(wrong);
}

#[test]
fn every_file_says_what_it_is_and_none_is_long() {
    let mut wrong = Vec::new();
    for Source { name, text } in &sources() {
        if !text.starts_with("//! ") {
            wrong.push(format!("src/{name} does not open with a sentence"));
        }
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            wrong.push(format!("src/{name} has {lines} lines"));
        }
    }
    none(wrong);
}

/// The functions of a file as rustfmt formats them: name, number of lines, number of parameters.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let Some((before, after)) = code.split_once("fn ") else {
            continue;
        };
        let words = [
            "pub",
            "pub(crate)",
            "pub(super)",
            "const",
            "async",
            "unsafe",
        ];
        if !before
            .split_whitespace()
            .all(|word| words.contains(&word) || word.starts_with("pub(in"))
        {
            continue;
        }
        let name = after.split(['(', '<']).next().unwrap().to_owned();
        let closing = format!("{}}}", " ".repeat(indent));
        let is_one_line = line.ends_with('}') || line.ends_with(';');
        let end = match is_one_line {
            true => at,
            false => (at..lines.len())
                .find(|end| {
                    lines[*end] == closing
                        || lines[*end].ends_with(");")
                            && lines[*end].len() - lines[*end].trim_start().len() == indent
                })
                .unwrap_or(at),
        };
        found.push((name, end - at + 1, parameters(&lines[at..])));
    }
    found
}

/// The number of parameters, without `self`, of the function that begins with these lines.
fn parameters(lines: &[&str]) -> usize {
    let text = lines.join("\n");
    // Generics may hold parentheses, as in `impl<F: Fn(u8)>`.
    let mut depth = 0;
    let name = text.find("fn ").unwrap() + 3;
    let open = text[name..].char_indices().find_map(|(at, char)| {
        match char {
            '<' => depth += 1,
            '>' if !text[..name + at].ends_with('-') => depth -= 1,
            '(' if depth == 0 => return Some(name + at + 1),
            _ => {}
        }
        None
    });
    let (mut depth, mut count, mut current) = (0, 0, String::new());
    for (at, char) in text[open.unwrap()..].char_indices() {
        let before = &text[..open.unwrap() + at];
        match char {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' if depth == 0 => break,
            '>' if before.ends_with('-') || before.ends_with('=') => {}
            ')' | ']' | '}' | '>' => depth -= 1,
            ',' if depth == 0 => {
                count += usize::from(is_parameter(&current));
                current.clear();
                continue;
            }
            _ => {}
        }
        current.push(char);
    }
    count + usize::from(is_parameter(&current))
}

fn is_parameter(text: &str) -> bool {
    let text = text.trim();
    let is_self = text.ends_with("self") || text.starts_with("self:");
    !text.is_empty() && !is_self
}

#[test]
fn functions_are_measured() {
    let text = "    pub async fn one<F: Fn(u8)>(\n        &'a mut self,\n        a: (u8, u8),\n        b: impl Fn(A, B) -> C,\n    ) -> u8 {\n        1\n    }\n\nfn two() {}\nfn three(mut self, x: Vec<u8, A>);\n";
    let found = functions(text);
    let expected = [("one", 7, 2), ("two", 1, 0), ("three", 1, 1)];
    let expected = expected.map(|(name, lines, parameters)| (name.to_owned(), lines, parameters));
    assert_eq!(found, expected);
}

#[test]
fn no_function_is_long_or_takes_much() {
    let mut wrong = Vec::new();
    for Source { name, text } in &sources() {
        let code = match name.contains("/tests") {
            true => "",
            false => text.split("\nmod tests {").next().unwrap(),
        };
        for (function, lines, parameters) in functions(code) {
            if lines > LONGEST_FUNCTION {
                wrong.push(format!("src/{name}: {function} has {lines} lines"));
            }
            if parameters > MOST_PARAMETERS {
                wrong.push(format!(
                    "src/{name}: {function} takes {parameters} parameters"
                ));
            }
        }
    }
    none(wrong);
}

/// The types that a file declares, whatever their visibility. Types in traits and their implementations do not count.
fn types(text: &str) -> Vec<&str> {
    let words = ["struct ", "enum ", "trait ", "union "];
    text.lines()
        .filter_map(|line| {
            let code = line.trim_start();
            let code = match code.strip_prefix("pub") {
                Some(rest) => rest.split_once(' ').map_or(code, |(_, rest)| rest),
                None => code,
            };
            let alias = (code.len() == line.len() || line.starts_with("pub")).then_some("type ");
            let name = words
                .into_iter()
                .chain(alias)
                .find_map(|word| code.strip_prefix(word))?;
            let end = name.find(|char: char| !(char.is_alphanumeric() || char == '_'));
            Some(&name[..end.unwrap_or(name.len())])
        })
        .collect()
}

#[test]
fn no_two_types_share_a_name() {
    let sources = sources();
    let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    // What Windows has instead of a type has the name of that type.
    let sources = sources.iter().filter(|s| !s.name.contains("/windows"));
    for Source { name, text } in sources {
        for found in types(text) {
            places.entry(found).or_default().push(name);
        }
    }
    let shared = places.into_iter().filter(|(_, places)| places.len() > 1);
    let shared = shared.filter(|(name, _)| !EVERYBODYS.contains(name));
    none(
        shared
            .map(|(name, places)| format!("{name}: {}", places.join(", ")))
            .collect(),
    );
}

#[test]
fn one_file_knows_reqwest() {
    for source in &sources() {
        let may = source.name == "client/api.rs";
        let names = source.code().contains("reqwest");
        assert!(may || !names, "src/{} names reqwest", source.name);
    }
}

#[test]
fn no_clock_is_one_that_tests_cannot_pause() {
    // One file compares the clocks of the machine.
    let others = sources();
    for source in others.iter().filter(|s| s.name != "rt/suspension.rs") {
        let code = source.code();
        let mut imports = code.split("use std::").skip(1);
        let imported = imports.any(|rest| rest.split(';').next().unwrap().contains("Instant"));
        let named = code.contains("std::time::Instant");
        assert!(!imported && !named, "src/{} takes std's clock", source.name);
    }
}
