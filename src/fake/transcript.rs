//! Calls as documents without secrets, for `/_fake/calls` and for a file.

use std::{fs::File, io, io::Write, path::Path};

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::call::RecordedCall;

/// What stands in the place of a secret.
const CUT: &str = "[cut]";

/// A file to which each call is written, as a line of JSON.
#[derive(Debug)]
pub(super) struct Transcript {
    file: File,
    /// Why there are no more lines.
    pub(super) failed: Option<io::Error>,
}

impl Transcript {
    /// Begins with an empty file.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        Ok(Self { file, failed: None })
    }

    /// Writes a line, unless one has failed.
    pub(super) fn write(&mut self, document: &Value) {
        if self.failed.is_none() {
            self.failed = self
                .file
                .write_all(format!("{document}\n").as_bytes())
                .err();
        }
    }
}

/// A call as a document. The values of parameters and fields for secrets are cut out, and so are `secrets` wherever
/// they stand.
pub(super) fn document(call: &RecordedCall, began: Instant, secrets: &[String]) -> Value {
    let secrets: Vec<&str> = call
        .token
        .iter()
        .chain(secrets)
        .map(String::as_str)
        .filter(|secret| !secret.is_empty())
        .collect();
    let mut query = Map::new();
    for (name, value) in call.query() {
        let value = if name == "key" || is_secret(&name) {
            CUT.to_owned()
        } else {
            without(&value, &secrets)
        };
        query
            .entry(without(&name, &secrets))
            .or_insert(value.into());
    }
    json!({
        "call": call.number,
        "second": (call.at.duration_since(began).as_secs_f64() * 1000.0).round() / 1000.0,
        "method": call.method,
        "path": without(&call.path(), &secrets),
        "query": query,
        "body": body(call, &secrets),
        "status": call.status,
        "errcode": call.errcode,
    })
}

/// The body if it is JSON, or its type and length.
fn body(call: &RecordedCall, secrets: &[&str]) -> Value {
    if call.body.is_empty() {
        return Value::Null;
    }
    match call.json() {
        Some(mut value) => {
            cut(&mut value, secrets);
            value
        }
        None => json!({ "content_type": call.header("content-type"), "bytes": call.body.len() }),
    }
}

fn cut(value: &mut Value, secrets: &[&str]) {
    match value {
        Value::String(text) => *text = without(text, secrets),
        Value::Array(values) => values.iter_mut().for_each(|value| cut(value, secrets)),
        Value::Object(fields) => {
            for (name, value) in fields {
                if is_secret(name) {
                    *value = CUT.into();
                } else {
                    cut(value, secrets);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether a parameter or a field of this name is for a secret, or for a code that works once.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    const NAMES: [&str; 6] = [
        "code",
        "js_code",
        "auth_code",
        "permanent_code",
        "session_key",
        "ticket",
    ];
    name.contains("token") || name.contains("secret") || NAMES.contains(&name.as_str())
}

fn without(text: &str, secrets: &[&str]) -> String {
    let cut = |text: String, secret: &&str| text.replace(secret, CUT);
    secrets.iter().fold(text.to_owned(), cut)
}
