//! What workers say to the queue.

use std::sync::Arc;

use ashlar_proto::wire::farm::queue_message::{EventsTaken, Kind as ToWorker};
use ashlar_proto::wire::farm::worker_message::{self, Hello, Kind};
use ashlar_proto::wire::farm::{ChannelData, QueueMessage, WorkerMessage};
use ashlar_queue::{ConnectionId, Event, OperationId};
use tonic::Status;

use super::clients::moved;
use super::convert;
use super::dispatcher::Dispatcher;
use super::link::Link;
use super::outbox::{Inbox, outbox};
use crate::{limits, status};

/// A worker that is there, until this is dropped.
#[derive(Debug)]
pub struct Attached {
    dispatcher: Arc<Dispatcher>,
    connection: ConnectionId,
}

impl Drop for Attached {
    fn drop(&mut self) {
        let connection = self.connection;
        let mut state = self.dispatcher.state();
        state.unlink(connection, None);
        self.dispatcher
            .drive(&mut state, Event::WorkerGone { connection });
    }
}

impl Dispatcher {
    /// A worker is there, for these namespaces.
    pub fn attach(
        self: &Arc<Self>,
        hello: &Hello,
        namespaces: Vec<Arc<str>>,
    ) -> Result<(Attached, Inbox<QueueMessage>), Status> {
        convert::check_hello(hello)?;
        let running = convert::assignments(&hello.running)?;
        let connection = ConnectionId(self.number());
        let (put, taken) = outbox(limits::WAITING);
        let mut link = Link::new(put);
        link.namespaces.clone_from(&namespaces);
        link.recipient.clone_from(&hello.recipient);
        link.order_versions.clone_from(&hello.order_versions);
        let names = running.iter();
        let names = names.map(|(one, name)| (one.operation, name.to_string()));
        link.names = names.collect();
        let running = running.into_iter().map(|(one, _)| one).collect();
        let mut state = self.state();
        if self.over().is_cancelled() {
            return Err(moved());
        }
        state.links.insert(connection, link);
        let hello = Box::new(convert::hello(hello, namespaces, running));
        self.drive(&mut state, Event::Hello { connection, hello });
        drop(state);
        let attached = Attached {
            dispatcher: self.clone(),
            connection,
        };
        Ok((attached, taken))
    }
}

impl Attached {
    /// The worker has said what none may.
    pub fn end(&self, why: Status) {
        let mut state = self.dispatcher.state();
        state.unlink(self.connection, Some(why));
    }

    /// The worker has said something.
    pub fn hear(&self, message: WorkerMessage) -> Result<(), Status> {
        let connection = self.connection;
        let event = match message.kind {
            Some(Kind::Hello(_)) => {
                return Err(Status::invalid_argument("the worker has said hello before"));
            }
            Some(Kind::Holdings(holdings)) => {
                convert::check_holdings(&holdings)?;
                Event::Holdings {
                    connection,
                    all: holdings.all,
                    added: holdings.added,
                    removed: holdings.removed,
                }
            }
            Some(Kind::Capacity(capacity)) => Event::Capacity {
                connection,
                free: capacity.free.min(limits::WORKER_SLOTS),
                draining: capacity.draining,
                why: convert::cut(&capacity.why, limits::WORKER_TEXT).into(),
            },
            Some(Kind::Renew(renew)) => {
                let running = convert::assignments(&renew.running)?;
                let running = running.into_iter().map(|(one, _)| one).collect();
                Event::Renew {
                    connection,
                    running,
                }
            }
            Some(Kind::Outcome(outcome)) => {
                let (assignment, name) = convert::assignment(outcome.assignment.as_ref())?;
                let outcome = convert::outcome(outcome)?;
                self.learn_name(assignment.operation, name.to_string());
                Event::Outcome {
                    connection,
                    assignment,
                    outcome,
                }
            }
            Some(Kind::Events(events)) => return self.say(events),
            Some(Kind::Channel(channel)) => return self.open_channel(channel),
            Some(Kind::Data(data)) => return self.data(data),
            Some(Kind::End(end)) => {
                let mut state = self.dispatcher.state();
                if let Some(link) = state.links.get_mut(&connection) {
                    link.forget(end.channel);
                }
                let error = convert::cut(&end.error, limits::SAID).to_owned();
                let worker = (connection.0, end.channel);
                state.sessions.end_from_worker(worker, error);
                return Ok(());
            }
            // Of a later version.
            None => return Ok(()),
        };
        self.dispatcher.happen(event);
        Ok(())
    }

    /// Remembers what the worker calls an operation, so that it can be answered.
    fn learn_name(&self, operation: OperationId, name: String) {
        let mut state = self.dispatcher.state();
        if let Some(link) = state.links.get_mut(&self.connection)
            && link.names.len() < limits::ASSIGNMENTS
        {
            link.names.entry(operation).or_insert(name);
        }
    }

    /// Events of an operation that the worker has.
    fn say(&self, wire: worker_message::Events) -> Result<(), Status> {
        let (assignment, _) = convert::assignment(wire.assignment.as_ref())?;
        convert::check_events(&wire.events)?;
        let next = wire.first.saturating_add(wire.events.len() as u64);
        let mut state = self.dispatcher.state();
        // One that has ended says nothing more, and what others say of it does not count.
        let is_own = state.is_of(self.connection, assignment.operation);
        let known = state.operation(assignment.operation).filter(|_| is_own);
        let new = known.and_then(|operation| {
            let is_over = operation.shown.borrow().is_over();
            let heard = &mut operation.heard;
            let new = heard.new_ones(assignment.fencing, wire.first, wire.events);
            new.filter(|_| !is_over)
        });
        if let Some(new) = new {
            state.say(assignment.operation, new);
        }
        let taken = ToWorker::Taken(EventsTaken {
            assignment: wire.assignment,
            next,
        });
        let link = state.links.get(&self.connection);
        let sent = link.map_or(Ok(()), |link| link.send(taken));
        sent.map_err(|_| Status::aborted("the worker does not read what it is sent"))
    }

    /// The worker wants to speak to an agent of a build's client.
    fn open_channel(&self, wire: worker_message::ChannelOpenFor) -> Result<(), Status> {
        let (assignment, _) = convert::assignment(wire.assignment.as_ref())?;
        if wire.agent.len() > limits::AGENT {
            return Err(status::too_long("agent", limits::AGENT));
        }
        let connection = self.connection;
        let mut state = self.dispatcher.state();
        let is_own = state.is_of(connection, assignment.operation);
        let current = state
            .operation(assignment.operation)
            .filter(|operation| is_own && operation.heard.fence == assignment.fencing);
        let is_current = current.is_some_and(|known| !known.shown.borrow().is_over());
        let view = state
            .queue
            .view(assignment.operation)
            .filter(|_| is_current);
        let builds = view.map(|view| view.builds).unwrap_or_default();
        let there = builds.iter().find(|build| state.sessions.is_there(build));
        let worker = (connection.0, wire.channel);
        let opened = match there {
            Some(build) => state.sessions.connect(build, worker, wire.agent),
            None => Err("the build's client is not there"),
        };
        if let Some(link) = state.links.get_mut(&connection) {
            match opened {
                Ok(()) => link.open(wire.channel),
                Err(error) => link.refuse(wire.channel, error),
            }
        }
        Ok(())
    }

    /// Bytes for the client.
    fn data(&self, ChannelData { channel, data }: ChannelData) -> Result<(), Status> {
        if data.len() > limits::CHANNEL_DATA {
            return Err(status::too_long("data", limits::CHANNEL_DATA));
        }
        let worker = (self.connection.0, channel);
        let mut state = self.dispatcher.state();
        if let Err(error) = state.sessions.from_worker(worker, data) {
            state.sessions.end_from_worker(worker, error.to_owned());
            state.end_channels([worker], error);
        }
        Ok(())
    }
}
