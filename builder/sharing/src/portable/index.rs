//! What a portable cache holds: its index, version 1, as `docs/formats.md` has it.
//!
//! ```text
//! generation                   grows with each export
//! packs      [digest, size]    blobs of the container that hold blobs of the cache
//! blobs      digest ▶ pack, offset, length: a zstd frame
//! trees      digest ▶ packs that the tree's chunks are in
//! results    digest ▶ result, generation in which it was last wanted
//! ```
//!
//! What nobody wanted for some exports goes, and with it the packs that nothing else is in.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_model::digest::BlobDigest;
use ashlar_proto::action_result::references;
use ashlar_store::fault::Fault;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The version that is written and read.
const VERSION: u32 = 1;
/// The longest index that is read, in bytes.
pub(super) const LONGEST_INDEX: usize = 256 << 20;
/// So many exports later what nobody wanted goes.
const KEPT: u64 = 16;
/// The longest blob in a pack.
pub(super) const LARGEST_BLOB: u64 = 8 << 20;

/// A pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pack {
    pub(super) digest: BlobDigest,
    pub(super) size: u64,
}

/// Where a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) pack: BlobDigest,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// A stored result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) result: Bytes,
    pub(super) generation: u64,
}

/// The index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Index {
    pub(super) generation: u64,
    pub(super) packs: BTreeMap<BlobDigest, u64>,
    pub(super) blobs: BTreeMap<CasDigest, Place>,
    pub(super) trees: BTreeMap<CasDigest, BTreeSet<BlobDigest>>,
    pub(super) results: BTreeMap<CasDigest, Entry>,
}

/// The function of all digests.
pub(super) const FUNCTION: DigestFunction = DigestFunction::Sha256;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    generation: u64,
    packs: Vec<Pack>,
    /// Pack, offset, length.
    blobs: BTreeMap<String, (usize, u64, u64)>,
    trees: BTreeMap<String, Vec<usize>>,
    results: BTreeMap<String, WrittenEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEntry {
    result: String,
    generation: u64,
}

fn name(digest: &CasDigest) -> String {
    format!("{}-{}", digest.hash_hex(), digest.size)
}

fn digest(name: &str) -> Result<CasDigest, Fault> {
    let bad = || Fault::invalid("the index of the cache has a digest that is none");
    let (hex, size) = name.split_once('-').ok_or_else(bad)?;
    let mut hash = [0; 32];
    hex::decode_to_slice(hex, &mut hash).map_err(|_| bad())?;
    Ok(CasDigest {
        function: FUNCTION,
        hash,
        size: size.parse().map_err(|_| bad())?,
    })
}

impl Index {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let bad = |what: &str| Fault::invalid(format!("the index of the cache {what}"));
        let written: Written = serde_json::from_slice(bytes)
            .map_err(|error| bad("is not of the format").caused_by(error))?;
        if written.version != VERSION {
            return Err(bad("has another version"));
        }
        let pack = |number: usize| {
            written
                .packs
                .get(number)
                .ok_or_else(|| bad("names no pack"))
        };
        let mut index = Self {
            generation: written.generation,
            ..Self::default()
        };
        for Pack { digest, size } in &written.packs {
            index.packs.insert(*digest, *size);
        }
        for (blob, (number, offset, length)) in &written.blobs {
            let pack = pack(*number)?;
            let blob = digest(blob)?;
            let inside = offset
                .checked_add(*length)
                .is_some_and(|end| end <= pack.size);
            if !inside || blob.size > LARGEST_BLOB {
                return Err(bad("has a blob that is in no pack"));
            }
            let place = Place {
                pack: pack.digest,
                offset: *offset,
                length: *length,
            };
            index.blobs.insert(blob, place);
        }
        for (tree, numbers) in &written.trees {
            let packs = numbers.iter().map(|number| Ok(pack(*number)?.digest));
            let packs = packs.collect::<Result<_, Fault>>()?;
            index.trees.insert(digest(tree)?, packs);
        }
        for (action, entry) in &written.results {
            let result = STANDARD.decode(&entry.result);
            let entry = Entry {
                result: result.map_err(|_| bad("has a result that is none"))?.into(),
                generation: entry.generation,
            };
            index.results.insert(digest(action)?, entry);
        }
        Ok(index)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let packs: Vec<Pack> = self
            .packs
            .iter()
            .map(|(digest, size)| Pack {
                digest: *digest,
                size: *size,
            })
            .collect();
        let number = |pack: &BlobDigest| {
            let known = packs.binary_search_by_key(pack, |known| known.digest);
            known.unwrap_or(usize::MAX)
        };
        let blobs = self.blobs.iter().map(|(blob, place)| {
            let place = (number(&place.pack), place.offset, place.length);
            (name(blob), place)
        });
        let trees = self
            .trees
            .iter()
            .map(|(tree, packs)| (name(tree), packs.iter().map(number).collect()));
        let results = self.results.iter().map(|(action, entry)| {
            let entry = WrittenEntry {
                result: STANDARD.encode(&entry.result),
                generation: entry.generation,
            };
            (name(action), entry)
        });
        let written = Written {
            version: VERSION,
            generation: self.generation,
            blobs: blobs.collect(),
            trees: trees.collect(),
            results: results.collect(),
            packs,
        };
        // Strings, numbers, arrays and structs with fixed keys: none of them can fail.
        serde_json::to_vec(&written).unwrap_or_default()
    }

    /// Adds what another has: somebody else has exported meanwhile.
    pub(super) fn merge(&mut self, other: Self) {
        self.generation = self.generation.max(other.generation);
        self.packs.extend(other.packs);
        for (blob, place) in other.blobs {
            self.blobs.entry(blob).or_insert(place);
        }
        for (tree, packs) in other.trees {
            self.trees.entry(tree).or_insert(packs);
        }
        for (action, entry) in other.results {
            self.results.entry(action).or_insert(entry);
        }
    }

    /// Lets go what nobody wanted for some exports. `actions` has the blobs that actions are made
    /// of, which no result names.
    pub(super) fn prune(&mut self) {
        let oldest = self.generation.saturating_sub(KEPT);
        self.results.retain(|_, entry| entry.generation >= oldest);
        let mut live = BTreeSet::new();
        for (action, entry) in &self.results {
            live.extend(self.blobs.get(action).map(|place| place.pack));
            let Ok(named) = references(&entry.result, FUNCTION) else {
                continue;
            };
            for blob in &named.blobs {
                live.extend(self.blobs.get(blob).map(|place| place.pack));
            }
            for tree in &named.trees {
                live.extend(self.blobs.get(tree).map(|place| place.pack));
                live.extend(self.trees.get(tree).into_iter().flatten().copied());
            }
        }
        self.packs.retain(|pack, _| live.contains(pack));
        self.blobs.retain(|_, place| live.contains(&place.pack));
        let Self { trees, blobs, .. } = self;
        trees.retain(|tree, _| blobs.contains_key(tree));
    }

    /// Whether all that a result names is there; `has` tells of single blobs.
    pub(super) fn is_complete(&self, result: &Bytes, has: impl Fn(&CasDigest) -> bool) -> bool {
        let Ok(named) = references(result, FUNCTION) else {
            return false;
        };
        let known = |tree: &CasDigest| has(tree) && self.trees.contains_key(tree);
        named.blobs.iter().all(&has) && named.trees.iter().all(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{encode_instruction_result, encode_result};
    use crate::record::StepResult;

    fn digest_of(text: &str) -> CasDigest {
        CasDigest::of(FUNCTION, text.as_bytes())
    }

    /// An index with results `new` and `old`, each with a record and a tree in packs of its own.
    fn sample() -> Index {
        let mut index = Index {
            generation: 20,
            ..Index::default()
        };
        for (name, generation) in [("new", 20), ("old", 2)] {
            let pack = BlobDigest::of(name.as_bytes());
            index.packs.insert(pack, 100);
            let tree = digest_of(&format!("tree {name}"));
            let record = StepResult { layers: Vec::new() };
            let encoded = encode_result(record.to_bytes(), &[vec![tree]], None, FUNCTION);
            let place = Place {
                pack,
                offset: 10,
                length: 90,
            };
            index.blobs.insert(tree, place);
            index.blobs.insert(digest_of(name), place);
            index.blobs.entry(encoded.record.0).or_insert(place);
            index.trees.insert(tree, BTreeSet::from([pack]));
            let result = encoded.result;
            let entry = Entry { result, generation };
            index
                .results
                .insert(digest_of(&format!("action {name}")), entry);
        }
        index
    }

    #[test]
    fn indexes_are_read_back() {
        let index = sample();
        assert_eq!(Index::read(&index.to_bytes()).unwrap(), index);
        let empty = Index::default();
        assert_eq!(Index::read(&empty.to_bytes()).unwrap(), empty);
    }

    #[test]
    fn indexes_that_no_builder_writes_are_refused() {
        let text = String::from_utf8(sample().to_bytes()).unwrap();
        for (from, to) in [
            (r#""version":1"#, r#""version":2"#),
            (r#""version":1"#, r#""version":1,"more":1"#),
            (",10,90]", ",10,91]"),
            (",10,90]", ",18446744073709551615,90]"),
            ("[0,10,90]", "[7,10,90]"),
            ("-8\":[", "-99999999\":["),
            (r#""result":""#, r#""result":"!"#),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            assert!(Index::read(changed.as_bytes()).is_err(), "{to}");
        }
        Index::read(b"{}").unwrap_err();
    }

    #[test]
    fn what_nobody_wants_goes_with_its_packs() {
        let mut index = sample();
        index.prune();
        assert_eq!(index.results.len(), 1);
        assert!(index.blobs.contains_key(&digest_of("new")));
        assert!(!index.blobs.contains_key(&digest_of("old")));
        assert_eq!(index.packs.len(), 1);
        assert_eq!(index.trees.len(), 1);
        let result = index.results.values().next().unwrap().result.clone();
        assert!(index.is_complete(&result, |blob| index.blobs.contains_key(blob)));
        assert!(!Index::default().is_complete(&result, |_| true));
    }

    #[test]
    fn two_exports_at_once_are_put_together() {
        let (mut ours, mut theirs) = (sample(), sample());
        ours.results.remove(&digest_of("action old"));
        theirs.results.remove(&digest_of("action new"));
        ours.merge(theirs);
        assert_eq!(ours, sample());
        assert!(ours.is_complete(&encode_instruction_result(), |_| false));
    }
}
