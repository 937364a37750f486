//! What the fuzzer of configuration files runs (see `fuzz/`).

use std::{fs, path::Path, sync::LazyLock};

use super::{
    error::Provenance,
    file::{admin, read},
};

/// A secret that no error may tell.
const SECRET: &str = "HUNTER2";

static PATH: LazyLock<String> = LazyLock::new(|| {
    let name = format!("wechat-sidecar-fuzz-{}.toml", std::process::id());
    std::env::temp_dir()
        .join(name)
        .to_string_lossy()
        .into_owned()
});

/// Reads `text` as a configuration file.
pub fn file(text: &str) {
    fs::write(&*PATH, text).expect("a temporary file");
    let (path, place) = (
        Path::new(&*PATH),
        Provenance::Variable("--config".to_owned()),
    );
    let errors = [read(path, &place).err(), admin(path, &place).err()];
    if text
        .lines()
        .all(|line| !line.contains(SECRET) || is_value(line))
    {
        for error in errors.into_iter().flatten() {
            assert!(!error.to_string().contains(SECRET), "{error}");
        }
    }
}

/// Whether the secret in `line` is a value, and not a key, which an error names.
fn is_value(line: &str) -> bool {
    let Some((key, value)) = line.split_once('=') else {
        return false;
    };
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_ '\"[:/@".contains(char);
    !key.contains(SECRET) && value.chars().all(is_plain)
}
