//! Finds the pods in the workloads of Kubernetes, and the Namespace objects about them.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    InjectRefusal,
    names::{Prefix, texts, word},
    object::items,
};

/// A pod, or a pod template, in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodTemplate {
    /// A JSON pointer to the object that has `metadata` and `spec`.
    pub(super) pointer: String,
    /// Kind and name, such as `deployment/shop`.
    pub(super) name: String,
    /// The namespace that the document names, if it does.
    pub(super) namespace: Option<String>,
    /// A JSON pointer to the whole workload.
    workload: String,
}

/// The pods in `document`; none if it is not a workload.
pub(super) fn places(document: &Value) -> Vec<PodTemplate> {
    let mut places = Vec::new();
    find(document, String::new(), &mut places);
    places
}

fn find(object: &Value, pointer: String, places: &mut Vec<PodTemplate>) {
    let kind = object["kind"].as_str().unwrap_or_default();
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let group = version.rsplit_once('/').map_or("", |(group, _)| group);
    let template = match (group, kind) {
        ("", "List") => {
            for (at, item) in items(object, "/items").iter().enumerate() {
                find(item, format!("{pointer}/items/{at}"), places);
            }
            return;
        }
        ("", "Pod") => "",
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") | ("batch", "Job") => {
            "/spec/template"
        }
        ("batch", "CronJob") => "/spec/jobTemplate/spec/template",
        _ => return,
    };
    let metadata = &object["metadata"];
    places.push(PodTemplate {
        pointer: format!("{pointer}{template}"),
        name: name(object),
        namespace: metadata["namespace"].as_str().map(str::to_owned),
        workload: pointer,
    });
}

/// Kind and name as `kubectl` shows them, as far as they are known.
pub(super) fn name(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or("object").to_lowercase();
    let metadata = &object["metadata"];
    let name = metadata["name"]
        .as_str()
        .or(metadata["generateName"].as_str());
    format!("{kind}/{}", name.unwrap_or("(no name)"))
}

impl PodTemplate {
    /// The pod, unless the workload asks for no sidecar and its pods say nothing.
    pub(super) fn pod(
        &self,
        document: &Value,
        inject: &str,
    ) -> Result<Option<Value>, InjectRefusal> {
        let Some(pod) = document.pointer(&self.pointer) else {
            return Ok(None);
        };
        let said = |object: &Value, whose: &str| {
            let label = word(object, "labels", inject, whose)?.map(str::to_owned);
            let annotation = word(object, "annotations", inject, whose)?.map(str::to_owned);
            Ok(label.or(annotation))
        };
        let workload = document.pointer(&self.workload).unwrap_or(&Value::Null);
        let declined = said(pod, "the pod's")?.is_none()
            && said(workload, "the workload's")?.as_deref() == Some("false");
        Ok(Some(pod.clone()).filter(|_| !declined))
    }

    /// Whether the workload itself has annotations that belong on its pods.
    pub(super) fn has_stray_annotations(&self, document: &Value, prefix: &Prefix) -> bool {
        let workload = document.pointer(&self.workload).unwrap_or(&Value::Null);
        let annotations = texts(workload, "annotations").into_iter().flatten();
        let mut ours = annotations.filter_map(|(key, _)| prefix.strip(key));
        self.pointer != self.workload && ours.any(|name| name != "inject")
    }
}

/// The Namespace objects of a stream, by name.
#[derive(Debug, Default)]
pub(super) struct Namespaces(HashMap<String, Value>);

impl Namespaces {
    /// Adds those in `document`.
    pub(super) fn learn(&mut self, document: &Value) {
        match (document["apiVersion"].as_str(), document["kind"].as_str()) {
            (Some("v1"), Some("List")) => {
                for item in items(document, "/items") {
                    self.learn(item);
                }
            }
            (Some("v1"), Some("Namespace")) => {
                if let Some(name) = document["metadata"]["name"].as_str() {
                    self.0.insert(name.to_owned(), document.clone());
                }
            }
            _ => {}
        }
    }

    /// The Namespace object of `place`; `Null` if the stream has none.
    pub(super) fn of(&self, place: &PodTemplate) -> &Value {
        let name = place.namespace.as_deref();
        name.and_then(|name| self.0.get(name))
            .unwrap_or(&Value::Null)
    }
}
