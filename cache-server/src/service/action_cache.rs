//! `ActionCache`: results, one at a time.

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::convert;
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::action_cache_server::ActionCache;
use ashlar_store::lease::{Committed, Fence};
use ashlar_store::{Fault, FaultKind};
use bytes::Bytes;
use prost::Message as _;
use tonic::{Request, Response, Status, async_trait};

use super::request::action;
use super::signers::{Place as Envelope, envelope_of, signers, signers_of};
use crate::audit::What;
use crate::auth::Right;
use crate::metrics::Metrics;
use crate::stores::Stores;
use crate::stores::kind::Kind;
use crate::stores::view::View;
use crate::{limits, status};

/// The service.
#[derive(Debug, Clone)]
pub struct ActionCacheService {
    /// What it serves from.
    pub stores: Stores,
    /// Counts hits and misses.
    pub metrics: Metrics,
}

#[async_trait]
impl ActionCache for ActionCacheService {
    async fn get_action_result(
        &self,
        request: Request<reapi::GetActionResultRequest>,
    ) -> Result<Response<reapi::ActionResult>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Read)?;
        let request = request.into_inner();
        let action = action(request.digest_function, request.action_digest.as_ref())?;
        let found = view.get_one(Kind::Result, &action).await;
        let Some(encoded) = found.map_err(|fault| status::of_fault(&fault))? else {
            self.metrics.missed(view.counted());
            return Err(Status::not_found("the action has no result here"));
        };
        self.metrics.hit(view.counted());
        view.charge(encoded.len() as u64)?;
        let mut result = decode(&encoded)?;
        let wanted = Inline {
            stdout: request.inline_stdout,
            stderr: request.inline_stderr,
            files: &request.inline_output_files,
        };
        let mut room = limits::BATCH.saturating_sub(encoded.len() as u64);
        let gaps = gaps(&result, &wanted, action.function, &mut room);
        let blobs: Vec<_> = gaps.iter().map(|gap| gap.blob).collect();
        let read = view.read_named(&blobs).await;
        for (gap, read) in gaps.iter().zip(read) {
            fill(&mut result, gap, read);
        }
        Ok(Response::new(result))
    }

    async fn update_action_result(
        &self,
        request: Request<reapi::UpdateActionResultRequest>,
    ) -> Result<Response<reapi::ActionResult>, Status> {
        let instance = &request.get_ref().instance_name;
        let view = self.stores.open(&request, instance, Right::Write)?;
        let request = request.into_inner();
        let action = action(request.digest_function, request.action_digest.as_ref())?;
        let result = request
            .action_result
            .ok_or_else(|| Status::invalid_argument("action_result is not set"))?;
        let encoded = Bytes::from(result.encode_to_vec());
        view.charge(encoded.len() as u64)?;
        check_complete(&view, &encoded, action.function).await?;
        let put = view.put(Kind::Result, &action, encoded).await;
        put.map_err(|fault| status::of_fault(&fault))?;
        note_written(&view, &action, &result).await;
        Ok(Response::new(result))
    }
}

/// A stored result, decoded.
pub fn decode(encoded: &[u8]) -> Result<reapi::ActionResult, Status> {
    reapi::ActionResult::decode(encoded).map_err(|error| {
        status::of_fault(
            &Fault::new(FaultKind::Internal, "a stored result cannot be decoded").caused_by(error),
        )
    })
}

/// Notes in the audit log that a result was written, and who says that it has signed it.
pub async fn note_written(view: &View, action: &CasDigest, result: &reapi::ActionResult) {
    if !view.is_audited() {
        return;
    }
    let signers = match envelope_of(result, action.function) {
        Envelope::Nowhere => Vec::new(),
        Envelope::Here(envelope) => signers(&envelope),
        Envelope::Blob(blob) => {
            let read = view.blobs().read_many(&[blob]).await;
            let named = read.into_iter().map(signers_of);
            // The result is written, whoever has signed it.
            named.flat_map(Result::unwrap_or_default).collect()
        }
    };
    view.note(What::Write, |event| {
        let event = event.to_key(action);
        if signers.is_empty() {
            event
        } else {
            event.with("signer", signers.join(" "))
        }
    });
}

/// Fails unless all that a result names is there for whoever stores it: blobs first, key second.
pub async fn check_complete(
    view: &View,
    encoded: &[u8],
    function: DigestFunction,
) -> Result<(), Status> {
    let missing = view.missing_of(encoded, function).await;
    let missing = missing.map_err(|fault| status::of_fault(&fault))?;
    if missing.is_empty() {
        Ok(())
    } else {
        Err(status::of_missing(&missing))
    }
}

/// Stores a complete result, unless there is one already or the lease under which it was made was
/// granted to another since. Gives the result that is there afterwards.
pub async fn commit(
    view: &View,
    action: &CasDigest,
    encoded: Bytes,
    fence: Option<&Fence>,
) -> Result<Bytes, Status> {
    check_complete(view, &encoded, action.function).await?;
    let mut hole = None;
    // A result with a hole may be replaced by another with a hole, but not for ever.
    for _ in 0..4 {
        let committed = view
            .commit(action, encoded.clone(), fence, hole.as_ref())
            .await;
        match committed.map_err(|fault| status::of_fault(&fault))? {
            Committed::Stored => return Ok(encoded),
            Committed::Superseded => {
                return Err(Status::aborted(
                    "the lease was lost, and another holder has been granted it since",
                ));
            }
            Committed::AlreadyThere(there) => {
                let lacks = view.missing_of(&there, action.function).await;
                if there == encoded || lacks.is_ok_and(|lacks| lacks.is_empty()) {
                    return Ok(there);
                }
                hole = Some(there);
            }
        }
    }
    Err(Status::unavailable(
        "the result changes faster than it can be looked at",
    ))
}

/// What a client wants inside the answer.
#[derive(Debug, Default)]
pub struct Inline<'a> {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Paths of output files.
    pub files: &'a [String],
}

/// A place in a result and the blob that is wanted there.
#[derive(Debug)]
pub struct Gap {
    place: Place,
    /// The blob.
    pub blob: CasDigest,
}

/// Where contents are wanted in a result, as far as there is room, which becomes less.
pub fn gaps(
    result: &reapi::ActionResult,
    wanted: &Inline<'_>,
    function: DigestFunction,
    room: &mut u64,
) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut take = |place: Place, digest: Option<&reapi::Digest>| {
        let digest = digest.and_then(|digest| convert::digest_from_wire(digest, function).ok());
        if let Some(blob) = digest
            && blob.size <= *room
        {
            *room -= blob.size;
            gaps.push(Gap { place, blob });
        }
    };
    if wanted.stdout && result.stdout_raw.is_empty() {
        take(Place::Stdout, result.stdout_digest.as_ref());
    }
    if wanted.stderr && result.stderr_raw.is_empty() {
        take(Place::Stderr, result.stderr_digest.as_ref());
    }
    for (index, file) in result.output_files.iter().enumerate() {
        if file.contents.is_empty() && wanted.files.contains(&file.path) {
            take(Place::File(index), file.digest.as_ref());
        }
    }
    gaps
}

/// Puts what was read into its place. What could not be read is left out: the client can still ask
/// for it, and then learns why.
pub fn fill(result: &mut reapi::ActionResult, gap: &Gap, read: Result<Bytes, Fault>) {
    let Ok(bytes) = read else { return };
    match gap.place {
        Place::Stdout => result.stdout_raw = bytes,
        Place::Stderr => result.stderr_raw = bytes,
        Place::File(index) => {
            if let Some(file) = result.output_files.get_mut(index) {
                file.contents = bytes;
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Stdout,
    Stderr,
    File(usize),
}
