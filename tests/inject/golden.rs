//! The golden files, and the runs of the program that are compared with them.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// The kind of a golden file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    In,
    Unchanged,
    Refused,
}

/// An input file, with the flags that it asks for.
#[derive(Clone, Debug)]
pub(crate) struct Golden {
    pub(crate) name: String,
    pub(crate) args: Vec<String>,
    pub(crate) says: Option<String>,
    pub(crate) text: String,
    path: PathBuf,
}

/// The result of `inject`.
pub(crate) struct Done {
    pub(crate) status: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Golden {
    /// The path of the expected output.
    pub(crate) fn output(&self) -> PathBuf {
        let path = self.path.to_str().unwrap();
        PathBuf::from(path.replace(".in.", ".out."))
    }
}

/// All files of a kind.
pub(crate) fn all(kind: Kind) -> Vec<Golden> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inject/golden");
    let word = match kind {
        Kind::In => ".in.",
        Kind::Unchanged => ".unchanged.",
        Kind::Refused => ".refused.",
    };
    let mut found: Vec<Golden> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().contains(word))
        .map(|path| read(path, word))
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

fn read(path: PathBuf, word: &str) -> Golden {
    let file = path.file_name().unwrap().to_str().unwrap();
    let (name, _) = file.split_once(word).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let first = text.lines().next().unwrap_or_default();
    let beside = fs::read_to_string(path.with_file_name(format!("{name}.args"))).ok();
    let args = first.strip_prefix("# args: ").map(str::to_owned).or(beside);
    Golden {
        name: name.to_owned(),
        args: args
            .iter()
            .flat_map(|args| args.split_whitespace())
            .map(str::to_owned)
            .collect(),
        says: first.strip_prefix("# says: ").map(str::to_owned),
        text: text.clone(),
        path,
    }
}

/// Runs `inject` on `input`.
pub(crate) fn inject(args: &[String], input: &[u8]) -> Done {
    let mut child = Command::new(env!("CARGO_BIN_EXE_wechat-sidecar"))
        .args(["inject", "-f", "-"])
        .args(args)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The command reads all of it before it writes anything.
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    Done {
        status: output.status.success(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// All documents of a stream.
pub(crate) fn documents(text: &str) -> Value {
    let text = text.trim_start_matches('\u{feff}');
    let json: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text)
        .into_iter()
        .collect();
    if let Ok(values) = json {
        return Value::Array(values);
    }
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    Value::Array(serde_saphyr::from_multiple_with_options(text, options).unwrap())
}
