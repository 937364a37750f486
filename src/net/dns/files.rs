//! The system's files: the addresses in /etc/hosts, and the nameservers in /etc/resolv.conf.

use std::{fs, io, net::IpAddr, path::PathBuf};

use hickory_resolver::{
    Hosts,
    proto::{
        op::Query,
        rr::{Name, RecordType},
    },
};

use super::{error::LookupError, nameservers::Nameservers};
use crate::os::host_name;

/// The port of nameservers.
const DNS_PORT: u16 = 53;

/// Where the files are.
#[derive(Clone, Debug)]
pub(super) struct SystemFiles {
    pub(super) hosts: PathBuf,
    pub(super) resolv_conf: PathBuf,
    /// The port of the nameservers.
    pub(super) port: u16,
}

/// What the files say.
#[derive(Debug)]
pub(super) struct System {
    /// The content of both.
    content: [io::Result<Vec<u8>>; 2],
    hosts: Hosts,
    pub(super) nameservers: Result<Nameservers, LookupError>,
}

impl Default for SystemFiles {
    fn default() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            port: DNS_PORT,
        }
    }
}

impl SystemFiles {
    /// The paths of both.
    pub(super) fn paths(&self) -> [PathBuf; 2] {
        [self.hosts.clone(), self.resolv_conf.clone()]
    }

    /// Reads both. A hosts file that is not there is like an empty one.
    pub(super) fn read(&self) -> System {
        let content = self.paths().map(fs::read);
        let [hosts_file, resolv_conf] = &content;
        let mut hosts = Hosts::default();
        if let Ok(text) = hosts_file {
            // The file may have a line that is not UTF-8. Its other lines count.
            let text = String::from_utf8_lossy(text);
            let _ = hosts.read_hosts_conf(text.as_bytes());
        }
        let nameservers = match resolv_conf {
            Ok(text) => nameservers(text, self.port),
            Err(error) => Nameservers::without_file(error),
        };
        System {
            hosts,
            nameservers,
            content,
        }
    }
}

/// Reads resolv.conf. Like the C library, it passes over what it does not know, and a file without nameservers means
/// the one on this machine.
fn nameservers(text: &[u8], port: u16) -> Result<Nameservers, LookupError> {
    let (mut config, mistakes) = resolv_conf::Config::parse_with_errors(text);
    for mistake in mistakes {
        tracing::debug!(%mistake, "a line of /etc/resolv.conf is passed over");
    }
    let names_some = text
        .split(|byte| *byte == b'\n')
        .any(|line| line.trim_ascii_start().starts_with(b"nameserver"));
    if !names_some {
        config
            .nameservers
            .push(resolv_conf::ScopedIp::V4([127, 0, 0, 1].into()));
    }
    let host = host_name();
    let domain = host.split_once('.');
    Nameservers::new(&config, domain.map(|(_, domain)| domain), port)
}

impl System {
    /// The addresses of `host` in the hosts file.
    pub(super) fn hosts(&self, host: &str) -> Option<Vec<IpAddr>> {
        let name = Name::from_str_relaxed(host).ok()?;
        let family = |family| {
            self.hosts
                .lookup_static_host(&Query::query(name.clone(), family))
        };
        let found = [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(family);
        let addresses: Vec<IpAddr> = found
            .flat_map(|lookup| {
                let records = lookup.answers().iter();
                records
                    .filter_map(|record| record.data.ip_addr())
                    .collect::<Vec<_>>()
            })
            .collect();
        (!addresses.is_empty()).then_some(addresses)
    }

    /// Whether `other` was read from the same files.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let same = |(one, other): (&io::Result<Vec<u8>>, &io::Result<Vec<u8>>)| match (one, other) {
            (Ok(one), Ok(other)) => one == other,
            (Err(one), Err(other)) => one.kind() == other.kind(),
            _ => false,
        };
        self.content.iter().zip(&other.content).all(same)
    }
}
