//! The state of the fake, and the routing of every request.

use fastrand::Rng;

use super::{
    api,
    behaviour::Behaviour,
    call::{Call, TokenRequest},
    chance::SecondSends,
    control,
    delivery::Delivery,
    media::Media,
    quota::UsedQuotas,
    reply::Reply,
    rids::Rids,
    sns::Logins,
    tickets::Tickets,
    token_api,
    tokens::Tokens,
    wecom::{self, Wecom},
};

/// The state behind the one lock.
#[derive(Debug)]
pub struct State {
    pub behaviour: Behaviour,
    pub tokens: Tokens,
    pub calls: Vec<Call>,
    pub token_requests: Vec<TokenRequest>,
    /// Requests whose body ended early.
    pub cut_short: Vec<Call>,
    /// Heads that are not HTTP.
    pub malformed: Vec<Vec<u8>>,
    /// Whether the sidecar's placeholder, or a second `access_token`, has arrived.
    pub saw_placeholder: bool,
    pub second_sends: SecondSends,
    pub media: Media,
    pub logins: Logins,
    pub tickets: Tickets,
    pub quotas: UsedQuotas,
    pub rids: Rids,
    pub rng: Rng,
    /// The state of WeCom, if this is one.
    pub wecom: Option<Wecom>,
    /// The prefix of all paths.
    pub prefix: String,
}

/// The part of the fake that answers a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The fake's own control calls.
    Control,
    /// The token endpoints.
    Token,
    /// Everything else.
    Api,
}

impl Kind {
    pub fn of(path: &str) -> Self {
        match path {
            token_api::CLASSIC | token_api::STABLE => Self::Token,
            _ if path.starts_with("/_fake/") => Self::Control,
            _ => Self::Api,
        }
    }
}

/// A reply, and how it is delivered.
#[derive(Debug)]
pub struct Answer {
    pub reply: Reply,
    pub delivery: Delivery,
}

impl State {
    pub fn new(behaviour: Behaviour, tokens: Tokens, rng: Rng) -> Self {
        Self {
            behaviour,
            tokens,
            calls: Vec::new(),
            token_requests: Vec::new(),
            cut_short: Vec::new(),
            malformed: Vec::new(),
            saw_placeholder: false,
            second_sends: SecondSends::default(),
            media: Media::default(),
            logins: Logins::default(),
            tickets: Tickets::default(),
            quotas: UsedQuotas::default(),
            rids: Rids::default(),
            rng,
            wecom: None,
            prefix: String::new(),
        }
    }

    /// Records the request and builds its reply.
    pub fn answer(&mut self, call: Call) -> Answer {
        let whole = call.path();
        let Some(path) = whole.strip_prefix(&self.prefix).map(str::to_owned) else {
            let delivery = Delivery::default();
            let reply = Reply::status(404);
            self.calls.push(call);
            return Answer { reply, delivery };
        };
        let kind = Kind::of(&path);
        if kind != Kind::Control {
            self.check_for_placeholder(&call);
        }
        match kind {
            Kind::Control => Answer {
                reply: control::answer(self, &path, &call),
                delivery: Delivery::default(),
            },
            Kind::Token | Kind::Api if self.wecom.is_some() => wecom::answer(self, &path, call),
            Kind::Token => token_api::answer(self, &path, call),
            Kind::Api => api::answer(self, &path, call),
        }
    }

    /// Forgets the records.
    pub fn clear(&mut self) {
        self.calls.clear();
        self.token_requests.clear();
        self.cut_short.clear();
        self.malformed.clear();
        self.saw_placeholder = false;
    }

    fn check_for_placeholder(&mut self, call: &Call) {
        let query = call.query();
        let placeholder = query.iter().any(|(_, value)| is_placeholder(value));
        self.saw_placeholder |= placeholder || has_two_tokens(&query);
    }
}

/// Whether this is the placeholder that the sidecar gives an app instead of a token.
pub fn is_placeholder(token: &str) -> bool {
    token.starts_with("sidecar-")
}

/// Whether more than one parameter is an `access_token`.
pub fn has_two_tokens(query: &[(String, String)]) -> bool {
    let tokens = query.iter().filter(|(name, _)| name == "access_token");
    tokens.count() > 1
}

/// WeChat answers 412 to a request without a length, except for a GET without a body.
pub fn lacks_length(call: &Call) -> bool {
    let takes_body = matches!(call.method.as_str(), "POST" | "PUT" | "PATCH");
    call.header("transfer-encoding").is_some()
        || takes_body && call.header("content-length").is_none()
}
