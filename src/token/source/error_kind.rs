//! What the errors of token requests mean.

use tokio::time::Duration;

use crate::{lang::Text, wechat::api::Api};

/// What an errcode of the token endpoints means for the next attempt. See
/// <https://developers.weixin.qq.com/doc/service/api/base/api_getstableaccesstoken.html> and
/// <https://developer.work.weixin.qq.com/document/path/90313>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenErrorKind {
    /// Try again soon.
    Busy,
    /// The failure is not WeChat's: try again soon, each time.
    #[serde(rename = "near")]
    Local,
    /// The AppSecret is wrong.
    WrongSecret,
    /// The AppID, or the request, is wrong.
    WrongRequest,
    /// This machine's public IP is not on the account's whitelist.
    NotWhitelisted,
    /// The AppSecret is frozen.
    Frozen,
    /// The day's quota is used up.
    DailyQuota,
    /// The minute's quota is used up.
    MinuteQuota,
    /// The account may not fetch tokens.
    Forbidden,
    /// An administrator of the account has to confirm.
    AwaitsAdmin,
    /// An administrator refused for an hour.
    RefusedForAnHour,
    /// An administrator refused for a day.
    RefusedForADay,
    /// The secret does not belong to this corp, or is no longer valid.
    WrongCorpSecret,
    /// The corpid, or the request, is wrong.
    WrongCorpid,
    /// There were too many requests to WeCom, perhaps from others with the same IP.
    TooOften,
    /// An undocumented code.
    Unknown,
}

impl TokenErrorKind {
    /// The meaning of `code` in a reply of `api` to a token request.
    pub fn of(api: Api, code: i64) -> Self {
        match api {
            Api::Wechat => Self::of_wechat(code),
            Api::Wecom => Self::of_wecom(code),
        }
    }

    fn of_wecom(code: i64) -> Self {
        match code {
            -1 => Self::Busy,
            40001 | 40091 | 45031 => Self::WrongCorpSecret,
            40013 | 41002 | 41004 => Self::WrongCorpid,
            45009 | 45033 => Self::TooOften,
            60020 | 301042 => Self::NotWhitelisted,
            48001..=48006 | 50003 | 60031 | 301007 => Self::Forbidden,
            _ => Self::Unknown,
        }
    }

    fn of_wechat(code: i64) -> Self {
        match code {
            -1 => Self::Busy,
            40001 | 40125 => Self::WrongSecret,
            40002 | 40013 | 41002 | 41004 | 43002 | 47001 => Self::WrongRequest,
            40164 | 61004 | 45035 => Self::NotWhitelisted,
            40243 => Self::Frozen,
            45009 => Self::DailyQuota,
            45011 => Self::MinuteQuota,
            50002 | 50004 | 50007 => Self::Forbidden,
            89501 | 89503 => Self::AwaitsAdmin,
            89506 => Self::RefusedForADay,
            89507 => Self::RefusedForAnHour,
            _ => Self::Unknown,
        }
    }

    /// Whether the account's secret, IP or state is the cause, so that no request of anybody's would be answered
    /// better.
    pub fn is_of_the_account(self) -> bool {
        match self {
            Self::WrongSecret
            | Self::WrongRequest
            | Self::NotWhitelisted
            | Self::Frozen
            | Self::Forbidden
            | Self::AwaitsAdmin
            | Self::RefusedForAnHour
            | Self::RefusedForADay
            | Self::WrongCorpSecret
            | Self::WrongCorpid => true,
            Self::Busy
            | Self::Local
            | Self::DailyQuota
            | Self::MinuteQuota
            | Self::TooOften
            | Self::Unknown => false,
        }
    }

    /// The wait after the first failure, and the longest wait.
    pub fn back_off(self) -> (Duration, Duration) {
        let (first, most) = match self {
            Self::Busy => (1, 60),
            Self::Local => (1, 10),
            Self::MinuteQuota => (60, 120),
            Self::NotWhitelisted => (15, 300),
            Self::AwaitsAdmin => (30, 300),
            Self::Frozen | Self::Unknown => (60, 600),
            Self::WrongSecret | Self::WrongRequest | Self::Forbidden => (300, 900),
            Self::DailyQuota => (900, 3600),
            Self::RefusedForAnHour => (3600, 3600),
            Self::RefusedForADay => (86_400, 86_400),
            // If a wrong secret is sent again and again, WeCom blocks this IP for an hour.
            Self::WrongCorpSecret | Self::WrongCorpid => (300, 3600),
            Self::TooOften => (60, 3600),
        };
        (Duration::from_secs(first), Duration::from_secs(most))
    }

    /// What the operator can do about it.
    pub fn advice(self) -> Text {
        let (en, zh) = match self {
            Self::Busy | Self::Local => (
                "it is busy, the next attempt follows soon",
                "系统繁忙，很快会再次尝试",
            ),
            Self::WrongSecret => (
                "the secret is not the AppSecret of this AppID: set the right one",
                "secret 不是这个 AppID 的 AppSecret：请设置正确的",
            ),
            Self::WrongRequest => ("check the AppID", "检查 AppID"),
            Self::NotWhitelisted => (
                "add this IP to the account's IP whitelist (WeChat: 开发接口管理 → IP白名单; WeCom: 应用 → 企业可信IP)",
                "把该 IP 加入账号的 IP 白名单（微信：开发接口管理 → IP白名单；企业微信：应用 → 企业可信IP）",
            ),
            Self::Frozen => (
                "the AppSecret is frozen: unfreeze it in WeChat's console",
                "AppSecret 已被冻结：请在微信后台解冻",
            ),
            Self::DailyQuota => (
                "the day's quota of token requests is used up",
                "当天的 token 请求配额已用完",
            ),
            Self::MinuteQuota => (
                "too many token requests in this minute",
                "这一分钟内的 token 请求过多",
            ),
            Self::Forbidden => (
                "no tokens are issued to this account: see its console",
                "该账号得不到 token：请查看其后台",
            ),
            Self::AwaitsAdmin => (
                "an administrator of the account has to confirm this IP",
                "需要账号的管理员确认该 IP",
            ),
            Self::RefusedForAnHour => (
                "an administrator refused this IP: WeChat answers again in an hour",
                "管理员拒绝了该 IP：1 小时后微信才会再次应答",
            ),
            Self::RefusedForADay => (
                "an administrator refused this IP: WeChat answers again in 24 hours",
                "管理员拒绝了该 IP：24 小时后微信才会再次应答",
            ),
            Self::WrongCorpSecret => (
                "WeCom does not know this secret in this corp: set the right one (应用管理 → 应用 → Secret)",
                "该企业没有这个 secret：请设置正确的（应用管理 → 应用 → Secret）",
            ),
            Self::WrongCorpid => (
                "check the account's appid, which is the corpid (我的企业 → 企业ID)",
                "检查账号的 appid，也就是企业ID（我的企业 → 企业ID）",
            ),
            Self::TooOften => (
                "too many token requests; perhaps a wrong secret was sent from this IP, which is then blocked for an hour",
                "token 请求过多；可能有人从该 IP 发送了错误的 secret，IP 因此被封一小时",
            ),
            Self::Unknown => ("see the list of return codes", "查阅返回码列表"),
        };
        Text { en, zh }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wechat::codes::{self, CodeList};

    #[test]
    fn each_code_of_a_token_request_is_explained() {
        for (api, list) in [
            (Api::Wechat, CodeList::Wechat),
            (Api::Wecom, CodeList::Wecom),
        ] {
            let known = |code: &i64| TokenErrorKind::of(api, *code) != TokenErrorKind::Unknown;
            for code in (-10..1_000_000).filter(known) {
                assert!(
                    codes::meanings(code).any(|row| row.list == list),
                    "{api} {code}"
                );
            }
        }
    }
}
