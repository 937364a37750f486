//! The state of the fake.

use fastrand::Rng;

use super::{
    behaviour::Behaviour,
    call::{RecordedCall, RecordedTokenRequest, is_placeholder},
    chance::SecondSends,
    logins::Logins,
    media::Media,
    quota::UsedQuotas,
    rids::Rids,
    tickets::IssuedTickets,
    tokens::Tokens,
    wecom::WecomTokens,
};

/// The state behind the one lock.
#[derive(Debug)]
pub(super) struct FakeState {
    pub(super) behaviour: Behaviour,
    pub(super) tokens: Tokens,
    pub(super) calls: Vec<RecordedCall>,
    pub(super) token_requests: Vec<RecordedTokenRequest>,
    /// Requests whose body ended early.
    pub(super) cut_short: Vec<RecordedCall>,
    /// Heads that are not HTTP.
    pub(super) malformed: Vec<Vec<u8>>,
    /// Whether the sidecar's placeholder, or a second `access_token`, has arrived.
    pub(super) saw_placeholder: bool,
    pub(super) second_sends: SecondSends,
    pub(super) media: Media,
    pub(super) logins: Logins,
    pub(super) tickets: IssuedTickets,
    pub(super) quotas: UsedQuotas,
    pub(super) rids: Rids,
    pub(super) rng: Rng,
    /// The state of WeCom, if this is one.
    pub(super) wecom: Option<WecomTokens>,
    /// The prefix of all paths.
    pub(super) prefix: String,
}

impl FakeState {
    pub(super) fn new(behaviour: Behaviour, tokens: Tokens, rng: Rng) -> Self {
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
            tickets: IssuedTickets::default(),
            quotas: UsedQuotas::default(),
            rids: Rids::default(),
            rng,
            wecom: None,
            prefix: String::new(),
        }
    }

    /// Forgets the records.
    pub(super) fn clear(&mut self) {
        self.calls.clear();
        self.token_requests.clear();
        self.cut_short.clear();
        self.malformed.clear();
        self.saw_placeholder = false;
    }

    /// Remembers whether a placeholder has arrived.
    pub(super) fn check_for_placeholder(&mut self, call: &RecordedCall) {
        let query = call.query();
        let placeholder = query.iter().any(|(_, value)| is_placeholder(value));
        self.saw_placeholder |= placeholder || call.has_two_tokens();
    }
}
