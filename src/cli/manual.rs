//! `completions` and `man`: what a shell and a person need of the command line, out of its own definition.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Arg, ArgMatches, Command};
use clap_complete::aot::{Bash, Fish, Zsh, generate};
use clap_mangen::Man;

use super::{failed, output::print};

/// A shell with completions. The library knows two more, which would take room in the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompletedShell {
    /// The usual one of Linux.
    Bash,
    /// The usual one of macOS.
    Zsh,
    /// Fish.
    Fish,
}

/// The pages to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pages {
    /// That of the whole program.
    Whole,
    /// That of a subcommand.
    Of(String),
    /// All of them, into a folder.
    Into(PathBuf),
}

/// Why nothing is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManualError {
    /// There are no completions for this shell.
    #[error("completions: the shell is none of bash, zsh and fish")]
    NoShell,
    /// There is no such subcommand.
    #[error("man: there is no such subcommand; see wechat-sidecar help")]
    NoSubcommand,
}

/// The subcommands.
pub(super) fn subcommands() -> [Command; 2] {
    let completions = Command::new("completions")
        .about("Print the completions of a shell: bash, zsh or fish")
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .help("The shell: bash, zsh or fish"),
        );
    let man = Command::new("man")
        .about("Print the man page of the program or of a subcommand, or write all of them")
        .arg(
            Arg::new("subcommand")
                .value_name("SUBCOMMAND")
                .help("The subcommand whose page is printed"),
        )
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("DIR")
                .conflicts_with("subcommand")
                .help("The folder to write all pages to, such as /usr/local/share/man/man1; it is made if it is missing"),
        );
    [completions, man]
}

/// The shell whose completions are asked for.
pub(super) fn shell(matches: &ArgMatches) -> Result<CompletedShell, ManualError> {
    match matches.get_one::<String>("shell").map(String::as_str) {
        Some("bash") => Ok(CompletedShell::Bash),
        Some("zsh") => Ok(CompletedShell::Zsh),
        Some("fish") => Ok(CompletedShell::Fish),
        _ => Err(ManualError::NoShell),
    }
}

/// The pages of `whole` that are asked for.
pub(super) fn pages(matches: &ArgMatches, whole: &Command) -> Result<Pages, ManualError> {
    if let Some(folder) = matches.get_one::<String>("dir") {
        return Ok(Pages::Into(PathBuf::from(folder)));
    }
    match matches.get_one::<String>("subcommand") {
        None => Ok(Pages::Whole),
        Some(name) if whole.find_subcommand(name).is_some() => Ok(Pages::Of(name.clone())),
        Some(_) => Err(ManualError::NoSubcommand),
    }
}

/// Prints the completions of `shell` for `whole`.
pub(super) fn completions(mut whole: Command, shell: CompletedShell) -> ExitCode {
    let (name, mut script) = (whole.get_name().to_owned(), Vec::new());
    match shell {
        CompletedShell::Bash => generate(Bash, &mut whole, name, &mut script),
        CompletedShell::Zsh => generate(Zsh, &mut whole, name, &mut script),
        CompletedShell::Fish => generate(Fish, &mut whole, name, &mut script),
    }
    let script = String::from_utf8_lossy(&script);
    // The library spells a program's hyphen in two ways in bash, so that no flag of a subcommand would be completed:
    // https://github.com/clap-rs/clap/issues/6421
    print(&script.replace("wechat__subcmd__sidecar", "wechat__sidecar"))
}

/// Prints a page of `whole`, or writes all.
pub(super) fn man(whole: Command, pages: &Pages) -> ExitCode {
    // Built, it knows the full name of each subcommand.
    let mut whole = whole.disable_help_subcommand(true);
    whole.build();
    let made = match pages {
        Pages::Whole => rendered(&whole).map(|page| print(&page)),
        Pages::Of(name) => {
            let command = whole.find_subcommand(name).unwrap_or(&whole);
            rendered(command).map(|page| print(&page))
        }
        Pages::Into(folder) => write_all(&whole, folder).map(|()| ExitCode::SUCCESS),
    };
    made.unwrap_or_else(|error| failed(&format!("man: {error}")))
}

fn write_all(whole: &Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for command in whole.get_subcommands().chain([whole]) {
        let name = page(command).get_filename();
        fs::write(folder.join(name), rendered(command)?)?;
    }
    Ok(())
}

fn page(command: &Command) -> Man {
    // An empty date would let the words behind it move up, and one of the build would change the page with each.
    Man::new(command.clone())
        .date(" ")
        .source(format!("wechat-sidecar {}", crate::VERSION))
        .manual("wechat-sidecar")
}

fn rendered(command: &Command) -> io::Result<String> {
    let mut bytes = Vec::new();
    page(command).render(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
