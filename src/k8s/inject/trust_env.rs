//! The variables by which clients trust the sidecar's CA.

use serde::{Deserialize, Serialize};

use crate::settings::parse::{self, ParseError};

/// Where the files are that apps trust. It is the same path in all containers, because some of the files name others.
pub(super) const TRUST_FOLDER: &str = "/run/wechat-sidecar/trust";

/// The JDK reads its options from here, and appends them to those of the command line.
pub(super) const JAVA: &str = "JAVA_TOOL_OPTIONS";

/// The option of the JDK that replaces its roots.
pub(super) const TRUST_STORE: &str = "-Djavax.net.ssl.trustStore=";

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
    let file = |name: &str| format!("{TRUST_FOLDER}/{name}");
    let mut variables = vec![
        ("NODE_EXTRA_CA_CERTS", file("ca.crt")),
        ("SSL_CERT_DIR", file("hashed:/etc/ssl/certs")),
        // The colon stands for PHP's own folder, without which its extensions are not loaded.
        ("PHP_INI_SCAN_DIR", format!(":{}", file("php"))),
    ];
    for client in chosen {
        match client {
            TrustEnv::Requests => variables.extend([
                ("REQUESTS_CA_BUNDLE", file("ca-bundle.crt")),
                ("CURL_CA_BUNDLE", file("ca-bundle.crt")),
            ]),
            TrustEnv::Java => variables.push((JAVA, java_option())),
            TrustEnv::Wget => variables.push(("WGETRC", file("wgetrc"))),
            TrustEnv::Perl => variables.push(("PERL_LWP_SSL_CA_FILE", file("ca-bundle.crt"))),
        }
    }
    variables
}

pub(super) fn java_option() -> String {
    format!("{TRUST_STORE}{TRUST_FOLDER}/truststore.jks")
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
}
