//! Parses the values of settings. Errors are phrases about the text.

use std::net::{Ipv4Addr, SocketAddr};

use crate::{
    account,
    log::{self, LevelsError},
    settings::parse::{self, ParseError},
};

/// A process without capabilities cannot listen on lower ports.
const PRIVILEGED: u16 = 1024;

/// The least memory with which the sidecar starts.
const LEAST_MEMORY: f64 = 16.0 * 1024.0 * 1024.0;

/// Why the sidecar cannot listen at an address, as a phrase about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    /// It is not an address.
    #[error("{0}")]
    Unknown(ParseError),
    /// Other pods could reach the sidecar.
    #[error("can be reached from outside of the pod: listen on 127.0.0.1")]
    Reachable,
    /// The kubelet could not reach it.
    #[error("is not on 0.0.0.0 or [::], and the kubelet's probes would not reach it")]
    Unreachable,
    /// Only a process with capabilities could listen there.
    #[error("has a port below {PRIVILEGED}")]
    Privileged,
}

/// A key of a Secret or ConfigMap.
pub(super) fn data_key(text: &str) -> Result<String, &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let is_key = !text.is_empty() && text.len() <= 253 && text.bytes().all(plain);
    if is_key && !text.starts_with("..") && text != "." {
        Ok(text.to_owned())
    } else {
        Err("is not a key of a Secret")
    }
}

pub(super) fn appid(text: &str) -> Result<String, &'static str> {
    account::check_appid(text)?;
    Ok(text.to_owned())
}

/// A port on loopback: `127.0.0.1:7080`, `localhost:7080`, `[::1]:7080` or `7080`.
pub(super) fn listen(text: &str) -> Result<SocketAddr, AddressError> {
    let address =
        parse::address_or_port(text, Ipv4Addr::LOCALHOST).map_err(AddressError::Unknown)?;
    if !address.ip().is_loopback() {
        return Err(AddressError::Reachable);
    }
    unprivileged(address)
}

/// A port on all addresses, so that the kubelet reaches it.
pub(super) fn admin(text: &str) -> Result<SocketAddr, AddressError> {
    let address =
        parse::address_or_port(text, Ipv4Addr::UNSPECIFIED).map_err(AddressError::Unknown)?;
    if !address.ip().is_unspecified() {
        return Err(AddressError::Unreachable);
    }
    unprivileged(address)
}

fn unprivileged(address: SocketAddr) -> Result<SocketAddr, AddressError> {
    if address.port() < PRIVILEGED {
        return Err(AddressError::Privileged);
    }
    Ok(address)
}

pub(super) fn image(text: &str) -> Result<String, &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@".contains(&b);
    let starts = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    let fits = starts && text.len() <= 512 && text.bytes().all(plain);
    let known = (fits && !text.contains("://") && !text.ends_with([':', '/', '@']))
        .then(|| text.to_owned());
    known.ok_or("is not the name of an image")
}

/// A user that is not root.
pub(super) fn user(text: &str) -> Result<u32, &'static str> {
    let user = text
        .parse()
        .ok()
        .filter(|user| (1..=2_147_483_647).contains(user));
    user.ok_or("is not the number of a user other than root")
}

pub(super) fn pull_policy(text: &str) -> Result<String, ParseError> {
    let policies = ["Always", "IfNotPresent", "Never"].map(|policy| (policy, policy));
    parse::one_of(&policies)(text).map(str::to_owned)
}

pub(super) fn log_level(text: &str) -> Result<String, LevelsError> {
    log::parse(text).map(|_| text.to_owned())
}

/// A Kubernetes quantity as it was written, and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Quantity {
    pub(super) text: String,
    pub(super) value: f64,
}

/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>
pub(super) fn quantity(text: &str) -> Result<Quantity, &'static str> {
    const WRONG: &str = "is not a quantity as Kubernetes writes them";
    let digits = text.trim_start_matches('+');
    let end = digits
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(digits.len());
    let (number, suffix) = digits.split_at(end);
    let number: f64 = number.parse().map_err(|_| WRONG)?;
    let factor = factor(suffix).ok_or(WRONG)?;
    let value = number * factor;
    if !value.is_finite() {
        return Err(WRONG);
    }
    let text = text.to_owned();
    Ok(Quantity { text, value })
}

fn factor(suffix: &str) -> Option<f64> {
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(power) = binary.iter().position(|known| *known == suffix) {
        return Some(1024_f64.powi(i32::try_from(power).ok()? + 1));
    }
    let decimal = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    if let Some(power) = decimal.iter().position(|known| *known == suffix) {
        return Some(1000_f64.powi(i32::try_from(power).ok()? - 3));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some(10_f64.powi(exponent))
}

/// A [`quantity`] of memory that the sidecar can live with.
pub(super) fn memory(text: &str) -> Result<Quantity, &'static str> {
    let memory = quantity(text)?;
    if memory.value < LEAST_MEMORY {
        return Err("is less than the 16Mi that the sidecar needs");
    }
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for (text, value) in [
            ("10m", 0.01),
            ("1", 1.0),
            ("+1.5", 1.5),
            (".5", 0.5),
            ("1e3", 1000.0),
            ("1E-3", 0.001),
            ("2k", 2000.0),
            ("1E", 1e18),
            ("128Mi", 134_217_728.0),
        ] {
            let read = quantity(text).unwrap().value;
            assert!((read / value - 1.0).abs() < 1e-9, "{text}: {read}");
        }
        for bad in [
            "", "-1", "Mi", "1 Gi", "1mi", "1KiB", "1.2.3", "1e", "0x1", "1e999", "inf", "NaN",
        ] {
            assert!(quantity(bad).is_err(), "{bad}");
        }
        assert!(memory("128m").is_err() && memory("16Mi").is_ok());
    }

    #[test]
    fn the_app_connects_on_loopback_and_the_kubelet_from_outside() {
        for (text, address) in [
            ("7080", "127.0.0.1:7080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("[::1]:8080", "[::1]:8080"),
        ] {
            assert_eq!(listen(text).unwrap().to_string(), address);
        }
        for bad in [
            "",
            "0",
            "80",
            "0.0.0.0:7080",
            "10.0.0.1:7080",
            "unix:/x",
            "host:7080",
            "70800",
        ] {
            assert!(listen(bad).is_err(), "{bad}");
        }
        assert_eq!(admin("7081").unwrap().to_string(), "0.0.0.0:7081");
        assert_eq!(admin("[::]:7081").unwrap().to_string(), "[::]:7081");
        assert!(admin("127.0.0.1:7081").is_err() && admin("0.0.0.0:99").is_err());
    }

    #[test]
    fn images_and_keys_are_held_to_their_letters() {
        for good in ["wechat-sidecar:0.1.0", "r.example:5000/a/b@sha256:0f", "a"] {
            assert!(image(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "https://a/b", "a:", "-a", "a\n"] {
            assert!(image(bad).is_err(), "{bad}");
        }
        for bad in ["", "..", "..data", "a/b", "a b"] {
            assert!(data_key(bad).is_err(), "{bad}");
        }
        assert!(data_key(".hidden").is_ok());
    }
}
