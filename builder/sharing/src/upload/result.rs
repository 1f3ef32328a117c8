//! Stores a result under the keys of its step, once its layers have arrived.

use std::collections::HashSet;
use std::time::Duration;

use ashlar_engine::share::MadeResult;
use ashlar_model::cas::{ActionKey, CasDigest, DigestFunction};
use ashlar_model::digest::BlobDigest;
use ashlar_model::layer::{LayerOrigin, LayerRecord};
use ashlar_store::action_cache::PutMode;
use ashlar_store::fault::{Fault, FaultKind};
use ashlar_store::home::results::Word;
use bytes::Bytes;
use tracing::Instrument as _;

use super::Uploader;
use crate::action::{EncodedResult, StepAction, StepKey, encode_instruction_result, encode_result};
use crate::breaker::Use;
use crate::cache::{ANSWER, Cache};
use crate::lookup::is_believed;
use crate::record::{ResultLayer, ResultOrigin, StepResult};
use crate::service::{Fence, Service};
use crate::signature::Subject;

/// How long storing a result may take, whose chunks the server looks for.
const STORE: Duration = Duration::from_secs(10);

impl Uploader {
    /// Stores a result under its keys. Whether the server has checked that all is there.
    pub(super) async fn put(
        &self,
        result: &MadeResult,
        layers: &[(ResultLayer, Vec<CasDigest>)],
        replace: bool,
        fence: Option<&Fence>,
    ) -> Option<Result<bool, Fault>> {
        let cache = &self.cache;
        let asked = cache.ask(Use::Write, STORE, |service| async move {
            let function = service.function;
            let entries = self.entries(result, layers, function);
            let mut blobs = Vec::new();
            for entry in &entries {
                blobs.extend(entry.action.blobs.iter().cloned());
                blobs.extend(entry.blobs.iter().cloned());
            }
            let mut seen = HashSet::new();
            blobs.retain(|(digest, _)| digest.size > 0 && seen.insert(*digest));
            for written in service.blobs.write_many(blobs).await {
                written?;
            }
            let mut checked = true;
            for entry in entries {
                let fence = fence.filter(|_| entry.is_definition);
                checked &= put_one(&service, cache, entry, replace, fence).await?;
            }
            Ok(checked)
        });
        let span = tracing::info_span!("commit", key = %result.definition, replace);
        asked.instrument(span).await
    }

    /// Whether the cache gives a result that was just stored.
    pub(super) async fn is_complete(&self, result: &MadeResult) -> bool {
        let instance = self.cache.instance();
        let definition = result.definition;
        let asked = self.cache.ask(Use::Write, ANSWER, |service| async move {
            let action = StepAction::of(&StepKey::Definition(definition), service.function);
            let key = ActionKey {
                instance: instance.to_owned(),
                action: action.digest,
            };
            service.actions.get(&[key]).await
        });
        match asked.await {
            Some(Ok(found)) => found.first().is_some_and(Option::is_some),
            Some(Err(_)) | None => false,
        }
    }
}

/// Whether nobody knows a layer but as that of an image. One that another machine's step made before
/// an image brought it here as well has the length of its tar.
pub(super) const fn came_with_image(record: &LayerRecord) -> bool {
    matches!(record.origin, LayerOrigin::Image { .. }) && record.tar_size.is_none()
}

/// Whether a record says all that a shared record needs.
pub(super) fn is_described(record: &LayerRecord) -> bool {
    if came_with_image(record) {
        return record.diff_id.is_some() && !record.blobs.is_empty();
    }
    record.diff_id.is_some() && record.content.is_some() && record.tar_size.is_some()
}

pub(super) fn result_layer(record: &LayerRecord, trees: &[CasDigest]) -> Option<ResultLayer> {
    let origin = match &record.origin {
        LayerOrigin::Image { repositories } if came_with_image(record) => ResultOrigin::Image {
            repositories: repositories.clone(),
        },
        _ => ResultOrigin::Step {
            tar_size: record.tar_size?,
            content: record.content?,
            created: record.created,
            trees: u32::try_from(trees.len()).ok()?,
        },
    };
    Some(ResultLayer {
        diff_id: record.diff_id?,
        blobs: record.blobs.clone(),
        origin,
    })
}

/// What is stored under one key.
struct Entry {
    key: StepKey,
    action: StepAction,
    result: Bytes,
    /// The record, and the signature if there is one.
    blobs: Vec<(CasDigest, Bytes)>,
    is_definition: bool,
    is_signed: bool,
}

/// What the record says of layers, and their trees.
type Described = (ResultLayer, Vec<CasDigest>);

impl Uploader {
    /// What is stored of a result. That of the definition comes last: who waits for it finds all.
    fn entries(
        &self,
        result: &MadeResult,
        layers: &[Described],
        function: DigestFunction,
    ) -> Vec<Entry> {
        let mut entries = Vec::new();
        if let (Some(content), Some(own)) = (result.content, layers.last()) {
            let key = StepKey::Content(content);
            let (record, trees) = record_of(std::slice::from_ref(own));
            let signature = self.sign(key, result, &record);
            let encoded = encode_result(record, &trees, signature, function);
            entries.push(Entry::of(key, encoded, function));
            let key = StepKey::Instruction(result.instruction);
            entries.push(Entry {
                key,
                action: StepAction::of(&key, function),
                result: encode_instruction_result(),
                blobs: Vec::new(),
                is_definition: false,
                is_signed: false,
            });
        }
        let key = StepKey::Definition(result.definition);
        let (record, trees) = record_of(layers);
        // What another has signed goes on as it came.
        let handed_on = match &result.word {
            Word::Signed(signed) if is_record_of(&signed.record, layers) => Some((
                signed.record.clone().into_bytes(),
                Some(signed.envelope.clone().into_bytes()),
            )),
            _ => None,
        };
        let (record, signature) = handed_on.unwrap_or_else(|| {
            let signature = self.sign(key, result, &record);
            (record, signature)
        });
        let encoded = encode_result(record, &trees, signature, function);
        entries.push(Entry::of(key, encoded, function));
        entries
    }

    /// Our signature, if we sign, and the result is ours.
    fn sign(&self, key: StepKey, result: &MadeResult, record: &[u8]) -> Option<Vec<u8>> {
        let signer = self.signer.as_ref().filter(|_| result.word.is_own())?;
        Some(signer.sign(&Subject {
            key,
            instance: self.cache.instance(),
            record: BlobDigest::of(record),
        }))
    }
}

impl Entry {
    fn of(key: StepKey, encoded: EncodedResult, function: DigestFunction) -> Self {
        let is_signed = encoded.signature.is_some();
        let blobs = std::iter::once(encoded.record).chain(encoded.signature);
        Self {
            key,
            action: StepAction::of(&key, function),
            result: encoded.result,
            blobs: blobs.collect(),
            is_definition: matches!(key, StepKey::Definition(_)),
            is_signed,
        }
    }
}

/// The record of some layers, and the trees of each.
fn record_of(layers: &[Described]) -> (Vec<u8>, Vec<Vec<CasDigest>>) {
    let (layers, trees): (Vec<_>, Vec<_>) = layers.iter().cloned().unzip();
    (StepResult { layers }.to_bytes(), trees)
}

/// Whether a record that came from elsewhere is about these layers, cut into as many trees.
fn is_record_of(record: &str, layers: &[Described]) -> bool {
    let Ok(record) = StepResult::read(record.as_bytes()) else {
        return false;
    };
    let same = |(theirs, (ours, trees)): (&ResultLayer, &Described)| {
        theirs.diff_id == ours.diff_id && theirs.trees() == trees.len()
    };
    record.layers.len() == layers.len() && record.layers.iter().zip(layers).all(same)
}

/// Stores one result. Whether the server has checked that all is there.
async fn put_one(
    service: &Service,
    cache: &Cache,
    entry: Entry,
    replace: bool,
    fence: Option<&Fence>,
) -> Result<bool, Fault> {
    let action = entry.action.digest;
    let key = ActionKey {
        instance: cache.instance().to_owned(),
        action,
    };
    // What is there already stays, but if nobody is to believe it who demands what we do.
    let is_in_the_way = async |there: &Bytes| {
        Ok::<_, Fault>(
            entry.is_signed
                && *there != entry.result
                && !is_believed(service, cache, entry.key, there).await?,
        )
    };
    if let Some(extension) = &service.extension
        && !replace
    {
        match extension.commit(&action, entry.result.clone(), fence).await {
            Ok(there) if !is_in_the_way(&there).await? => return Ok(true),
            Ok(_) => {
                let put = service.actions.put(&key, entry.result, PutMode::Replace);
                put.await?;
                return Ok(false);
            }
            Err(fault) if fault.kind == FaultKind::Unsupported => {}
            Err(fault) => return Err(fault),
        }
    }
    let mode = if replace {
        PutMode::Replace
    } else {
        PutMode::IfAbsent
    };
    let there = service
        .actions
        .put(&key, entry.result.clone(), mode)
        .await?;
    if is_in_the_way(&there).await? {
        let put = service.actions.put(&key, entry.result, PutMode::Replace);
        put.await?;
    }
    Ok(false)
}
