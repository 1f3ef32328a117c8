//! Redis as a whole: requests go to whichever server has their keys, and what can be tried again is.
//!
//! A request ends in one of three ways: it was answered; it was tried for
//! [`patience`](RedisSettings::patience) and is [`FaultKind::Unavailable`]; or Redis refused it for
//! good. No error is ever taken for "there is nothing".
//!
//! What was sent and not answered may have been done. All requests but a few are so that doing them
//! twice is as good as once, and are sent again; the others are not ([`Request::once`]).
//!
//! # Slots that move
//!
//! While a slot of a cluster moves, what is asked about one key is sent on to the new server. Scripts
//! about several keys, of which not all are at one of the two, are refused by both until the slot has
//! moved: they are tried again, and then unavailable.
//!
//! # Replicas
//!
//! Redis answers before its replicas have a write, and when one of them takes over, what it did not
//! get is lost. So with [`replicas`](RedisSettings::replicas), writes that matter are followed by
//! `WAIT` on the same connection, and fail unless so many replicas confirm.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use futures::future::join_all;
use redis::aio::PubSub;
use redis::{Cmd, Pipeline, Value, cmd};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::address::{Address, Host};
use super::keys::{Keys, Tag};
use super::node::{Dialer, Node, deadline};
use super::remedy::{Remedy, Trouble};
use super::request::Request;
use super::settings::RedisSettings;
use super::topology::{Map, Topology};
use super::wait::backoff;
use crate::counters::Counters;
use crate::fault::{Fault, FaultKind};

/// Requests about so many keys go in one piece: what others ask comes between the pieces.
const PIECE: usize = 512;

/// How often a request may be sent on to another server without waiting.
const REDIRECTIONS: u32 = 5;

/// A Redis, or a Valkey: connections are made when they are needed.
pub struct Redis {
    settings: RedisSettings,
    address: Address,
    pub(super) keys: Keys,
    topology: Topology,
    counters: Arc<Counters>,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("address", &self.address)
            .field("topology", &self.topology)
            .finish_non_exhaustive()
    }
}

/// What became of a request so far.
#[derive(Default)]
struct State {
    answer: Option<Value>,
    /// The server that is to be asked this once.
    ask: Option<Host>,
    /// The server does not have the script.
    whole: bool,
}

impl Redis {
    /// A Redis that nobody has spoken to yet: it may be away. Fails if the settings make no sense.
    pub fn new(settings: RedisSettings, counters: Arc<Counters>) -> Result<Arc<Self>, Fault> {
        let address = Address::parse(&settings.url)?;
        if settings.prefix.is_empty() || settings.prefix.contains(['{', '}']) {
            return Err(Fault::invalid(format!(
                "the prefix of the keys in Redis may not be empty nor have braces: {:?}",
                settings.prefix
            )));
        }
        let dialer = Arc::new(Dialer {
            address: address.clone(),
            settings: settings.clone(),
        });
        Ok(Arc::new(Self {
            keys: Keys::new(settings.prefix.clone()),
            topology: Topology::new(dialer),
            settings,
            address,
            counters,
        }))
    }

    /// Where it is, for messages: without users and passwords.
    pub fn place(&self) -> String {
        self.address.to_string()
    }

    /// The counters that were given.
    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Fails unless every server of it can be read and written now.
    pub async fn ready(&self) -> Result<(), Fault> {
        let map = self.topology.map().await;
        let map = map.map_err(|trouble| self.fault(&trouble))?;
        let tags = map.nodes().iter().filter_map(|node| {
            Tag::all().find(|tag| {
                let owner = map.node(tag.slot());
                owner.is_some_and(|owner| Arc::ptr_eq(owner, node))
            })
        });
        let writes = tags.map(|tag| {
            Request::command("SET", &self.keys.writable(tag))
                .arg("1")
                .arg("EX")
                .arg("60")
                .matters()
        });
        self.call("ready", writes.collect()).await?;
        Ok(())
    }

    /// The answer to one request.
    pub(super) async fn one(
        &self,
        operation: &'static str,
        request: Request,
    ) -> Result<Value, Fault> {
        let answers = self.call(operation, vec![request]).await?;
        Ok(answers.into_iter().next().unwrap_or_default())
    }

    /// The answers to requests, in their order. They are done in no order.
    pub(super) async fn call(
        &self,
        operation: &'static str,
        requests: Vec<Request>,
    ) -> Result<Vec<Value>, Fault> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let work = self.try_all(operation, &requests);
        self.counters.redis.run(operation, work).await
    }

    async fn try_all(
        &self,
        operation: &'static str,
        requests: &[Request],
    ) -> Result<Vec<Value>, Fault> {
        let until = deadline(&self.settings);
        let mut states: Vec<_> = requests.iter().map(|_| State::default()).collect();
        let mut left: Vec<usize> = (0..requests.len()).collect();
        let (mut failures, mut redirections) = (0, 0);
        loop {
            let (seen, troubles) = match self.topology.map().await {
                Ok(map) => {
                    let troubles = self.attempt(&map, requests, &mut states, &left).await;
                    (Some(map), troubles)
                }
                Err(trouble) => (None, left.iter().map(|at| (*at, trouble.clone())).collect()),
            };
            let Some((_, first)) = troubles.first() else {
                return Ok(states
                    .into_iter()
                    .map(|state| state.answer.unwrap_or_default())
                    .collect());
            };
            for (at, trouble) in &troubles {
                let once = requests.get(*at).is_some_and(|request| request.once);
                match trouble.remedy {
                    Remedy::None(_) => return Err(self.fault(trouble)),
                    Remedy::Unknown if once => return Err(self.fault(trouble)),
                    _ => {}
                }
            }
            let at_once = troubles.iter().all(|(_, trouble)| {
                matches!(
                    trouble.remedy,
                    Remedy::Script | Remedy::Moved(_) | Remedy::Ask(_)
                )
            });
            let last = first.clone();
            self.prepare(seen.as_deref(), &mut states, &troubles).await;
            left = troubles.into_iter().map(|(at, _)| at).collect();
            self.counters.redis.retried(operation);
            if at_once && redirections < REDIRECTIONS {
                redirections += 1;
                continue;
            }
            failures += 1;
            let wait = backoff(failures);
            if Instant::now() + wait >= until {
                return Err(self.fault(&last));
            }
            tracing::debug!(operation, error = last.error, ?wait, "Redis is asked again");
            sleep(wait).await;
        }
    }

    /// Does what is needed before another try.
    async fn prepare(
        &self,
        seen: Option<&Map>,
        states: &mut [State],
        troubles: &[(usize, Trouble)],
    ) {
        let mut look = false;
        let mut hint = None;
        for (at, trouble) in troubles {
            let Some(state) = states.get_mut(*at) else {
                continue;
            };
            if trouble.remedy == Remedy::Script {
                state.whole = true;
                continue;
            }
            state.ask = None;
            match &trouble.remedy {
                Remedy::Ask(host) => state.ask = Some(host.clone()),
                Remedy::Moved(host) => {
                    look = true;
                    // Should the others not know it yet, it is asked nevertheless.
                    state.ask = Some(host.clone());
                    hint = Some(host);
                }
                Remedy::Elsewhere | Remedy::Unknown => look = true,
                Remedy::Later | Remedy::Script | Remedy::None(_) => {}
            }
        }
        if look
            && let Some(seen) = seen
            && let Err(trouble) = self.topology.renew(seen, hint).await
        {
            tracing::debug!(error = trouble.error, "the servers of Redis are not found");
        }
    }

    /// Sends what is left, and gives what went wrong.
    async fn attempt(
        &self,
        map: &Map,
        requests: &[Request],
        states: &mut [State],
        left: &[usize],
    ) -> Vec<(usize, Trouble)> {
        let mut troubles = Vec::new();
        // There is one node for each host: its address in memory stands for it.
        let mut groups: HashMap<(usize, bool), Group<'_>> = HashMap::new();
        for at in left {
            let (Some(request), Some(state)) = (requests.get(*at), states.get(*at)) else {
                continue;
            };
            let node = match &state.ask {
                Some(host) => Some(self.topology.node(host)),
                None => map.node(request.tag.slot()).cloned(),
            };
            let Some(node) = node else {
                let what = "no server of the cluster has the slot";
                troubles.push((*at, Trouble::new(Remedy::Elsewhere, what)));
                continue;
            };
            let waits = request.matters && self.settings.replicas > 0;
            let group = groups
                .entry((Arc::as_ptr(&node).addr(), waits))
                .or_insert_with(|| Group::new(node, waits));
            group.requests.push(Sent {
                at: *at,
                request,
                asking: state.ask.is_some(),
                whole: state.whole,
            });
        }
        let pieces = groups.values().flat_map(|group| {
            let pieces = pieces(&group.requests).into_iter();
            pieces.map(|piece| self.send(&group.node, group.waits, piece))
        });
        for (at, answer) in join_all(pieces).await.into_iter().flatten() {
            match answer {
                Ok(answer) => {
                    if let Some(state) = states.get_mut(at) {
                        state.answer = Some(answer);
                    }
                }
                Err(trouble) => troubles.push((at, trouble)),
            }
        }
        troubles
    }

    /// Sends some requests to one server.
    async fn send(
        &self,
        node: &Node,
        waits: bool,
        piece: &[Sent<'_>],
    ) -> Vec<(usize, Result<Value, Trouble>)> {
        let all = |trouble: &Trouble| {
            let each = piece.iter().map(|sent| (sent.at, Err(trouble.clone())));
            each.collect()
        };
        let lane = node.lane(waits);
        let mut connection = match node.connection(lane).await {
            Ok(connection) => connection,
            Err(trouble) => return all(&trouble),
        };
        let mut pipeline = Pipeline::with_capacity(piece.len() + 1);
        let mut count = 0;
        let mut add = |command: Cmd| {
            pipeline.add_command(command);
            count += 1;
        };
        for sent in piece {
            if sent.asking {
                add(cmd("ASKING"));
            }
            add(sent.request.encode(sent.whole));
        }
        if waits {
            add(self.wait_command());
        }
        let answers = connection.inner.send_packed_commands(&pipeline, 0, count);
        let answers = match answers.await {
            Ok(answers) => answers,
            Err(error) => {
                node.forget(lane, &connection);
                let mut trouble = Trouble::broken(&error);
                trouble.error = format!("{}: {error}", node.host);
                return all(&trouble);
            }
        };
        let mut answers = answers.into_iter();
        let mut found = Vec::with_capacity(piece.len());
        for sent in piece {
            if sent.asking {
                answers.next();
            }
            let answer = match answers.next() {
                Some(Value::ServerError(error)) => Err(Trouble::answered(&error, &node.host)),
                Some(answer) => Ok(answer),
                None => Err(Trouble::new(Remedy::Unknown, "an answer is missing")),
            };
            found.push((sent.at, answer));
        }
        if found.iter().any(
            |(_, answer)| matches!(answer, Err(trouble) if trouble.remedy == Remedy::Elsewhere),
        ) {
            // It may have been the master of old; the name may stand for another by now.
            node.forget(lane, &connection);
        }
        if waits {
            let confirmed = answers.next();
            self.judge_replicas(confirmed.as_ref(), &mut found);
        }
        found
    }

    fn wait_command(&self) -> Cmd {
        let most = self.settings.response_timeout / 2;
        let timeout = self.settings.replica_timeout.min(most).as_millis().max(1);
        let mut wait = cmd("WAIT");
        wait.arg(self.settings.replicas).arg(timeout.to_string());
        wait
    }

    /// What was done and too few replicas have does not count as done.
    fn judge_replicas(
        &self,
        confirmed: Option<&Value>,
        found: &mut [(usize, Result<Value, Trouble>)],
    ) {
        let confirmed = match confirmed {
            Some(Value::Int(confirmed)) => *confirmed,
            _ => 0,
        };
        let wanted = self.settings.replicas;
        if confirmed >= i64::from(wanted) {
            return;
        }
        let what = format!(
            "only {confirmed} of {wanted} replicas have the write: it may be lost if one of them \
             takes over"
        );
        for (_, answer) in found {
            if answer.is_ok() {
                let remedy = Remedy::None(FaultKind::Unavailable);
                *answer = Err(Trouble::new(remedy, &*what));
            }
        }
    }

    /// A connection that gives what is published on a channel.
    pub(super) async fn subscribe(&self, channel: &str) -> Result<PubSub, Trouble> {
        let map = self.topology.map().await?;
        // Every server of a cluster gives what is published on any.
        let mut last = Trouble::new(Remedy::Elsewhere, "there is no server");
        for node in map.nodes() {
            match node.subscribe(channel).await {
                Ok(listener) => return Ok(listener),
                Err(trouble) => last = trouble,
            }
        }
        drop(self.topology.renew(&map, None).await);
        Err(last)
    }

    /// Tells when other servers are asked from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.topology.changes()
    }

    /// How this Redis is spoken to.
    pub(super) const fn settings(&self) -> &RedisSettings {
        &self.settings
    }

    fn fault(&self, trouble: &Trouble) -> Fault {
        let kind = match trouble.remedy {
            Remedy::None(kind) => kind,
            _ => FaultKind::Unavailable,
        };
        let what = match kind {
            FaultKind::Exhausted => "has no memory left",
            FaultKind::Internal => "does not understand what it is asked",
            _ => "does not do what it is asked",
        };
        Fault::new(kind, format!("Redis ({}) {what}", self.address)).caused_by(&*trouble.error)
    }
}

/// Requests for one server.
struct Group<'r> {
    node: Arc<Node>,
    waits: bool,
    requests: Vec<Sent<'r>>,
}

impl Group<'_> {
    const fn new(node: Arc<Node>, waits: bool) -> Self {
        Self {
            node,
            waits,
            requests: Vec::new(),
        }
    }
}

/// A request on its way.
struct Sent<'r> {
    at: usize,
    request: &'r Request,
    asking: bool,
    whole: bool,
}

/// Requests in pieces that are not too heavy.
fn pieces<'s, 'r>(mut requests: &'s [Sent<'r>]) -> Vec<&'s [Sent<'r>]> {
    let mut pieces = Vec::new();
    while !requests.is_empty() {
        let mut weight = 0;
        let fits = |sent: &&Sent<'_>| {
            weight += sent.request.weight;
            weight <= PIECE
        };
        let count = requests.iter().take_while(fits).count().max(1);
        let (piece, rest) = requests.split_at(count);
        pieces.push(piece);
        requests = rest;
    }
    pieces
}
