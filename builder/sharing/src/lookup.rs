//! Looks results up in caches, and takes over what is found.
//!
//! Where the server has `ashlar.cache.v1`, all keys go in one round trip; else each is asked for on
//! its own, side by side. The record of the most wanted result comes with the answer. Records of
//! results below it are mostly the beginning of its record: then their digest tells that they need
//! not be fetched.

use std::collections::{HashMap, HashSet};

use ashlar_engine::share::{FoundLayer, Probed};
use ashlar_model::cas::{ActionKey, CasDigest, DigestFunction};
use ashlar_model::digest::{BlobDigest, ContentKey, DefinitionKey, InstructionKey, LayerId};
use ashlar_store::fault::{Fault, FaultKind};
use ashlar_store::home::results::{DefinitionResult, SignedWord, Word};
use ashlar_store::home::{Home, StoreError};
use bytes::Bytes;
use futures::future::join;

use crate::action::{RECORD_PATH, ResultOutputs, StepAction, StepKey};
use crate::adopt::adopt;
use crate::breaker::{Trouble, Use};
use crate::cache::{ANSWER, Cache};
use crate::record::{LONGEST_RECORD, RecordError, StepResult};
use crate::service::Service;
use crate::signature::envelope::LONGEST_ENVELOPE;
use crate::signature::trust::{instance_of, is_about};
use crate::signature::{Refusal, SIGNATURE_PATH, Subject};

/// What a cache has of what was asked for.
#[derive(Debug, Default)]
struct Answer {
    /// Which, and what it names; in the order asked for.
    results: Vec<(usize, ResultOutputs)>,
    /// Instructions that ever ran.
    instructions: Vec<usize>,
    /// The records that were fetched.
    records: HashMap<CasDigest, Record>,
    /// The signatures that were fetched.
    signatures: HashMap<CasDigest, Bytes>,
    /// Something that the server sent is wrong.
    wrong: Option<String>,
    /// A record is gone.
    lost: bool,
}

/// A record, and its bytes, which may be signed.
#[derive(Debug, Clone)]
struct Record {
    result: StepResult,
    bytes: Bytes,
}

impl Record {
    fn read(bytes: Bytes) -> Result<Self, RecordError> {
        let result = StepResult::read(&bytes)?;
        Ok(Self { result, bytes })
    }
}

impl Answer {
    /// Whose word a result is, if it is signed as is demanded of the cache. One that is not is
    /// noted, and nothing of it is used.
    fn word(
        &self,
        cache: &Cache,
        key: StepKey,
        (outputs, record): (&ResultOutputs, &Record),
    ) -> Option<Word> {
        let fetched = outputs
            .signature
            .and_then(|digest| self.signatures.get(&digest));
        let envelope = outputs.inline_signature.as_ref().or(fetched);
        let subject = Subject {
            key,
            instance: cache.instance(),
            record: BlobDigest::of(&record.bytes),
        };
        if let Err(refusal) = cache.trust().check(&subject, envelope.map(AsRef::as_ref)) {
            let made_for = envelope.filter(|_| refusal == Refusal::WrongInstance);
            cache.note_refused(key, refusal, made_for.and_then(|made| instance_of(made)));
            return None;
        }
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).ok();
        let signed = envelope
            .filter(|envelope| is_about(envelope, &subject))
            .and_then(|envelope| Some((text(&record.bytes)?, text(envelope)?)));
        let cache = cache.origin();
        Some(match signed {
            None => Word::Bare(Some(cache)),
            Some((record, envelope)) => Word::Signed(Box::new(SignedWord {
                cache,
                record,
                envelope,
            })),
        })
    }
}

/// Looks many keys up in one cache. What is found by definition key is in the store then.
pub async fn probe(
    home: &Home,
    cache: &Cache,
    distrusted: &(dyn Fn(&[LayerId]) -> bool + Send + Sync),
    definitions: &[DefinitionKey],
    instructions: &[InstructionKey],
) -> Probed {
    let keys: Vec<StepKey> = definitions
        .iter()
        .map(|key| StepKey::Definition(*key))
        .chain(instructions.iter().map(|key| StepKey::Instruction(*key)))
        .collect();
    let Some(answer) = ask(cache, keys).await else {
        return Probed::default();
    };
    let mut probed = Probed {
        definitions: Vec::new(),
        instructions: answer
            .instructions
            .iter()
            .filter_map(|number| instructions.get(number - definitions.len()).copied())
            .collect(),
    };
    for (number, outputs) in &answer.results {
        let Some(key) = definitions.get(*number) else {
            continue;
        };
        let Some(record) = answer.records.get(&outputs.record) else {
            continue;
        };
        let trees = match outputs.trees_of(&record.result) {
            Ok(trees) => trees,
            Err(error) => {
                tell_wrong(cache, &error.to_string());
                continue;
            }
        };
        let Some(word) = answer.word(cache, StepKey::Definition(*key), (outputs, record)) else {
            continue;
        };
        let proven = cache.trust().demands();
        let stack = adopt(home, cache.name(), (&record.result, &trees), proven);
        let kept = match stack {
            Ok(Some(stack)) => {
                let result = DefinitionResult { stack, word };
                keep(home, cache, distrusted, key, &result)
            }
            Ok(None) => Ok(false),
            Err(error) => Err(error),
        };
        match kept {
            Ok(true) => probed.definitions.push(*key),
            Ok(false) => {}
            Err(error) => {
                tell_here(cache, &error);
                break;
            }
        }
    }
    probed
}

/// Stores a result that was taken over. Whether it is to be used.
fn keep(
    home: &Home,
    cache: &Cache,
    distrusted: &(dyn Fn(&[LayerId]) -> bool + Send + Sync),
    key: &DefinitionKey,
    result: &DefinitionResult,
) -> Result<bool, StoreError> {
    if distrusted(&result.stack) {
        return Ok(false);
    }
    home.put_definition_result(key, result)?;
    home.note_result_in(cache.name(), key)?;
    Ok(true)
}

/// Looks one step up by what its inputs contain. Its layer's record is in the store then.
pub async fn by_content(
    home: &Home,
    cache: &Cache,
    distrusted: &(dyn Fn(&[LayerId]) -> bool + Send + Sync),
    key: &ContentKey,
) -> Option<FoundLayer> {
    let answer = ask(cache, vec![StepKey::Content(*key)]).await?;
    let (_, outputs) = answer.results.first()?;
    let record = answer.records.get(&outputs.record)?;
    let trees = match outputs.trees_of(&record.result) {
        Ok(trees) if record.result.layers.len() == 1 => trees,
        Ok(_) => {
            tell_wrong(cache, "a result by content has more than one layer");
            return None;
        }
        Err(error) => {
            tell_wrong(cache, &error.to_string());
            return None;
        }
    };
    let word = answer.word(cache, StepKey::Content(*key), (outputs, record))?;
    let proven = cache.trust().demands();
    match adopt(home, cache.name(), (&record.result, &trees), proven) {
        Ok(Some(stack)) if !distrusted(&stack) => {
            let layer = stack.first().copied()?;
            Some(FoundLayer { layer, word })
        }
        Ok(_) => None,
        Err(error) => {
            tell_here(cache, &error);
            None
        }
    }
}

async fn ask(cache: &Cache, keys: Vec<StepKey>) -> Option<Answer> {
    if !cache.mode().reads() || keys.is_empty() {
        return None;
    }
    let (instance, keys) = (cache.instance(), keys.as_slice());
    let signed = cache.trust().demands();
    let asked = cache.ask(Use::Read, ANSWER, |service| async move {
        look_up(&service, instance, keys, signed).await
    });
    let answer = asked.await?.ok()?;
    if let Some(why) = &answer.wrong {
        tell_wrong(cache, why);
    }
    if answer.lost {
        tell_lost(cache);
    }
    Some(answer)
}

/// With `signed`, all signatures are there in the end, else those that came along.
async fn look_up(
    service: &Service,
    instance: &str,
    keys: &[StepKey],
    signed: bool,
) -> Result<Answer, Fault> {
    let function = service.function;
    let actions: Vec<CasDigest> = keys
        .iter()
        .map(|key| StepAction::of(key, function).digest)
        .collect();
    let found = find(service, instance, &actions).await?;
    let mut answer = Answer::default();
    for (number, (key, found)) in keys.iter().zip(found).enumerate() {
        let Some(found) = found else { continue };
        if let StepKey::Instruction(_) = key {
            answer.instructions.push(number);
            continue;
        }
        match ResultOutputs::read(&found, function) {
            Ok(outputs) => answer.results.push((number, outputs)),
            Err(error) => answer.wrong = Some(error.to_string()),
        }
    }
    records(service, &mut answer, signed).await?;
    Ok(answer)
}

/// The results of actions with their signatures, the record of the first along with it, where the
/// server can.
async fn find(
    service: &Service,
    instance: &str,
    actions: &[CasDigest],
) -> Result<Vec<Option<Bytes>>, Fault> {
    if let (Some(extension), Some((first, rest))) = (&service.extension, actions.split_first()) {
        let first = std::slice::from_ref(first);
        let first = extension.probe(first, &[RECORD_PATH, SIGNATURE_PATH]);
        let both = if rest.is_empty() {
            (first.await, Ok(Vec::new()))
        } else {
            join(first, extension.probe(rest, &[SIGNATURE_PATH])).await
        };
        match both {
            (Ok(mut first), Ok(rest)) => {
                first.extend(rest);
                return Ok(first);
            }
            (Err(fault), _) | (_, Err(fault)) if fault.kind != FaultKind::Unsupported => {
                return Err(fault);
            }
            _ => {}
        }
    }
    let keys: Vec<ActionKey> = actions
        .iter()
        .map(|action| ActionKey {
            instance: instance.to_owned(),
            action: *action,
        })
        .collect();
    service.actions.get(&keys).await
}

/// Gets the records that the results name and, with `signed`, their signatures.
async fn records(service: &Service, answer: &mut Answer, signed: bool) -> Result<(), Fault> {
    let function = service.function;
    for (_, outputs) in &answer.results {
        let Some(bytes) = &outputs.inline else {
            continue;
        };
        match StepResult::read(bytes) {
            Ok(record) => note_with_beginnings(&mut answer.records, &record, function),
            Err(error) => answer.wrong = Some(error.to_string()),
        }
    }
    let mut seen = HashSet::new();
    let missing: Vec<CasDigest> = answer
        .results
        .iter()
        .filter(|(_, outputs)| outputs.inline.is_none())
        .map(|(_, outputs)| outputs.record)
        .filter(|record| !answer.records.contains_key(record) && seen.insert(*record))
        .collect();
    let (mut missing, long): (Vec<_>, Vec<_>) = missing
        .into_iter()
        .partition(|record| record.size <= LONGEST_RECORD as u64);
    if !long.is_empty() {
        answer.wrong = Some("it has a record that is longer than any".to_owned());
    }
    let first_signature = missing.len();
    if signed {
        let signatures = answer.results.iter().filter_map(|(_, outputs)| {
            let is_away = outputs.inline_signature.is_none();
            outputs.signature.filter(|_| is_away)
        });
        // One that is longer than any is refused for not being there.
        missing.extend(signatures.filter(|one| one.size <= LONGEST_ENVELOPE as u64));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let fetched = service.blobs.read_many(&missing).await;
    for (number, (digest, bytes)) in missing.iter().zip(fetched).enumerate() {
        match bytes {
            Ok(bytes) if CasDigest::of(function, &bytes) != *digest => {
                answer.wrong = Some("it has other bytes than those of their digest".to_owned());
            }
            Ok(bytes) if number >= first_signature => {
                drop(answer.signatures.insert(*digest, bytes));
            }
            Ok(bytes) => match Record::read(bytes) {
                Ok(record) => drop(answer.records.insert(*digest, record)),
                Err(error) => answer.wrong = Some(error.to_string()),
            },
            Err(fault) if fault.kind == FaultKind::NotFound => answer.lost = true,
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}

/// Notes a record and, under the digests that they have, the records of all that it stands on.
fn note_with_beginnings(
    records: &mut HashMap<CasDigest, Record>,
    record: &StepResult,
    function: DigestFunction,
) {
    for end in 1..=record.layers.len() {
        let result = StepResult {
            layers: record.layers[..end].to_vec(),
        };
        let bytes = Bytes::from(result.to_bytes());
        let digest = CasDigest::of(function, &bytes);
        records.insert(digest, Record { result, bytes });
    }
}

/// Whether a result that a cache has is signed as is demanded of it.
pub(crate) async fn is_believed(
    service: &Service,
    cache: &Cache,
    key: StepKey,
    found: &Bytes,
) -> Result<bool, Fault> {
    if !cache.trust().demands() {
        return Ok(true);
    }
    let Ok(outputs) = ResultOutputs::read(found, service.function) else {
        return Ok(false);
    };
    let mut answer = Answer {
        results: vec![(0, outputs)],
        ..Answer::default()
    };
    records(service, &mut answer, true).await?;
    let Some((_, outputs)) = answer.results.first() else {
        return Ok(false);
    };
    let record = answer.records.get(&outputs.record);
    Ok(record.is_some_and(|record| answer.word(cache, key, (outputs, record)).is_some()))
}

/// Tells of what a server sent that is wrong.
pub fn tell_wrong(cache: &Cache, why: &str) {
    let text = format!("it sends what is wrong, which is not used: {why}");
    cache.breaker().tell(Trouble::Wrong, &text);
}

/// Tells that a server lacks what its results name.
pub fn tell_lost(cache: &Cache) {
    cache.note_lost();
    let text = "it lacks blobs that its results name: what they hold is made anew";
    cache.breaker().tell(Trouble::Lost, text);
}

/// Tells that this machine's store could not do its part.
pub fn tell_here(cache: &Cache, error: &StoreError) {
    let text = format!("what it has cannot be noted in the local store: {error}");
    cache.breaker().tell(Trouble::Here, &text);
}
