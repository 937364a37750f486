//! A stream of YAML or JSON documents. Documents without a pod to change stay byte for byte as they are.

use std::iter::repeat_n;

use serde_json::Value;

use super::{
    InjectRefusal, InjectedPod, Injector, Outcome,
    workload::{self, Namespaces, PodTemplate},
    yaml::{self, YamlError},
};

/// What to do with the pods of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Add a sidecar.
    In,
    /// Remove the sidecar.
    Out,
}

/// The changed stream, with a report.
#[derive(Clone, Debug)]
pub struct Transformed {
    /// The whole stream.
    pub text: String,
    /// Sentences about each document, in order.
    pub report: Vec<String>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// A workload cannot have a sidecar as it is.
    #[error("{name}: {refusal}")]
    Workload {
        /// Its kind and name.
        name: String,
        /// The reason.
        #[source]
        refusal: InjectRefusal,
    },
    /// A document cannot be read.
    #[error("this is neither YAML nor JSON: {0}")]
    Read(#[source] YamlError),
    /// A changed document cannot be written as YAML.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// A changed document cannot be written as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// Injects all workloads in `text`, or removes their sidecars. After an error nothing was done.
pub fn transform(
    injector: &Injector,
    text: &str,
    direction: Direction,
) -> Result<Transformed, StreamError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let chunks = split(text);
    let mut documents = Vec::new();
    let mut namespaces = Namespaces::default();
    for chunk in &chunks {
        let parsed = chunk.parse()?;
        parsed
            .values
            .iter()
            .for_each(|value| namespaces.learn(value));
        documents.push(parsed);
    }
    let mut done = Transformed {
        text: String::new(),
        report: Vec::new(),
    };
    let work = Work {
        injector,
        direction,
        namespaces,
    };
    for (chunk, mut document) in chunks.iter().zip(documents) {
        let mut changed = false;
        for value in &mut document.values {
            changed |= work.change(value, &mut done.report)?;
        }
        if changed {
            done.text.push_str(&chunk.write(&document)?);
        } else {
            done.text.push_str(chunk.text);
        }
    }
    Ok(done)
}

struct Work<'a> {
    injector: &'a Injector,
    direction: Direction,
    namespaces: Namespaces,
}

impl Work<'_> {
    /// Changes the pods in `document`. Returns whether there were any to change.
    fn change(&self, document: &mut Value, report: &mut Vec<String>) -> Result<bool, StreamError> {
        let places = workload::places(document);
        if places.is_empty() && !document.is_null() {
            report.push(format!(
                "{}: unchanged, it is no workload",
                workload::name(document)
            ));
        }
        let mut changed = false;
        for place in places {
            let new = self.changed(document, &place, report);
            let new = new.map_err(|refusal| StreamError::Workload {
                name: place.name.clone(),
                refusal,
            })?;
            if let (Some(new), Some(old)) = (new, document.pointer_mut(&place.pointer)) {
                *old = new;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// The new pod for that at `place`; `None` if it stays as it is.
    fn changed(
        &self,
        document: &Value,
        place: &PodTemplate,
        report: &mut Vec<String>,
    ) -> Result<Option<Value>, InjectRefusal> {
        let Injector { prefix, .. } = self.injector;
        let inject = prefix.key("inject");
        let pod = match self.direction {
            Direction::In => place.pod(document, &inject)?,
            Direction::Out => document.pointer(&place.pointer).cloned(),
        };
        let mut say = |text: String| report.push(format!("{}: {text}", place.name));
        if self.direction == Direction::In && place.has_stray_annotations(document, prefix) {
            say(format!(
                "warning: the annotations {} of the workload itself have no effect; they belong on its pod template",
                prefix.key("…")
            ));
        }
        let Some(object) = pod else {
            say(match document.pointer(&place.pointer) {
                Some(_) => format!("unchanged, its {inject} is false"),
                None => "unchanged, it has no pod template".to_owned(),
            });
            return Ok(None);
        };
        let pod = InjectedPod {
            object: &object,
            namespace: self.namespaces.of(place),
        };
        let outcome = match self.direction {
            Direction::In => self.injector.inject(pod)?,
            Direction::Out => self.injector.uninject(pod)?,
        };
        Ok(tell(outcome, say))
    }
}

/// Reports the result for a pod, and returns the new one if there is one.
fn tell(outcome: Outcome, mut say: impl FnMut(String)) -> Option<Value> {
    match outcome {
        Outcome::Injected {
            pod,
            summary,
            warnings,
        } => {
            say(format!("injected ({summary})"));
            for warning in warnings {
                say(format!("warning: {warning}"));
            }
            Some(pod)
        }
        Outcome::Uninjected(pod) => {
            say("uninjected".to_owned());
            Some(pod)
        }
        Outcome::Unchanged(reason) => {
            say(format!("unchanged, {reason}"));
            None
        }
        Outcome::Skipped(reason) => {
            say(format!("warning: skipped, {reason}"));
            None
        }
    }
}

/// The text of one YAML document, or of consecutive JSON objects, with the lines that separate it from the next.
struct Chunk<'a> {
    text: &'a str,
    /// The number of its first line, counted from 1.
    line: usize,
}

struct Document {
    values: Vec<Value>,
    json: bool,
}

/// Splits a stream where a YAML document begins (`---`) or ends (`...`). Both can only be at the beginning of a line,
/// even in block scalars.
fn split(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut first, mut at) = (0, 1, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if is_marker(line, "---") && start < at {
            chunks.push(Chunk {
                text: &text[start..at],
                line: first,
            });
            (start, first) = (at, number + 1);
        }
        at += line.len();
        if is_marker(line, "...") {
            chunks.push(Chunk {
                text: &text[start..at],
                line: first,
            });
            (start, first) = (at, number + 2);
        }
    }
    if start < text.len() {
        chunks.push(Chunk {
            text: &text[start..],
            line: first,
        });
    }
    chunks
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether the line has no value.
fn is_bare(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

impl Chunk<'_> {
    fn parse(&self) -> Result<Document, StreamError> {
        let nothing = |line: &str| {
            let rest = line.strip_prefix("---").filter(|_| is_marker(line, "---"));
            is_bare(rest.unwrap_or(line)) || line.starts_with('%') || is_marker(line, "...")
        };
        if self.text.lines().all(nothing) {
            return Ok(Document {
                values: Vec::new(),
                json: false,
            });
        }
        let body = self.body();
        if body.trim_start().starts_with('{')
            && let Ok(values) = serde_json::Deserializer::from_str(body)
                .into_iter()
                .collect()
        {
            return Ok(Document { values, json: true });
        }
        // The same number of lines, so that an error has the right line number.
        let padded: String = repeat_n('\n', self.line - 1)
            .chain(self.text.chars())
            .collect();
        let value = yaml::read(&padded).map_err(StreamError::Read)?;
        Ok(Document {
            values: vec![value],
            json: false,
        })
    }

    /// The lines that separate it from the document before.
    fn header(&self) -> &str {
        let first = self.text.split_inclusive('\n').next().unwrap_or_default();
        let is_header = first.strip_prefix("---").is_some_and(is_bare);
        if is_header { first } else { "" }
    }

    /// The text without these lines, and without the line that ends it.
    fn body(&self) -> &str {
        let body = &self.text[self.header().len()..];
        &body[..body.len() - self.footer().len()]
    }

    fn footer(&self) -> &str {
        let last = self
            .text
            .split_inclusive('\n')
            .next_back()
            .unwrap_or_default();
        if is_marker(last, "...") { last } else { "" }
    }

    /// The new document, between the same lines.
    fn write(&self, document: &Document) -> Result<String, StreamError> {
        let mut text = match self.header() {
            "" if is_marker(self.text, "---") => "---\n".to_owned(),
            header => header.to_owned(),
        };
        for value in &document.values {
            text.push_str(&if document.json {
                json(value)?
            } else {
                yaml::write(value)?
            });
        }
        text.push_str(self.footer());
        Ok(text)
    }
}

fn json(value: &Value) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(stream: &str) -> Vec<&str> {
        split(stream).iter().map(|chunk| chunk.text).collect()
    }

    #[test]
    fn a_document_begins_where_yaml_lets_it() {
        assert_eq!(texts("a: 1\n---\nb: 2\n"), ["a: 1\n", "---\nb: 2\n"]);
        assert_eq!(
            texts("---\na: |\n  ---\n  x\n--- # b\n"),
            ["---\na: |\n  ---\n  x\n", "--- # b\n"]
        );
        assert_eq!(texts("a: 1\n...\nb: 2"), ["a: 1\n...\n", "b: 2"]);
        assert_eq!(texts("----\n"), ["----\n"]);
        assert_eq!(texts("a\r\n---\r\nb"), ["a\r\n", "---\r\nb"]);
        assert_eq!(texts(""), Vec::<&str>::new());
    }

    #[test]
    fn what_has_no_pod_passes_byte_for_byte() {
        let stream = "# a comment\r\n\r\n---\nkind:   Service # odd\n---\n%YAML 1.1\n---\n{\"kind\":  \"X\"}\n...\n--- \n";
        let done = transform(&Injector::default(), stream, Direction::In).unwrap();
        assert_eq!(done.text, stream);
    }

    #[test]
    fn an_error_names_the_line_of_the_stream_and_nothing_on_it() {
        let stream = "kind: A\n---\nkind: Secret\nb: HUNTER2\nb: HUNTER2: 1\n";
        let transformed = transform(&Injector::default(), stream, Direction::In);
        let error = transformed.unwrap_err().to_string();
        assert!(
            error.contains("line 5") && !error.contains("HUNTER2"),
            "{error}"
        );
    }
}
