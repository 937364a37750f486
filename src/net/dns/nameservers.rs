//! Asks the nameservers of /etc/resolv.conf in its order, as the C library does, but without waiting for a silent one.

use std::{
    io,
    net::IpAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::{
    future::{Either, select},
    stream::{FuturesUnordered, StreamExt},
};
use hickory_resolver::{
    TokioResolver,
    config::{
        ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig,
        ResolverOpts,
    },
    lookup::Lookup,
    net::{DnsError, NetError, NoRecords, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType},
    },
};
use tokio::time::{Duration, sleep, timeout};

use super::error::LookupError;

/// How long a nameserver may be silent before the next one is asked, too.
const NEXT_SERVER_AFTER: Duration = Duration::from_millis(400);

/// How long to wait for the second family when the first one has answered. Some networks drop one of the two.
const OTHER_FAMILY: Duration = Duration::from_secs(1);

/// The most that `timeout` and `attempts` in resolv.conf may be, as in the C library.
const MAX_TIMEOUT: u32 = 30;
const MAX_ATTEMPTS: u32 = 5;

/// The nameservers, and how to ask them.
#[derive(Debug)]
pub(super) struct Nameservers {
    servers: Vec<Nameserver>,
    /// Domains to append to a name with few dots.
    search: Vec<Name>,
    /// The number of dots from which a name is first asked for as it is.
    ndots: usize,
    no_aaaa: bool,
    /// With `rotate`, the server to ask first.
    next: Option<AtomicUsize>,
}

#[derive(Debug)]
struct Nameserver {
    ip: IpAddr,
    resolver: TokioResolver,
}

/// The addresses of a name, and for how long they are valid.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ttl: Duration,
}

/// Why a server gave no addresses.
#[derive(Debug)]
enum NoAnswer {
    /// It says that there are none.
    Negative(LookupError),
    /// It failed, or does not answer. Another one may know better.
    Failed(String),
}

impl Nameservers {
    /// The nameservers of `config`. They listen on `port`. `domain` is that of this machine.
    pub(super) fn new(
        config: &resolv_conf::Config,
        domain: Option<&str>,
        port: u16,
    ) -> Result<Self, LookupError> {
        let servers: Vec<_> = config
            .nameservers
            .iter()
            .filter_map(|ip| Nameserver::new(ip.into(), port, config))
            .collect();
        if servers.is_empty() {
            return Err(LookupError::NoNameserver);
        }
        let mut search: Vec<&str> = config
            .get_last_search_or_domain()
            .map(String::as_str)
            .collect();
        if config.get_search().is_none() && config.get_domain().is_none() {
            search.extend(domain);
        }
        Ok(Self {
            servers,
            search: search
                .into_iter()
                .filter_map(|domain| Name::from_str_relaxed(domain).ok())
                .collect(),
            ndots: config.ndots as usize,
            no_aaaa: config.no_aaaa,
            next: config.rotate.then(AtomicUsize::default),
        })
    }

    /// Without resolv.conf, which could not be read, there are none.
    pub(super) fn without_file(error: &io::Error) -> Result<Self, LookupError> {
        Err(LookupError::Unreadable(Arc::new(error.kind().into())))
    }

    /// Looks `host` up. A positive answer counts at once. A negative one counts when no server before it in the list
    /// may still say something else: some know names that the others do not.
    pub(super) async fn look_up(&self, host: &str) -> Result<Answer, LookupError> {
        let names = self.names(host).ok_or(LookupError::Invalid)?;
        let mut waiting = self.in_order().enumerate();
        let mut asked = FuturesUnordered::new();
        let mut replies: Vec<Option<NoAnswer>> = Vec::new();
        loop {
            let more = match waiting.next() {
                Some((at, server)) => {
                    let names = &names;
                    asked.push(async move { (at, server.ask(names, self.no_aaaa).await) });
                    replies.push(None);
                    replies.len() < self.servers.len()
                }
                None => false,
            };
            tokio::select! {
                reply = asked.next() => match reply {
                    Some((_, Ok(answer))) => return Ok(answer),
                    Some((at, Err(reply))) => replies[at] = Some(reply),
                    None => return Err(failures(replies)),
                },
                () = sleep(NEXT_SERVER_AFTER), if more => {}
            }
            if let Some(error) = settled(&replies) {
                return Err(error);
            }
        }
    }

    /// The names to ask for, in this order. `None` if `host` cannot be a name.
    fn names(&self, host: &str) -> Option<Vec<Name>> {
        let name = Name::from_str_relaxed(host).ok()?;
        if name.is_fqdn() {
            return Some(vec![name]);
        }
        let mut absolute = name.clone();
        absolute.set_fqdn(true);
        let searched = |domain: &Name| name.clone().append_domain(domain).ok();
        let mut names: Vec<Name> = self.search.iter().filter_map(searched).collect();
        names.retain(|name| *name != absolute);
        let few_dots = host.matches('.').count() < self.ndots;
        let at = if few_dots { names.len() } else { 0 };
        names.insert(at, absolute);
        Some(names)
    }

    fn in_order(&self) -> impl Iterator<Item = &Nameserver> {
        let next = self.next.as_ref();
        let start = next.map_or(0, |next| next.fetch_add(1, Ordering::Relaxed));
        let count = self.servers.len();
        (0..count).map(move |at| &self.servers[start.wrapping_add(at) % count])
    }
}

/// The negative answer that counts: that of the first server that did not fail.
fn settled(replies: &[Option<NoAnswer>]) -> Option<LookupError> {
    for reply in replies {
        match reply {
            Some(NoAnswer::Failed(_)) => {}
            Some(NoAnswer::Negative(error)) => return Some(error.clone()),
            None => return None,
        }
    }
    None
}

/// What is said when all servers have failed.
fn failures(replies: Vec<Option<NoAnswer>>) -> LookupError {
    let failures = replies.into_iter().filter_map(|reply| match reply {
        Some(NoAnswer::Failed(failure)) => Some(failure),
        _ => None,
    });
    LookupError::Failed(failures.collect::<Vec<_>>().join("; "))
}

impl Nameserver {
    fn new(ip: IpAddr, port: u16, config: &resolv_conf::Config) -> Option<Self> {
        let protocols: &[ProtocolConfig] = match config.use_vc {
            true => &[ProtocolConfig::Tcp],
            false => &[ProtocolConfig::Udp, ProtocolConfig::Tcp],
        };
        let connections = protocols.iter().map(|protocol| {
            let mut connection = ConnectionConfig::new(protocol.clone());
            connection.port = port;
            connection
        });
        let server = NameServerConfig::new(ip, true, connections.collect());
        let mut options = ResolverOpts::default();
        options.timeout = Duration::from_secs(config.timeout.clamp(1, MAX_TIMEOUT).into());
        // Here it is the number of attempts after the first one.
        options.attempts = config.attempts.clamp(1, MAX_ATTEMPTS) as usize - 1;
        options.edns0 = config.edns0;
        // The resolver above this one knows the hosts file and has a cache.
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let provider = TokioRuntimeProvider::default();
        let builder = TokioResolver::builder_with_config(config, provider).with_options(options);
        let resolver = builder.build().ok()?;
        Some(Self { ip, resolver })
    }

    /// Asks for one name after the other until one has addresses.
    async fn ask(&self, names: &[Name], no_aaaa: bool) -> Result<Answer, NoAnswer> {
        let mut no_answer = None;
        for name in names {
            match self.addresses(name, no_aaaa).await {
                Ok(answer) => return Ok(answer),
                // A failure says more: the name may have had addresses.
                Err(reply) => match no_answer {
                    Some(NoAnswer::Failed(_)) => {}
                    _ => no_answer = Some(reply),
                },
            }
        }
        Err(no_answer.unwrap_or(NoAnswer::Negative(LookupError::Invalid)))
    }

    /// The addresses of both families.
    async fn addresses(&self, name: &Name, no_aaaa: bool) -> Result<Answer, NoAnswer> {
        let v4 = pin!(self.family(name, RecordType::A));
        if no_aaaa {
            return v4.await;
        }
        let v6 = pin!(self.family(name, RecordType::AAAA));
        let (first, other) = match select(v4, v6).await {
            Either::Left((first, other)) => (first, Either::Left(other)),
            Either::Right((first, other)) => (first, Either::Right(other)),
        };
        let Ok(mut answer) = first else {
            return match (other.await, first) {
                // The name exists if one family says so.
                (Err(NoAnswer::Negative(_)), Err(first)) => Err(first),
                (other, _) => other,
            };
        };
        match timeout(OTHER_FAMILY, other).await {
            Ok(Ok(other)) => {
                answer.addresses.extend(other.addresses);
                answer.ttl = answer.ttl.min(other.ttl);
            }
            Ok(Err(_)) => {}
            // It is asked for again soon.
            Err(_) => answer.ttl = Duration::ZERO,
        }
        Ok(answer)
    }

    async fn family(&self, name: &Name, family: RecordType) -> Result<Answer, NoAnswer> {
        let lookup = self.resolver.lookup(name.clone(), family).await;
        match lookup.map(|lookup| Answer::of(&lookup)) {
            Ok(answer) if answer.addresses.is_empty() => {
                let error = LookupError::NoAddress(self.ip.to_string());
                Err(NoAnswer::Negative(error))
            }
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.no_answer(&error)),
        }
    }

    fn no_answer(&self, error: &NetError) -> NoAnswer {
        let ip = self.ip.to_string();
        match error {
            NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. })) => {
                NoAnswer::Negative(match response_code {
                    ResponseCode::NXDomain => LookupError::NotFound(ip),
                    _ => LookupError::NoAddress(ip),
                })
            }
            NetError::Timeout => NoAnswer::Failed(format!("{ip} does not answer")),
            error => NoAnswer::Failed(format!("{ip}: {error}")),
        }
    }
}

impl Answer {
    fn of(lookup: &Lookup) -> Self {
        let records = lookup.answers();
        let address = |data: &RData| match data {
            RData::A(ip) => Some(IpAddr::from(ip.0)),
            RData::AAAA(ip) => Some(IpAddr::from(ip.0)),
            _ => None,
        };
        // That of an alias counts, too.
        let ttl = records.iter().map(|record| record.ttl).min();
        Self {
            addresses: records
                .iter()
                .filter_map(|record| address(&record.data))
                .collect(),
            ttl: Duration::from_secs(ttl.unwrap_or_default().into()),
        }
    }
}
