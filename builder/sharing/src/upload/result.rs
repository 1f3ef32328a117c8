//! Stores a result under the keys of its step, once its layers have arrived.

use std::collections::HashSet;
use std::time::Duration;

use ashlar_engine::share::MadeResult;
use ashlar_model::cas::{ActionKey, CasDigest, DigestFunction};
use ashlar_model::layer::{LayerOrigin, LayerRecord};
use ashlar_store::action_cache::PutMode;
use ashlar_store::fault::{Fault, FaultKind};
use bytes::Bytes;
use tracing::Instrument as _;

use super::Uploader;
use crate::action::{EncodedResult, StepAction, StepKey, encode_instruction_result, encode_result};
use crate::breaker::Use;
use crate::cache::ANSWER;
use crate::record::{ResultLayer, ResultOrigin, StepResult};
use crate::service::{Fence, Service};

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
        let instance = self.cache.instance();
        let asked = self.cache.ask(Use::Write, STORE, |service| async move {
            let function = service.function;
            let entries = entries(result, layers, function);
            let mut blobs = Vec::new();
            for Entry { action, record, .. } in &entries {
                blobs.extend(action.blobs.iter().cloned());
                blobs.extend(record.clone());
            }
            let mut seen = HashSet::new();
            blobs.retain(|(digest, _)| digest.size > 0 && seen.insert(*digest));
            for written in service.blobs.write_many(blobs).await {
                written?;
            }
            let mut checked = true;
            for entry in entries {
                let fence = fence.filter(|_| entry.is_definition);
                checked &= put_one(&service, instance, entry, replace, fence).await?;
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
    action: StepAction,
    result: Bytes,
    record: Option<(CasDigest, Bytes)>,
    is_definition: bool,
}

/// What is stored of a result. That of the definition comes last: who waits for it finds all.
fn entries(
    result: &MadeResult,
    layers: &[(ResultLayer, Vec<CasDigest>)],
    function: DigestFunction,
) -> Vec<Entry> {
    let encode = |layers: &[(ResultLayer, Vec<CasDigest>)]| {
        let (layers, trees): (Vec<_>, Vec<_>) = layers.iter().cloned().unzip();
        encode_result(&StepResult { layers }, &trees, function)
    };
    let entry = |key, encoded: EncodedResult, is_definition| Entry {
        action: StepAction::of(&key, function),
        result: encoded.result,
        record: Some(encoded.record),
        is_definition,
    };
    let mut entries = Vec::new();
    if let (Some(content), Some(own)) = (result.content, layers.last()) {
        let own = std::slice::from_ref(own);
        entries.push(entry(StepKey::Content(content), encode(own), false));
        entries.push(Entry {
            action: StepAction::of(&StepKey::Instruction(result.instruction), function),
            result: encode_instruction_result(),
            record: None,
            is_definition: false,
        });
    }
    let definition = StepKey::Definition(result.definition);
    entries.push(entry(definition, encode(layers), true));
    entries
}

/// Stores one result. Whether the server has checked that all is there.
async fn put_one(
    service: &Service,
    instance: &str,
    entry: Entry,
    replace: bool,
    fence: Option<&Fence>,
) -> Result<bool, Fault> {
    let action = entry.action.digest;
    if let Some(extension) = &service.extension
        && !replace
    {
        match extension.commit(&action, entry.result.clone(), fence).await {
            Ok(_) => return Ok(true),
            Err(fault) if fault.kind == FaultKind::Unsupported => {}
            Err(fault) => return Err(fault),
        }
    }
    let key = ActionKey {
        instance: instance.to_owned(),
        action,
    };
    let mode = if replace {
        PutMode::Replace
    } else {
        PutMode::IfAbsent
    };
    service.actions.put(&key, entry.result, mode).await?;
    Ok(false)
}
