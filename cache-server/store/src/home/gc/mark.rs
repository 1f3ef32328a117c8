//! Which layers, blobs and results stay.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::SystemTime;

use ashlar_model::digest::{BlobDigest, LayerId};
use serde::Deserialize;

use super::super::quota::Claims;
use super::super::{Home, StoreError};
use super::Policy;
use super::inventory::{Inventory, LayerUsage};

/// Largest blob that may be a manifest, in bytes: registries refuse larger ones.
const LARGEST_MANIFEST: u64 = 4 * 1024 * 1024;

/// What stays.
#[derive(Debug, Default)]
pub(super) struct Marks {
    pub(super) layers: BTreeSet<LayerId>,
    pub(super) blobs: BTreeSet<BlobDigest>,
    /// Indexes into [`Inventory::results`].
    pub(super) results: BTreeSet<usize>,
    /// Indexes into [`Inventory::sources`].
    pub(super) sources: BTreeSet<usize>,
}

/// Marks what is reached from the tags, from what running builds use, and from the results that
/// the policy keeps.
pub(super) fn mark(
    home: &Home,
    inventory: &Inventory,
    policy: Policy,
    claims: &Claims,
) -> Result<Marks, StoreError> {
    let mut marks = Marks {
        layers: claims.layers.clone(),
        blobs: claims.blobs.clone(),
        ..Marks::default()
    };
    for image in &inventory.images {
        marks.blobs.insert(image.config.digest);
        marks.blobs.extend(image.manifest.iter().map(|m| m.digest));
        marks.layers.extend(&image.layers);
    }
    let (free, candidates): (Vec<usize>, Vec<usize>) = (0..inventory.results.len())
        .filter(|index| is_whole(inventory, *index))
        .partition(|index| {
            let mut layers = inventory.results[*index].layers.iter();
            layers.all(|layer| marks.layers.contains(layer))
        });
    marks.results.extend(free);
    let (claimed, sources): (Vec<usize>, Vec<usize>) =
        (0..inventory.sources.len()).partition(|index| {
            let path = inventory.sources[*index].path.to_str().unwrap_or_default();
            claims.sources.iter().any(|source| path.ends_with(source))
        });
    marks.sources.extend(claimed);
    let sources = sources
        .into_iter()
        .filter(|index| inventory.sources[*index].used.is_some())
        .map(Candidate::Source);
    let mut candidates: Vec<Candidate> = candidates
        .into_iter()
        .map(Candidate::Result)
        .chain(sources)
        .collect();
    if let Policy::KeepUpTo(bytes) = policy {
        candidates = recently_used(inventory, &marks.layers, candidates, bytes);
    }
    for candidate in candidates {
        match candidate {
            Candidate::Result(index) => marks.results.insert(index),
            Candidate::Source(index) => marks.sources.insert(index),
        };
    }
    for index in &marks.sources {
        marks.blobs.extend(inventory.sources[*index].blob);
    }
    for index in &marks.results {
        marks.layers.extend(&inventory.results[*index].layers);
    }
    for layer in &marks.layers {
        let usage = inventory.layers.get(layer);
        marks
            .blobs
            .extend(usage.into_iter().flat_map(LayerUsage::blobs));
    }
    mark_manifests(home, inventory, &mut marks)?;
    Ok(marks)
}

/// Whether a result names layers, and all of them are known.
fn is_whole(inventory: &Inventory, index: usize) -> bool {
    let layers = &inventory.results[index].layers;
    let known = |layer| {
        let usage = inventory.layers.get(layer);
        usage.is_some_and(|usage| usage.record.is_some())
    };
    !layers.is_empty() && layers.iter().all(known)
}

/// Something that stays as long as there is room for it.
#[derive(Debug, Clone, Copy)]
enum Candidate {
    /// Index into [`Inventory::results`].
    Result(usize),
    /// Index into [`Inventory::sources`].
    Source(usize),
}

impl Candidate {
    fn used(self, inventory: &Inventory) -> Option<SystemTime> {
        match self {
            Self::Result(index) => Some(inventory.results[index].used),
            Self::Source(index) => inventory.sources[index].used,
        }
    }

    fn path(self, inventory: &Inventory) -> &Path {
        match self {
            Self::Result(index) => &inventory.results[index].path,
            Self::Source(index) => &inventory.sources[index].path,
        }
    }

    /// Bytes of its own.
    fn size(self, inventory: &Inventory) -> u64 {
        match self {
            Self::Result(index) => inventory.results[index].size,
            Self::Source(index) => {
                let source = &inventory.sources[index];
                let blob = source.blob.and_then(|blob| inventory.blobs.get(&blob));
                source.size + blob.copied().unwrap_or(0)
            }
        }
    }

    fn layers(self, inventory: &Inventory) -> &[LayerId] {
        match self {
            Self::Result(index) => &inventory.results[index].layers,
            Self::Source(_) => &[],
        }
    }
}

/// The most recently used of `candidates` that fit: the longest unused are dropped until the whole
/// store takes no more than `limit` bytes.
fn recently_used(
    inventory: &Inventory,
    tagged: &BTreeSet<LayerId>,
    mut candidates: Vec<Candidate>,
    limit: u64,
) -> Vec<Candidate> {
    candidates.sort_by_key(|one| {
        let used = one.used(inventory);
        (std::cmp::Reverse(used), one.path(inventory))
    });
    // What each of them needs beside the tags, and how many need each layer.
    let mut needed: BTreeMap<LayerId, usize> = BTreeMap::new();
    let mut reached = Vec::with_capacity(candidates.len());
    for one in &candidates {
        let layers: BTreeSet<LayerId> = one
            .layers(inventory)
            .iter()
            .copied()
            .filter(|layer| !tagged.contains(layer))
            .collect();
        for layer in &layers {
            *needed.entry(*layer).or_default() += 1;
        }
        reached.push((one.size(inventory), layers));
    }
    let layers = tagged.iter().chain(needed.keys());
    let mut size = layers
        .map(|layer| inventory.size_with_blobs(layer))
        .sum::<u64>()
        + reached.iter().map(|(size, _)| size).sum::<u64>()
        + inventory.notes.1
        + inventory.caches.1
        + inventory.hints.1
        + inventory.partial.1
        + inventory.scratch.1
        + inventory.other.1;
    // Nothing means nothing, also where a filesystem keeps small files without blocks.
    while (size > limit || limit == 0)
        && let Some((own_size, layers)) = reached.pop()
    {
        candidates.truncate(reached.len());
        size -= own_size;
        for layer in layers {
            if let Some(count) = needed.get_mut(&layer) {
                *count -= 1;
                if *count == 0 {
                    size -= inventory.size_with_blobs(&layer);
                }
            }
        }
    }
    candidates
}

/// A manifest or an index, as far as it names other blobs.
#[derive(Deserialize)]
struct AnyManifest {
    #[serde(default)]
    config: Option<Named>,
    #[serde(default)]
    layers: Vec<Named>,
    #[serde(default)]
    manifests: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    digest: BlobDigest,
}

/// Marks the manifests of base images, their configurations, and the indexes that list them: a
/// manifest stays if all its layers do, for then a build can start from it without a registry.
fn mark_manifests(home: &Home, inventory: &Inventory, marks: &mut Marks) -> Result<(), StoreError> {
    let layer_blobs: BTreeSet<BlobDigest> = inventory
        .layers
        .values()
        .flat_map(LayerUsage::blobs)
        .collect();
    let mut indexes = Vec::new();
    let mut manifests = BTreeSet::new();
    for digest in inventory.blobs.keys() {
        let size = home.blobs().length_of(digest);
        if layer_blobs.contains(digest) || size.is_none_or(|size| size > LARGEST_MANIFEST) {
            continue;
        }
        // A damaged blob is dropped by `read`, and what is no manifest names nothing.
        let Ok(bytes) = home.blobs().read_unclaimed(digest) else {
            continue;
        };
        let Ok(manifest) = serde_json::from_slice::<AnyManifest>(&bytes) else {
            continue;
        };
        if !manifest.manifests.is_empty() {
            indexes.push((*digest, manifest.manifests));
        } else if let Some(config) = manifest.config {
            let whole = !manifest.layers.is_empty()
                && manifest
                    .layers
                    .iter()
                    .all(|l| marks.blobs.contains(&l.digest));
            if whole || marks.blobs.contains(digest) {
                manifests.extend([*digest, config.digest]);
            }
        }
    }
    for (index, listed) in indexes {
        if listed.iter().any(|one| manifests.contains(&one.digest)) {
            manifests.insert(index);
        }
    }
    marks.blobs.extend(manifests);
    Ok(())
}
