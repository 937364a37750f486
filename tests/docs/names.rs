//! Commands, flags, variables, metrics, headers and keys that the pages name exist.

use std::{collections::BTreeSet, ffi::OsString, fs};

use wechat_sidecar::{
    cli::args::{self, UsageError},
    config::{account_keys, keys},
    metrics::FAMILIES,
};

use super::page;

#[test]
fn every_command_in_the_pages_is_one() {
    let mut count = 0;
    for page in page::all() {
        let sections = page.sections();
        let blocks = sections.iter().flat_map(|section| &section.blocks);
        let shell = blocks.filter(|block| block.language == "sh");
        let code = sections.iter().flat_map(|section| section.code());
        let code = code.filter(|code| !code.contains("[--"));
        for text in shell.map(|block| block.text.clone()).chain(code) {
            for line in commands(&text) {
                count += 1;
                if let Err(UsageError::Wrong(problem)) =
                    args::parse(line.iter().map(OsString::from))
                {
                    panic!("{}: {}: {problem}", page.path, line.join(" "));
                }
            }
        }
    }
    assert!(count > 30, "{count}");
}

/// The command lines of this program in a shell script, or in back quotes.
fn commands(text: &str) -> Vec<Vec<String>> {
    let lines = text.replace("\\\n", " ").replace("|\n", "| ");
    let parts = lines
        .lines()
        .flat_map(|line| line.split(" # ").next().unwrap().split(['|', ';', '>']));
    let words = parts.map(|part| {
        part.split_whitespace()
            .filter(|word| *word != "&")
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    let is_ours = |words: &Vec<String>| {
        let program = words
            .first()
            .map_or("", |word| word.rsplit('/').next().unwrap());
        program == "wechat-sidecar"
    };
    words.filter(is_ours).collect()
}

#[test]
fn every_flag_that_a_page_names_is_one_or_another_programs() {
    let others = [
        "bench",
        "build-arg",
        "create-namespace",
        "env-file",
        "example",
        "from-file",
        "from-literal",
        "locked",
        "now",
        "path",
        "purge",
        "release",
        "server-side",
        "short",
        "values",
    ];
    let command = args::command();
    let subcommands: Vec<_> = command.get_subcommands().collect();
    let arguments = subcommands
        .iter()
        .flat_map(|command| command.get_arguments());
    let known = arguments
        .chain(command.get_arguments())
        .filter_map(|argument| argument.get_long());
    let known: BTreeSet<&str> = known.chain(others).collect();
    for page in page::for_users() {
        let words = page
            .text
            .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
        for flag in words
            .filter_map(|word| word.strip_prefix("--"))
            .filter(|flag| !flag.starts_with('-'))
        {
            assert!(
                flag.is_empty() || known.contains(flag),
                "{}: --{flag}",
                page.path
            );
        }
    }
}

#[test]
fn every_variable_metric_and_header_that_a_page_names_is_one() {
    let variables: BTreeSet<String> = keys::keys().iter().map(keys::Key::variable).collect();
    let metrics: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    let sources = sources();
    for page in page::for_users() {
        let words = page
            .text
            .split(|letter: char| !letter.is_ascii_alphanumeric() && !"-_".contains(letter));
        for word in words {
            let is = match word {
                keys::PREFIX | "wechat_sidecar_" => true,
                word if word.starts_with(keys::PREFIX) => variables.contains(word),
                word if word.starts_with("wechat_sidecar_") => metrics.contains(word),
                word if word.starts_with("X-W") => sources.contains(&word.to_lowercase()),
                _ => true,
            };
            assert!(is, "{}: {word}", page.path);
        }
    }
}

/// All code, in lower case.
fn sources() -> String {
    let mut text = String::new();
    let mut folders = vec![page::root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text += &fs::read_to_string(path).unwrap().to_lowercase();
            }
        }
    }
    text
}

#[test]
fn every_key_in_an_example_of_the_file_is_one() {
    let account_keys: BTreeSet<String> = account_keys().collect();
    let known: BTreeSet<&str> = keys::keys().iter().map(|key| key.name).collect();
    let mut count = 0;
    for page in page::for_users() {
        let sections = page.sections();
        let blocks = sections.iter().flat_map(|section| &section.blocks);
        for block in blocks.filter(|block| block.language == "toml") {
            // Lines that are commented out are examples, too.
            let text = block.text.replace("\n# upstream", "\nupstream");
            let table: toml::Table = text
                .parse()
                .unwrap_or_else(|error| panic!("{}: {error}", page.path));
            for (key, value) in table {
                if key != "accounts" {
                    assert!(known.contains(&*key), "{}: {key}", page.path);
                    continue;
                }
                for account in value.as_array().unwrap() {
                    for key in names(account.as_table().unwrap()) {
                        count += 1;
                        assert!(account_keys.contains(&key), "{}: {key}", page.path);
                    }
                }
            }
        }
    }
    assert!(count > 40, "{count}");
}

/// The keys of an account. A key of a table in it comes behind the name of the table.
fn names(account: &toml::Table) -> Vec<String> {
    let inner = |(key, value): (&String, &toml::Value)| match value {
        toml::Value::Table(table) => table.keys().map(|inner| format!("{key}.{inner}")).collect(),
        _ => vec![key.clone()],
    };
    account.iter().flat_map(inner).collect()
}
