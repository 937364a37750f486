//! Adds sidecars to the workloads in files, or removes them, without a cluster.

use std::{
    fs, io,
    io::{Read, Write},
    process::ExitCode,
};

use super::{
    Injector,
    stream::{self, Direction, StreamError},
};

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The paths of the files; `-` is the standard input.
    pub files: Vec<String>,
    /// Whether to add or to remove.
    pub direction: Direction,
    /// The options of injection.
    pub injector: Injector,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
enum InjectError {
    /// A file cannot be read.
    #[error("{file}: {error}")]
    Read {
        file: String,
        #[source]
        error: io::Error,
    },
    /// A file is binary.
    #[error("{0}: it is not UTF-8")]
    NotUtf8(String),
    /// The files have a mistake.
    #[error("{name}: {error}")]
    Stream {
        name: String,
        #[source]
        error: StreamError,
    },
}

/// Writes all files to stdout as one stream, and what was done to stderr. If any of them has a mistake, nothing is
/// written to stdout, because half a stream might be applied.
pub fn inject(options: &Options) -> ExitCode {
    match injected(options) {
        Ok((text, report)) => {
            for line in report {
                complain(&line);
            }
            let written = io::stdout().write_all(text.as_bytes());
            match written.and_then(|()| io::stdout().flush()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    complain(&format!("stdout: {error}"));
                    ExitCode::FAILURE
                }
            }
        }
        Err(error) => {
            complain(&error.to_string());
            complain("nothing was written");
            ExitCode::FAILURE
        }
    }
}

fn injected(options: &Options) -> Result<(String, Vec<String>), InjectError> {
    // Namespace objects in one file apply to workloads in another.
    let mut whole = String::new();
    for file in &options.files {
        let text = read(file)?;
        if !whole.is_empty() && !text.trim_start_matches('\u{feff}').starts_with("---") {
            whole.push_str(if whole.ends_with('\n') {
                "---\n"
            } else {
                "\n---\n"
            });
        } else if !whole.is_empty() && !whole.ends_with('\n') {
            whole.push('\n');
        }
        whole.push_str(text.strip_prefix('\u{feff}').unwrap_or(&text));
    }
    let name = match options.files.as_slice() {
        [one] if one == "-" => "stdin",
        [one] => one,
        _ => "the files together",
    };
    let done = stream::transform(&options.injector, &whole, options.direction);
    let done = done.map_err(|error| InjectError::Stream {
        name: name.to_owned(),
        error,
    })?;
    Ok((done.text, done.report))
}

fn read(file: &str) -> Result<String, InjectError> {
    let mut bytes = Vec::new();
    let read = match file {
        "-" => io::stdin().lock().read_to_end(&mut bytes),
        path => fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)),
    };
    let named = || file.to_owned();
    read.map_err(|error| InjectError::Read {
        file: named(),
        error,
    })?;
    String::from_utf8(bytes).map_err(|_| InjectError::NotUtf8(named()))
}

/// Prints a line on stderr. A failed write does not matter.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
