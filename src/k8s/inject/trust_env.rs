//! The variables by which clients trust the sidecar's CA.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    ca::clients,
    settings::parse::{self, ParseError},
};

/// Where the files are that apps trust. It is the same path in all containers, because some of the files name others.
pub(super) const TRUST_FOLDER: &str = "/run/wechat-sidecar/trust";

/// The JDK reads its options from here, and appends them to those of the command line.
pub(super) const JAVA: &str = "JAVA_TOOL_OPTIONS";

const REQUESTS: &str = "REQUESTS_CA_BUNDLE";
const CURL: &str = "CURL_CA_BUNDLE";

/// The beginning of the options of the JDK that replace its roots: the store, its type and its password.
pub(super) const TRUST_STORE: &str = "-Djavax.net.ssl.trustStore";

/// Clients that take the sidecar's root only in place of all others.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TrustEnv {
    /// Requests of Python, and what reads the variable of curl.
    Requests,
    /// The JDK.
    Java,
    /// wget.
    Wget,
    /// LWP of Perl.
    Perl,
}

/// Parses a list of clients.
pub(super) fn parse(text: &str) -> Result<Vec<TrustEnv>, ParseError> {
    let every = vec![
        TrustEnv::Requests,
        TrustEnv::Java,
        TrustEnv::Wget,
        TrustEnv::Perl,
    ];
    let choices = [
        ("requests", vec![TrustEnv::Requests]),
        ("java", vec![TrustEnv::Java]),
        ("wget", vec![TrustEnv::Wget]),
        ("perl", vec![TrustEnv::Perl]),
        ("all", every),
    ];
    let names = text.split(',').map(str::trim);
    let chosen: Result<Vec<_>, _> = names.map(parse::one_of(&choices)).collect();
    let mut chosen = chosen?.concat();
    chosen.sort();
    chosen.dedup();
    Ok(chosen)
}

/// The variables that a container gets, with their values: those that add a root, or lose the fewest, and those of
/// the clients in `chosen`, whose roots they replace.
pub(super) fn variables(chosen: &[TrustEnv]) -> Vec<(&'static str, String)> {
    let mut names = vec!["NODE_EXTRA_CA_CERTS", "SSL_CERT_DIR", "PHP_INI_SCAN_DIR"];
    for client in chosen {
        match client {
            TrustEnv::Requests => names.extend([REQUESTS, CURL]),
            TrustEnv::Java => names.push(JAVA),
            TrustEnv::Wget => names.push("WGETRC"),
            TrustEnv::Perl => names.push("PERL_LWP_SSL_CA_FILE"),
        }
    }
    names.into_iter().map(|name| (name, value(name))).collect()
}

pub(super) fn java_option() -> String {
    value(JAVA)
}

fn value(name: &str) -> String {
    // Requests reads either of them.
    let known = if name == CURL { REQUESTS } else { name };
    let mut all = clients::VARIABLES.iter();
    let variable = all.find(|variable| variable.name == known);
    variable.map_or_else(String::new, |variable| {
        variable.value(Path::new(TRUST_FOLDER))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_named_once_and_all_means_all() {
        assert_eq!(
            parse("wget , requests,wget").unwrap(),
            [TrustEnv::Requests, TrustEnv::Wget]
        );
        assert_eq!(parse("java,all"), parse("all"));
        assert_eq!(parse("all").unwrap().len(), 4);
        for bad in ["", "java,", "node", "Java", "none"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_variable_is_one_that_the_local_ca_knows() {
        let all = variables(&parse("all").unwrap());
        assert_eq!(all.len(), 8);
        for (name, value) in all {
            assert!(value.contains(TRUST_FOLDER), "{name}={value}");
        }
        assert!(java_option().starts_with(TRUST_STORE));
    }
}
