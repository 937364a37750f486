//! What error codes mean, whose fault they are, and what to do: the one table of them, in both languages.

use crate::lang::{Lang, Text};

/// Each line has a list, a code, a fault, and, in English and in Chinese, the meaning and the advice.
const TABLE: &str = include_str!("codes.tsv");

/// WeChat's global return codes.
pub const WECHAT_CODES: &str =
    "https://developers.weixin.qq.com/doc/offiaccount/Getting_Started/Global_Return_Code.html";

/// WeCom's global error codes.
pub const WECOM_CODES: &str = "https://developer.work.weixin.qq.com/document/path/90313";

/// WeChat's page on the token of a third-party platform.
const COMPONENT_TOKEN: &str = "https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/ThirdParty/token/component_access_token.html";

/// WeChat's page on signed and encrypted requests (API 安全).
const SIGNED_REQUESTS: &str =
    "https://developers.weixin.qq.com/miniprogram/dev/server/getting_started/api_signature.html";

/// The codes of signed and encrypted requests.
const OF_SIGNED_REQUESTS: std::ops::RangeInclusive<i64> = 40230..=40240;

/// The list that a code is in. The same number may mean something else in another list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeList {
    /// WeChat's global return codes.
    Wechat,
    /// Those of WeChat's third-party platforms, where they differ or are additional.
    Component,
    /// WeCom's global error codes.
    Wecom,
    /// The sidecar's own.
    Sidecar,
}

impl CodeList {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Wechat, Self::Component, Self::Wecom, Self::Sidecar];

    /// Its name in the table and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wechat => "wechat",
            Self::Component => "component",
            Self::Wecom => "wecom",
            Self::Sidecar => "sidecar",
        }
    }

    /// Where its codes come from.
    pub const fn title(self) -> Text {
        match self {
            Self::Wechat => Text {
                en: "WeChat",
                zh: "微信",
            },
            Self::Component => Text {
                en: "a third-party platform of WeChat",
                zh: "微信第三方平台",
            },
            Self::Wecom => Text {
                en: "WeCom",
                zh: "企业微信",
            },
            Self::Sidecar => Text::both("wechat-sidecar"),
        }
    }

    /// Where it is documented.
    pub const fn link(self) -> Text {
        match self {
            Self::Wechat => Text::both(WECHAT_CODES),
            Self::Component => Text::both(COMPONENT_TOKEN),
            Self::Wecom => Text::both(WECOM_CODES),
            Self::Sidecar => Text {
                en: "docs/errors.md",
                zh: "docs/zh-CN/errors.md",
            },
        }
    }
}

/// Who or what a code is due to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call of the app.
    App,
    /// A user of WeChat, such as one who accepts no messages.
    User,
    /// The settings or the state of the account, in its console.
    Account,
    /// The configuration of the sidecar, and who runs it.
    Operator,
    /// WeChat or WeCom itself.
    Wechat,
    /// What is between the sidecar and WeChat.
    Network,
    /// What the errmsg names.
    Cause,
    /// Nobody: it belongs to ordinary operation.
    Nobody,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::App,
        Self::User,
        Self::Account,
        Self::Operator,
        Self::Wechat,
        Self::Network,
        Self::Cause,
        Self::Nobody,
    ];

    /// Its name in the table and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::User => "user",
            Self::Account => "account",
            Self::Operator => "operator",
            Self::Wechat => "wechat",
            Self::Network => "network",
            Self::Cause => "cause",
            Self::Nobody => "nobody",
        }
    }

    /// Its name in a sentence.
    pub const fn title(self) -> Text {
        let (en, zh) = match self {
            Self::App => ("the app's call", "应用的调用"),
            Self::User => ("the user's choice", "用户的选择"),
            Self::Account => ("the account, in its console", "账号，见其后台"),
            Self::Operator => ("the sidecar's configuration", "边车的配置"),
            Self::Wechat => ("WeChat's side", "微信一侧"),
            Self::Network => ("the network", "网络"),
            Self::Cause => ("what the errmsg names", "errmsg 中说明的原因"),
            Self::Nobody => ("nobody's", "无"),
        };
        Text { en, zh }
    }
}

/// What a code of a list means. Its texts are clauses, without a full stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeMeaning {
    /// The list.
    pub list: CodeList,
    /// The code.
    pub code: i64,
    /// Who or what it is due to.
    pub fault: Fault,
    /// What it means.
    pub meaning: Text,
    /// What to do.
    pub advice: Text,
}

impl CodeMeaning {
    /// Where it is documented.
    pub fn link(&self, lang: Lang) -> &'static str {
        match self.list {
            CodeList::Wechat if OF_SIGNED_REQUESTS.contains(&self.code) => SIGNED_REQUESTS,
            list => list.link().of(lang),
        }
    }
}

/// All rows of the table, list by list.
pub fn all() -> impl Iterator<Item = CodeMeaning> {
    // A test checks the format of each line.
    TABLE.lines().filter_map(row)
}

/// What `code` means, in each list that has it.
pub fn meanings(code: i64) -> impl Iterator<Item = CodeMeaning> {
    all().filter(move |row| row.code == code)
}

fn row(line: &'static str) -> Option<CodeMeaning> {
    let mut cells = line.split('\t').filter(|cell| !cell.is_empty());
    let (list, code, fault) = (cells.next()?, cells.next()?, cells.next()?);
    let (meaning, meaning_zh) = (cells.next()?, cells.next()?);
    let (advice, advice_zh) = (cells.next()?, cells.next()?);
    let row = CodeMeaning {
        list: CodeList::ALL
            .into_iter()
            .find(|known| known.name() == list)?,
        code: code.parse().ok()?,
        fault: Fault::ALL.into_iter().find(|known| known.name() == fault)?,
        meaning: Text {
            en: meaning,
            zh: meaning_zh,
        },
        advice: Text {
            en: advice,
            zh: advice_zh,
        },
    };
    cells.next().is_none().then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wechat::{api::Api, errcode};

    #[test]
    fn each_line_is_a_row_and_none_is_there_twice() {
        let rows: Vec<CodeMeaning> = all().collect();
        assert_eq!(rows.len(), TABLE.lines().count(), "a line is no row");
        let at = |row: &CodeMeaning| {
            (
                CodeList::ALL.iter().position(|list| *list == row.list),
                row.code,
            )
        };
        assert!(rows.iter().map(at).is_sorted_by(|one, next| one < next));
        for row in rows {
            for text in [row.meaning, row.advice] {
                assert!(
                    !text.en.ends_with('.') && !text.zh.ends_with('。'),
                    "{row:?}"
                );
                let is_chinese = |letter| ('\u{4e00}'..='\u{9fff}').contains(&letter);
                assert!(text.zh.contains(is_chinese), "{row:?}");
            }
        }
    }

    #[test]
    fn each_code_that_refuses_a_token_or_an_ip_is_explained() {
        for (api, list) in [
            (Api::Wechat, CodeList::Wechat),
            (Api::Wecom, CodeList::Wecom),
        ] {
            let about_ip = (0..1_000_000).filter(|code| errcode::is_about_the_ip(api, *code));
            for code in errcode::refusals(api).iter().copied().chain(about_ip) {
                assert!(meanings(code).any(|row| row.list == list), "{api} {code}");
            }
        }
    }

    #[test]
    fn a_number_may_mean_several_things() {
        let lists = |code| meanings(code).map(|row| row.list).collect::<Vec<_>>();
        use CodeList::{Component, Sidecar, Wechat, Wecom};
        assert_eq!(lists(40001), [Wechat, Component, Wecom]);
        assert_eq!(lists(42001), [Wechat, Component, Wecom, Sidecar]);
        assert_eq!(lists(990_503), [Sidecar]);
        assert_eq!(lists(1), []);
    }
}
