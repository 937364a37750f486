//! What the fuzzer of the webhook's questions runs (see `fuzz/`).

use serde_json::Value;

use super::review::{NamespaceLabel, Review};
use crate::k8s::inject::{InjectedPod, Injector, Outcome};

/// Reads `data` as an AdmissionReview, and answers it.
pub fn review(data: &[u8]) {
    let Ok(review) = Review::parse(data) else {
        return;
    };
    let injector = Injector::default();
    let reply = review.answer(&injector, &Value::Null, NamespaceLabel::Clear);
    let reply: Value = serde_json::from_slice(&reply.body).expect("a reply that is no JSON");
    assert!(reply["response"]["allowed"].is_boolean());
    // A number that is too large is one to `Review`, which skips it, and none to this parser.
    let Ok(question) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let namespace = &Value::Null;
    let object = &question["request"]["object"];
    let Ok(Outcome::Injected { pod, .. }) = injector.inject(InjectedPod { object, namespace })
    else {
        return;
    };
    let object = &pod;
    let again = injector.inject(InjectedPod { object, namespace });
    assert!(matches!(again, Ok(Outcome::Unchanged(_))), "{again:?}");
    let removed = injector.uninject(InjectedPod { object, namespace });
    assert!(matches!(removed, Ok(Outcome::Uninjected(_))), "{removed:?}");
}
