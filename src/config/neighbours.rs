//! What the accounts before one have taken: names, AppIDs, the default, and addresses.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    path::PathBuf,
};

use crate::{account::Options, net::listen_addr::ListenAddr, wechat::api::Api};

/// What the accounts before one have taken. Names and AppIDs are compared without case.
#[derive(Default)]
pub(super) struct Neighbours {
    /// The AppID of the account with this name.
    names: HashMap<String, String>,
    appids: HashMap<String, AppidUse>,
    has_default: bool,
    pub(super) addresses: TakenAddresses,
}

/// How an AppID, or a corpid, is used so far.
struct AppidUse {
    is_wecoms: bool,
    have_names: bool,
}

/// Addresses of listeners that are taken.
#[derive(Default)]
pub(super) struct TakenAddresses {
    ports: HashMap<u16, Vec<ListenAddr>>,
    sockets: HashSet<PathBuf>,
}

impl Neighbours {
    /// Whether the account of `options` can stand beside these. If it cannot, its key that is wrong, and a phrase.
    pub(super) fn check(&self, options: &Options) -> Result<(), (&'static str, &'static str)> {
        let appid = options.appid.to_ascii_lowercase();
        let name = options.name.as_ref().map(|name| name.to_ascii_lowercase());
        if let Some(name) = &name {
            if self.names.contains_key(name) {
                return Err(("name", "another account has this name"));
            }
            if *name != appid && self.appids.contains_key(name) {
                return Err(("name", "the name of one account is the AppID of another"));
            }
        }
        if self.names.get(&appid).is_some_and(|its| *its != appid) {
            return Err(("name", "the name of one account is the AppID of another"));
        }
        if let Some(other) = self.appids.get(&appid) {
            if options.api == Api::Wechat || !other.is_wecoms {
                return Err(("appid", "another account has this AppID"));
            }
            if name.is_none() || !other.have_names {
                let problem = "another account has this corpid: give each of them a name";
                return Err(("appid", problem));
            }
        }
        match options.default && self.has_default {
            true => Err(("default", "another account is the default already")),
            false => Ok(()),
        }
    }

    /// Adds an account that was checked.
    pub(super) fn add(&mut self, options: &Options) {
        let appid = options.appid.to_ascii_lowercase();
        if let Some(name) = &options.name {
            self.names.insert(name.to_ascii_lowercase(), appid.clone());
        }
        let (is_wecoms, have_names) = (options.api == Api::Wecom, options.name.is_some());
        match self.appids.entry(appid) {
            Entry::Vacant(entry) => {
                entry.insert(AppidUse {
                    is_wecoms,
                    have_names,
                });
            }
            Entry::Occupied(mut entry) => entry.get_mut().have_names &= have_names,
        }
        self.has_default |= options.default;
        for address in &options.listen {
            self.addresses.add(address);
        }
    }
}

impl TakenAddresses {
    fn add(&mut self, address: &ListenAddr) {
        match address.port() {
            Some(port) => self.ports.entry(port).or_default().push(address.clone()),
            None => {
                if let ListenAddr::Unix(path) = address {
                    self.sockets.insert(path.clone());
                }
            }
        }
    }

    /// Whether one of them is `address`, or includes it, or is included in it.
    pub(super) fn overlap(&self, address: &ListenAddr) -> bool {
        match address {
            ListenAddr::Unix(path) => self.sockets.contains(path),
            _ => {
                let same_port = address.port().and_then(|port| self.ports.get(&port));
                same_port.is_some_and(|others| others.iter().any(|other| other.overlaps(address)))
            }
        }
    }
}
