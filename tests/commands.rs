//! The small commands, as a person types them: they need no configuration, no network and no server.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

use serde_json::Value;

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
