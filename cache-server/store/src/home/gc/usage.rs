//! Who takes how much space: what `ashlar du` shows.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_model::digest::{BlobDigest, LayerId};
use ashlar_model::reference::Reference;

use super::super::quota::Claims;
use super::super::{Home, StoreError};
use super::Policy;
use super::inventory::{Inventory, LayerUsage};
use super::mark::{Marks, mark};

/// What kind of thing takes space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Layers' files, ready to be mounted.
    Trees,
    /// Layers' compressed forms.
    LayerBlobs,
    /// Layers' records, indexes and tars.
    LayerFiles,
    /// Configurations and manifests.
    Metadata,
    /// Cached results, and notes for looking them up.
    Results,
    /// Files of URLs, git repositories and their checkouts.
    Sources,
    /// What steps keep for later ones.
    Caches,
    /// Caches that may be lost at any time.
    Hints,
    /// Downloads that were broken off or are under way.
    Downloads,
    /// Work under way, or left behind.
    Scratch,
    /// Directories, locks, tags, and whatever else lies in the store.
    Other,
}

/// How much of it there is, and who needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// How many there are.
    pub count: usize,
    /// Bytes that tagged images need.
    pub in_use: u64,
    /// Bytes that only cached results need.
    pub cached: u64,
    /// Bytes that nobody needs.
    pub unused: u64,
}

impl Share {
    /// All bytes.
    pub const fn total(&self) -> u64 {
        self.in_use + self.cached + self.unused
    }
}

/// What one tagged image takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUsage {
    /// Its name.
    pub reference: Reference,
    /// Bytes that images of another ID need as well.
    pub shared: u64,
    /// Bytes that only this image needs.
    pub unique: u64,
}

/// Who takes how much space.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// By kind.
    pub kinds: BTreeMap<Kind, Share>,
    /// By image, in order of names.
    pub images: Vec<ImageUsage>,
}

impl Usage {
    /// Adds up what an inventory lists.
    pub fn of(home: &Home, inventory: &Inventory) -> Result<Self, StoreError> {
        let tagged = mark(home, inventory, Policy::KeepUpTo(0), &Claims::default())?;
        let kept = mark(home, inventory, Policy::KeepResults, &Claims::default())?;
        Ok(Self {
            kinds: kinds(inventory, &tagged, &kept),
            images: images(inventory),
        })
    }

    /// The sum of all kinds; it counts nothing.
    pub fn total(&self) -> Share {
        let mut sum = Share::default();
        for share in self.kinds.values() {
            sum.in_use += share.in_use;
            sum.cached += share.cached;
            sum.unused += share.unused;
        }
        sum
    }
}

fn kinds(inventory: &Inventory, tagged: &Marks, kept: &Marks) -> BTreeMap<Kind, Share> {
    let mut kinds: BTreeMap<Kind, Share> = BTreeMap::new();
    let mut add = |kind, bytes, in_use: bool, cached: bool| {
        let share = kinds.entry(kind).or_default();
        share.count += 1;
        *(if in_use {
            &mut share.in_use
        } else if cached {
            &mut share.cached
        } else {
            &mut share.unused
        }) += bytes;
    };
    for (id, layer) in &inventory.layers {
        let (in_use, cached) = (tagged.layers.contains(id), kept.layers.contains(id));
        add(Kind::LayerFiles, layer.files, in_use, cached);
        for (_, bytes) in &layer.trees {
            add(Kind::Trees, *bytes, in_use, cached);
        }
    }
    let layer_blobs: BTreeSet<BlobDigest> = inventory
        .layers
        .values()
        .flat_map(LayerUsage::blobs)
        .collect();
    let sources = inventory.sources.iter();
    let source_blobs: BTreeSet<BlobDigest> = sources.filter_map(|source| source.blob).collect();
    for (digest, bytes) in &inventory.blobs {
        let kind = if layer_blobs.contains(digest) {
            Kind::LayerBlobs
        } else if source_blobs.contains(digest) {
            Kind::Sources
        } else {
            Kind::Metadata
        };
        let (in_use, cached) = (tagged.blobs.contains(digest), kept.blobs.contains(digest));
        add(kind, *bytes, in_use, cached);
    }
    for (index, result) in inventory.results.iter().enumerate() {
        let (in_use, cached) = (
            tagged.results.contains(&index),
            kept.results.contains(&index),
        );
        add(Kind::Results, result.size, in_use, cached);
    }
    for (index, source) in inventory.sources.iter().enumerate() {
        let cached = kept.sources.contains(&index);
        add(Kind::Sources, source.size, false, cached);
    }
    // Caches and notes serve whatever is built next; the rest is never removed.
    for (kind, (count, bytes)) in [
        (Kind::Results, inventory.notes),
        (Kind::Caches, inventory.caches),
        (Kind::Hints, inventory.hints),
        (Kind::Other, inventory.other),
    ] {
        let share = kinds.entry(kind).or_default();
        share.count += count;
        share.cached += bytes;
    }
    for (kind, (count, bytes)) in [
        (Kind::Downloads, inventory.partial),
        (Kind::Scratch, inventory.scratch),
    ] {
        kinds.insert(
            kind,
            Share {
                count,
                unused: bytes,
                ..Share::default()
            },
        );
    }
    kinds
}

/// Names of one image (one configuration) share all they have, and count as one.
fn images(inventory: &Inventory) -> Vec<ImageUsage> {
    let mut users: BTreeMap<LayerId, BTreeSet<BlobDigest>> = BTreeMap::new();
    for image in &inventory.images {
        for layer in &image.layers {
            users.entry(*layer).or_default().insert(image.config.digest);
        }
    }
    inventory
        .images
        .iter()
        .map(|image| {
            let mut usage = ImageUsage {
                reference: image.reference.clone(),
                shared: 0,
                unique: 0,
            };
            for layer in image.layers.iter().collect::<BTreeSet<_>>() {
                if users.get(layer).is_some_and(|users| users.len() > 1) {
                    usage.shared += inventory.size_with_blobs(layer);
                } else {
                    usage.unique += inventory.size_with_blobs(layer);
                }
            }
            let own = [Some(&image.config), image.manifest.as_ref()];
            usage.unique += own
                .into_iter()
                .flatten()
                .filter_map(|blob| inventory.blobs.get(&blob.digest))
                .sum::<u64>();
            usage
        })
        .collect()
}
