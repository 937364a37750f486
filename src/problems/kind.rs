//! The kinds of problems: what each is called, whose fault it is, what to do, and what ends it.

use crate::wechat::{api::Api, errcode};

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
    ($($(#[$doc:meta])+ $variant:ident = $label:literal, $cure:ident: $title:literal, $advice:literal;)+) => {
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

            /// What is wrong, as the beginning of a sentence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }

            /// Whose fault it is, and what to do.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice),+ }
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
    TokenRequestFailed = "token_request_failed", Part: "no token came of a token request",
        "the cause says whether WeChat refuses or cannot be reached; a token in hand goes on until it expires, and the sidecar tries again by itself";
    /// A ticket request failed.
    TicketRequestFailed = "ticket_request_failed", Silence: "no ticket",
        "look up the errcode: the account may not be allowed to have this ticket";
    /// WeChat refuses the token for every call, and no other can be had.
    TokenRefused = "token_refused", Part: "WeChat refuses the access_token for every call",
        "mend what the cause names; until another token can be had, every call fails, and the sidecar goes on asking for one by itself";
    /// The token was revoked several times before it expired.
    TokenRevoked = "token_revoked", Silence: "the token is revoked again and again before it expires",
        "another service probably fetches tokens of this account with /cgi-bin/token or force_refresh: move it behind a sidecar, or to stable_token; the sidecar replaces the token each time";
    /// Refusals cause no more token requests today.
    FetchCeiling = "fetch_ceiling", Part: "refusals cause no more token requests today",
        "find the service that ends the tokens of this account again and again, or raise --daily-fetches";
    /// Calls come from an IP that is not on the account's whitelist.
    IpRejected = "ip_rejected", Acceptance: "the IP of calls is rejected",
        "add the IP in the account's console (WeChat: 开发接口管理 → IP白名单; WeCom: 应用 → 企业可信IP), or send calls from one that is listed (see --egress-proxy)";
    /// An endpoint refuses the token that others accept.
    EndpointRefused = "endpoint_refused", Silence: "an endpoint refuses the token that is the one to use",
        "the account probably may not use this endpoint, or it takes another kind of token: see the permissions in its console";
    /// A form body has an `access_token` of its own.
    TokenInForm = "token_in_form", Silence: "WeChat refuses a form with an access_token in it",
        "WeChat takes an access_token in a form body for the call's own: let the app leave it out of the body";
    /// A quota of calls is used up.
    CallsQuota = "calls_quota", Silence: "a quota of calls is used up",
        "the app calls this endpoint too often: call it less; a daily quota begins again at midnight in Beijing, and a limit per minute after a minute";
    /// WeChat answers -1.
    Busy = "busy", Reply: "WeChat answers that it is busy",
        "the fault is WeChat's: the app may try again later, if acting twice does no harm; the sidecar sends no such call again";
    /// The account lacks a permission.
    Permission = "permission", Silence: "the account may not call an endpoint",
        "get the permission in the account's console, or let the app not call this endpoint";
    /// There is no connection to WeChat.
    Unreachable = "unreachable", Reply: "WeChat cannot be reached",
        "look at what the cause names: DNS, the egress proxy, the firewall or a NetworkPolicy; nothing of these calls was sent";
    /// No reply in time.
    Timeout = "timeout", Silence: "WeChat does not answer in time",
        "WeChat or the network is slow, and WeChat may have acted on these calls; for an endpoint that takes so long raise --upstream-timeout";
    /// A reply that ended too early, or is no HTTP.
    ReplyBroken = "reply_broken", Silence: "replies of WeChat break off",
        "look at the proxy or firewall between the sidecar and WeChat; WeChat may have acted on these calls";
    /// An error page of WeChat's gateway.
    UpstreamError = "upstream_error", Reply: "WeChat's gateway answers with an error page",
        "the fault is WeChat's, or that of a proxy on the way: try again later; a single file that is too large causes it, too";
    /// The store of shared tokens does not answer, or with an error.
    StoreAway = "store_away", Part: "the store of shared tokens is away",
        "look at the store and at the network to it; tokens in hand go on, and a few are fetched without it";
    /// What the store holds is no token.
    StoreValue = "store_value", Part: "the store of shared tokens holds something else than a token",
        "give the sidecar a key of its own, or set --store-format to what the other program writes; nothing is overwritten";
    /// A file that was read again holds nothing of use, or cannot be read any more.
    FileUnusable = "file_unusable", Part: "a file that has changed cannot be used",
        "put the file right: until then, what was read from it before stays in use";
    /// Calls were turned down by the sidecar itself.
    CallsRejected = "calls_rejected", Silence: "calls are turned down",
        "the app calls in a way that the sidecar's rules or limits do not allow: the cause says which";
    /// Connections of apps wait or fail.
    AcceptErrors = "accept_errors", Silence: "connections of apps cannot be accepted",
        "raise the limit of open files, or --max-connections, or let the apps open fewer connections";
    /// Log lines were dropped.
    LogDropped = "log_dropped", Silence: "lines of the log are missing",
        "the reader of stdout is too slow: look at the log shipper, or log less (see --log-level)";
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

impl Kind {
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
        }
        assert!(Kinds::CURED_BY_ACCEPTANCE.has(Kind::IpRejected));
        assert!(Kinds::CURED_BY_ACCEPTANCE.has(Kind::Unreachable));
        assert!(!Kinds::CURED_BY_REPLY.has(Kind::IpRejected));
        assert!(!Kinds::CURED_BY_ACCEPTANCE.has(Kind::StoreAway));
    }
}
