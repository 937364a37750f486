//! The small commands, as a person types them: they need no configuration, no network and no server.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;
use wechat_sidecar::{cli::args, config::keys::keys};

/// Runs the program with nothing of this process's environment but `variables`.
fn run(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wechat-sidecar"));
    command.env_clear().envs(variables.iter().copied());
    command.args(args).output().unwrap()
}

/// What a command that succeeds prints.
#[track_caller]
fn printed(args: &[&str]) -> String {
    let output = run(args, &[]);
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Code, stdout and stderr.
fn ended(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn a_code_is_explained_for_each_api_that_has_it() {
    let text = printed(&["explain", "40001", "-1"]);
    for words in [
        "40001 from WeChat\n  meaning: the access_token is invalid",
        "40001 from WeCom\n  meaning: the secret is wrong",
        "-1 from WeChat\n",
        "due to: the sidecar's configuration",
        "advice: ",
        "see: https://developers.weixin.qq.com/doc/offiaccount/Getting_Started/Global_Return_Code.html",
        "see: https://developer.work.weixin.qq.com/document/path/90313",
    ] {
        assert!(text.contains(words), "{words:?} is missing in {text}");
    }
}

#[test]
fn the_language_is_that_of_the_flag_or_the_environment() {
    let asked = |more: &[&str], variables| {
        let output = run(&[&["explain", "990503"], more].concat(), variables);
        ended(output).1
    };
    let chinese = asked(&[], &[("LANG", "zh_CN.UTF-8")]);
    assert!(chinese.contains("含义：没有可用的 token"), "{chinese}");
    assert!(chinese.contains("docs/zh-CN/errors.md"), "{chinese}");
    assert_eq!(asked(&["--lang", "zh"], &[]), chinese);
    let english = asked(&[], &[]);
    assert!(english.contains("meaning: there is no token"), "{english}");
    let overruled = asked(&["--lang", "en"], &[("LC_ALL", "zh_CN.UTF-8")]);
    assert_eq!(overruled, english);
}

#[test]
fn the_body_of_a_reply_is_explained_with_its_rid_and_its_cause() {
    let refused = r#"{"errcode":42001,"errmsg":"access_token expired rid: 68aeab-21ea79"}"#;
    let text = printed(&["explain", refused]);
    assert!(text.contains("rid: 68aeab-21ea79"), "{text}");
    let ours = r#"{"errcode":990503,"errmsg":"wechat-sidecar: no access_token: the token request was refused: errcode 40164 (invalid ip)"}"#;
    let text = printed(&["explain", ours]);
    let [own, wechats] =
        ["990503 from wechat-sidecar", "40164 from WeChat"].map(|words| text.find(words));
    assert!(own.is_some() && own < wechats, "{text}");
}

#[test]
fn json_has_the_same_for_programs() {
    let output = run(&["explain", "--json", "60020", "12345"], &[]);
    let (code, text, _) = ended(output);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value[0]["code"], 60020);
    assert_eq!(value[0]["meanings"][0]["list"], "wecom");
    assert_eq!(value[0]["meanings"][0]["fault"], "account");
    assert_eq!(value[1]["meanings"], Value::Array(Vec::new()));
    assert_eq!(code, Some(1));
}

#[test]
fn a_code_that_is_not_known_and_what_is_no_code_end_differently() {
    let (code, text, _) = ended(run(&["explain", "12345"], &[]));
    assert_eq!(code, Some(1));
    assert!(text.contains("12345 is not among") && text.contains("Global_Return_Code"));
    for wrong in ["HUNTER2", "{\"access_token\":\"HUNTER2\"}", ""] {
        let (code, text, problem) = ended(run(&["explain", "40001", wrong], &[]));
        assert_eq!((code, &*text), (Some(64), ""), "{wrong}");
        assert!(problem.contains("argument 2"), "{problem}");
        assert!(!problem.contains("HUNTER2"), "{problem}");
    }
    for args in [&["explain"][..], &["explain", "--lang", "fr", "1"]] {
        assert_eq!(ended(run(args, &[])).0, Some(64), "{args:?}");
    }
}

/// The subcommands, without `help`.
fn subcommands() -> BTreeSet<String> {
    let command = args::command();
    let names = command
        .get_subcommands()
        .map(|one| one.get_name().to_owned());
    names.collect()
}

#[test]
fn the_help_of_a_small_subcommand_shows_what_it_looks_at() {
    let names = subcommands();
    assert!(names.len() > 10, "{names:?}");
    for (name, most) in [
        ("call", 15),
        ("health", 3),
        ("wait", 5),
        ("revoke", 5),
        ("shutdown", 3),
        ("check", 21),
        ("explain", 3),
    ] {
        let help = printed(&[name, "--help"]);
        assert_eq!(printed(&["help", name]), help);
        let is_flag = |line: &&str| line.trim_start().starts_with('-');
        let flags = help.lines().filter(is_flag).count();
        assert!(flags <= most, "{name} shows {flags} flags: {help}");
    }
    for name in ["call", "health", "wait", "revoke", "shutdown", "check"] {
        let help = printed(&[name, "--help"]);
        assert!(
            help.contains("--admin") && help.contains("--config"),
            "{help}"
        );
        // What is not shown is taken all the same.
        for key in keys() {
            let flag = format!("--{}={}", key.name, key.example);
            let path = (name == "call").then_some("/path");
            let line = ["x", name, &flag].into_iter().chain(path);
            let parsed = args::parse(line.map(Into::into));
            assert!(parsed.is_ok(), "{name} {flag}");
        }
    }
    let serve = printed(&["help", "serve"]);
    let shown = |key: &str| serve.contains(&format!("--{key}"));
    assert!(keys().iter().all(|key| shown(key.name)));
}

#[test]
fn completions_know_every_subcommand_and_no_other_shell_has_some() {
    for (shell, words) in [
        ("bash", "complete -F "),
        ("zsh", "#compdef wechat-sidecar"),
        ("fish", "complete -c wechat-sidecar "),
    ] {
        let script = printed(&["completions", shell]);
        assert!(script.contains(words), "{shell}: {script}");
        for name in subcommands() {
            assert!(script.contains(&name), "{shell}: {name}");
        }
    }
    let (code, text, problem) = ended(run(&["completions", "HUNTER2"], &[]));
    assert_eq!((code, &*text), (Some(64), ""));
    assert!(problem.contains("none of bash, zsh and fish") && !problem.contains("HUNTER2"));
}

/// A folder that does not exist, and is removed when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("sidecar-{}-{}", std::process::id(), fastrand::u64(..));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_subcommand_has_a_man_page() {
    let folder = Folder::new();
    assert_eq!(printed(&["man", "--dir", folder.0.to_str().unwrap()]), "");
    let written = fs::read_dir(&folder.0).unwrap();
    let written = written.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let expected = subcommands()
        .into_iter()
        .map(|name| format!("wechat-sidecar-{name}.1"));
    let expected = expected.chain(["wechat-sidecar.1".to_owned()]);
    assert_eq!(written.collect::<BTreeSet<_>>(), expected.collect());
    for name in subcommands() {
        let file = folder.0.join(format!("wechat-sidecar-{name}.1"));
        let page = fs::read_to_string(file).unwrap();
        assert_eq!(printed(&["man", &name]), page);
        assert!(
            page.contains(&format!(".TH wechat-sidecar-{name} 1 ")),
            "{page}"
        );
    }
    let whole = fs::read_to_string(folder.0.join("wechat-sidecar.1")).unwrap();
    assert_eq!(printed(&["man"]), whole);
    assert_eq!(ended(run(&["man", "serv"], &[])).0, Some(64));
    let (code, _, problem) = ended(run(&["man", "--dir", "/dev/null/x"], &[]));
    assert_eq!(code, Some(1));
    assert!(problem.contains("man: "), "{problem}");
}

/// What a program prints that ends well and says nothing on stderr.
#[track_caller]
fn output_of(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{program}: {output:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs bash, zsh and fish"]
fn shells_can_read_their_completions() {
    let folder = Folder::new();
    fs::create_dir(&folder.0).unwrap();
    for (shell, read_only) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let file = folder.0.join(shell);
        fs::write(&file, printed(&["completions", shell])).unwrap();
        output_of(shell, &[read_only, file.to_str().unwrap()]);
    }
    let completed = |words: &str, at: usize, word: &str| {
        let script = format!(
            "source '{}'; COMP_WORDS=({words}); COMP_CWORD={at}; _wechat__sidecar wechat-sidecar '{word}'; echo \"${{COMPREPLY[@]}}\"",
            folder.0.join("bash").display(),
        );
        output_of("bash", &["-c", &script])
    };
    let flags = completed("wechat-sidecar health --", 2, "--");
    assert_eq!(flags.trim(), "--admin --config --help");
    assert_eq!(
        completed("wechat-sidecar expl", 1, "expl").trim(),
        "explain"
    );
}

#[test]
#[ignore = "needs groff"]
fn man_pages_can_be_set() {
    let folder = Folder::new();
    printed(&["man", "--dir", folder.0.to_str().unwrap()]);
    for entry in fs::read_dir(&folder.0).unwrap() {
        let page = entry.unwrap().path();
        let args = ["-man", "-Tutf8", "-Kutf8", "-ww", page.to_str().unwrap()];
        let text = output_of("groff", &args);
        assert!(text.contains("wechat-sidecar 0."), "{text}");
    }
}
