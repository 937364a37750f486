//! A key of the configuration as a flag.

use clap::{Arg, ArgAction};

use crate::config::keys::{Key, ValueKind};

/// The flag of `key`, with its help.
pub(super) fn flag(key: &Key) -> Arg {
    let arg = Arg::new(key.name)
        .long(key.name)
        .help_heading(key.section)
        .help(match key.default_text() {
            "" => key.help.to_owned(),
            preset => format!("{} [default: {preset}]", key.help),
        });
    match key.kind {
        ValueKind::Value => arg.value_name(key.placeholder).action(ArgAction::Set),
        ValueKind::List => arg.value_name(key.placeholder).action(ArgAction::Append),
        // `--switch=false` overrides the environment and the file.
        ValueKind::Switch => arg
            .value_name("BOOL")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_default_value(true),
    }
}
