//! The labels of calls, fetches and replays.

/// An enum whose variants are labels.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $label:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $variant),+ }

        impl $name {
            /// All variants, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The text of the label.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }
        }
    };
}

labels! {
    /// How a call ended.
    Outcome {
        /// WeChat answered without an errcode, or with 0.
        Accepted = "accepted",
        /// WeChat answered an errcode that is the app's to read.
        Errcode = "errcode",
        /// An error page of WeChat's gateway: no reply of the API.
        UpstreamError = "upstream_error",
        /// WeChat refused the token, and the refusal reached the app.
        Refused = "refused",
        /// The sidecar answered: a token endpoint, a ticket, or an unknown token.
        Local = "local",
        /// The sidecar answered with a cached refusal.
        Remembered = "remembered",
        /// The sidecar rejected the call, which the app caused.
        Rejected = "rejected",
        /// The call failed in the sidecar or between it and WeChat.
        Failed = "failed",
        /// The app did not wait for the reply.
        AppGone = "app_gone",
    }
}

impl Outcome {
    /// Whether the app did not get what it asked for, and WeChat's API gave no reason of the app's.
    pub fn is_failure(self) -> bool {
        match self {
            Self::Accepted | Self::Errcode | Self::Local => false,
            Self::UpstreamError
            | Self::Refused
            | Self::Remembered
            | Self::Rejected
            | Self::Failed
            | Self::AppGone => true,
        }
    }
}

labels! {
    /// How the account of a call was selected.
    Selection {
        /// By the header X-Wechat-Appid.
        Header = "header",
        /// By the first segment of its path.
        Path = "path",
        /// By the placeholder that it carries instead of a token.
        Placeholder = "placeholder",
        /// By the listener that it came in at.
        Listener = "listener",
        /// By the AppID in a request for a token or a session.
        Appid = "appid",
        /// By the real token that it carries.
        Token = "token",
        /// By no hint, so it is the default account.
        Default = "default",
    }
}

labels! {
    /// Why a refused call was not sent again.
    Skipped {
        /// Its body was not buffered.
        NotHeld = "not_held",
        /// The endpoint refuses every token.
        Hopeless = "hopeless",
        /// There was no other token.
        NoToken = "no_token",
        /// WeCom returned the refused token again, and its refusals are never spurious.
        SameToken = "same_token",
        /// No connection could be opened for the replay.
        NotSent = "not_sent",
    }
}

labels! {
    /// What became of a call above a rate of `pace`.
    Paced {
        /// It waited for its turn.
        Waited = "waited",
        /// Its turn would have come too late.
        TurnedDown = "turned_down",
    }
}

labels! {
    /// Why a token was fetched.
    Cause {
        /// There was no token.
        Missing = "missing",
        /// The token was about to expire.
        Renewal = "renewal",
        /// WeChat refused the token.
        Refusal = "refusal",
        /// An operator revokes the token.
        Revoke = "revoke",
    }
}

labels! {
    /// The result of a fetch.
    Fetched {
        /// A new token.
        New = "new",
        /// The current token.
        Same = "same",
        /// A token that somebody else had fetched. WeChat was not asked.
        Shared = "shared",
        /// An errcode.
        Errcode = "errcode",
        /// An invalid reply, or none.
        Failed = "failed",
    }
}

labels! {
    /// An event at the store in which replicas share a token.
    StoreEvent {
        /// It did not answer, or answered with an error.
        Error = "error",
        /// The lease was acquired.
        Lease = "lease",
        /// Another replica had the lease, or another program its lock, and was waited for.
        Wait = "wait",
        /// A token was fetched without the store.
        Alone = "alone",
        /// The current token was stored, because the store had none or an older one.
        Restored = "restored",
    }
}

labels! {
    /// The result of a reload of the configuration.
    Reload {
        /// The new configuration is in force.
        Applied = "applied",
        /// The new configuration is wrong, and nothing was changed.
        Rejected = "rejected",
    }
}
