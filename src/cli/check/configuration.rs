//! The configuration: its warnings, where tokens come from, and the addresses.

use super::report::{Check, Finding};
use crate::{
    account::SourceOptions,
    config::{Config, ConfigError, is_about_an_open_file},
    token::source::wechat::TokenApi,
    wechat::api::Api,
};

/// What it says. Its warnings about files are left to the check of those.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let warnings = config.warnings.iter();
    let warnings = warnings.filter(|warning| !is_about_an_open_file(warning));
    let mut findings: Vec<Finding> = warnings
        .map(|warning| Finding::warning(Check::Configuration, "configuration", warning))
        .collect();
    for account in &config.accounts {
        let by = match (&account.source, account.token_api) {
            (SourceOptions::Wechat, _) if account.api == Api::Wecom => "WeCom's tokens",
            (SourceOptions::Wechat, TokenApi::Stable) => "the stable token API",
            (SourceOptions::Wechat, TokenApi::Classic) => "the classic token API",
            (SourceOptions::File(_), _) => "tokens from a file",
            (SourceOptions::Http(_), _) => "tokens from a server",
        };
        let names = account.names();
        let complete = format!("the configuration is complete, for {names} with {by}");
        findings.push(Finding::ok(Check::Configuration, account.id(), complete));
        if !account.listen.is_empty() {
            let sentence = format!("calls of {names} come in at {}", listed(&account.listen));
            findings.push(Finding::ok(Check::Configuration, account.id(), sentence));
        }
    }
    let (listen, admin) = (listed(&config.listen), config.admin);
    let sentence = format!("apps connect to {listen}, the admin port is {admin}");
    findings.push(Finding::ok(Check::Configuration, "configuration", sentence));
    findings
}

fn listed(addresses: &[impl ToString]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(" and ")
}

/// A configuration that cannot be used.
pub(super) fn refused(error: &ConfigError) -> Finding {
    Finding::failed(Check::Configuration, "configuration", error.to_string())
}
