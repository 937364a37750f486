//! Which hosts a CA's certificate allows.

use x509_parser::{extensions::GeneralName, parse_x509_certificate};

/// The hosts that the certificate `der` is constrained to; `None` if it is not constrained, or no certificate.
pub(super) fn allowed(der: &[u8]) -> Option<Vec<String>> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let constraints = certificate.name_constraints().ok()??;
    let permitted = constraints.value.permitted_subtrees.as_ref()?;
    let hosts = permitted.iter().filter_map(|subtree| match subtree.base {
        GeneralName::DNSName(host) => Some(host.to_owned()),
        _ => None,
    });
    let hosts: Vec<String> = hosts.collect();
    (constraints.critical && !hosts.is_empty()).then_some(hosts)
}

/// Whether one of `allowed` is `host`, or a domain that it is in.
pub(super) fn allow(allowed: &[String], host: &str) -> bool {
    allowed.iter().any(|allowed| {
        let rest = host.strip_suffix(allowed.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constraint_allows_a_host_and_what_is_below_it() {
        let allowed = ["api.weixin.qq.com".to_owned()];
        for host in ["api.weixin.qq.com", "sh.api.weixin.qq.com"] {
            assert!(allow(&allowed, host), "{host}");
        }
        for host in [
            "weixin.qq.com",
            "xapi.weixin.qq.com",
            "api.weixin.qq.com.example",
            "",
        ] {
            assert!(!allow(&allowed, host), "{host}");
        }
    }
}
