//! `ca`: the root of the local CA, and the variables by which the apps of a language trust it.

use std::{fs, process::ExitCode};

use clap::{Arg, ArgMatches, Command};

use super::{failed, output::print};
use crate::{
    ca::{
        clients::{self, VARIABLES},
        root_file, trust_dir,
    },
    config::{ConfigError, Provenance, RootPlaces, Sources},
};

/// What to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaOutput {
    /// The root, in PEM.
    Root,
    /// The variables for this client.
    Variables(&'static str),
}

/// The subcommand.
pub(super) fn command() -> Command {
    let client = Arg::new("for")
        .long("for")
        .value_name("LANGUAGE")
        .help(format!(
            "Print the variables for a language instead, as lines of a shell: {}",
            clients::clients().join(", ")
        ));
    Command::new("ca")
        .about("Print the certificate that apps trust when they call WeChat's hosts by https, or their variables")
        .arg(client)
        .after_help(AFTERWORD)
}

const AFTERWORD: &str = "\
It looks into the folder of --trust-dir, or else of --ca-dir, which the sidecar has written.
It takes all other keys of the sidecar, too, and looks at none of them.

Exit codes: 0 done, 1 failed, 64 wrong usage or configuration.";

/// What a command line asks for.
pub(super) fn output(matches: &ArgMatches) -> Result<CaOutput, ConfigError> {
    let Some(name) = matches.get_one::<String>("for") else {
        return Ok(CaOutput::Root);
    };
    let mut all = clients::clients().into_iter();
    let client = all.find(|client| client == name);
    client.map(CaOutput::Variables).ok_or_else(|| {
        let all = clients::clients().join(", ");
        ConfigError::new(
            Provenance::Flag("for"),
            format!("the language is none of {all}"),
        )
    })
}

/// Prints it.
///
/// # Errors
/// If the configuration names no folder.
pub(super) fn ca(output: CaOutput, sources: &Sources) -> Result<ExitCode, ConfigError> {
    let places = RootPlaces::find(sources)?;
    let missing = |problem: &str| ConfigError::new(Provenance::Flag("trust-dir"), problem);
    match output {
        CaOutput::Variables(client) => {
            let dir = places.trust_dir.ok_or_else(|| {
                missing("the variables name files in this folder: set it as for the sidecar")
            })?;
            let variables = VARIABLES.iter();
            let variables = variables.filter(|variable| variable.client == client);
            let lines: String = variables.map(|variable| variable.export(&dir)).collect();
            Ok(print(&lines))
        }
        CaOutput::Root => {
            let trusted = places.trust_dir.map(|dir| dir.join(trust_dir::ROOT));
            let kept = places.ca_dir.map(|dir| root_file(&dir));
            let file = trusted.or(kept).ok_or_else(|| {
                missing("neither this folder nor --ca-dir is set: there is no file to print")
            })?;
            Ok(match fs::read_to_string(&file) {
                Ok(text) => print(&text),
                Err(error) => failed(&format!(
                    "{} cannot be read ({error}): has a sidecar with this configuration started?",
                    file.display()
                )),
            })
        }
    }
}
