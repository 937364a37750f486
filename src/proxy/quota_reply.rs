//! Calls that ask WeChat for a quota: the sidecar reads the answer along, so that metrics and the status page have it.

use serde_json::Value;

use super::{Reply, route::Call};
use crate::{
    body::{buffered::BufferedBody, request_body::RequestBody},
    metrics::{CallRate, QuotaReading},
    wechat::{
        api::Api,
        endpoint::{Endpoint, QUOTA_GET, label},
    },
};

/// A question is a path. What is longer is none that can be kept.
const LONGEST_QUESTION: usize = 1024;

/// The endpoint that the call asks about, if it is such a call and the path is a documented one.
pub(super) fn asked_quota(
    call: &Call<'_>,
    body: &BufferedBody<RequestBody>,
) -> Option<&'static str> {
    if call.endpoint.path() != QUOTA_GET.as_bytes() || call.account.api != Api::Wechat {
        return None;
    }
    endpoint_in(body.whole()?)
}

/// The endpoint that a question is about.
fn endpoint_in(question: &[u8]) -> Option<&'static str> {
    // Parsed, JSON takes many times its length, and a body that is held may be large.
    if question.len() > LONGEST_QUESTION {
        return None;
    }
    let question: Value = serde_json::from_slice(question).ok()?;
    let path = question.get("cgi_path")?.as_str()?;
    let endpoint = Endpoint::of(Api::Wechat, path.as_bytes()).ok()?;
    endpoint.row().map(label)
}

/// Keeps what the reply says of `endpoint`.
#[cold]
pub(super) fn note_quota(call: &Call<'_>, endpoint: &'static str, reply: &Reply) {
    let body = reply.body().whole();
    let answer = body.and_then(|body| serde_json::from_slice::<Value>(body).ok());
    if let Some(reading) = answer.as_ref().and_then(reading) {
        call.account.metrics.quotas.read(endpoint, reading);
    }
}

/// The numbers in an answer; `None` if there are none.
fn reading(answer: &Value) -> Option<QuotaReading> {
    let number = |object: Option<&Value>, name: &str| object?.get(name)?.as_u64();
    let quota = answer.get("quota");
    let rate = |name: &str| {
        let rate = answer.get(name);
        Some(CallRate {
            call_count: number(rate, "call_count")?,
            refresh_second: number(rate, "refresh_second")?,
        })
    };
    let reading = QuotaReading {
        daily_limit: number(quota, "daily_limit"),
        used: number(quota, "used"),
        remain: number(quota, "remain"),
        rate_limit: rate("rate_limit"),
        component_rate_limit: rate("component_rate_limit"),
    };
    (reading != QuotaReading::default()).then_some(reading)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_number_may_be_missing() {
        let answer = json!({
            "errcode": 0,
            "quota": { "daily_limit": 10, "used": 3, "remain": 7 },
            "rate_limit": { "call_count": 1000, "refresh_second": 60 },
        });
        let rate = CallRate {
            call_count: 1000,
            refresh_second: 60,
        };
        let all = QuotaReading {
            daily_limit: Some(10),
            used: Some(3),
            remain: Some(7),
            rate_limit: Some(rate),
            component_rate_limit: None,
        };
        assert_eq!(reading(&answer), Some(all));
        for nothing in [
            json!({ "errcode": 76021 }),
            json!({ "quota": {}, "rate_limit": { "call_count": 1 } }),
            json!({ "quota": 5 }),
            json!([]),
        ] {
            assert_eq!(reading(&nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_question_is_short_and_nothing_longer_is_read() {
        let question = |more: usize| {
            let more = "0,".repeat(more) + "0";
            format!("{{\"cgi_path\":\"/cgi-bin/user/get\",\"more\":[{more}]}}")
        };
        let found = |text: String| endpoint_in(text.as_bytes());
        assert_eq!(found(question(1)), Some("/cgi-bin/user/get"));
        assert_eq!(found(question(100_000)), None);
    }
}
