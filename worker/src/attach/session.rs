//! One connection to the farm.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ashlar_proto::convert::duration_from_wire;
use ashlar_proto::wire::farm;
use ashlar_store::fault::{Fault, FaultKind};
use ashlar_store::grpc::{GrpcEndpoint, fault_of};
use farm::queue_message::Kind as Said;
use farm::worker_message::Kind as Say;
use farm::workers_client::WorkersClient;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::channels::Messages;
use super::ledger::{Given, Taken};
use super::{Hand, Identity, Line, RENEW};
use crate::capacity::Capacity;
use crate::holdings::{Change, Told};

/// So long the farm may take to say Welcome.
const WELCOME: Duration = Duration::from_secs(20);
/// Messages that wait for the network.
const WAITING: usize = 4;
/// The longest message that is read.
const LONGEST_MESSAGE: usize = 16 << 20;
/// How often it is said at most that work goes on, whatever the farm says.
const RENEW_OFTEN: Duration = Duration::from_millis(50);

const ATTACH: &str = "attach to the farm";

type Sender = mpsc::Sender<farm::WorkerMessage>;

/// Speaks with the farm until the connection ends.
pub(super) async fn run(
    endpoint: &GrpcEndpoint,
    identity: &Identity,
    line: &Line,
    messages: &mut Messages,
    hand: &dyn Hand,
) -> Result<(), Fault> {
    // What waited for another connection has no meaning for this one.
    while messages.try_recv().is_ok() {}
    let (sender, mut said) = attach(endpoint, || hello(identity, line)).await?;
    let welcome = timeout(WELCOME, said.message())
        .await
        .map_err(|_| silent())?
        .map_err(|status| of_attaching(fault_of(ATTACH, status)))?;
    let Some(Said::Welcome(welcome)) = welcome.and_then(|message| message.kind) else {
        return Err(no_port_for_workers());
    };
    tracing::info!(
        address = endpoint.settings().address,
        "attached to the farm"
    );
    line.ledger().reconnected();
    line.channels.connected(true);
    let renew_every = welcome.renew_every.as_ref().and_then(duration_from_wire);
    let renew_every = renew_every.unwrap_or(RENEW).max(RENEW_OFTEN);
    line.attached_to(renew_every);
    let session = Session {
        line,
        hand,
        sender,
        renew_every,
    };
    session.speak(&mut said, messages).await
}

/// Begins a stream in both directions, with whichever server of the farm takes it.
async fn attach(
    endpoint: &GrpcEndpoint,
    hello: impl Fn() -> farm::worker_message::Hello,
) -> Result<(Sender, Streaming<farm::QueueMessage>), Fault> {
    let of_attempt: Mutex<Option<Sender>> = Mutex::default();
    let attached = endpoint.call_singly(ATTACH, || {
        let (sender, waiting) = mpsc::channel(WAITING);
        // The queue is empty.
        let _sent = sender.try_send(message(Say::Hello(hello())));
        *of_attempt.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        let client = WorkersClient::new(endpoint.channel());
        let mut client = client.max_decoding_message_size(LONGEST_MESSAGE);
        async move { client.attach(ReceiverStream::new(waiting)).await }
    });
    let said = timeout(WELCOME, attached).await.map_err(|_| silent())?;
    let said = said.map_err(of_attaching)?;
    let sender = of_attempt.into_inner();
    let sender = sender.unwrap_or_else(PoisonError::into_inner);
    Ok((sender.ok_or_else(silent)?, said))
}

fn of_attaching(fault: Fault) -> Fault {
    match fault.kind {
        FaultKind::Unsupported => no_port_for_workers(),
        _ => fault,
    }
}

fn no_port_for_workers() -> Fault {
    Fault::new(
        FaultKind::Invalid,
        "the farm does not say Welcome: is this its port for workers?",
    )
}

fn silent() -> Fault {
    Fault::new(
        FaultKind::Unavailable,
        format!("the farm does not say Welcome within {WELCOME:?}"),
    )
}

fn message(kind: Say) -> farm::WorkerMessage {
    farm::WorkerMessage { kind: Some(kind) }
}

fn hello(identity: &Identity, line: &Line) -> farm::worker_message::Hello {
    farm::worker_message::Hello {
        id: identity.id.clone(),
        name: identity.name.clone(),
        slots: identity.slots,
        properties: identity.properties.iter().cloned().collect(),
        instance_names: identity.instances.clone(),
        order_versions: identity.order_versions.clone(),
        recipient: identity.recipient.clone(),
        running: line.ledger().all(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn capacity_message(capacity: &Capacity) -> farm::WorkerMessage {
    message(Say::Capacity(farm::worker_message::Capacity {
        free: capacity.free,
        draining: capacity.is_draining,
        why: capacity.why.clone(),
    }))
}

fn holdings_message(change: Change) -> farm::WorkerMessage {
    message(Say::Holdings(farm::worker_message::Holdings {
        all: change.is_all,
        added: change.added,
        removed: change.removed,
    }))
}

/// What is to be said next, before what work has to say.
#[derive(Debug, Default)]
struct Due {
    renew: bool,
    capacity: bool,
    holdings: bool,
    /// Whether the farm was told of all layers over this connection.
    knows_holdings: bool,
    of_channel: Option<farm::WorkerMessage>,
}

impl Due {
    fn message(&mut self, line: &Line, told: &mut Told) -> Option<farm::WorkerMessage> {
        if std::mem::take(&mut self.renew) {
            let running = line.ledger().all();
            return Some(message(Say::Renew(farm::worker_message::Renew { running })));
        }
        if std::mem::take(&mut self.capacity) {
            return Some(capacity_message(&line.capacity()));
        }
        if std::mem::take(&mut self.holdings) {
            let now = Arc::clone(&line.holdings.borrow());
            let is_all = !std::mem::replace(&mut self.knows_holdings, true);
            if let Some(change) = told.change((*now).clone(), is_all) {
                return Some(holdings_message(change));
            }
        }
        self.of_channel.take()
    }
}

struct Session<'a> {
    line: &'a Line,
    hand: &'a dyn Hand,
    sender: Sender,
    renew_every: Duration,
}

impl Session<'_> {
    async fn speak(
        &self,
        said: &mut Streaming<farm::QueueMessage>,
        messages: &mut Messages,
    ) -> Result<(), Fault> {
        let mut renew = interval(self.renew_every);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut capacity = self.line.capacity.subscribe();
        let mut holdings = self.line.holdings.subscribe();
        let mut told = Told::default();
        // Both are told at once.
        capacity.mark_changed();
        holdings.mark_changed();
        let mut due = Due::default();
        let mut next: Option<farm::WorkerMessage> = None;
        loop {
            if next.is_none() {
                next = due.message(self.line, &mut told);
            }
            if next.is_none() {
                next = self.line.ledger().next_message();
            }
            // In this order, so that nothing that comes seldom waits for what comes always.
            tokio::select! {
                biased;
                heard = said.message() => match heard {
                    Ok(Some(heard)) => self.heard(heard),
                    Ok(None) => return Ok(()),
                    Err(status) => return Err(fault_of("stay attached to the farm", status)),
                },
                _ = renew.tick() => due.renew = true,
                _ = capacity.changed() => due.capacity = true,
                _ = holdings.changed() => due.holdings = true,
                of_channel = messages.recv(), if due.of_channel.is_none() => {
                    due.of_channel = of_channel;
                }
                permit = self.sender.reserve(), if next.is_some() => {
                    let Ok(permit) = permit else { return Ok(()) };
                    if let Some(message) = next.take() {
                        permit.send(message);
                    }
                }
                () = self.line.changed() => {}
            }
        }
    }

    fn heard(&self, message: farm::QueueMessage) {
        match message.kind {
            Some(Said::Assign(assign)) => self.assigned(assign),
            Some(Said::Cancel(assignment)) => self.hand.cancel(&(&assignment).into()),
            Some(Said::Revoke(assignment)) => {
                let given = (&assignment).into();
                if self.line.ledger().forget(&given) {
                    self.hand.forget(&given);
                }
            }
            Some(Said::Taken(taken)) => {
                if let Some(assignment) = &taken.assignment {
                    self.line
                        .ledger()
                        .events_taken(&assignment.into(), taken.next);
                }
            }
            Some(Said::Outcome(outcome)) => {
                if let Some(assignment) = &outcome.assignment {
                    self.line.ledger().outcome_taken(&assignment.into());
                }
            }
            Some(Said::Data(data)) => self.line.channels.came(data.channel, data.data),
            Some(Said::End(end)) => self.line.channels.ended(end.channel),
            // A farm of a later version may say more.
            Some(Said::Welcome(_)) | None => {}
        }
    }

    fn assigned(&self, assign: farm::queue_message::Assign) {
        let Some(assignment) = &assign.assignment else {
            return;
        };
        let given = Given::from(assignment);
        match self.line.give(&given) {
            Taken::Known => {}
            Taken::Begins(older) => {
                for older in &older {
                    self.hand.forget(older);
                }
                self.hand.begin(given, assign);
            }
        }
    }
}
