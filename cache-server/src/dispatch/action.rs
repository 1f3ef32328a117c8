//! What a client wants done: its action, read from the blobs that it sees.
//!
//! The queue knows three commands and runs none of them. Of the input root it reads the small file
//! `placement`; the order itself is between clients and workers.

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::convert;
use ashlar_proto::wire::farm::Placement;
use ashlar_proto::wire::reapi;
use ashlar_store::FaultKind;
use bytes::Bytes;
use prost::Message;
use tonic::Status;

use crate::stores::view::View;
use crate::{limits, status};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Some steps of a build.
    Segment,
    /// An image made of results, sent to registries.
    Delivery,
    /// A whole build.
    Build,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Segment, Self::Delivery, Self::Build];

    /// The command that says it.
    pub const fn command(self) -> &'static str {
        match self {
            Self::Segment => "ashlar.segment/1",
            Self::Delivery => "ashlar.delivery/1",
            Self::Build => "ashlar.build/1",
        }
    }
}

/// An action that can be queued.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Its digest.
    pub digest: CasDigest,
    /// What is to be done.
    pub kind: Kind,
    /// What the queue has to know.
    pub placement: Placement,
}

/// Reads an action, and checks it.
pub async fn read(view: &View, digest: CasDigest) -> Result<Action, Status> {
    let function = digest.function;
    let action: reapi::Action = one(view, "the action", digest).await?;
    let command = wanted(action.command_digest.as_ref(), function, "command_digest")?;
    let root = wanted(
        action.input_root_digest.as_ref(),
        function,
        "input_root_digest",
    )?;
    let blobs = many(view, &[("the command", command), ("the input root", root)]).await?;
    let [command, root] = &blobs[..] else {
        return Err(Status::internal("a blob is missing among the answers"));
    };
    let command: reapi::Command = decoded("the command", command)?;
    let root: reapi::Directory = decoded("the input root", root)?;
    let kind = kind(&command)?;
    let file = |name: &'static str| {
        let file = root.files.iter().find(|file| file.name == name);
        let file = file.ok_or_else(|| {
            Status::invalid_argument(format!("the action's input root has no file `{name}`"))
        })?;
        wanted(file.digest.as_ref(), function, name)
    };
    let (order, placement) = (file("order")?, file("placement")?);
    if order.size > limits::ORDER {
        return Err(Status::invalid_argument(format!(
            "the order has more than {} bytes",
            limits::ORDER
        )));
    }
    let missing = view.blobs().missing(&[order]).await;
    let missing = missing.map_err(|fault| status::of_fault(&fault))?;
    if !missing.is_empty() {
        return Err(status::of_missing_inputs(&missing));
    }
    let placement = one(view, "the placement", placement).await?;
    check(&placement)?;
    Ok(Action {
        digest,
        kind,
        placement,
    })
}

/// The digest of a blob that is small enough to be looked at.
fn wanted(
    digest: Option<&reapi::Digest>,
    function: DigestFunction,
    field: &'static str,
) -> Result<CasDigest, Status> {
    let digest = convert::required_digest(digest, function, field);
    digest.map_err(|error| status::of_conversion(&error))
}

fn kind(command: &reapi::Command) -> Result<Kind, Status> {
    let known = Kind::ALL.into_iter().find(|kind| {
        let [name] = &command.arguments[..] else {
            return false;
        };
        name == kind.command()
    });
    known.ok_or_else(|| {
        let shown = command.arguments.first().map_or("", String::as_str);
        let shown: String = shown.chars().take(80).collect();
        let known = Kind::ALL.map(Kind::command).join(", ");
        Status::invalid_argument(format!(
            "this farm runs builds of Ashlar and no command `{shown}`: it knows {known}"
        ))
    })
}

/// Reads and decodes one small blob.
async fn one<M: Message + Default>(
    view: &View,
    what: &'static str,
    digest: CasDigest,
) -> Result<M, Status> {
    let blobs = many(view, &[(what, digest)]).await?;
    let blob = blobs.first();
    decoded(
        what,
        blob.ok_or_else(|| Status::internal("a blob is missing"))?,
    )
}

fn decoded<M: Message + Default>(what: &'static str, bytes: &Bytes) -> Result<M, Status> {
    M::decode(bytes.clone())
        .map_err(|error| Status::invalid_argument(format!("{what} cannot be decoded: {error}")))
}

/// Reads small blobs. If some are missing, the answer names them all.
async fn many(view: &View, wanted: &[(&'static str, CasDigest)]) -> Result<Vec<Bytes>, Status> {
    for (what, digest) in wanted {
        if digest.size > limits::ACTION {
            return Err(Status::invalid_argument(format!(
                "{what} has {} bytes; more than {} are not looked at",
                digest.size,
                limits::ACTION
            )));
        }
    }
    let digests: Vec<_> = wanted.iter().map(|(_, digest)| *digest).collect();
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for (digest, read) in digests.iter().zip(view.blobs().read_many(&digests).await) {
        match read {
            Ok(bytes) => found.push(bytes),
            Err(fault) if fault.kind == FaultKind::NotFound => missing.push(*digest),
            Err(fault) => return Err(status::of_fault(&fault)),
        }
    }
    if missing.is_empty() {
        Ok(found)
    } else {
        Err(status::of_missing_inputs(&missing))
    }
}

/// Fails if a placement has more than the queue keeps.
fn check(placement: &Placement) -> Result<(), Status> {
    let wrong = |what: String| Err(Status::invalid_argument(format!("the placement {what}")));
    if placement.inputs.len() > limits::PLACEMENT_INPUTS {
        let most = limits::PLACEMENT_INPUTS;
        return wrong(format!("has more than {most} inputs"));
    }
    check_properties(&placement.requirements, limits::REQUIREMENTS)
        .or_else(|what| wrong(format!("has requirements with {what}")))?;
    if placement.name.len() > limits::ACTION_NAME {
        let most = limits::ACTION_NAME;
        return wrong(format!("has a name of more than {most} bytes"));
    }
    if placement.build.is_empty() || !is_build(&placement.build) {
        return wrong(format!(
            "has no build, or one that is none: 1 to {} visible characters of ASCII",
            limits::BUILD
        ));
    }
    Ok(())
}

/// Whether this can be what a build is called.
pub fn is_build(name: &str) -> bool {
    name.len() <= limits::BUILD && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Fails if there are more properties than `most`, or if they are longer than any needs to be; says
/// what is wrong.
pub fn check_properties<'a>(
    properties: impl IntoIterator<Item = (&'a String, &'a String)>,
    most: usize,
) -> Result<(), String> {
    let mut count = 0;
    for (name, value) in properties {
        count += 1;
        let is_text = |text: &str| !text.chars().any(char::is_control);
        if name.is_empty() || name.len() > limits::PROPERTY_NAME || !is_text(name) {
            return Err("a name that is empty, too long or no text".to_owned());
        }
        if value.len() > limits::PROPERTY_VALUE || !is_text(value) {
            return Err("a value that is too long or no text".to_owned());
        }
    }
    if count > most {
        return Err(format!("more than {most} entries"));
    }
    Ok(())
}
