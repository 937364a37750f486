//! The kinds of problems: what each is called, whose fault it is, what to do, and what ends it.

use crate::{
    lang::{Lang, Text},
    wechat::{
        api::Api,
        codes::{WECHAT_CODES, WECOM_CODES},
        errcode,
    },
};

/// What ends a problem of a kind. A minute without another occurrence ends any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cure {
    /// A call that WeChat accepted with the account's token.
    Acceptance,
    /// Any call that WeChat answered without an error.
    Reply,
    /// The part of the sidecar that has the problem says that it is over.
    Part,
    /// Silence alone.
    Silence,
}

/// Kinds with their label, their title, their cure and their advice.
macro_rules! kinds {
    ($(
        $(#[$doc:meta])+ $variant:ident = $label:literal, $cure:ident:
        $title:literal, $title_zh:literal, $advice:literal, $advice_zh:literal;
    )+) => {
        /// A kind of problem.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($(#[$doc])+ $variant),+ }

        impl Kind {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name in logs, metrics and on `/accounts`.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }

            /// What is wrong, in `lang`, as the beginning of a sentence.
            pub const fn title_in(self, lang: Lang) -> &'static str {
                match self { $(Self::$variant => Text { en: $title, zh: $title_zh }.of(lang)),+ }
            }

            /// Whose fault it is, and what to do.
            pub const fn advice_text(self) -> Text {
                match self { $(Self::$variant => Text { en: $advice, zh: $advice_zh }),+ }
            }

            /// What ends it.
            pub const fn cure(self) -> Cure {
                match self { $(Self::$variant => Cure::$cure),+ }
            }
        }
    };
}

kinds! {
    /// A token request failed. A token in hand goes on until it expires.
    TokenRequestFailed = "token_request_failed", Part:
        "no new token", "token 请求失败",
        "the cause says whether WeChat refuses or cannot be reached; a token in hand goes on until it expires, and the sidecar tries again by itself",
        "原因会说明是微信拒绝还是无法连接；手里的 token 可用到过期，边车会自己重试";
    /// A ticket request failed.
    TicketRequestFailed = "ticket_request_failed", Silence:
        "no ticket", "没有 ticket",
        "look up the errcode: the account may not be allowed to have this ticket",
        "查该错误码：这个账号可能无权获取此 ticket";
    /// WeChat refuses the token for every call, and no other can be had.
    TokenRefused = "token_refused", Part:
        "WeChat refuses the access_token for every call", "微信拒绝该 access_token 的所有调用",
        "mend what the cause names; until another token can be had, every call fails, and the sidecar goes on asking for one by itself",
        "解决原因中指出的问题；在得到另一个 token 之前，所有调用都会失败，边车会继续自行请求";
    /// The token was revoked several times before it expired.
    TokenRevoked = "token_revoked", Silence:
        "the token is revoked again and again before it expires", "token 在过期之前一再失效",
        "another service probably fetches tokens of this account with /cgi-bin/token or force_refresh: move it behind a sidecar, or to stable_token; the sidecar replaces the token each time",
        "很可能有其他服务用 /cgi-bin/token 或 force_refresh 获取该账号的 token：让它改用边车或 stable_token；每次边车都会更换 token";
    /// Refusals cause no more token requests today.
    FetchCeiling = "fetch_ceiling", Part:
        "refusals cause no more token requests today", "今天不再因 token 被拒绝而请求 token",
        "find the service that ends the tokens of this account again and again, or raise --daily-fetches",
        "找出不断使该账号 token 失效的服务，或调高 --daily-fetches";
    /// Calls come from an IP that is not on the account's whitelist.
    IpRejected = "ip_rejected", Acceptance:
        "the IP of calls is rejected", "调用的 IP 被拒绝",
        "add the IP in the account's console (WeChat: 开发接口管理 → IP白名单; WeCom: 应用 → 企业可信IP), or send calls from one that is listed (see --egress-proxy)",
        "在账号的后台加入该 IP（微信：开发接口管理 → IP白名单；企业微信：应用 → 企业可信IP），或者从已加入的 IP 发出调用（见 --egress-proxy）";
    /// An endpoint refuses the token that others accept.
    EndpointRefused = "endpoint_refused", Silence:
        "an endpoint refuses a token that others accept", "某个接口拒绝其他接口接受的 token",
        "the account probably may not use this endpoint, or it takes another kind of token: see the permissions in its console",
        "账号很可能无权使用该接口，或该接口需要另一种 token：查看后台的接口权限";
    /// A form body has an `access_token` of its own.
    TokenInForm = "token_in_form", Silence:
        "WeChat refuses a form with an access_token in it", "微信拒绝自带 access_token 的表单",
        "WeChat takes an access_token in a form body for the call's own: let the app leave it out of the body",
        "微信把表单里的 access_token 当作调用的 token：让应用不要放进表单";
    /// A quota of calls is used up.
    CallsQuota = "calls_quota", Silence:
        "a quota of calls is used up", "调用配额已用完",
        "the app calls this endpoint too often: call it less, or set a rate with --pace; a daily quota begins again at midnight in Beijing, and a limit per minute after a minute; wechat-sidecar quota says what is left, and wechat-sidecar rid what the call was",
        "应用调用该接口过于频繁：减少调用，或用 --pace 限制速率；每日配额在北京时间零点重新计算，每分钟的限制一分钟后解除；wechat-sidecar quota 查询剩余额度，wechat-sidecar rid 查询是哪次调用";
    /// WeChat answers -1.
    Busy = "busy", Reply:
        "WeChat answers that it is busy", "微信返回系统繁忙",
        "the fault is WeChat's: the app may try again later, if acting twice does no harm; the sidecar sends no such call again",
        "问题在微信一侧：如果重复执行没有害处，应用可以稍后重试；边车不会重发这种调用";
    /// The account lacks a permission.
    Permission = "permission", Silence:
        "the account may not call an endpoint", "账号无权调用某个接口",
        "get the permission in the account's console, or let the app not call this endpoint",
        "在账号的后台取得权限，或让应用不要调用该接口";
    /// There is no connection to WeChat.
    Unreachable = "unreachable", Reply:
        "WeChat cannot be reached", "无法连接微信",
        "look at what the cause names: DNS, the egress proxy, the firewall or a NetworkPolicy; nothing of these calls was sent",
        "按原因检查：DNS、出口代理、防火墙或 NetworkPolicy；这些调用都没有发出";
    /// No reply in time.
    Timeout = "timeout", Silence:
        "WeChat does not answer in time", "微信没有及时响应",
        "WeChat or the network is slow, and WeChat may have acted on these calls; for an endpoint that takes so long raise --upstream-timeout",
        "微信或网络很慢，微信可能已经执行了这些调用；如果接口本来就这么慢，调高 --upstream-timeout";
    /// A reply that ended too early, or is no HTTP.
    ReplyBroken = "reply_broken", Silence:
        "replies of WeChat break off", "微信的响应中断",
        "look at the proxy or firewall between the sidecar and WeChat; WeChat may have acted on these calls",
        "检查边车与微信之间的代理或防火墙；微信可能已经执行了这些调用";
    /// An error page of WeChat's gateway.
    UpstreamError = "upstream_error", Reply:
        "WeChat's gateway answers with an error page", "微信的网关返回错误页面",
        "the fault is WeChat's, or that of a proxy on the way: try again later; a single file that is too large causes it, too",
        "问题在微信一侧，或在途中的代理：稍后重试；单个文件过大也会这样";
    /// The store of shared tokens does not answer, or with an error.
    StoreAway = "store_away", Part:
        "the store of shared tokens is away", "共享存储不可用",
        "look at the store and at the network to it; tokens in hand go on, and a few are fetched without it",
        "检查共享存储和到它的网络；手里的 token 继续使用，没有存储时也可以获取少量 token";
    /// What the store holds is no token.
    StoreValue = "store_value", Part:
        "the store of shared tokens holds something else than a token", "共享存储里的内容不是 token",
        "give the sidecar a key of its own, or set --store-format to what the other program writes; nothing is overwritten",
        "给边车单独的键，或把 --store-format 设为另一个程序写入的格式；已有内容不会被覆盖";
    /// A file that was read again holds nothing of use, or cannot be read any more.
    FileUnusable = "file_unusable", Part:
        "a file that has changed cannot be used", "有变化的文件无法使用",
        "put the file right: until then, what was read from it before stays in use",
        "改正该文件：在此之前，继续使用先前读到的内容";
    /// The local CA is constrained to other hosts.
    CaHost = "ca_host", Part:
        "the local CA may not speak for a host of an account", "本地 CA 不能为某个账号的域名签发证书",
        "remove the folder in --ca-dir, if it is set, and restart the sidecar and the apps; until then https to the host of the cause fails, and to all others works",
        "如果设置了 --ca-dir，删除其中的文件夹，然后重启边车和应用；在此之前，以 https 调用原因中的域名会失败，其他域名不受影响";
    /// The files by which apps trust the local CA are gone, and cannot be written.
    TrustFiles = "trust_files", Part:
        "the files by which apps trust the sidecar's CA are gone", "应用用来信任边车 CA 的文件丢失",
        "let the sidecar write to its --trust-dir: it tries again by itself; apps that start before that may lose all https, since their variables name these files",
        "让边车可以写入 --trust-dir，它会自己重试；在此之前启动的应用可能失去所有 https，因为它们的变量指向这些文件";
    /// Calls were turned down by the sidecar itself.
    CallsRejected = "calls_rejected", Silence:
        "calls are turned down", "有调用被拒绝",
        "the app calls in a way that the sidecar's rules or limits do not allow: the cause says which",
        "应用的调用方式不符合边车的规则或限制：原因会说明是哪一条";
    /// Connections of apps wait or fail.
    AcceptErrors = "accept_errors", Silence:
        "connections of apps cannot be accepted", "无法接受应用的连接",
        "raise the limit of open files, or --max-connections, or let the apps open fewer connections",
        "调高打开文件数的上限或 --max-connections，或让应用少开连接";
    /// A TLS handshake of an app failed.
    TlsHandshake = "tls_handshake", Silence:
        "an app cannot open a TLS connection to the sidecar", "应用无法与边车建立 TLS 连接",
        "the cause says what the app refused; most often it does not trust the sidecar's CA yet, or trusts one of before a restart: see docs/https.md",
        "原因会说明应用拒绝了什么；最常见的是应用还不信任边车的 CA，或者仍信任重启之前的 CA：见 docs/zh-CN/https.md";
    /// Log lines were dropped.
    LogDropped = "log_dropped", Silence:
        "lines of the log are missing", "日志有缺失",
        "the reader of stdout is too slow: look at the log shipper, or log less (see --log-level and --access-log-sample)",
        "读 stdout 的一方太慢：检查日志采集，或减少日志（见 --log-level 和 --access-log-sample）";
    /// The collector does not take spans.
    TracesLost = "traces_lost", Part:
        "traces do not reach the collector", "链路追踪数据未送达采集端",
        "look at what the cause names: the collector, the network to it, or --otlp-headers-file; while it cannot be reached, the latest 2,048 calls are kept, and no call waits for it",
        "按原因检查：采集端、到它的网络，或 --otlp-headers-file；无法连接期间，会保留最近 2,048 次调用，没有调用会等它";
}

/// Some kinds, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kinds(pub(super) u32);

impl Kinds {
    /// Those that a call ends that WeChat answered without an error.
    pub(super) const CURED_BY_REPLY: Self = Self::cured_by(&[Cure::Reply]);

    /// Those that a call ends that WeChat accepted with the account's token.
    pub(super) const CURED_BY_ACCEPTANCE: Self = Self::cured_by(&[Cure::Reply, Cure::Acceptance]);

    const fn cured_by(cures: &[Cure]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < Kind::ALL.len() {
            let mut cure = 0;
            while cure < cures.len() {
                if Kind::ALL[at].cure() as u8 == cures[cure] as u8 {
                    bits |= Self::of(Kind::ALL[at]).0;
                }
                cure += 1;
            }
            at += 1;
        }
        Self(bits)
    }

    pub(super) const fn of(kind: Kind) -> Self {
        Self(1 << kind as u32)
    }

    pub(super) const fn has(self, kind: Kind) -> bool {
        self.0 & Self::of(kind).0 != 0
    }
}

/// WeChat's page on fetching a stable token, with its error codes.
const STABLE_TOKEN: &str =
    "https://developers.weixin.qq.com/doc/service/api/base/api_getstableaccesstoken.html";

/// WeChat's page on the life of tokens, and on several services that fetch them.
const TOKEN_LIFE: &str =
    "https://developers.weixin.qq.com/doc/oplatform/developers/dev/AccessToken.html";

/// WeCom's page on fetching a token.
const WECOM_TOKEN: &str = "https://developer.work.weixin.qq.com/document/path/91039";

/// WeCom's page on limits of calls.
const WECOM_LIMITS: &str = "https://developer.work.weixin.qq.com/document/path/90454";

impl Kind {
    /// What is wrong, in English, as the beginning of a sentence.
    pub const fn title(self) -> &'static str {
        self.title_in(Lang::En)
    }

    /// Whose fault it is, and what to do, in English.
    pub const fn advice(self) -> &'static str {
        self.advice_in(Lang::En)
    }

    /// Whose fault it is, and what to do, in `lang`.
    pub const fn advice_in(self, lang: Lang) -> &'static str {
        self.advice_text().of(lang)
    }

    /// The official page about it, for an account of `api`. `None` where WeChat has no part in it.
    pub const fn link(self, api: Api) -> Option<&'static str> {
        match (self, api) {
            (Self::TokenRequestFailed | Self::TokenRefused, Api::Wechat) => Some(STABLE_TOKEN),
            (Self::TokenRevoked | Self::FetchCeiling, Api::Wechat) => Some(TOKEN_LIFE),
            (
                Self::TokenRequestFailed
                | Self::TokenRefused
                | Self::TokenRevoked
                | Self::FetchCeiling,
                Api::Wecom,
            ) => Some(WECOM_TOKEN),
            (Self::CallsQuota, Api::Wecom) => Some(WECOM_LIMITS),
            (
                Self::TicketRequestFailed
                | Self::IpRejected
                | Self::EndpointRefused
                | Self::CallsQuota
                | Self::Busy
                | Self::Permission,
                _,
            ) => Some(match api {
                Api::Wechat => WECHAT_CODES,
                Api::Wecom => WECOM_CODES,
            }),
            (
                Self::TokenInForm
                | Self::Unreachable
                | Self::Timeout
                | Self::ReplyBroken
                | Self::UpstreamError
                | Self::StoreAway
                | Self::StoreValue
                | Self::FileUnusable
                | Self::CaHost
                | Self::TrustFiles
                | Self::CallsRejected
                | Self::AcceptErrors
                | Self::TlsHandshake
                | Self::LogDropped
                | Self::TracesLost,
                _,
            ) => None,
        }
    }

    /// The problem that an errcode in the reply of `api` to a call stands for. Most codes are the app's to read, and
    /// stand for none.
    pub fn of_errcode(api: Api, code: i64) -> Option<Self> {
        match (api, code) {
            _ if errcode::is_about_the_ip(api, code) => Some(Self::IpRejected),
            (_, -1) => Some(Self::Busy),
            (_, 45009 | 45011) | (Api::Wecom, 45033) => Some(Self::CallsQuota),
            (Api::Wechat, 48001 | 48003 | 48004 | 50001 | 50002 | 61007) => Some(Self::Permission),
            (Api::Wecom, 48002 | 60011 | 301_002) => Some(Self::Permission),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wechat::codes;

    #[test]
    fn an_errcode_stands_for_a_problem_by_the_api_that_answers_it() {
        for (code, of_wechat, of_wecom) in [
            (-1, Some(Kind::Busy), Some(Kind::Busy)),
            (40164, Some(Kind::IpRejected), None),
            (61004, Some(Kind::IpRejected), None),
            (60020, None, Some(Kind::IpRejected)),
            (45009, Some(Kind::CallsQuota), Some(Kind::CallsQuota)),
            (45011, Some(Kind::CallsQuota), Some(Kind::CallsQuota)),
            (45033, None, Some(Kind::CallsQuota)),
            (48001, Some(Kind::Permission), None),
            (48002, None, Some(Kind::Permission)),
            // What is refused about a token or a parameter.
            (40001, None, None),
            (40003, None, None),
        ] {
            assert_eq!(Kind::of_errcode(Api::Wechat, code), of_wechat, "{code}");
            assert_eq!(Kind::of_errcode(Api::Wecom, code), of_wecom, "{code}");
        }
    }

    #[test]
    fn each_errcode_that_stands_for_a_problem_is_explained() {
        use codes::CodeList::{Component, Wechat, Wecom};
        // WeCom documents no such code, but would mean the same by it.
        let undocumented = [(Api::Wecom, 45011)];
        for (api, lists) in [
            (Api::Wechat, &[Wechat, Component][..]),
            (Api::Wecom, &[Wecom]),
        ] {
            let named = (-10..1_000_000).filter(|code| Kind::of_errcode(api, *code).is_some());
            let unexplained = named.filter(|code| {
                let mut rows = codes::meanings(*code);
                !rows.any(|row| lists.contains(&row.list)) && !undocumented.contains(&(api, *code))
            });
            assert_eq!(unexplained.collect::<Vec<_>>(), [0; 0], "{api}");
        }
    }

    #[test]
    fn each_kind_has_a_bit_and_names_of_its_own() {
        for (at, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(Kinds::of(*kind).0, 1 << at);
            let is_word = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(kind.label().bytes().all(is_word), "{}", kind.label());
            assert!(!kind.title().is_empty() && !kind.advice().ends_with('.'));
            for chinese in [kind.title_in(Lang::Zh), kind.advice_in(Lang::Zh)] {
                let is_chinese = |letter| ('\u{4e00}'..='\u{9fff}').contains(&letter);
                assert!(
                    chinese.contains(is_chinese) && !chinese.ends_with('。'),
                    "{chinese}"
                );
            }
            for api in [Api::Wechat, Api::Wecom] {
                let official = |link: &str| {
                    link.starts_with("https://developer") && link.contains("weixin.qq.com/")
                };
                assert!(kind.link(api).is_none_or(official), "{kind:?}");
            }
        }
        assert!(Kinds::CURED_BY_ACCEPTANCE.has(Kind::IpRejected));
        assert!(Kinds::CURED_BY_ACCEPTANCE.has(Kind::Unreachable));
        assert!(!Kinds::CURED_BY_REPLY.has(Kind::IpRejected));
        assert!(!Kinds::CURED_BY_ACCEPTANCE.has(Kind::StoreAway));
    }
}
