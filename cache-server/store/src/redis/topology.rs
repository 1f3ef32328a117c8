//! Which server has what: the one there is, the master that Sentinels name, or the masters of a
//! cluster.
//!
//! What is known is a [`Map`] from slots to servers. It is looked up when it is first needed, and
//! again when a server turns out not to be the right one: all who find that out at the same time wait
//! for the same look-up.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use redis::{Value, cmd};
use tokio::sync::watch;

use super::address::{Host, Layout};
use super::answer;
use super::keys::SLOTS;
use super::node::{Dialer, Node, Role};
use super::remedy::{Remedy, Trouble};
use super::wait::Backoff;
use crate::fault::{Fault, FaultKind};

/// Which server has which slots.
pub(super) struct Map {
    version: u64,
    nodes: Vec<Arc<Node>>,
    /// The place of each slot's server among the nodes; empty if there is one for all.
    slots: Vec<u16>,
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("version", &self.version)
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

impl Map {
    /// The server of a slot.
    pub(super) fn node(&self, slot: u16) -> Option<&Arc<Node>> {
        let place = if self.slots.is_empty() {
            0
        } else {
            usize::from(*self.slots.get(usize::from(slot))?)
        };
        self.nodes.get(place)
    }

    /// All servers that have slots.
    pub(super) fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }
}

/// A range of slots, and the server that has them.
struct Range {
    first: u16,
    last: u16,
    host: Host,
}

/// Finds out who has what.
#[derive(Debug)]
pub(super) struct Topology {
    dialer: Arc<Dialer>,
    current: RwLock<Option<Arc<Map>>>,
    /// All servers that were ever named, so that connections outlive look-ups.
    known: Mutex<HashMap<Host, Arc<Node>>>,
    resolving: tokio::sync::Mutex<Backoff<Trouble>>,
    versions: watch::Sender<u64>,
}

impl Topology {
    pub(super) fn new(dialer: Arc<Dialer>) -> Self {
        Self {
            dialer,
            current: RwLock::default(),
            known: Mutex::default(),
            resolving: tokio::sync::Mutex::default(),
            versions: watch::Sender::new(0),
        }
    }

    /// Tells of every new map.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.versions.subscribe()
    }

    fn current(&self) -> Option<Arc<Map>> {
        let current = self.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The server of this address.
    pub(super) fn node(&self, host: &Host) -> Arc<Node> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let node = known
            .entry(host.clone())
            .or_insert_with(|| Arc::new(Node::new(host.clone(), self.dialer.clone())));
        node.clone()
    }

    /// What is known, looked up if nothing is.
    pub(super) async fn map(&self) -> Result<Arc<Map>, Trouble> {
        match self.current() {
            Some(map) => Ok(map),
            None => self.resolve(None, None).await,
        }
    }

    /// What is known now, looked up anew unless that was done since `seen`. `hint` is a server that
    /// should know.
    pub(super) async fn renew(&self, seen: &Map, hint: Option<&Host>) -> Result<Arc<Map>, Trouble> {
        if matches!(
            self.dialer.address.layout,
            Layout::Cluster(_) | Layout::Sentinel(..)
        ) {
            return self.resolve(Some(seen.version), hint).await;
        }
        self.map().await
    }

    async fn resolve(&self, seen: Option<u64>, hint: Option<&Host>) -> Result<Arc<Map>, Trouble> {
        let mut resolving = self.resolving.lock().await;
        let current = self.current();
        if let Some(map) = &current
            && seen.is_none_or(|seen| map.version > seen)
        {
            return Ok(map.clone());
        }
        if let Some(trouble) = resolving.refuses() {
            return Err(trouble.clone());
        }
        let found = match &self.dialer.address.layout {
            Layout::Single(host) => Ok((vec![self.node(host)], Vec::new())),
            Layout::Unix(_) => Ok((vec![self.node(&Host::new("localhost", 0))], Vec::new())),
            Layout::Sentinel(sentinels, name) => {
                let master = self.ask_sentinels(sentinels, name).await;
                master.map(|master| (vec![master], Vec::new()))
            }
            Layout::Cluster(seeds) => {
                let ranges = self.ask_cluster(seeds, current.as_deref(), hint).await;
                ranges.map(|ranges| self.arrange(ranges))
            }
        };
        match found {
            Ok((nodes, slots)) => {
                resolving.succeeded();
                let version = current.as_ref().map_or(0, |map| map.version) + 1;
                let map = Arc::new(Map {
                    version,
                    nodes,
                    slots,
                });
                if current.is_none_or(|before| differs(&before, &map)) {
                    tracing::info!(redis = %self.dialer.address, servers = ?map.nodes, "found");
                    self.versions.send_replace(version);
                }
                let mut place = self.current.write().unwrap_or_else(PoisonError::into_inner);
                *place = Some(map.clone());
                Ok(map)
            }
            Err(trouble) => {
                resolving.failed(trouble.clone());
                Err(trouble)
            }
        }
    }

    /// The master that the first Sentinel to answer names, if it takes itself for the master.
    async fn ask_sentinels(&self, sentinels: &[Host], name: &str) -> Result<Arc<Node>, Trouble> {
        let mut asked: FuturesUnordered<_> = sentinels
            .iter()
            .map(async |sentinel| {
                let host = self.ask_sentinel(sentinel, name).await?;
                let node = self.node(&host);
                let mut connection = node.connection(0).await?;
                let role = connection.inner.send_packed_command(&cmd("ROLE")).await;
                let role = role.map_err(|error| {
                    node.forget(0, &connection);
                    Trouble::broken(&error)
                })?;
                let role = answer::array(role).ok();
                let role = role.and_then(|role| answer::text(role.first()).ok());
                if role.as_deref() == Some("master") {
                    return Ok(node);
                }
                let what = format!("the Sentinels call {host} the master {name}, and it is none");
                Err(Trouble::new(Remedy::Elsewhere, what))
            })
            .collect();
        let mut last = Trouble::new(Remedy::Elsewhere, "no Sentinel answers");
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(node) => return Ok(node),
                Err(trouble) => last = trouble,
            }
        }
        // Whatever it is, it is worth another try.
        if !matches!(last.remedy, Remedy::None(_)) {
            last.remedy = Remedy::Elsewhere;
        }
        Err(last)
    }

    async fn ask_sentinel(&self, sentinel: &Host, name: &str) -> Result<Host, Trouble> {
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let mut value = Value::Nil;
        for role in [Role::OpenSentinel, Role::Sentinel] {
            let mut connection = self.dialer.connect(sentinel, role).await?;
            let answer = connection.send_packed_command(&question).await;
            value = answer.map_err(|error| Trouble::broken(&error))?;
            if !matches!(&value, Value::ServerError(error) if error.code() == "NOAUTH") {
                break;
            }
        }
        if let Value::ServerError(error) = &value {
            return Err(Trouble::answered(error, sentinel));
        }
        let wrong =
            |fault: Fault| Trouble::new(Remedy::None(FaultKind::Internal), fault.to_string());
        let values = answer::array(value).map_err(wrong)?;
        let [host, port] = &values[..] else {
            let what = format!("the Sentinel {sentinel} knows no master {name}");
            return Err(Trouble::new(Remedy::Elsewhere, what));
        };
        let host = answer::text(Some(host)).map_err(wrong)?;
        let port = answer::integer(port).map_err(wrong)?;
        Ok(Host::new(&host, u16::try_from(port).unwrap_or(0)))
    }

    /// What the first server of a cluster to answer says. `hint` is asked first.
    async fn ask_cluster(
        &self,
        seeds: &[Host],
        current: Option<&Map>,
        hint: Option<&Host>,
    ) -> Result<Vec<Range>, Trouble> {
        if let Some(hint) = hint
            && let Ok(ranges) = self.ask_node(&self.node(hint)).await
        {
            return Ok(ranges);
        }
        let mut hosts: Vec<_> = seeds.to_vec();
        for node in current.map_or(&[][..], Map::nodes) {
            if !hosts.contains(&node.host) {
                hosts.push(node.host.clone());
            }
        }
        let mut asked: FuturesUnordered<_> = hosts
            .iter()
            .map(async |host| self.ask_node(&self.node(host)).await)
            .collect();
        let mut last = Trouble::new(Remedy::Elsewhere, "no server of the cluster answers");
        let mut partial = None;
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(ranges) if covers_all(&ranges) => return Ok(ranges),
                Ok(ranges) => partial = Some(ranges),
                Err(trouble) => last = trouble,
            }
        }
        // Some slots are better than none.
        partial.ok_or(last)
    }

    async fn ask_node(&self, node: &Node) -> Result<Vec<Range>, Trouble> {
        let mut connection = node.connection(0).await?;
        let mut question = cmd("CLUSTER");
        question.arg("SLOTS");
        let answer = connection.inner.send_packed_command(&question).await;
        let value = answer.map_err(|error| {
            node.forget(0, &connection);
            Trouble::broken(&error)
        })?;
        if let Value::ServerError(error) = &value {
            return Err(Trouble::answered(error, &node.host));
        }
        let ranges = parse_ranges(value, &node.host);
        ranges.map_err(|fault| Trouble::new(Remedy::None(FaultKind::Internal), fault.to_string()))
    }

    fn arrange(&self, ranges: Vec<Range>) -> (Vec<Arc<Node>>, Vec<u16>) {
        let mut hosts: Vec<Host> = ranges.iter().map(|range| range.host.clone()).collect();
        hosts.sort();
        hosts.dedup();
        // A place that no node has: a slot of nobody.
        let mut slots = vec![u16::MAX; usize::from(SLOTS)];
        for range in ranges {
            let place = hosts.binary_search(&range.host).unwrap_or(usize::MAX);
            let place = u16::try_from(place).unwrap_or(u16::MAX);
            let (first, last) = (usize::from(range.first), usize::from(range.last));
            if let Some(slots) = slots.get_mut(first..=last) {
                slots.fill(place);
            }
        }
        let nodes = hosts.iter().map(|host| self.node(host)).collect();
        (nodes, slots)
    }
}

fn differs(before: &Map, after: &Map) -> bool {
    let hosts = |map: &Map| -> Vec<Host> {
        let hosts = map.nodes.iter().map(|node| node.host.clone());
        hosts.collect()
    };
    hosts(before) != hosts(after)
}

fn covers_all(ranges: &[Range]) -> bool {
    let slots = ranges
        .iter()
        .map(|range| u32::from(range.last) + 1 - u32::from(range.first));
    slots.sum::<u32>() == u32::from(SLOTS)
}

/// `CLUSTER SLOTS`: ranges with their servers, the master first. One without a name is `own`.
fn parse_ranges(value: Value, own: &Host) -> Result<Vec<Range>, Fault> {
    let mut ranges = Vec::new();
    for range in answer::array(value)? {
        let fields = answer::array(range)?;
        let [first, last, master, ..] = &fields[..] else {
            continue;
        };
        let slot = |value| {
            let slot = answer::integer(value)?;
            Ok::<_, Fault>(u16::try_from(slot).unwrap_or(SLOTS).min(SLOTS - 1))
        };
        let master = answer::array(master.clone())?;
        let [name, port, ..] = &master[..] else {
            continue;
        };
        let name = match name {
            Value::Nil => String::new(),
            name => answer::text(Some(name))?,
        };
        let name = match &*name {
            "" | "?" => &own.name,
            name => name,
        };
        let port = u16::try_from(answer::integer(port)?).unwrap_or(0);
        let (first, last) = (slot(first)?, slot(last)?);
        if first <= last {
            ranges.push(Range {
                first,
                last,
                host: Host::new(name, port),
            });
        }
    }
    Ok(ranges)
}
