//! Kubernetes: sidecars for pods, from a file or from the cluster's webhook.

pub mod inject;
pub mod webhook;
