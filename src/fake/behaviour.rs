//! The settings of the fake: every fault that it can inject. All except the refusal chance are off by default.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::time::Duration;

use super::{
    quota::CallQuota,
    reply::{JSON, TEXT, WechatReply, errmsg},
    tickets::TicketRules,
};

/// The behaviour of the fake from now on; see [`Wechat::change`](super::Wechat::change).
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// The share of calls with a valid token that are refused. The second send of a call never is.
    pub refusal_chance: f64,
    /// Paths that always refuse every token.
    pub refuse_always: Vec<String>,
    /// The same for a single account: appid and path.
    pub refuse_always_of: Vec<(String, String)>,
    /// How many of the next calls with a valid token are refused, including second sends.
    pub refuse_next: u32,
    /// The form of a refusal.
    pub refusal: RefusalForm,

    /// The token endpoints answer this code.
    pub token_errcode: Option<i64>,
    /// The same for single accounts.
    pub token_errcode_of: HashMap<String, i64>,
    /// The token endpoints read the requests of these accounts and never answer.
    pub token_stall_of: Vec<String>,
    /// The token endpoints answer 200 with a page of HTML.
    pub token_garbage: bool,
    /// The token endpoints answer exactly this, as JSON.
    pub token_body: Option<Bytes>,
    /// The token endpoints take this long to answer.
    pub token_delay: Duration,
    /// The token endpoints answer this status, with a page of HTML.
    pub token_status: Option<u16>,
    /// The token endpoints read the request and close the connection.
    pub token_hangup: bool,
    /// The token endpoints read the request and never answer.
    pub token_stall: bool,

    /// How often an account may call these paths. A call with a token that is refused does not count.
    pub quotas: HashMap<String, CallQuota>,

    /// The lifetimes of tickets.
    pub tickets: TicketRules,

    /// How long an API call waits for the head of its reply.
    pub reply_delay: Duration,
    /// The same for single paths. It replaces `reply_delay` there.
    pub delay_at: HashMap<String, Duration>,
    /// API calls are read and never answered.
    pub stall: bool,
    /// API calls get the head and half of the body, then silence.
    pub stall_body: bool,
    /// Where the connection of an API call breaks.
    pub hang_up: HangUp,
    /// How often it breaks before `hang_up` is [`HangUp::Never`] again; `u32::MAX` is for ever.
    pub hang_up_next: u32,
    /// Closes the connection after a reply without announcing it.
    pub close_after_reply: bool,
    /// Closes a connection silently when it has been idle for this long.
    pub close_idle_after: Option<Duration>,
    /// Sends `Connection: close` in each reply, and closes the connection.
    pub connection_close: bool,
    /// Writes a few bytes at a time.
    pub split_writes: bool,
    /// Whether API calls are answered before their body is read.
    pub early_reply: EarlyReply,
    /// Sends replies in chunks, without Content-Length.
    pub chunked_replies: bool,
    /// The errcode of API calls that are not refused.
    pub errcode: Option<i64>,
    /// The status of API calls that are not refused.
    pub status: Option<u16>,
    /// Content type and body of API calls that are not refused.
    pub body: Option<(String, Bytes)>,
    /// The same for single paths. It replaces `body` there.
    pub body_at: HashMap<String, (String, Bytes)>,
    /// Headers added to every reply to an API call.
    pub extra_headers: Vec<(String, String)>,
    /// Sends `100 Continue` before each reply, whether the app expects it or not.
    pub interim_100: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            refusal_chance: 0.05,
            refuse_always: Vec::new(),
            refuse_always_of: Vec::new(),
            refuse_next: 0,
            refusal: RefusalForm::default(),
            token_errcode: None,
            token_errcode_of: HashMap::new(),
            token_stall_of: Vec::new(),
            token_garbage: false,
            token_body: None,
            token_delay: Duration::ZERO,
            token_status: None,
            token_hangup: false,
            token_stall: false,
            quotas: HashMap::new(),
            tickets: TicketRules::default(),
            reply_delay: Duration::ZERO,
            delay_at: HashMap::new(),
            stall: false,
            stall_body: false,
            hang_up: HangUp::Never,
            hang_up_next: u32::MAX,
            close_after_reply: false,
            close_idle_after: None,
            connection_close: false,
            split_writes: false,
            early_reply: EarlyReply::Never,
            chunked_replies: false,
            errcode: None,
            status: None,
            body: None,
            body_at: HashMap::new(),
            extra_headers: Vec::new(),
            interim_100: false,
        }
    }
}

impl Behaviour {
    /// Whether the connection breaks here. Counts down.
    pub(super) fn hangs_up(&mut self, here: HangUp) -> bool {
        if self.hang_up != here || here == HangUp::Never {
            return false;
        }
        if self.hang_up_next == 0 {
            return false;
        }
        if self.hang_up_next < u32::MAX {
            self.hang_up_next -= 1;
            if self.hang_up_next == 0 {
                (self.hang_up, self.hang_up_next) = (HangUp::Never, u32::MAX);
            }
        }
        true
    }

    /// Whether this call is one of the `refuse_next`. Counts down.
    pub(super) fn refuses_next(&mut self) -> bool {
        let refuses = self.refuse_next > 0;
        self.refuse_next = self.refuse_next.saturating_sub(1);
        refuses
    }

    /// The delay of the reply to a call of this path.
    pub(super) fn delay(&self, path: &str) -> Duration {
        *self.delay_at.get(path).unwrap_or(&self.reply_delay)
    }
}

/// Where a connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HangUp {
    /// Nowhere.
    Never,
    /// At the first byte of a request, whatever its path. The rest is not read, and no call is recorded.
    BeforeReading,
    /// After the whole request, without a reply.
    AfterRequest,
    /// In the middle of the reply's head.
    MidHead,
    /// After the head and half of the body.
    MidBody,
}

/// How the body of an API call is treated that is answered once its head is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyReply {
    /// The body is read first.
    Never,
    /// The body is read after the reply, and the connection goes on.
    ThenRead,
    /// The body stays unread while the connection stays open.
    ThenStopReading,
    /// The connection is closed with the body unread.
    ThenClose,
}

/// The form of a refusal.
#[derive(Clone, Debug, Default)]
pub struct RefusalForm {
    /// The code of refusals by chance or on request; `None` for 40001. A token that is unknown, malformed or expired
    /// always gets its own code.
    pub code: Option<i64>,
    /// The code is written as a string.
    pub as_string: bool,
    /// Where the errcode stands.
    pub place: Place,
    /// The bytes before the first brace, such as a BOM or white space.
    pub prefix: Vec<u8>,
    /// The message contains a raw control character and bytes that are not UTF-8.
    pub broken: bool,
    /// Replaces the content type of the path.
    pub content_type: Option<String>,
}

/// The place of the errcode in the reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// In `base_resp` for device and shakearound calls, and first elsewhere.
    #[default]
    AsThePathHasIt,
    /// At the beginning.
    First,
    /// Behind the message.
    Last,
    /// In `base_resp`.
    BaseResp,
}

impl RefusalForm {
    /// The refusal with this code. The flags say how the path writes errors.
    pub(super) fn reply(&self, errcode: i64, in_base_resp: bool, as_text: bool) -> WechatReply {
        let code = if self.as_string {
            format!("\"{errcode}\"")
        } else {
            errcode.to_string()
        };
        let text = errmsg(errcode);
        let mut message = vec![b'"'];
        if self.broken {
            message.extend_from_slice(b"\x01\xff\xfe ");
        }
        message.extend_from_slice(text.as_bytes());
        message.push(b'"');

        let place = match self.place {
            Place::AsThePathHasIt if in_base_resp => Place::BaseResp,
            other => other,
        };
        let (before, after) = match place {
            Place::AsThePathHasIt | Place::First => {
                (format!("{{\"errcode\":{code},\"errmsg\":"), "}".to_owned())
            }
            Place::Last => ("{\"errmsg\":".to_owned(), format!(",\"errcode\":{code}}}")),
            Place::BaseResp => (
                format!("{{\"base_resp\":{{\"errcode\":{code},\"errmsg\":"),
                "}}".to_owned(),
            ),
        };
        let content_type = match &self.content_type {
            Some(content_type) => content_type,
            None if as_text => TEXT,
            None => JSON,
        };
        let body = [&self.prefix, before.as_bytes(), &message, after.as_bytes()].concat();
        WechatReply {
            errcode: Some(errcode),
            ..WechatReply::bytes(content_type, body)
        }
    }
}
