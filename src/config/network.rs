//! The listeners for apps, and the connection to WeChat.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use super::{
    error::ConfigError,
    keys::Id,
    neighbours::TakenAddresses,
    secrets,
    settings::{Raw, Settings},
};
use crate::{
    net::{
        connector::{ConnectOptions, Connector},
        dns::Resolver,
        egress::Egress,
        origin::{self, Origin, OriginError},
        tls::TrustFiles,
    },
    os::HAS_UNIX_SOCKETS,
    proxy::GuardOptions,
    server::ListenAddr,
    settings::parse,
};

/// The address of the admin port.
pub(super) fn admin(settings: &Settings) -> Result<SocketAddr, ConfigError> {
    settings.value(Id::Admin, parse::address)
}

/// The addresses that apps connect to. One that other machines can reach takes `--unsafe-listen`.
pub(super) fn listen(settings: &Settings) -> Result<Vec<ListenAddr>, ConfigError> {
    let addresses = settings.list(Id::Listen, address)?;
    if addresses.is_empty() {
        return Err(settings.error(
            Id::Listen,
            "at least one address is needed; for example 127.0.0.1:7080",
        ));
    }
    let admin = ListenAddr::Tcp(admin(settings)?);
    for (at, address) in addresses.iter().enumerate() {
        let mut others = addresses[..at].iter().chain([&admin]);
        if address.is_definite() && others.any(|other| other.overlaps(address)) {
            let problem = format!("{address} is taken twice, by --listen or --admin");
            return Err(settings.error(Id::Listen, &problem));
        }
    }
    stay_local(settings, &addresses, |problem| {
        settings.error(Id::Listen, problem)
    })?;
    Ok(addresses)
}

/// The addresses that apps connect to by https.
pub(super) fn tls_listen(settings: &Settings) -> Result<Vec<ListenAddr>, ConfigError> {
    let addresses = settings.list(Id::TlsListen, tls_address)?;
    let (admin, http) = (ListenAddr::Tcp(admin(settings)?), listen(settings)?);
    for (at, address) in addresses.iter().enumerate() {
        let mut others = addresses[..at].iter().chain(&http).chain([&admin]);
        if address.is_definite() && others.any(|other| other.overlaps(address)) {
            let problem = format!("{address} is taken twice, by --tls-listen, --listen or --admin");
            return Err(settings.error(Id::TlsListen, &problem));
        }
    }
    stay_local(settings, &addresses, |problem| {
        settings.error(Id::TlsListen, problem)
    })?;
    Ok(addresses)
}

/// Checks that the `addresses` of one account do not collide with the others.
pub(super) fn check_also(
    settings: &Settings,
    given: &Raw,
    addresses: &[ListenAddr],
    taken: &TakenAddresses,
) -> Result<(), ConfigError> {
    let (admin, mut common) = (ListenAddr::Tcp(admin(settings)?), listen(settings)?);
    common.extend(tls_listen(settings)?);
    for (at, address) in addresses.iter().enumerate() {
        let mut others = addresses[..at].iter().chain(&common).chain([&admin]);
        let is_taken = taken.overlap(address) || others.any(|other| other.overlaps(address));
        if address.is_definite() && is_taken {
            return Err(given
                .error("an address is taken twice, by listen, tls-listen, admin or an account"));
        }
    }
    stay_local(settings, addresses, |problem| given.error(problem))
}

/// Checks that no address can be reached from other machines, unless that is allowed.
fn stay_local(
    settings: &Settings,
    addresses: &[ListenAddr],
    error: impl Fn(&str) -> ConfigError,
) -> Result<(), ConfigError> {
    let guarded = settings.is_set(Id::CallerKeyFile) || settings.switch(Id::NoCallerKey)?;
    let missing = match (settings.switch(Id::UnsafeListen)?, guarded) {
        (true, true) => return Ok(()),
        (true, false) => "--caller-key-file FILE (or --no-caller-key)",
        (false, true) => "--unsafe-listen",
        (false, false) => "--unsafe-listen and --caller-key-file FILE (or --no-caller-key)",
    };
    match addresses.iter().find(|address| !address.is_local()) {
        None => Ok(()),
        Some(address) => {
            let problem = format!(
                "{address} can be reached from other machines, and whoever reaches it calls WeChat \
                 with your token: listen on 127.0.0.1, or add {missing}"
            );
            Err(error(&problem))
        }
    }
}

/// The options of the guard.
pub(super) fn guard(
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Result<GuardOptions, ConfigError> {
    if settings.is_set(Id::CallerKeyFile) && settings.switch(Id::NoCallerKey)? {
        return Err(settings.error(
            Id::NoCallerKey,
            "it contradicts --caller-key-file: drop one of them",
        ));
    }
    Ok(GuardOptions {
        caller_key: secrets::secret(settings, Id::CallerKeyFile, warnings)?,
        allow_hosts: settings.list(Id::AllowHost, host)?,
        allow_forwarded: settings.switch(Id::AllowForwarded)?,
    })
}

/// The options of the connection to WeChat.
pub(super) fn connect(
    settings: &Settings,
    trust: &TrustFiles,
    warnings: &mut Vec<String>,
) -> Result<ConnectOptions, ConfigError> {
    let upstream = settings.value(Id::Upstream, |text| Origin::parse(text).map_err(refusal))?;
    let fixed = settings.optional(Id::UpstreamAddress, ip)?;
    let egress = egress(settings, warnings)?;
    // Plain http never leaves this machine.
    if !upstream.tls && egress.is_some() {
        let problem = "a plain http --upstream is not reached through a proxy: calls carry a token";
        return Err(settings.error(Id::EgressProxy, problem));
    }
    if !upstream.tls && fixed.is_some_and(|address| !address.to_canonical().is_loopback()) {
        let problem = "of a plain http --upstream it can only be a loopback address";
        return Err(settings.error(Id::UpstreamAddress, problem));
    }
    if egress.is_some() && fixed.is_some() {
        warnings.push(
            "--upstream-address has no effect: the egress proxy looks the name up".to_owned(),
        );
    }
    let ca = settings.text(Id::UpstreamCa);
    let extra = ca.map(|(_, path)| Path::new(path));
    let tls = trust.load(extra, Id::UpstreamCa.key().name);
    let tls = tls.map_err(|problem| settings.error(Id::UpstreamCa, &problem.to_string()))?;
    let connect_timeout = settings.value(Id::ConnectTimeout, parse::duration)?;
    let mut dns = Resolver::new(fixed);
    if settings.switch(Id::SkipHostsFile)? {
        dns = dns.past_hosts_file();
    }
    let options = ConnectOptions {
        origins: with_fallback(upstream, fixed),
        dns,
        tls,
        egress,
        connect_timeout,
    };
    Connector::new(options.clone())
        .map_err(|error| settings.error(Id::Upstream, &error.to_string()))?;
    Ok(options)
}

/// The origins: `upstream` and, if it is the default, its fallback.
fn with_fallback(upstream: Origin, fixed: Option<IpAddr>) -> Vec<Origin> {
    let is_default = Origin::parse(origin::DEFAULT).is_ok_and(|default| default == upstream);
    let fallback = Origin::parse(origin::FALLBACK).ok();
    let fallback = fallback.filter(|_| is_default && fixed.is_none());
    std::iter::once(upstream).chain(fallback).collect()
}

fn egress(settings: &Settings, warnings: &mut Vec<String>) -> Result<Option<Egress>, ConfigError> {
    let egress = settings.optional(Id::EgressProxy, |text| Egress::parse(text).map_err(refusal))?;
    let file = secrets::secret(settings, Id::EgressProxyCredentialsFile, warnings)?;
    let at_file = |problem| settings.error(Id::EgressProxyCredentialsFile, problem);
    match (egress, file) {
        (egress, None) => Ok(egress),
        (None, Some(_)) => Err(at_file("there is no --egress-proxy that could want them")),
        (Some(egress), Some(file)) => {
            let known = egress.with_credentials(&file.held());
            known
                .map(Some)
                .ok_or_else(|| at_file("the file does not hold user:password"))
        }
    }
}

fn refusal(error: OriginError) -> String {
    format!("is refused: {error}")
}

/// Parses an address to listen on.
pub(super) fn address(text: &str) -> Result<ListenAddr, String> {
    match text.strip_prefix("unix:") {
        Some(_) if !HAS_UNIX_SOCKETS => {
            Err("is a Unix socket, which this system does not have: take IP:port".to_owned())
        }
        Some(path) if path.starts_with('/') && !path.ends_with('/') => {
            Ok(ListenAddr::Unix(PathBuf::from(path)))
        }
        Some(_) => Err("is not unix: and an absolute path".to_owned()),
        None => {
            let address = parse::address(text).map_err(|error| error.to_string())?;
            Ok(match text.starts_with("localhost:") {
                true => ListenAddr::Localhost(address.port()),
                false => ListenAddr::Tcp(address),
            })
        }
    }
}

fn tls_address(text: &str) -> Result<ListenAddr, String> {
    match address(text)? {
        ListenAddr::Unix(_) => Err("is a Unix socket, where apps speak plain HTTP".to_owned()),
        address => Ok(address),
    }
}

fn ip(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(|_| "is not an IP address")
}

/// Parses the name of a `Host` header, without a port.
fn host(text: &str) -> Result<String, &'static str> {
    let is_name = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    let address = text.trim_start_matches('[').trim_end_matches(']');
    if is_name(text) || address.parse::<IpAddr>().is_ok() {
        return Ok(address.to_ascii_lowercase());
    }
    Err("is not a host name without scheme and port")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_is_an_ip_or_an_absolute_path() {
        for (text, shown) in [
            ("127.0.0.1:7080", "127.0.0.1:7080"),
            ("localhost:0", "localhost:0"),
            ("[::1]:80", "[::1]:80"),
            ("unix:/run/w.sock", "unix:/run/w.sock"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "7080",
            ":7080",
            "127.0.0.1",
            "host:1",
            "localhost:",
            "localhost:65536",
            "unix:",
            "unix:x",
            "unix:/",
            "::1:80",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_has_no_port_and_no_scheme() {
        assert_eq!(host("WeChat.internal").unwrap(), "wechat.internal");
        assert_eq!(host("[FD00::1]").unwrap(), "fd00::1");
        for bad in ["", "a:1", "http://a", "a/b", "*.a", "a b"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_default_host_has_a_fallback() {
        let hosts = |url: &str, fixed| {
            let origins = with_fallback(Origin::parse(url).unwrap(), fixed);
            origins
                .into_iter()
                .map(|origin| origin.host)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            hosts(origin::DEFAULT, None),
            ["api.weixin.qq.com", "api2.weixin.qq.com"]
        );
        assert_eq!(
            hosts(origin::DEFAULT, Some(Ipv4Addr::LOCALHOST.into())),
            ["api.weixin.qq.com"]
        );
        assert_eq!(
            hosts("https://api.weixin.qq.com:8443", None),
            ["api.weixin.qq.com"]
        );
        assert_eq!(
            hosts("https://sh.api.weixin.qq.com", None),
            ["sh.api.weixin.qq.com"]
        );
    }
}
