//! What outlives the server that leads: a record of each operation.
//!
//! One task writes it. Effects wait behind the records that they follow from, and are carried out in
//! their order: so nobody is told of anything that another server would not know.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ashlar_model::executor::BoxFuture;
use ashlar_queue::{Effect, OperationId, Record};
use ashlar_store::Fault;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::dispatcher::Dispatcher;

/// So long until writing is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Changes that are written in one go.
const MOST: usize = 512;

/// What a queue left behind.
#[derive(Debug, Default)]
pub struct Taken {
    /// Its operations.
    pub records: Vec<Record>,
}

/// What is to be kept of an operation; `None`: nothing any more.
pub type Change = (OperationId, Option<Box<Record>>);

/// Why a change was not written.
#[derive(Debug)]
pub enum JournalError {
    /// Another server leads.
    Superseded,
    /// It may be written later.
    Fault(Fault),
}

/// Where records are kept.
pub trait JournalStore: Send + Sync + fmt::Debug {
    /// Writes changes, all or none, if this server still leads.
    fn write<'a>(&'a self, changes: &'a [Change]) -> BoxFuture<'a, Result<(), JournalError>>;
}

/// A journal.
#[derive(Debug, Clone)]
pub struct Journal(pub Arc<dyn JournalStore>);

/// Writes what effects want kept, and has them carried out.
pub(super) async fn run(
    journal: Journal,
    mut effects: mpsc::UnboundedReceiver<Vec<Effect>>,
    dispatcher: Weak<Dispatcher>,
) {
    let mut batch = Vec::new();
    while effects.recv_many(&mut batch, MOST).await > 0 {
        let all: Vec<Effect> = batch.drain(..).flatten().collect();
        let mut changes: BTreeMap<OperationId, Option<Box<Record>>> = BTreeMap::new();
        for effect in &all {
            match effect {
                Effect::Persist(record) => {
                    changes.insert(record.operation, Some(record.clone()));
                }
                Effect::Forget(id) => {
                    changes.insert(*id, None);
                }
                _ => {}
            }
        }
        let changes: Vec<Change> = changes.into_iter().collect();
        for some in changes.chunks(MOST) {
            if !write(&journal, some, &dispatcher).await {
                return;
            }
        }
        let Some(dispatcher) = dispatcher.upgrade() else {
            return;
        };
        dispatcher.carry_out(all);
    }
}

/// Writes some changes, however long it takes. Whether this server still leads.
async fn write(journal: &Journal, changes: &[Change], dispatcher: &Weak<Dispatcher>) -> bool {
    loop {
        let fault = match journal.0.write(changes).await {
            Ok(()) => return true,
            Err(JournalError::Superseded) => {
                tracing::warn!("another server has the queue");
                if let Some(dispatcher) = dispatcher.upgrade() {
                    dispatcher.over().cancel();
                }
                return false;
            }
            Err(JournalError::Fault(fault)) => fault,
        };
        let error = ashlar_store::fault::in_one_line(&fault);
        tracing::warn!(error, "the queue's journal cannot be written; it is tried again");
        sleep(AGAIN).await;
        let is_over = |dispatcher: Arc<Dispatcher>| dispatcher.over().is_cancelled();
        if dispatcher.upgrade().is_none_or(is_over) {
            return false;
        }
    }
}
