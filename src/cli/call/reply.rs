//! Prints a reply: indented JSON on a terminal, and the bytes as they are into a pipe or a file.

use std::{
    env,
    fs::File,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};

use super::{pretty::indented, progress::Progress};
use crate::{
    cli::{explain, output::eprint},
    client::api::{ApiResponse, Error},
    lang::Lang,
    proxy::{Mark, STATUS_HEADER},
};

/// How much of a body is searched for an error code. A reply that fails is short.
const START: usize = 64 * 1024;

/// How much of a body is held to be indented. A longer one is printed as it comes.
const MOST_HELD: usize = 1 << 20;

/// Why a reply is not printed, or not the whole of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrintError {
    #[error("the reply broke off: {0}")]
    Broken(Error),
    #[error("{0}: {1}")]
    Write(String, #[source] io::Error),
    #[error("the reply is not text ({0}), and this is a terminal: write it to a file with -o FILE")]
    Binary(String),
}

/// Where a body goes.
enum BodyOutput {
    Terminal,
    Pipe,
    File(File, PathBuf),
}

/// Prints the reply, and says what its error code means. Fails if it has one.
pub(super) async fn print_reply(
    mut reply: ApiResponse,
    file: Option<PathBuf>,
    shows_head: bool,
    verbose: bool,
) -> Result<ExitCode, PrintError> {
    if verbose && is_replayed(&reply) {
        eprint("WeChat refused the token, so the call was sent once more with another one");
    }
    if shows_head {
        BodyOutput::Pipe.write(&head(&reply))?;
    }
    let mut output = BodyOutput::open(file)?;
    let start = match &mut output {
        BodyOutput::Terminal => show(&mut reply).await?,
        output => copy(&mut reply, Vec::new(), output).await?,
    };
    let status = reply.status();
    let lang = Lang::of_environment(|name| env::var(name).ok());
    if let Some(line) = explain::in_one_line(&start, lang) {
        eprint(&line);
    } else if status.is_client_error() || status.is_server_error() {
        eprint(&format!("call: HTTP status {status}"));
    } else {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

impl BodyOutput {
    fn open(file: Option<PathBuf>) -> Result<Self, PrintError> {
        match file {
            Some(path) => match File::create(&path) {
                Ok(file) => Ok(Self::File(file, path)),
                Err(error) => Err(PrintError::Write(path.display().to_string(), error)),
            },
            None if io::stdout().is_terminal() => Ok(Self::Terminal),
            None => Ok(Self::Pipe),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PrintError> {
        let to_stdout = |error| PrintError::Write("stdout".to_owned(), error);
        match self {
            Self::File(file, path) => file
                .write_all(bytes)
                .map_err(|error| PrintError::Write(path.display().to_string(), error)),
            Self::Terminal | Self::Pipe => {
                let mut stdout = io::stdout().lock();
                let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
                written.map_err(to_stdout)
            }
        }
    }
}

/// Writes `held` and the rest of the body. Returns its beginning.
async fn copy(
    reply: &mut ApiResponse,
    held: Vec<u8>,
    output: &mut BodyOutput,
) -> Result<Vec<u8>, PrintError> {
    let length = reply.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
    let mut progress = Progress::new("received", length);
    let is_terminal = matches!(output, BodyOutput::Terminal);
    if is_terminal {
        progress.hide();
    }
    let mut start = held;
    output.write(&start)?;
    let mut letter = begun_letter(&start).to_vec();
    start.truncate(START);
    while let Some(chunk) = next(reply).await? {
        if is_terminal {
            letter.extend_from_slice(&chunk);
            if !is_text(&letter) {
                return Err(binary(reply));
            }
            letter = begun_letter(&letter).to_vec();
        }
        output.write(&chunk)?;
        progress.advance(chunk.len() as u64);
        let more = START.saturating_sub(start.len()).min(chunk.len());
        start.extend_from_slice(&chunk[..more]);
    }
    progress.finish();
    Ok(start)
}

/// Prints the body on a terminal. Returns its beginning.
async fn show(reply: &mut ApiResponse) -> Result<Vec<u8>, PrintError> {
    let mut held = Vec::new();
    let mut is_whole = false;
    while held.len() < MOST_HELD && !is_whole {
        match next(reply).await? {
            Some(chunk) => held.extend_from_slice(&chunk),
            None => is_whole = true,
        }
    }
    if !is_text(&held) {
        return Err(binary(reply));
    }
    if !is_whole {
        return copy(reply, held, &mut BodyOutput::Terminal).await;
    }
    if let Some(pretty) = indented(&held) {
        BodyOutput::Terminal.write(format!("{pretty}\n").as_bytes())?;
    } else {
        BodyOutput::Terminal.write(&held)?;
        if !held.is_empty() && !held.ends_with(b"\n") {
            BodyOutput::Terminal.write(b"\n")?;
        }
    }
    Ok(held)
}

fn binary(reply: &ApiResponse) -> PrintError {
    let media_type = reply.headers().get(CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok());
    PrintError::Binary(media_type.unwrap_or("without a type").to_owned())
}

async fn next(reply: &mut ApiResponse) -> Result<Option<Bytes>, PrintError> {
    reply.chunk().await.map_err(PrintError::Broken)
}

/// Whether a terminal can show `bytes`, the last of which may be the beginning of a letter. Control characters could
/// do more than that.
fn is_text(bytes: &[u8]) -> bool {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_some() => return false,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    };
    let is_harmful = |letter: char| letter.is_control() && !"\t\r\n".contains(letter);
    !text.contains(is_harmful)
}

/// The beginning of a letter that `bytes` end with.
fn begun_letter(bytes: &[u8]) -> &[u8] {
    let end = &bytes[bytes.len().saturating_sub(4)..];
    let first = end.iter().rposition(|byte| *byte & 0xc0 != 0x80);
    let letter = &end[first.unwrap_or(end.len())..];
    match std::str::from_utf8(letter) {
        Ok(_) => &[],
        Err(_) => letter,
    }
}

fn is_replayed(reply: &ApiResponse) -> bool {
    let mut marks = reply.headers().get_all(STATUS_HEADER).iter();
    marks.any(|mark| mark == Mark::Replayed.word())
}

/// The status line and the headers, with the empty line behind them.
fn head(reply: &ApiResponse) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {}\r\n", reply.status()).into_bytes();
    for (name, value) in reply.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_may_end_within_a_letter_and_has_no_control_characters() {
        for text in [
            &b""[..],
            b"a\tb\r\n",
            "微信".as_bytes(),
            &"微信".as_bytes()[..4],
        ] {
            assert!(is_text(text), "{text:?}");
        }
        for binary in [
            &b"\xff\xd8\xff"[..],
            b"a\0",
            b"\x1b[2J",
            "\u{9b}2J".as_bytes(),
        ] {
            assert!(!is_text(binary), "{binary:?}");
        }
    }
}
