//! AdmissionReview in, AdmissionReview out: `admission.k8s.io/v1`, with a JSON patch.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::figures::Reviewed;
use crate::inject::{Injector, Outcome, Pod};

const VERSION: &str = "admission.k8s.io/v1";

/// Kubernetes' own namespaces: a webhook that stands in their way stands in its own.
const UNTOUCHED: [&str; 2] = ["kube-system", "kube-node-lease"];

/// A question of the API server's.
#[derive(Debug)]
pub(super) struct Review(Value);

/// The answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// An AdmissionReview as JSON.
    pub(super) body: Vec<u8>,
    /// What became of the pod.
    pub(super) reviewed: Reviewed,
}

impl Review {
    /// Reads a request's body. The error is a sentence.
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        let review: Value = serde_json::from_slice(body).map_err(|error| {
            format!(
                "the body is no JSON: line {}, column {}",
                error.line(),
                error.column()
            )
        })?;
        if review["kind"] != "AdmissionReview" || review["apiVersion"] != VERSION {
            return Err(format!("the body is no AdmissionReview of {VERSION}"));
        }
        if !review["request"]["uid"].is_string() {
            return Err("the AdmissionReview has no request with a uid".to_owned());
        }
        Ok(Self(review))
    }

    /// Where the pod is to be.
    pub(super) fn namespace(&self) -> Option<&str> {
        let namespace = self.0["request"]["namespace"].as_str();
        namespace.filter(|namespace| !namespace.is_empty())
    }

    /// What `injector` makes of the pod, whose Namespace object is `namespace` where it is known.
    pub(super) fn answer(&self, injector: &Injector, namespace: &Value) -> Answer {
        let object = &self.0["request"]["object"];
        let outcome = match self.not_for_us() {
            Some(reason) => Ok(Outcome::Unchanged(reason)),
            None => injector.inject(Pod { object, namespace }),
        };
        let mut response = json!({ "uid": self.0["request"]["uid"], "allowed": true });
        let (reviewed, said) = match outcome {
            Ok(Outcome::Injected {
                pod,
                summary,
                warnings,
            }) => {
                let patch = json_patch::diff(object, &pod);
                let patch = serde_json::to_vec(&patch).unwrap_or_default();
                response["patchType"] = json!("JSONPatch");
                response["patch"] = json!(STANDARD.encode(patch));
                warn(&mut response, &warnings);
                (Reviewed::Injected, summary)
            }
            Ok(Outcome::Unchanged(reason)) => (Reviewed::Unchanged, reason),
            // Never: nobody asked for it. It is as it was all the same.
            Ok(Outcome::Uninjected(_)) => (Reviewed::Unchanged, String::new()),
            Ok(Outcome::Skipped(reason)) => {
                warn(
                    &mut response,
                    &[format!("the pod gets no sidecar: {reason}")],
                );
                (Reviewed::Skipped, reason)
            }
            Err(refusal) => {
                response["allowed"] = json!(false);
                let message = format!("wechat-sidecar: {refusal}");
                response["status"] =
                    json!({ "code": 422, "reason": "Invalid", "message": message });
                (Reviewed::Refused, refusal.to_string())
            }
        };
        self.log(reviewed, &said);
        let review =
            json!({ "apiVersion": VERSION, "kind": "AdmissionReview", "response": response });
        Answer {
            body: review.to_string().into_bytes(),
            reviewed,
        }
    }

    /// Why the object passes as it is, whatever it says.
    fn not_for_us(&self) -> Option<String> {
        let request = &self.0["request"];
        let resource = &request["resource"];
        let is_pod = resource["resource"] == "pods"
            && resource["group"].as_str().unwrap_or_default().is_empty()
            && request["subResource"]
                .as_str()
                .unwrap_or_default()
                .is_empty()
            && request["object"]["kind"]
                .as_str()
                .is_none_or(|kind| kind == "Pod");
        if !is_pod {
            return Some("only pods are injected".to_owned());
        }
        if request["operation"] != "CREATE" || !request["object"].is_object() {
            return Some("a pod is injected when it is created".to_owned());
        }
        let namespace = self.namespace()?;
        UNTOUCHED
            .contains(&namespace)
            .then(|| format!("the namespace {namespace} is Kubernetes' own"))
    }

    fn log(&self, reviewed: Reviewed, said: &str) {
        let request = &self.0["request"];
        let metadata = &request["object"]["metadata"];
        let name = metadata["name"]
            .as_str()
            .or(metadata["generateName"].as_str());
        let pod = name.unwrap_or_default();
        let namespace = self.namespace().unwrap_or_default();
        let dry_run = request["dryRun"] == true;
        let outcome = reviewed.word();
        tracing::info!(namespace, pod, outcome, dry_run, "{said}");
    }
}

/// Warnings are shown by kubectl, up to 256 characters of each.
fn warn(response: &mut Value, warnings: &[String]) {
    if !warnings.is_empty() {
        let warnings = warnings
            .iter()
            .map(|warning| format!("wechat-sidecar: {warning}"));
        response["warnings"] = warnings.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(request: &Value) -> Review {
        let review =
            json!({ "apiVersion": VERSION, "kind": "AdmissionReview", "request": request });
        Review::parse(review.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn what_is_no_new_pod_passes() {
        let pods = json!({ "group": "", "version": "v1", "resource": "pods" });
        let pod =
            json!({ "kind": "Pod", "metadata": {}, "spec": { "containers": [{ "name": "a" }] } });
        let mut request = json!({
            "uid": "1", "resource": pods, "operation": "CREATE", "namespace": "shop", "object": pod,
        });
        let reviewed = |request: &Value| {
            review(request)
                .answer(&Injector::default(), &Value::Null)
                .reviewed
        };
        assert_eq!(reviewed(&request), Reviewed::Injected);
        for (field, value) in [
            ("operation", json!("UPDATE")),
            ("subResource", json!("ephemeralcontainers")),
            ("object", json!(null)),
            ("namespace", json!("kube-system")),
            (
                "resource",
                json!({ "group": "apps", "resource": "deployments" }),
            ),
            (
                "resource",
                json!({ "group": "metrics.k8s.io", "resource": "pods" }),
            ),
        ] {
            let before = request[field].take();
            request[field] = value;
            assert_eq!(reviewed(&request), Reviewed::Unchanged, "{field}");
            request[field] = before;
        }
    }

    #[test]
    fn what_is_no_review_is_an_error() {
        for body in [
            "",
            "[]",
            "null",
            r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1","request":{"uid":"1"}}"#,
            r#"{"kind":"Pod","apiVersion":"v1"}"#,
            r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}"#,
            r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":7}}"#,
        ] {
            assert!(Review::parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
