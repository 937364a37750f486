//! Until when the certificates of a host are valid.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use super::report::{Check, Finding};
use crate::net::tls::PeerCertificate;

/// A certificate that ends sooner is worth a warning.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// Of each certificate that `host` showed, with the address where it was.
pub(super) fn findings(host: &str, shown: Vec<(Option<IpAddr>, &PeerCertificate)>) -> Vec<Finding> {
    let mut distinct: Vec<(&PeerCertificate, Vec<String>)> = Vec::new();
    for (ip, certificate) in shown {
        let ip = ip.map(|ip| ip.to_string());
        match distinct.iter_mut().find(|(known, _)| *known == certificate) {
            Some((_, addresses)) => addresses.extend(ip),
            None => distinct.push((certificate, ip.into_iter().collect())),
        }
    }
    let now = SystemTime::now();
    let findings = distinct.into_iter();
    findings
        .map(|(certificate, addresses)| {
            finding(host, certificate, now).detail("addresses", addresses)
        })
        .collect()
}

fn finding(host: &str, certificate: &PeerCertificate, now: SystemTime) -> Finding {
    let PeerCertificate {
        subject,
        issuer,
        not_after,
    } = certificate;
    let left = not_after.duration_since(now).unwrap_or_default();
    let (days, until) = (left.as_secs() / 86_400, date(*not_after));
    let sentence = format!(
        "the certificate of {host} ({subject}, issued by {issuer}) is valid until {until}, for {days} days"
    );
    let finding = if left < SOON {
        Finding::warning(Check::Certificate, host, sentence)
            .advise("renew it before then: calls fail afterwards")
    } else {
        Finding::ok(Check::Certificate, host, sentence)
    };
    finding
        .detail("subject", subject.as_str())
        .detail("issuer", issuer.as_str())
        .detail("not_after", until)
        .detail("days", days)
}

fn date(time: SystemTime) -> String {
    // Its own Display fails for years after 9999.
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) if since.as_secs() < 253_402_300_800 => {
            humantime::format_rfc3339_seconds(time).to_string()
        }
        _ => "a date far away".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::report::Severity;

    #[test]
    fn a_certificate_that_ends_within_two_weeks_is_a_warning() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for (seconds, severity) in [
            (14 * 86_400, Severity::Ok),
            (14 * 86_400 - 1, Severity::Warning),
            (0, Severity::Warning),
        ] {
            let certificate = PeerCertificate {
                subject: "CN=a".to_owned(),
                issuer: "CN=b".to_owned(),
                not_after: now + Duration::from_secs(seconds),
            };
            let finding = finding("a.test", &certificate, now);
            assert_eq!(finding.severity, severity, "{finding:?}");
        }
        let far = PeerCertificate {
            subject: String::new(),
            issuer: String::new(),
            not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40),
        };
        assert!(finding("a", &far, now).sentence.contains("far away"));
    }

    #[test]
    fn a_certificate_that_all_addresses_show_is_told_once() {
        let one = PeerCertificate {
            subject: "CN=a".to_owned(),
            issuer: "CN=b".to_owned(),
            not_after: SystemTime::now() + SOON * 2,
        };
        let other = PeerCertificate {
            issuer: "CN=c".to_owned(),
            ..one.clone()
        };
        let ip = |last| Some(IpAddr::from([127, 0, 0, last]));
        let found = findings(
            "a.test",
            vec![(ip(2), &one), (ip(3), &other), (ip(4), &one)],
        );
        let addresses: Vec<_> = found.iter().map(|one| &one.details["addresses"]).collect();
        assert_eq!(addresses[0], &serde_json::json!(["127.0.0.2", "127.0.0.4"]));
        assert_eq!(addresses[1], &serde_json::json!(["127.0.0.3"]));
    }
}
