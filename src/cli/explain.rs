//! `explain`: says what an error code means, whose fault it is and what to do, without a configuration and offline.

use std::{env, process::ExitCode};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use super::output::print;
use crate::{
    lang::{Lang, Text},
    wechat::{
        codes::{self, CodeList, CodeMeaning, WECHAT_CODES, WECOM_CODES},
        errcode,
    },
};

/// In an errmsg of the sidecar's, before the code that WeChat gave.
const CAUSE: &str = "errcode ";

/// In every errmsg of the sidecar's.
const OURS: &str = "wechat-sidecar: ";

/// What to explain, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    codes: Vec<AskedCode>,
    lang: Lang,
    json: bool,
}

/// A code to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AskedCode {
    code: i64,
    /// The lists that it may be from.
    lists: &'static [CodeList],
    /// What WeChat's support asks for, if the whole reply was given.
    rid: Option<String>,
}

/// Why an argument is not explained. The argument may be anything, and is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// It is no number and no body.
    #[error(
        "argument {0} is neither an error code, such as 40001, nor the body of a reply, such as '{{\"errcode\":40001}}'"
    )]
    NoCode(usize),
    /// It is a body without an error code.
    #[error("the body in argument {0} has no errcode: it says that the call succeeded")]
    NoErrcode(usize),
    /// It names no language.
    #[error("--lang: the value is neither en nor zh")]
    NoLanguage,
}

/// The subcommand.
pub(super) fn command() -> Command {
    Command::new("explain")
        .about("Say what an error code of WeChat, WeCom or the sidecar means, and what to do")
        .arg(
            Arg::new("code")
                .value_name("CODE")
                .required(true)
                .num_args(1..)
                .action(ArgAction::Append)
                .allow_negative_numbers(true)
                .help("An error code, or the whole body of a reply in quotes; repeatable"),
        )
        .arg(
            Arg::new("lang")
                .long("lang")
                .value_name("LANGUAGE")
                .help("The language: en or zh [default: from LC_ALL, LC_MESSAGES or LANG]"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print JSON"),
        )
        .after_help("Exit codes: 0 done, 1 a code is not known here, 64 wrong usage.")
}

/// What the arguments of the subcommand ask for.
pub(super) fn options(matches: &ArgMatches) -> Result<Options, ArgumentError> {
    let lang = match matches.get_one::<String>("lang") {
        Some(name) => Lang::named(name).ok_or(ArgumentError::NoLanguage)?,
        None => Lang::of_environment(|name| env::var(name).ok()),
    };
    let mut codes = Vec::new();
    let arguments = matches.get_many::<String>("code");
    for (at, argument) in arguments.into_iter().flatten().enumerate() {
        codes.extend(asked(argument, at + 1)?);
    }
    Ok(Options {
        codes,
        lang,
        json: matches.get_flag("json"),
    })
}

/// The codes that the argument at `at` asks for. In the body of a reply of the sidecar's there may be WeChat's, too.
fn asked(argument: &str, at: usize) -> Result<Vec<AskedCode>, ArgumentError> {
    if let Ok(code) = argument.trim().parse() {
        return Ok(vec![AskedCode::of_anybody(code)]);
    }
    let body = argument.as_bytes();
    if errcode::can_carry(body) != Some(true) {
        return Err(ArgumentError::NoCode(at));
    }
    let code = errcode::errcode(body).ok_or(ArgumentError::NoErrcode(at))?;
    let first = AskedCode {
        code,
        lists: sender(argument),
        rid: errcode::rid(body).map(str::to_owned),
    };
    let cause = cause(argument).filter(|cause| *cause != code);
    let cause = cause.map(AskedCode::of_anybody);
    Ok([first].into_iter().chain(cause).collect())
}

/// The lists of whoever sent `body`.
fn sender(body: &str) -> &'static [CodeList] {
    if body.contains(OURS) {
        &[CodeList::Sidecar]
    } else if body.contains("open.work.weixin.qq.com") {
        &[CodeList::Wecom]
    } else if body.contains("rid: ") {
        &[CodeList::Wechat, CodeList::Component]
    } else {
        &CodeList::ALL
    }
}

impl AskedCode {
    fn of_anybody(code: i64) -> Self {
        Self {
            code,
            lists: &CodeList::ALL,
            rid: None,
        }
    }

    /// What it means, by whoever sent it. Everybody's meanings if that one documents no such code.
    fn meanings(&self) -> Vec<CodeMeaning> {
        let all: Vec<CodeMeaning> = codes::meanings(self.code).collect();
        let is_senders = |row: &&CodeMeaning| self.lists.contains(&row.list);
        let senders: Vec<CodeMeaning> = all.iter().filter(is_senders).copied().collect();
        if senders.is_empty() { all } else { senders }
    }
}

/// The code of WeChat's that a body of the sidecar's names as its cause.
fn cause(body: &str) -> Option<i64> {
    if !body.contains(OURS) {
        return None;
    }
    let (_, rest) = body.split_once(CAUSE)?;
    let is_part = |letter: char| letter == '-' || letter.is_ascii_digit();
    let end = rest.find(|letter| !is_part(letter));
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

/// Prints what the codes mean. Fails if one of them is not known.
pub(super) fn explain(options: &Options) -> ExitCode {
    let Options { codes, lang, json } = options;
    let text = match json {
        true => {
            let all = codes.iter().map(|asked| as_json(asked, *lang));
            format!("{:#}\n", Value::Array(all.collect()))
        }
        false => {
            let all = codes.iter().map(|asked| as_text(asked, *lang));
            all.collect::<Vec<_>>().join("\n")
        }
    };
    let printed = print(&text);
    match codes.iter().all(|asked| !asked.meanings().is_empty()) {
        true => printed,
        false => ExitCode::FAILURE,
    }
}

/// What the error code in the body of a reply means, in one line; `None` if there is none, or 0.
pub(super) fn in_one_line(body: &[u8], lang: Lang) -> Option<String> {
    errcode::errcode(body).filter(|code| *code != 0)?;
    let all = asked(&String::from_utf8_lossy(body), 1).ok()?;
    let lines = all.iter().map(|asked| clause(asked, lang));
    Some(lines.collect::<Vec<_>>().join("; "))
}

/// A code, as the first of its lists has it.
fn clause(asked: &AskedCode, lang: Lang) -> String {
    let code = asked.code;
    let Some(row) = asked.meanings().into_iter().next() else {
        return match lang {
            Lang::En => format!("errcode {code} is not among the codes that are known here"),
            Lang::Zh => format!("errcode {code}：这里没有说明"),
        };
    };
    let (list, meaning, advice) = (row.list.title(), row.meaning.of(lang), row.advice.of(lang));
    match lang {
        Lang::En => format!("errcode {code} from {}: {meaning}: {advice}", list.en),
        Lang::Zh => format!("errcode {code}（{}）：{meaning}：{advice}", list.zh),
    }
}

fn as_json(asked: &AskedCode, lang: Lang) -> Value {
    let meaning = |row: CodeMeaning| {
        json!({
            "list": row.list.name(),
            "meaning": row.meaning.of(lang),
            "fault": row.fault.name(),
            "advice": row.advice.of(lang),
            "link": row.link(lang),
        })
    };
    let meanings: Vec<Value> = asked.meanings().into_iter().map(meaning).collect();
    json!({ "code": asked.code, "rid": asked.rid, "meanings": meanings })
}

fn as_text(asked: &AskedCode, lang: Lang) -> String {
    let mut text = String::new();
    for row in asked.meanings() {
        text += &described(&row, lang);
    }
    let AskedCode { code, rid, .. } = asked;
    if text.is_empty() {
        text = match lang {
            Lang::En => format!("{code} is not among the codes that are known here. Look it up:\n"),
            Lang::Zh => format!("这里没有 {code} 的说明，请查阅：\n"),
        };
        for (list, link) in [
            (CodeList::Wechat, WECHAT_CODES),
            (CodeList::Wecom, WECOM_CODES),
        ] {
            text += &field(list.title(), link, lang);
        }
    }
    if let Some(rid) = rid {
        text += &match lang {
            Lang::En => format!("rid: {rid}, for WeChat's support\n"),
            Lang::Zh => format!("rid：{rid}，向微信客服反馈时提供\n"),
        };
    }
    text
}

/// A code in one list.
fn described(row: &CodeMeaning, lang: Lang) -> String {
    let (code, list) = (row.code, row.list.title().of(lang));
    let heading = match lang {
        Lang::En => format!("{code} from {list}\n"),
        Lang::Zh => format!("{code}（{list}）\n"),
    };
    [
        heading,
        field(MEANING, row.meaning.of(lang), lang),
        field(FAULT, row.fault.title().of(lang), lang),
        field(ADVICE, row.advice.of(lang), lang),
        field(LINK, row.link(lang), lang),
    ]
    .concat()
}

const MEANING: Text = Text {
    en: "meaning",
    zh: "含义",
};

const FAULT: Text = Text {
    en: "due to",
    zh: "原因在于",
};

const ADVICE: Text = Text {
    en: "advice",
    zh: "该怎么做",
};

const LINK: Text = Text {
    en: "see",
    zh: "参见",
};

fn field(name: Text, value: &str, lang: Lang) -> String {
    match lang {
        Lang::En => format!("  {}: {value}\n", name.en),
        Lang::Zh => format!("  {}：{value}\n", name.zh),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(argument: &str) -> Result<Vec<(i64, Option<String>)>, ArgumentError> {
        let asked = asked(argument, 1)?;
        Ok(asked
            .into_iter()
            .map(|asked| (asked.code, asked.rid))
            .collect())
    }

    #[test]
    fn a_code_is_a_number_or_in_the_body_of_a_reply() {
        let alone = |code| Ok(vec![(code, None)]);
        assert_eq!(codes("40001"), alone(40001));
        assert_eq!(codes("-1 "), alone(-1));
        let body = r#" {"errcode":-1,"errmsg":"system error rid: 6089-03ee"}"#;
        assert_eq!(codes(body), Ok(vec![(-1, Some("6089-03ee".to_owned()))]));
        for argument in ["", "x", "40001x", "4e4", "[40001]"] {
            assert_eq!(codes(argument), Err(ArgumentError::NoCode(1)), "{argument}");
        }
        let token = r#"{"access_token":"SECRET","expires_in":7200}"#;
        assert_eq!(codes(token), Err(ArgumentError::NoErrcode(1)));
    }

    #[test]
    fn a_body_is_explained_as_its_sender_means_it() {
        let lists = |body: &str| {
            let meanings = asked(body, 1).unwrap()[0].meanings();
            meanings.iter().map(|row| row.list).collect::<Vec<_>>()
        };
        use CodeList::{Component, Sidecar, Wechat, Wecom};
        let wechats = r#"{"errcode":42001,"errmsg":"access_token expired rid: 68-21"}"#;
        assert_eq!(lists(wechats), [Wechat, Component]);
        let wecoms = r#"{"errcode":42001,"errmsg":"more info at https://open.work.weixin.qq.com/devtool/query?e=42001"}"#;
        assert_eq!(lists(wecoms), [Wecom]);
        let ours = r#"{"errcode":42001,"errmsg":"access_token expired (wechat-sidecar: none"}"#;
        assert_eq!(lists(ours), [Sidecar]);
        // Who documents no such code sent it all the same.
        assert_eq!(lists(r#"{"errcode":60020,"errmsg":"rid: 68-21"}"#), [Wecom]);
        assert_eq!(lists(r#"{"errcode":40001}"#), [Wechat, Component, Wecom]);
    }

    #[test]
    fn the_cause_in_an_error_of_the_sidecar_is_explained_too() {
        let body = r#"{"errcode":990503,"errmsg":"wechat-sidecar: no access_token: the token request was refused: errcode 40164 (invalid ip 1.2.3.4)"}"#;
        assert_eq!(codes(body), Ok(vec![(990_503, None), (40164, None)]));
        let wechats = r#"{"errcode":40003,"errmsg":"errcode 40164"}"#;
        assert_eq!(codes(wechats), Ok(vec![(40003, None)]));
        let none = r#"{"errcode":990502,"errmsg":"wechat-sidecar: errcode x"}"#;
        assert_eq!(codes(none), Ok(vec![(990_502, None)]));
    }
}
