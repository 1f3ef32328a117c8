//! What workers say, as the queue has it: bounded, and checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use ashlar_proto::wire::farm::worker_message::outcome::Kind as OutcomeKind;
use ashlar_proto::wire::farm::worker_message::{Hello, Outcome};
use ashlar_proto::wire::farm::{self, Event};
use ashlar_queue::{self as queue, Assignment, OperationId};
use prost::Message as _;
use tonic::Status;

use super::action::{check_properties, is_build};
use super::name::OperationName;
use crate::limits;
use crate::service::request::check_instance;

fn wrong(what: impl Into<String>) -> Status {
    Status::invalid_argument(what.into())
}

/// As much of a text for people as is kept.
pub fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// An assignment, and the name of its operation.
pub fn assignment(wire: Option<&farm::Assignment>) -> Result<(Assignment, OperationName), Status> {
    let wire = wire.ok_or_else(|| wrong("assignment is not set"))?;
    let name: OperationName = wire.operation.parse()?;
    let assignment = Assignment {
        operation: OperationId(name.id),
        fencing: wire.fencing_number,
    };
    Ok((assignment, name))
}

/// Assignments, not too many.
pub fn assignments(wire: &[farm::Assignment]) -> Result<Vec<(Assignment, OperationName)>, Status> {
    if wire.len() > limits::ASSIGNMENTS {
        return Err(wrong(format!(
            "there are more than {} assignments",
            limits::ASSIGNMENTS
        )));
    }
    wire.iter().map(|one| assignment(Some(one))).collect()
}

/// Fails if a worker says more of itself than is kept.
pub fn check_hello(hello: &Hello) -> Result<(), Status> {
    if hello.id.is_empty() || !is_build(&hello.id) {
        return Err(wrong(format!(
            "the worker's id is not 1 to {} visible characters of ASCII",
            limits::BUILD
        )));
    }
    for (what, text) in [
        ("name", &hello.name),
        ("version", &hello.version),
        ("recipient", &hello.recipient),
    ] {
        if text.len() > limits::WORKER_TEXT {
            return Err(wrong(format!("the worker's {what} is too long")));
        }
    }
    if hello.slots > limits::WORKER_SLOTS {
        return Err(wrong(format!(
            "a worker has {} slots at most",
            limits::WORKER_SLOTS
        )));
    }
    check_properties(&hello.properties, limits::PROPERTIES)
        .map_err(|what| wrong(format!("the worker has properties with {what}")))?;
    if hello.instance_names.len() > limits::WORKER_NAMESPACES {
        return Err(wrong("the worker names too many namespaces"));
    }
    if hello.order_versions.len() > limits::WORKER_NAMESPACES {
        return Err(wrong("the worker reads too many versions"));
    }
    for instance in &hello.instance_names {
        check_instance(instance)?;
    }
    Ok(())
}

/// What a worker says first, for namespaces that it may work in.
pub fn hello(hello: &Hello, namespaces: Vec<Arc<str>>, running: Vec<Assignment>) -> queue::Hello {
    let properties = hello.properties.iter();
    let properties = properties.map(|(name, value)| (name.clone(), value.clone()));
    let name = if hello.name.is_empty() {
        &hello.id
    } else {
        &hello.name
    };
    queue::Hello {
        worker: hello.id.as_str().into(),
        name: name.as_str().into(),
        slots: hello.slots,
        properties: properties.collect::<BTreeMap<_, _>>(),
        namespaces,
        running,
    }
}

/// Fails if there are more layers than are kept.
pub fn check_holdings(holdings: &farm::worker_message::Holdings) -> Result<(), Status> {
    let most = limits::HOLDINGS;
    if holdings.added.len() > most || holdings.removed.len() > most {
        return Err(wrong(format!("a worker tells of {most} layers at once")));
    }
    Ok(())
}

/// What came of an assignment.
pub fn outcome(wire: Outcome) -> Result<queue::Outcome, Status> {
    let kind = wire.kind.ok_or_else(|| wrong("the outcome is none"))?;
    Ok(match kind {
        OutcomeKind::Done(done) => {
            if done.outcome.len() > limits::OUTCOME {
                return Err(wrong(format!(
                    "an outcome has {} bytes at most",
                    limits::OUTCOME
                )));
            }
            queue::Outcome::Done(queue::Done {
                outcome: done.outcome[..].into(),
                failed: done.failed,
                message: cut(&done.message, limits::SAID).into(),
            })
        }
        OutcomeKind::Infrastructure(trouble) => queue::Outcome::Infrastructure {
            message: cut(&trouble.message, limits::SAID).into(),
            is_exhaustion: trouble.is_exhaustion,
        },
        OutcomeKind::HandedBack(_) => queue::Outcome::HandedBack,
        OutcomeKind::Cancelled(_) => queue::Outcome::Cancelled,
    })
}

/// Events that a worker may say: not those of the queue, and none that is too long.
pub fn check_events(events: &[Event]) -> Result<(), Status> {
    use farm::event::Kind;
    for event in events {
        if event.encoded_len() > limits::EVENT {
            return Err(wrong(format!(
                "an event has {} bytes at most",
                limits::EVENT
            )));
        }
        let is_queues = matches!(event.kind, Some(Kind::Assigned(_) | Kind::Queued(_)));
        // Of a step of a whole build, its worker says what it was told of another operation.
        if is_queues && event.node.is_none() {
            return Err(wrong("this is for the queue to say"));
        }
    }
    Ok(())
}

/// An assignment as the wire has it.
pub fn to_wire(name: String, fencing: u64) -> farm::Assignment {
    farm::Assignment {
        operation: name,
        fencing_number: fencing,
    }
}
