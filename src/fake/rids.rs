//! `/cgi-bin/openapi/rid/get`: what WeChat remembers of the calls that it answered with an error.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::json;

use super::{call::RecordedCall, reply::WechatReply};

/// How many are remembered.
const MOST: usize = 10_000;

/// The calls by their rid.
#[derive(Debug, Default)]
pub(super) struct Rids(HashMap<String, Remembered>);

#[derive(Debug)]
struct Remembered {
    /// `None` if its token was nobody's.
    account: Option<usize>,
    at: u64,
    query: String,
    body: String,
    reply: String,
}

impl Rids {
    /// Remembers a call, if there is a rid in the reply.
    pub(super) fn remember(
        &mut self,
        account: Option<usize>,
        call: &RecordedCall,
        reply: &WechatReply,
    ) {
        let text = String::from_utf8_lossy(&reply.body);
        let Some((_, rest)) = text.split_once("rid: ") else {
            return;
        };
        let end = rest.find(|letter: char| letter != '-' && !letter.is_ascii_hexdigit());
        let rid = rest[..end.unwrap_or(rest.len())].to_owned();
        if self.0.len() >= MOST {
            self.0.clear();
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let remembered = Remembered {
            account,
            at: now.unwrap_or_default().as_secs(),
            query: call.raw_query().to_owned(),
            body: String::from_utf8_lossy(&call.body).into_owned(),
            reply: text.into_owned(),
        };
        self.0.insert(rid, remembered);
    }

    /// The reply to a question of this account about `rid`.
    pub(super) fn answer(&self, account: usize, rid: Option<&str>) -> WechatReply {
        let is_one = |rid: &&str| !rid.is_empty() && rid.split('-').count() == 3;
        let Some(rid) = rid.filter(is_one) else {
            return WechatReply::error(76002);
        };
        let Some(call) = self.0.get(rid) else {
            return WechatReply::error(76001);
        };
        if call.account.is_some_and(|of| of != account) {
            return WechatReply::error(76003);
        }
        WechatReply::json(&json!({
            "errcode": 0,
            "errmsg": "ok",
            "request": {
                "invoke_time": call.at,
                "cost_in_ms": 30,
                "request_url": call.query,
                "request_body": call.body,
                "response_body": call.reply,
                "client_ip": "113.66.70.51",
            },
        }))
    }
}
