//! All that a store has, with sizes on disk.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ashlar_model::digest::{BlobDigest, LayerId};
use ashlar_model::layer::{EntryKind, LayerRecord};
use serde::Deserialize;

use super::super::images::ImageRecord;
use super::super::layers::list_names;
use super::super::quota::read_size;
use super::super::record::last_use;
use super::super::results::{ContentResult, DefinitionResult};
use super::super::{Home, StoreError, record, sources};

/// All that a store has.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Tagged images, by name.
    pub images: Vec<ImageRecord>,
    /// Layers.
    pub layers: BTreeMap<LayerId, LayerUsage>,
    /// Blobs and their bytes on disk.
    pub blobs: BTreeMap<BlobDigest, u64>,
    /// Cached results.
    pub results: Vec<ResultUsage>,
    /// What was fetched from elsewhere.
    pub sources: Vec<SourceUsage>,
    /// Number and bytes of notes that serve looking up: contents, instructions.
    pub notes: (usize, u64),
    /// Number and bytes of the directories of cache mounts.
    pub caches: (usize, u64),
    /// Number and bytes of caches that may be lost at any time.
    pub hints: (usize, u64),
    /// Number and bytes of downloads that were broken off or are under way.
    pub partial: (usize, u64),
    /// Number and bytes of scratch directories, in use or left behind.
    pub scratch: (usize, u64),
    /// Number and bytes of all else: directories, locks, tags, and what other modules keep here.
    pub other: (usize, u64),
}

/// One layer.
#[derive(Debug, Default)]
pub struct LayerUsage {
    /// What is known of it; `None` if its record is missing or damaged.
    pub record: Option<LayerRecord>,
    /// Bytes of its record, index and tar.
    pub files: u64,
    /// Its trees and their bytes.
    pub trees: Vec<(PathBuf, u64)>,
}

impl LayerUsage {
    /// Digests of the blobs that are known of it, in the store or not.
    pub fn blobs(&self) -> impl Iterator<Item = BlobDigest> {
        let blobs = self.record.iter().flat_map(|record| &record.blobs);
        blobs.map(|blob| blob.descriptor.digest)
    }

    /// Bytes on disk, blobs left out.
    pub fn size(&self) -> u64 {
        self.files + self.trees.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }
}

/// One cached result.
#[derive(Debug)]
pub struct ResultUsage {
    /// The file.
    pub path: PathBuf,
    /// The layers that it names; empty if it is damaged.
    pub layers: Vec<LayerId>,
    /// When it was last written or read.
    pub used: SystemTime,
    /// Bytes of the file.
    pub size: u64,
}

/// Something fetched from elsewhere.
#[derive(Debug)]
pub struct SourceUsage {
    /// Its directory.
    pub path: PathBuf,
    /// The blob that it stands for, if it does.
    pub blob: Option<BlobDigest>,
    /// When it was last written or read; `None` if it is not whole.
    pub used: Option<SystemTime>,
    /// Bytes on disk, the blob left out.
    pub size: u64,
}

impl Inventory {
    /// Looks at everything. Trees are walked, which takes about a microsecond for each file.
    pub fn take(home: &Home) -> Result<Self, StoreError> {
        let root = home.root();
        let mut disk = DiskUsage::of_home(home);
        let mut inventory = Self {
            images: home.images()?,
            // First what is moved from, then where it is moved to: what is moved meanwhile counts
            // twice, not never.
            scratch: disk.children(&root.join("tmp")),
            partial: disk.children(&root.join("partial")),
            ..Self::default()
        };
        for id in home.layer_ids()? {
            inventory.layers.insert(
                id,
                LayerUsage {
                    record: home.layer(&id)?,
                    files: disk.below(&root.join("layers").join(id.to_hex())).bytes,
                    trees: Vec::new(),
                },
            );
        }
        for id_map in home.tree_id_maps()? {
            let directory = root.join("trees").join(&id_map);
            for id in list_names(&directory, |name| LayerId::from_hex(name).ok())? {
                let path = home.tree_path(&id_map, &id);
                let size = tree_size(home, &id, &path, &mut disk)?;
                let layer = inventory.layers.entry(id).or_default();
                layer.trees.push((path, size));
            }
        }
        for (digest, _) in home.blobs().list()? {
            if let Ok(metadata) = fs::metadata(home.blobs().path(&digest)) {
                inventory.blobs.insert(digest, disk.of(&metadata));
            }
        }
        inventory.results = results(home)?;
        inventory.sources = fetched(home, &mut disk)?;
        for notes in ["content", "instructions"] {
            let (count, bytes) = disk.children(&root.join(notes));
            inventory.notes.0 += count;
            inventory.notes.1 += bytes;
        }
        inventory.caches = (
            home.caches()?.len(),
            disk.children(&home.caches_directory()).1,
        );
        inventory.hints = disk.children(&home.hints());
        inventory.other = disk.other(root);
        Ok(inventory)
    }

    /// Bytes on disk of a layer and its blobs; 0 if it is not there.
    pub fn size_with_blobs(&self, layer: &LayerId) -> u64 {
        let Some(usage) = self.layers.get(layer) else {
            return 0;
        };
        let blobs = usage.blobs().filter_map(|digest| self.blobs.get(&digest));
        usage.size() + blobs.sum::<u64>()
    }

    /// Bytes on disk of everything.
    pub fn total(&self) -> u64 {
        let layers: u64 = self.layers.values().map(LayerUsage::size).sum();
        let blobs: u64 = self.blobs.values().sum();
        let results: u64 = self.results.iter().map(|result| result.size).sum();
        let sources: u64 = self.sources.iter().map(|source| source.size).sum();
        layers
            + blobs
            + results
            + sources
            + self.notes.1
            + self.caches.1
            + self.hints.1
            + self.partial.1
            + self.scratch.1
            + self.other.1
    }
}

/// Bytes on disk of a file, or of a directory with all that is in it, as far as this process may
/// see it. This and [`Inventory`] count in the same way.
pub fn measure(path: &Path) -> u64 {
    DiskUsage::default().below(path).bytes
}

/// Bytes of a tree. Where it has directories that only the sandbox may enter, and nobody noted its
/// size, the sizes of the layer's entries stand in for what cannot be seen.
fn tree_size(
    home: &Home,
    id: &LayerId,
    path: &Path,
    disk: &mut DiskUsage,
) -> Result<u64, StoreError> {
    let seen = disk.below(path);
    if seen.complete || seen.noted {
        return Ok(seen.bytes);
    }
    let index = home.layer_index(id)?;
    let entries = index.iter().flat_map(|index| &index.entries);
    let listed = entries
        .map(|entry| match entry.kind {
            EntryKind::File { size, .. } => size.next_multiple_of(4096),
            EntryKind::Directory { .. } => 4096,
            _ => 0,
        })
        .sum();
    Ok(seen.bytes.max(listed))
}

/// The results in both directories, read without marking them as used.
fn results(home: &Home) -> Result<Vec<ResultUsage>, StoreError> {
    let mut results = Vec::new();
    for kind in ["definition", "content"] {
        let directory = home.root().join("results").join(kind);
        for name in list_names(&directory, |name| Some(name.to_owned()))? {
            let path = directory.join(name);
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(StoreError::io("stat", &path, error)),
            };
            let layers = if kind == "definition" {
                record::read_unnoticed(&path)?.map(|result: DefinitionResult| result.stack)
            } else {
                record::read_unnoticed(&path)?.map(|result: ContentResult| vec![result.layer])
            };
            results.push(ResultUsage {
                layers: layers.unwrap_or_default(),
                used: last_use(&metadata).unwrap_or(UNIX_EPOCH),
                size: metadata.blocks() * 512,
                path,
            });
        }
    }
    Ok(results)
}

/// As far as a source's record matters here.
#[derive(Deserialize)]
struct AnySource {
    #[serde(default)]
    blob: Option<BlobDigest>,
}

fn fetched(home: &Home, disk: &mut DiskUsage) -> Result<Vec<SourceUsage>, StoreError> {
    let mut found = Vec::new();
    for path in sources::list(home)? {
        let file = path.join("record");
        let known: Option<AnySource> = record::read_unnoticed(&file)?;
        let used = fs::metadata(&file)
            .ok()
            .map(|metadata| last_use(&metadata).unwrap_or(UNIX_EPOCH));
        found.push(SourceUsage {
            used: used.filter(|_| known.is_some()),
            blob: known.and_then(|known| known.blob),
            size: disk.below(&path).bytes,
            path,
        });
    }
    Ok(found)
}

/// What was found below a directory.
struct Found {
    bytes: u64,
    /// Whether everything could be looked at.
    complete: bool,
    /// Whether the bytes are those that somebody noted who could look at everything.
    noted: bool,
}

/// Adds up blocks on disk; a file with several names counts where it is seen first.
#[derive(Default)]
struct DiskUsage {
    linked: HashSet<(u64, u64)>,
    /// Sizes of directories that perhaps only the sandbox may enter.
    noted: BTreeMap<PathBuf, u64>,
}

impl DiskUsage {
    fn of_home(home: &Home) -> Self {
        let sizes = home.noted_sizes().unwrap_or_default().into_iter();
        Self {
            noted: sizes
                .filter_map(|(note, path)| Some((path, read_size(&note)?)))
                .collect(),
            ..Self::default()
        }
    }

    fn of(&mut self, metadata: &Metadata) -> u64 {
        let counted = metadata.is_dir()
            || metadata.nlink() == 1
            || self.linked.insert((metadata.dev(), metadata.ino()));
        if counted { metadata.blocks() * 512 } else { 0 }
    }

    /// A file or directory with all that is in it. What vanishes meanwhile does not count; for
    /// what may not be entered, the size that was noted counts.
    fn below(&mut self, path: &Path) -> Found {
        let mut found = self.seen_below(path);
        if !found.complete
            && let Some(noted) = self.noted.get(path)
        {
            found.bytes = found.bytes.max(*noted);
            found.noted = true;
        }
        found
    }

    fn seen_below(&mut self, path: &Path) -> Found {
        let mut found = Found {
            bytes: 0,
            complete: true,
            noted: false,
        };
        let mut pending = vec![path.to_owned()];
        while let Some(path) = pending.pop() {
            match fs::symlink_metadata(&path) {
                Ok(metadata) => {
                    found.bytes += self.of(&metadata);
                    if !metadata.is_dir() {
                        continue;
                    }
                }
                Err(error) => {
                    found.complete &= error.kind() == ErrorKind::NotFound;
                    continue;
                }
            }
            match fs::read_dir(&path) {
                Ok(entries) => pending.extend(entries.flatten().map(|entry| entry.path())),
                Err(error) => found.complete &= error.kind() == ErrorKind::NotFound,
            }
        }
        found
    }

    /// Number of entries of a directory, and bytes of them.
    fn children(&mut self, path: &Path) -> (usize, u64) {
        let Ok(entries) = fs::read_dir(path) else {
            return (0, 0);
        };
        let mut sum = (0, 0);
        for entry in entries.flatten() {
            let path = entry.path();
            sum.1 += self.below(&path).bytes;
            sum.0 += usize::from(path.extension().is_none_or(|extension| extension != "lock"));
        }
        sum
    }
}

/// Directories whose entries are counted on their own.
const COUNTED: [&str; 13] = [
    "blobs/sha256",
    "partial",
    "layers",
    "trees",
    "content",
    "results/definition",
    "results/content",
    "instructions",
    "images",
    "caches",
    "hints",
    "sources",
    "tmp",
];

impl DiskUsage {
    /// All that is not counted on its own: the directories themselves, and what is beside them.
    fn other(&mut self, root: &Path) -> (usize, u64) {
        let mut sum = self.children(&root.join("images"));
        let mut add = |path: &Path, disk: &mut Self| {
            if let Ok(metadata) = fs::symlink_metadata(path) {
                sum.1 += disk.of(&metadata);
            }
        };
        add(root, self);
        for directory in ["blobs", "results"].into_iter().chain(COUNTED) {
            add(&root.join(directory), self);
        }
        for id_map in fs::read_dir(root.join("trees"))
            .into_iter()
            .flatten()
            .flatten()
        {
            add(&id_map.path(), self);
        }
        let beside = fs::read_dir(root).into_iter().flatten().flatten();
        for entry in beside {
            let name = entry.file_name();
            let counted = |known: &&str| Path::new(known).starts_with(&name);
            if !COUNTED.iter().any(counted) {
                sum.0 += 1;
                sum.1 += self.below(&entry.path()).bytes;
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_counts_once() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), vec![1; 100_000]).unwrap();
        let once = DiskUsage::default().below(directory.path()).bytes;
        fs::hard_link(directory.path().join("a"), directory.path().join("b")).unwrap();
        assert_eq!(DiskUsage::default().below(directory.path()).bytes, once);
        assert!(once >= 100_000);
    }

    #[test]
    fn looking_does_not_count_as_use() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let path = home.root().join("results/definition/x");
        record::write(&path, &DefinitionResult::own(vec![])).unwrap();
        let old = UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        let times = fs::FileTimes::new().set_accessed(old).set_modified(old);
        fs::File::open(&path).unwrap().set_times(times).unwrap();
        for _ in 0..2 {
            let inventory = Inventory::take(&home).unwrap();
            assert_eq!(inventory.results[0].used, old);
        }
    }
}
