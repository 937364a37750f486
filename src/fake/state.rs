//! The state of the fake.

use fastrand::Rng;
use tokio::time::Instant;

use super::{
    behaviour::Behaviour,
    call::{RecordedCall, RecordedTokenRequest, is_placeholder},
    chance::SecondSends,
    knobs::Knobs,
    logins::Logins,
    media::Media,
    quota::UsedQuotas,
    rids::Rids,
    script::Script,
    tickets::IssuedTickets,
    tokens::Tokens,
    transcript::{self, Transcript},
    wecom::WecomTokens,
};

/// The state behind the one lock.
#[derive(Debug)]
pub(super) struct WechatState {
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
    /// The knobs at the start.
    pub(super) initial: Option<Knobs>,
    pub(super) script: Option<Script>,
    pub(super) transcript: Option<Transcript>,
    /// How many calls and how many token requests are remembered at least, where there are more.
    pub(super) remember: usize,
    /// How many were seen and are forgotten.
    pub(super) forgotten: Forgotten,
    pub(super) began: Instant,
}

/// Numbers of what was seen and is forgotten.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Forgotten {
    pub(super) calls: usize,
    pub(super) refused: usize,
    pub(super) token_requests: usize,
}

impl WechatState {
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
            initial: None,
            script: None,
            transcript: None,
            remember: usize::MAX,
            forgotten: Forgotten::default(),
            began: Instant::now(),
        }
    }

    /// Forgets the records.
    pub(super) fn clear(&mut self) {
        self.calls.clear();
        self.token_requests.clear();
        self.cut_short.clear();
        self.malformed.clear();
        self.saw_placeholder = false;
        self.forgotten = Forgotten::default();
    }

    /// Sets all back but the tokens.
    pub(super) fn reset(&mut self) {
        if let Some(initial) = self.initial.clone() {
            self.set_knobs(initial);
        }
        self.script = None;
        self.quotas = UsedQuotas::default();
        self.clear();
    }

    /// All tokens have expired.
    pub(super) fn expire(&mut self) {
        self.tokens.expire(Instant::now());
        self.wecom.iter_mut().for_each(|w| w.end_tokens(42001));
    }

    /// All tokens were replaced by somebody else.
    pub(super) fn rotate(&mut self) {
        self.tokens.rotate(Instant::now());
        self.wecom.iter_mut().for_each(|w| w.end_tokens(40014));
    }

    /// Adds an account, or changes the secret of a known one; a corp gets one more secret.
    pub(super) fn set_secret(&mut self, appid: &str, secret: &str) {
        match &mut self.wecom {
            Some(wecom) => wecom.add(appid, secret),
            None => self.tokens.set_secret(appid, secret),
        }
    }

    pub(super) fn knobs(&self) -> Knobs {
        Knobs {
            behaviour: self.behaviour.clone(),
            rules: self.wecom.as_ref().map(|wecom| wecom.rules.clone()),
        }
    }

    pub(super) fn set_knobs(&mut self, knobs: Knobs) {
        self.behaviour = knobs.behaviour;
        if let (Some(wecom), Some(rules)) = (&mut self.wecom, knobs.rules) {
            wecom.rules = rules;
        }
    }

    /// The secrets of all accounts.
    pub(super) fn secrets(&self) -> Vec<String> {
        let wecom = self.wecom.iter().flat_map(WecomTokens::secrets);
        self.tokens.secrets().chain(wecom).cloned().collect()
    }

    /// Writes the call that came last to the transcript, if there is one.
    pub(super) fn transcribe(&mut self, is_token_request: bool) {
        if self.transcript.is_none() {
            return;
        }
        let secrets = self.secrets();
        let last = match is_token_request {
            true => self.token_requests.last().map(|request| &request.call),
            false => self.calls.last(),
        };
        if let (Some(call), Some(transcript)) = (last, &mut self.transcript) {
            transcript.write(&transcript::document(call, self.began, &secrets));
        }
    }

    /// Forgets the oldest calls where there are twice as many as are remembered.
    pub(super) fn trim(&mut self) {
        let (most, forgotten) = (self.remember.saturating_mul(2), &mut self.forgotten);
        if self.calls.len() > most {
            let old = self.calls.drain(..self.remember);
            forgotten.refused += old.filter(|call| call.refused).count();
            forgotten.calls += self.remember;
        }
        if self.token_requests.len() > most {
            self.token_requests.drain(..self.remember);
            forgotten.token_requests += self.remember;
        }
    }

    /// Remembers whether a placeholder has arrived.
    pub(super) fn check_for_placeholder(&mut self, call: &RecordedCall) {
        let query = call.query();
        let placeholder = query.iter().any(|(_, value)| is_placeholder(value));
        self.saw_placeholder |= placeholder || call.has_two_tokens();
    }
}
