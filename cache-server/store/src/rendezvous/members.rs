//! Who is there: the servers that names lead to, this one among them.
//!
//! Names are looked up again every ten seconds, so that servers may be added and removed behind one
//! name. A name that cannot be looked up leads where it did. Servers are told apart by address and
//! port: all of them have to see each other under the same addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ashlar_model::cas::CasDigest;
use tokio::net::lookup_host;
use tokio::time::sleep;

use super::peer::Peer;
use crate::counters::Counters;
use crate::grpc::endpoint::TokenSource;

/// Names are looked up this often.
const EVERY: Duration = Duration::from_secs(10);

/// How peers are called.
#[derive(Debug, Clone, Default)]
pub struct PeerSettings {
    /// Sent with every call.
    pub token: Option<Arc<dyn TokenSource>>,
    /// If there are any, peers are called over TLS, and theirs have to lead up to one of these.
    pub certificates: Vec<Vec<u8>>,
    /// What is counted.
    pub counters: Arc<Counters>,
}

/// Who has a blob near.
#[derive(Debug, Clone)]
pub(super) enum Owner {
    /// This server.
    Own,
    /// Another.
    Peer(Arc<Peer>),
    /// No server is known, not even this one.
    Nobody,
}

impl Owner {
    /// Whether it is the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Own, Self::Own) | (Self::Nobody, Self::Nobody) => true,
            (Self::Peer(own), Self::Peer(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }
}

/// The servers.
#[derive(Debug)]
pub struct Members {
    names: Vec<String>,
    own: String,
    settings: Arc<PeerSettings>,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What each name leads to.
    addresses: BTreeMap<String, BTreeSet<SocketAddr>>,
    /// The servers; `None` for this one.
    members: BTreeMap<SocketAddr, Option<Arc<Peer>>>,
}

impl Members {
    /// Servers at some `HOST:PORT`, and this one, which the others see at `own`. None is known
    /// before they are looked up.
    pub fn new(names: Vec<String>, own: String, settings: PeerSettings) -> Self {
        Self {
            names,
            own,
            settings: Arc::new(settings),
            known: RwLock::default(),
        }
    }

    /// Looks names up for as long as it runs.
    pub async fn run(&self) {
        loop {
            self.look_up().await;
            sleep(EVERY).await;
        }
    }

    /// Looks all names up once.
    pub async fn look_up(&self) {
        let mut found = BTreeMap::new();
        for name in self.names.iter().chain([&self.own]) {
            match lookup_host(name.as_str()).await {
                Ok(addresses) => {
                    found.insert(name.clone(), addresses.collect::<BTreeSet<_>>());
                }
                Err(error) => {
                    tracing::warn!("the addresses of {name} cannot be looked up: {error}");
                }
            }
        }
        self.set(found);
    }

    fn set(&self, found: BTreeMap<String, BTreeSet<SocketAddr>>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.addresses.extend(found);
        let own: BTreeSet<SocketAddr> = known.addresses.get(&self.own).cloned().unwrap_or_default();
        let all: BTreeSet<SocketAddr> = known.addresses.values().flatten().copied().collect();
        let before = known.members.len();
        // Those that stay keep their connections.
        known.members.retain(|address, _| all.contains(address));
        for address in all {
            if own.contains(&address) {
                known.members.insert(address, None);
            } else {
                let new = || {
                    Some(Arc::new(Peer::new(
                        self.url(address),
                        self.settings.clone(),
                    )))
                };
                known.members.entry(address).or_insert_with(new);
            }
        }
        if known.members.len() != before {
            tracing::info!(
                members = known.members.len(),
                "servers share what they have near"
            );
        }
    }

    fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.settings.certificates.is_empty() {
            "grpc"
        } else {
            "grpcs"
        };
        format!("{scheme}://{address}")
    }

    /// How many servers there are, this one among them.
    pub fn count(&self) -> usize {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.members.len()
    }

    /// Who has a blob near.
    pub(super) fn owner(&self, blob: &CasDigest) -> Owner {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let heaviest = known
            .members
            .iter()
            .max_by_key(|(address, _)| weight(blob, address));
        match heaviest {
            None => Owner::Nobody,
            Some((_, None)) => Owner::Own,
            Some((_, Some(peer))) => Owner::Peer(peer.clone()),
        }
    }
}

/// What an address weighs for a blob.
fn weight(blob: &CasDigest, address: &SocketAddr) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&blob.hash);
    hasher.update(address.to_string().as_bytes());
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use ashlar_model::cas::DigestFunction;

    use super::*;

    fn of(names: &[&str], own: &str) -> Members {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Members::new(names, own.to_owned(), PeerSettings::default())
    }

    fn owners(members: &Members) -> Vec<String> {
        let name = |number: u32| {
            let blob = CasDigest::of(DigestFunction::Blake3, &number.to_le_bytes());
            match members.owner(&blob) {
                Owner::Own => members.own.clone(),
                Owner::Peer(peer) => format!("{peer:?}").split('"').nth(1).unwrap().to_owned(),
                Owner::Nobody => "nobody".to_owned(),
            }
        };
        (0..3000)
            .map(name)
            .map(|name| name.replace("grpc://", ""))
            .collect()
    }

    #[tokio::test]
    async fn all_agree_and_each_has_its_share() {
        let names = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"];
        let mut seen = Vec::new();
        for own in names {
            let members = of(&names, own);
            assert_eq!(owners(&members)[0], "nobody");
            members.look_up().await;
            assert_eq!(members.count(), 3);
            seen.push(owners(&members));
        }
        assert!(seen.windows(2).all(|two| two[0] == two[1]));
        for name in names {
            let share = seen[0].iter().filter(|owner| *owner == name).count();
            assert!((800..1200).contains(&share), "{name}: {share} of 3000");
        }
    }

    #[tokio::test]
    async fn when_one_goes_only_its_own_get_another() {
        let three = of(&["127.0.0.1:1", "127.0.0.1:2"], "127.0.0.1:3");
        let two = of(&["127.0.0.1:1"], "127.0.0.1:3");
        three.look_up().await;
        two.look_up().await;
        for (before, after) in owners(&three).iter().zip(owners(&two)) {
            assert!(before == "127.0.0.1:2" || *before == after);
        }
    }

    #[tokio::test]
    async fn a_name_that_is_not_found_leads_where_it_did() {
        let members = of(&["127.0.0.1:1", "no-such-host.invalid:1"], "127.0.0.1:3");
        members.look_up().await;
        assert_eq!(members.count(), 2);
        members.set(BTreeMap::new());
        assert_eq!(members.count(), 2);
        let gone = BTreeMap::from([("127.0.0.1:1".to_owned(), BTreeSet::new())]);
        members.set(gone);
        assert_eq!(members.count(), 1);
    }
}
