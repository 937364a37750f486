//! YAML as kubectl reads it, except for mapping keys such as `on`, which kubectl reads as booleans.

use serde_json::Value;

/// Why a text cannot be read, or a document not written. It holds nothing of the text.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// The text is not YAML.
    #[error("{0}")]
    Read(String),
    /// The document has a value that YAML cannot express.
    #[error("{0}")]
    Write(#[source] serde_saphyr::ser::Error),
}

/// Lines are not wrapped.
const UNBROKEN: usize = 1 << 30;

/// Parses one document.
pub(super) fn read(text: &str) -> Result<Value, YamlError> {
    // There is no size limit, because it is the user's own file. Aliases still cannot expand without limit.
    let options = serde_saphyr::options! {
        budget: None,
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let hint = ", set DuplicateKeyPolicy in Options if acceptable";
        YamlError::Read(error.to_string().replace(hint, ""))
    })
}

/// Writes one document.
pub(crate) fn write(value: &Value) -> Result<String, YamlError> {
    let options = serde_saphyr::ser_options! {
        compact_list_indent: true,
        folded_wrap_chars: UNBROKEN,
        prefer_block_scalars: !has_leading_tab(value),
    };
    let text = serde_saphyr::to_string_with_options(value, options);
    text.map_err(YamlError::Write)
}

/// Whether a text of several lines has a line that begins with a tab. kubectl cannot read such a text as a block
/// scalar.
fn has_leading_tab(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            text.contains('\n') && text.lines().any(|line| line.starts_with('\t'))
        }
        Value::Array(items) => items.iter().any(has_leading_tab),
        Value::Object(fields) => fields.values().any(has_leading_tab),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
