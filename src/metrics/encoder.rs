//! Encodes Prometheus' text format, version 0.0.4.

use std::fmt::Write;

/// The content type of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The name, type and help text of a metric.
#[derive(Debug)]
pub struct Family {
    /// The name, without labels.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The help text, in one line.
    pub help: &'static str,
}

/// Declares families whose names begin with a prefix, and `FAMILIES`, the list of all of them.
macro_rules! families {
    ($prefix:literal; $($id:ident = $kind:literal $name:literal: $help:literal;)+) => {
        $(const $id: Family = Family {
            name: concat!($prefix, $name),
            kind: $kind,
            help: $help,
        };)+

        /// All families that are declared here.
        pub const FAMILIES: &[&Family] = &[$(&$id),+];
    };
}

/// Labels as a page has them, between the braces.
#[derive(Clone, Debug, Default)]
pub(super) struct Labels(String);

impl<'a> FromIterator<(&'a str, &'a str)> for Labels {
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a str)>>(labels: T) -> Self {
        let mut all = Self::default();
        for (key, value) in labels {
            all.push(key, value);
        }
        all
    }
}

impl Labels {
    fn push(&mut self, key: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(key);
        self.0.push_str("=\"");
        for letter in value.chars() {
            match escaped(letter) {
                Some(escaped) => self.0.push_str(escaped),
                None => self.0.push(letter),
            }
        }
        self.0.push('"');
    }
}

/// How a letter is written in the value of a label, if not as itself.
fn escaped(letter: char) -> Option<&'static str> {
    match letter {
        '\\' => Some("\\\\"),
        '"' => Some("\\\""),
        '\n' => Some("\\n"),
        _ => None,
    }
}

/// A page that is being written.
#[derive(Debug, Default)]
pub struct Encoder {
    page: String,
    /// The labels of a sample, kept for its memory.
    labels: Labels,
}

impl Encoder {
    /// Begins a family. Its samples follow.
    pub fn family(&mut self, family: &Family) {
        let Family { name, kind, help } = family;
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// Adds a sample to the family that has begun.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.sample_of(name, &Labels::default(), labels, value);
    }

    /// Adds a sample whose labels begin with `first`.
    pub(super) fn sample_of(
        &mut self,
        name: &str,
        first: &Labels,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let mut all = std::mem::take(&mut self.labels);
        all.0.clone_from(&first.0);
        for (key, text) in labels {
            all.push(key, text);
        }
        match all.0.as_str() {
            "" => self.write(format_args!("{name} {value}\n")),
            labels => self.write(format_args!("{name}{{{labels}}} {value}\n")),
        }
        self.labels = all;
    }

    /// Adds a family with one sample and without labels.
    pub fn single(&mut self, family: &Family, value: f64) {
        self.family(family);
        self.sample(family.name, &[], value);
    }

    /// Adds a histogram. `counts` has one number for each of `bounds`, of the values between this bound and the one
    /// before, and one more for the values above all bounds. `sum` is the sum of all values.
    pub fn histogram(
        &mut self,
        family: &Family,
        bounds: &[f64],
        counts: impl IntoIterator<Item = u64>,
        sum: f64,
    ) {
        self.family(family);
        let bucket = format!("{}_bucket", family.name);
        let bounds = bounds.iter().map(ToString::to_string);
        let mut seen = 0;
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(counts) {
            seen += count;
            self.sample(&bucket, &[("le", &bound)], seen as f64);
        }
        self.sample(&format!("{}_sum", family.name), &[], sum);
        self.sample(&format!("{}_count", family.name), &[], seen as f64);
    }

    /// The page's text.
    pub fn finish(self) -> String {
        self.page
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        let _ = self.page.write_fmt(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Family = Family {
        name: "took_seconds",
        kind: "histogram",
        help: "Time.",
    };

    #[test]
    fn a_histogram_counts_what_lies_below_each_bound() {
        let mut page = Encoder::default();
        page.histogram(&TOOK, &[0.5, 1.0], [1, 0, 2], 7.25);
        let expected = "\
# HELP took_seconds Time.
# TYPE took_seconds histogram
took_seconds_bucket{le=\"0.5\"} 1
took_seconds_bucket{le=\"1\"} 1
took_seconds_bucket{le=\"+Inf\"} 3
took_seconds_sum 7.25
took_seconds_count 3
";
        assert_eq!(page.finish(), expected);
    }

    #[test]
    fn what_would_end_a_label_is_escaped() {
        let mut page = Encoder::default();
        page.sample("x", &[("a", "\"\\\n"), ("b", "")], 1.0);
        assert_eq!(page.finish(), "x{a=\"\\\"\\\\\\n\",b=\"\"} 1\n");
    }
}
