//! Parses an AdmissionReview and builds the answer: `admission.k8s.io/v1`, with a JSON patch.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{error::MalformedReview, metrics::Reviewed, patch};
use crate::k8s::inject::{InjectedPod, Injector, Outcome};

const VERSION: &str = "admission.k8s.io/v1";

/// The namespaces of Kubernetes itself. A webhook that blocks their pods could block its own.
const UNTOUCHED: [&str; 2] = ["kube-system", "kube-node-lease"];

/// The most lists, maps and items of a pod. Each takes far more memory than its text.
const MOST_VALUES: usize = 600_000;

/// The request of the API server.
#[derive(Debug)]
pub(super) struct Review(ReviewRequest);

/// What is known of the label of a pod's namespace, by the webhook that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamespaceLabel {
    /// The pod or its namespace asks for a sidecar.
    Clear,
    /// It is neither `enabled` nor `disabled`.
    Unclear,
}

/// The parts that matter. All others are skipped.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReview {
    kind: String,
    api_version: String,
    request: Option<ReviewRequest>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReviewRequest {
    uid: String,
    #[serde(default, deserialize_with = "or_nothing")]
    namespace: String,
    #[serde(default, deserialize_with = "or_nothing")]
    operation: String,
    #[serde(default, deserialize_with = "or_nothing")]
    resource: Resource,
    #[serde(default, deserialize_with = "or_nothing")]
    sub_resource: String,
    #[serde(default, deserialize_with = "or_nothing")]
    dry_run: bool,
    #[serde(default, deserialize_with = "or_nothing")]
    object: Value,
}

#[derive(Debug, Default, Deserialize)]
struct Resource {
    #[serde(default, deserialize_with = "or_nothing")]
    group: String,
    #[serde(default, deserialize_with = "or_nothing")]
    resource: String,
}

/// A null counts as missing.
fn or_nothing<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The answer to a review.
#[derive(Debug)]
pub(super) struct ReviewReply {
    /// An AdmissionReview as JSON.
    pub(super) body: Vec<u8>,
    /// The result for the pod.
    pub(super) reviewed: Reviewed,
}

impl Review {
    /// Parses the body of a request.
    pub(super) fn parse(body: &[u8]) -> Result<Self, MalformedReview> {
        let values = body.iter().filter(|byte| b"[{,".contains(byte)).count();
        if values > MOST_VALUES {
            return Err(MalformedReview::TooManyValues(MOST_VALUES));
        }
        let asked: RawReview =
            serde_json::from_slice(body).map_err(|error| MalformedReview::NotJson {
                line: error.line(),
                column: error.column(),
            })?;
        if asked.kind != "AdmissionReview" || asked.api_version != VERSION {
            return Err(MalformedReview::Kind(VERSION));
        }
        let request = asked.request;
        let request = request.ok_or(MalformedReview::NoRequest)?;
        Ok(Self(request))
    }

    /// Whether it is about a pod that may get a sidecar.
    pub(super) fn is_for_us(&self) -> bool {
        self.not_for_us().is_none()
    }

    /// The namespace of the pod, if the review has it.
    pub(super) fn namespace(&self) -> Option<&str> {
        Some(&*self.0.namespace).filter(|namespace| !namespace.is_empty())
    }

    /// The answer of `injector` about the pod. `namespace` is the Namespace object, if it is known.
    pub(super) fn answer(
        &self,
        injector: &Injector,
        namespace: &Value,
        label: NamespaceLabel,
    ) -> ReviewReply {
        let object = &self.0.object;
        let pod = InjectedPod { object, namespace };
        let outcome = match (self.not_for_us(), label) {
            (Some(reason), _) => Ok(Outcome::Unchanged(reason)),
            (None, NamespaceLabel::Clear) => injector.inject(pod),
            (None, NamespaceLabel::Unclear) => injector.inject_in_unclear_namespace(pod),
        };
        let mut response = json!({ "uid": self.0.uid, "allowed": true });
        let (reviewed, said) = match outcome {
            Ok(Outcome::Injected {
                pod,
                summary,
                warnings,
            }) => {
                let patch = patch::between(object, &pod);
                let patch = serde_json::to_vec(&patch).unwrap_or_default();
                response["patchType"] = json!("JSONPatch");
                response["patch"] = json!(STANDARD.encode(patch));
                warn(&mut response, &warnings);
                (Reviewed::Injected, summary)
            }
            Ok(Outcome::Unchanged(reason)) => (Reviewed::Unchanged, reason),
            // This does not happen, because removal was not requested. The pod stays as it is.
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
        ReviewReply {
            body: review.to_string().into_bytes(),
            reviewed,
        }
    }

    /// The reason why the object passes unchanged, whatever it contains.
    fn not_for_us(&self) -> Option<String> {
        let ReviewRequest {
            namespace,
            operation,
            resource,
            sub_resource,
            object,
            ..
        } = &self.0;
        let is_pod = resource.resource == "pods"
            && resource.group.is_empty()
            && sub_resource.is_empty()
            && object["kind"].as_str().is_none_or(|kind| kind == "Pod");
        if !is_pod {
            return Some("only pods are injected".to_owned());
        }
        if operation != "CREATE" || !object.is_object() {
            return Some("a pod is injected when it is created".to_owned());
        }
        UNTOUCHED
            .contains(&namespace.as_str())
            .then(|| format!("the namespace {namespace} is Kubernetes' own"))
    }

    fn log(&self, reviewed: Reviewed, said: &str) {
        let metadata = &self.0.object["metadata"];
        let name = metadata["name"]
            .as_str()
            .or(metadata["generateName"].as_str());
        let pod = name.unwrap_or_default();
        let (namespace, dry_run) = (&self.0.namespace, self.0.dry_run);
        let outcome = reviewed.word();
        if reviewed == Reviewed::Refused {
            tracing::warn!(namespace, pod, outcome, dry_run, "{said}");
        } else {
            tracing::info!(namespace, pod, outcome, dry_run, "{said}");
        }
    }
}

/// Warnings are shown by kubectl, with up to 256 characters each.
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
                .answer(&Injector::default(), &Value::Null, NamespaceLabel::Clear)
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
