//! What calls, fetches and replays are counted by.

/// An enum whose variants are labels.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $label:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $variant),+ }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The label.
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
        /// WeChat's refusal of the token reached the app.
        Refused = "refused",
        /// Answered here: the token endpoints, tickets, and a token that nobody knows.
        Local = "local",
        /// Answered with a refusal that is remembered.
        Remembered = "remembered",
        /// Refused here: the app's fault.
        Rejected = "rejected",
        /// Failed here or on the way to WeChat.
        Failed = "failed",
    }
}

labels! {
    /// How it was known whose a call is.
    Selection {
        /// By the header X-Wechat-Appid.
        Header = "header",
        /// By the first segment of its path.
        Path = "path",
        /// By the placeholder that it carries instead of a token.
        Placeholder = "placeholder",
        /// By where it came in.
        Listener = "listener",
        /// By the AppID in a request for a token or a session.
        Appid = "appid",
        /// By the real token that it carries.
        Token = "token",
        /// It does not say: it is the default account's.
        Default = "default",
    }
}

labels! {
    /// Why a refused call was not sent again.
    Skipped {
        /// Its body was not held.
        NotHeld = "not_held",
        /// The path refuses every token.
        Hopeless = "hopeless",
        /// No other token could be had.
        NoToken = "no_token",
        /// The refused token came again, and WeCom's refusals are meant.
        SameToken = "same_token",
    }
}

labels! {
    /// Why a token was fetched.
    Cause {
        /// There was none.
        Missing = "missing",
        /// It was about to expire.
        Renewal = "renewal",
        /// WeChat refused it.
        Refusal = "refusal",
    }
}

labels! {
    /// What a fetch brought.
    Fetched {
        /// A token that was not known.
        New = "new",
        /// The token in hand.
        Same = "same",
        /// One that somebody else had fetched; WeChat was not asked.
        Shared = "shared",
        /// An errcode.
        Errcode = "errcode",
        /// Nothing that makes sense, or nothing at all.
        Failed = "failed",
    }
}

labels! {
    /// What happened at the store that replicas share a token in.
    StoreEvent {
        /// It did not answer, or with an error.
        Error = "error",
        /// The lease was taken.
        Lease = "lease",
        /// Another replica had the lease, or another program its lock, and was waited for.
        Wait = "wait",
        /// A token was fetched without it.
        Alone = "alone",
        /// The token in hand was put into it, because it had none or an older one.
        Restored = "restored",
    }
}

labels! {
    /// What came of reading the configuration again.
    Reread {
        /// It is in force.
        Applied = "applied",
        /// Something is wrong with it, and nothing was changed.
        Rejected = "rejected",
    }
}
