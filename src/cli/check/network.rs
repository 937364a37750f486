//! The hosts that are used: their addresses, and how long a connection to each takes.

use std::net::IpAddr;

use futures_util::{
    future::join_all,
    stream::{self, StreamExt},
};
use tokio::time::{Duration, Instant, timeout_at};

use super::{
    certificate,
    report::{Check, Finding},
};
use crate::{
    config::Config,
    net::{
        connector::ConnectOptions,
        dns::{LookupError, Resolver},
        egress::Egress,
        inspect::{InspectError, InspectedHost, Inspection},
        origin::Origin,
        tls::TlsRoots,
    },
};

/// How many groups of hosts are looked at at once.
const AT_ONCE: usize = 16;

/// Hosts of which one must work, in the order in which they are tried.
#[derive(Debug)]
struct HostGroup {
    /// What they are, if not WeChat's.
    what: Option<&'static str>,
    hosts: Vec<InspectedHost>,
    dns: Resolver,
    egress: Option<Egress>,
}

/// What was seen of a host.
#[derive(Debug)]
struct SeenHost {
    what: Option<&'static str>,
    origin: Origin,
    /// The look-up of its name, and how long it took; `None` if the proxy does that.
    lookup: Option<(Result<Vec<IpAddr>, LookupError>, Duration)>,
    /// The proxy, if there is one.
    through: Option<Egress>,
    /// Its addresses; one without an address is the proxy's matter.
    addresses: Vec<SeenAddress>,
}

type SeenAddress = (Option<IpAddr>, Result<Inspection, InspectError>);

/// Connects to every address of every host. There is no later answer than at `deadline`.
pub(super) async fn findings(config: &Config, deadline: Instant) -> Vec<Finding> {
    let looks = groups(config).into_iter().map(|group| async move {
        let seen = group.look(deadline).await;
        told(&seen)
    });
    let told: Vec<Vec<Finding>> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    told.into_iter().flatten().collect()
}

fn groups(config: &Config) -> Vec<HostGroup> {
    let mut upstreams: Vec<&ConnectOptions> = Vec::new();
    for account in &config.accounts {
        let own = account.upstream.as_deref().unwrap_or(&config.connect);
        if !upstreams.iter().any(|known| known.same_target(own)) {
            upstreams.push(own);
        }
    }
    let proxy = upstreams.iter().find_map(|options| options.egress.as_ref());
    let proxy = proxy.map(|egress| {
        let (host, port) = (&egress.host, egress.port);
        nearby(config, "the egress proxy", (host, port), None)
    });
    let store = config.store.as_ref().map(|store| {
        let (host, port) = (&store.host, store.port);
        nearby(config, "the store", (host, port), store.tls.clone())
    });
    let upstreams = upstreams.into_iter().map(of_upstream);
    upstreams.chain(proxy).chain(store).collect()
}

/// A server other than WeChat's.
fn nearby(
    config: &Config,
    what: &'static str,
    (host, port): (&str, u16),
    tls: Option<TlsRoots>,
) -> HostGroup {
    let origin = Origin {
        tls: tls.is_some(),
        host: host.to_owned(),
        port,
        prefix: String::new(),
    };
    HostGroup {
        what: Some(what),
        hosts: vec![InspectedHost {
            origin,
            tls,
            limit: config.connect.connect_timeout,
        }],
        dns: config.connect.dns.nearby(),
        egress: None,
    }
}

fn of_upstream(options: &ConnectOptions) -> HostGroup {
    let hosts = options.origins.iter().map(|origin| InspectedHost {
        origin: origin.clone(),
        tls: origin.tls.then(|| options.tls.clone()),
        limit: options.connect_timeout,
    });
    HostGroup {
        what: None,
        hosts: hosts.collect(),
        dns: options.dns.clone(),
        egress: options.egress.clone(),
    }
}

impl HostGroup {
    async fn look(&self, deadline: Instant) -> Vec<SeenHost> {
        join_all(self.hosts.iter().map(|host| self.look_at(host, deadline))).await
    }

    async fn look_at(&self, host: &InspectedHost, deadline: Instant) -> SeenHost {
        let origin = host.origin.clone();
        let started = Instant::now();
        let (name, dns) = match &self.egress {
            Some(egress) => (&egress.host, self.dns.nearby()),
            None => (&origin.host, self.dns.clone()),
        };
        let found = timeout_at(deadline, dns.resolve(name)).await;
        let found = found.unwrap_or(Err(LookupError::TimedOut(started.elapsed())));
        let took = started.elapsed();
        let host = InspectedHost {
            limit: host
                .limit
                .min(deadline.saturating_duration_since(Instant::now())),
            ..host.clone()
        };
        let addresses = match (&found, &self.egress) {
            (Ok(found), Some(egress)) => {
                vec![(None, host.inspect_through(egress, found, &dns).await)]
            }
            (Ok(found), None) => {
                let each = found
                    .iter()
                    .map(|ip| async { (Some(*ip), host.inspect(*ip).await) });
                join_all(each).await
            }
            (Err(_), _) => Vec::new(),
        };
        // The proxy's own name is looked up as that of another host.
        let lookup = self.egress.is_none().then_some((found, took));
        SeenHost {
            what: self.what,
            origin,
            lookup,
            through: self.egress.clone(),
            addresses,
        }
    }
}

/// What there is to say of the hosts of one group.
fn told(seen: &[SeenHost]) -> Vec<Finding> {
    let one_works = seen.iter().any(SeenHost::works);
    seen.iter().flat_map(|host| host.told(one_works)).collect()
}

impl SeenHost {
    fn works(&self) -> bool {
        self.addresses.iter().any(|(_, seen)| seen.is_ok())
    }

    /// It with its port, and with the address or the proxy where it was met.
    fn name(&self, ip: Option<IpAddr>) -> String {
        let name = match self.what {
            Some(what) => format!("{what} {}:{}", self.origin.host, self.origin.port),
            None => self.origin.to_string(),
        };
        match (ip, &self.through) {
            (Some(ip), _) if ip.to_string() != self.origin.host => format!("{name} at {ip}"),
            (None, Some(egress)) => format!("{name} through the egress proxy {egress}"),
            _ => name,
        }
    }

    /// What there is to say of it. `one_works` is whether it, or a host that stands in for it, can be used.
    fn told(&self, one_works: bool) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self.resolved(one_works).into_iter().collect();
        for (ip, seen) in &self.addresses {
            findings.push(match seen {
                Ok(inspection) => self.connected(*ip, inspection),
                Err(error) => self.unusable(*ip, error, one_works),
            });
        }
        let shown = self.addresses.iter().filter_map(|(ip, seen)| {
            let certificate = seen
                .as_ref()
                .ok()?
                .handshake
                .as_ref()?
                .certificate
                .as_ref()?;
            Some((*ip, certificate))
        });
        findings.extend(certificate::findings(&self.origin.host, shown.collect()));
        findings
    }

    /// The look-up of its name; nothing of an address, which has none.
    fn resolved(&self, one_works: bool) -> Option<Finding> {
        let (lookup, took) = self.lookup.as_ref()?;
        let host = &self.origin.host;
        let finding = match lookup {
            _ if host.parse::<IpAddr>().is_ok() => return None,
            Ok(found) => {
                let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                let (at, took) = (found.join(", "), millis(*took));
                let sentence = format!("{host} is at {at}, found in {took} ms");
                Finding::ok(Check::Dns, host, sentence).detail("addresses", found)
            }
            Err(error) => {
                let sentence = format!("the name {host} cannot be resolved: {error}");
                failure(one_works, Check::Dns, host, sentence).advise(
                    "look at the nameservers in /etc/resolv.conf, and at a firewall or NetworkPolicy that may forbid DNS",
                )
            }
        };
        Some(finding.detail("milliseconds", millis(*took)))
    }

    fn connected(&self, ip: Option<IpAddr>, inspection: &Inspection) -> Finding {
        let connect = millis(inspection.connect);
        let name = self.name(ip);
        let finding = match &inspection.handshake {
            None => {
                let sentence = format!("{name} is connected in {connect} ms");
                Finding::ok(Check::Connect, &self.origin.host, sentence)
            }
            Some(handshake) => {
                let took = millis(handshake.took);
                let sentence =
                    format!("{name} is connected in {connect} ms, with TLS in {took} ms");
                Finding::ok(Check::Tls, &self.origin.host, sentence).detail("tls_ms", took)
            }
        };
        self.with_address(ip, finding).detail("connect_ms", connect)
    }

    fn unusable(&self, ip: Option<IpAddr>, error: &InspectError, one_works: bool) -> Finding {
        let (host, sentence) = (&self.origin.host, format!("{}: {error}", self.name(ip)));
        let is_usual =
            host == "localhost" || ip.is_some_and(|ip| ip.is_ipv6()) && error.has_no_route();
        let finding = match error {
            // Whoever meets this address goes nowhere else.
            InspectError::Tls(_) => Finding::failed(Check::Tls, host, sentence),
            // A machine with one family of addresses only, as most are.
            _ if is_usual && self.works() => Finding::ok(
                Check::Connect,
                host,
                format!("{sentence}; another address is used"),
            ),
            _ => {
                let finding = failure(one_works, Check::Connect, host, sentence);
                let finding = match error.advice() {
                    Some(advice) => finding.advise(advice),
                    None => finding,
                };
                match one_works {
                    true => finding.detail("other_works", true),
                    false => finding,
                }
            }
        };
        self.with_address(ip, finding)
    }

    fn with_address(&self, ip: Option<IpAddr>, finding: Finding) -> Finding {
        let finding = finding.detail("port", self.origin.port);
        match ip {
            Some(ip) => finding.detail("address", ip.to_string()),
            None => finding,
        }
    }
}

/// A failure, which is a warning if something else works instead.
fn failure(one_works: bool, check: Check, subject: &str, sentence: String) -> Finding {
    match one_works {
        true => Finding::warning(check, subject, sentence),
        false => Finding::failed(check, subject, sentence),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
