//! Results are given out only if every blob that they name is there.
//!
//! A result whose blobs are gone is worse than none: whoever takes it finds out late. So each
//! result that is asked for is walked: output files, standard output and error, trees and the
//! files in them, directories and what is below them. A result with a hole counts as absent, and
//! may be stored again.
//!
//! The walk also counts as use of all that it looks at, so that what belongs together grows old
//! together.
//!
//! A stack of a hundred layers names the trees of all of them, and so does each result on the way
//! up to it. Trees that were found complete are therefore not walked again for some seconds, or
//! until the store below says that it removed something ([`Completeness::with_removals`]): with
//! that, no answer is ever out of date.
//!
//! What trees list is remembered as long as there is room, and so are the small files that come along
//! with results ([`Completeness::read_named`]): they never change, and need not be read again to see
//! whether all is there.
//!
//! Where namespaces hold blobs apart, each has a *view* of its own ([`Completeness::of_view`]):
//! what is there for one says nothing about another, and is remembered for that one alone.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ashlar_model::cas::{ActionKey, CasDigest, DigestFunction};
use ashlar_model::executor::BoxFuture;
use ashlar_proto::action_result::{References, directory_children, references, tree_files};
use bytes::Bytes;
use tokio::time::Instant;

use crate::action_cache::{ActionCache, PutMode};
use crate::blob_store::BlobStore;
use crate::fault::{Fault, FaultKind};
use crate::recalled::Recalled;

/// So long a tree is taken to be complete once it was found so.
pub const LIFETIME: Duration = Duration::from_secs(10);

/// Trees are read in groups of about so many bytes.
const GROUP: u64 = 16 << 20;

/// What is remembered of what trees list, and of files.
const TREES: usize = 32 << 20;
const FILES: usize = 16 << 20;

/// A tree that is larger than this is taken to be incomplete: nobody makes such.
const LARGEST_TREE: u64 = 64 << 20;

/// A result that names more directories than this is taken to be incomplete.
const MOST_DIRECTORIES: usize = 100_000;

/// An action cache whose results are complete.
#[derive(Debug)]
pub struct Completeness {
    results: Arc<dyn ActionCache>,
    blobs: Arc<dyn BlobStore>,
    lifetime: Duration,
    removals: Arc<AtomicU64>,
    /// Whose eyes look; all views share what is known, each under its name.
    view: Arc<str>,
    known: Arc<Mutex<Known>>,
    contents: Arc<Contents>,
}

/// What never changes.
#[derive(Debug)]
struct Contents {
    /// What trees list.
    trees: Recalled<Arc<[CasDigest]>>,
    files: Recalled<Bytes>,
}

/// The trees that were found complete lately, by the view that found them so.
#[derive(Debug, Default)]
struct Known {
    /// The number of removals when they were found so.
    removals: u64,
    views: HashMap<Arc<str>, HashMap<CasDigest, Instant>>,
    /// How many there are in all views.
    count: usize,
    /// When those that are too old were last forgotten.
    tidied: Option<Instant>,
}

impl Known {
    /// So many are remembered; then those that are too old are forgotten.
    const MOST: usize = 100_000;

    /// So often, at most.
    const TIDY: Duration = Duration::from_secs(1);

    /// Makes room for one more, if it can. Whether there is some.
    fn make_room(&mut self, lifetime: Duration) -> bool {
        if self.count < Self::MOST {
            return true;
        }
        if self.tidied.is_some_and(|last| last.elapsed() < Self::TIDY) {
            return false;
        }
        self.tidied = Some(Instant::now());
        for trees in self.views.values_mut() {
            trees.retain(|_, found| found.elapsed() < lifetime);
        }
        self.views.retain(|_, trees| !trees.is_empty());
        self.count = self.views.values().map(HashMap::len).sum();
        self.count < Self::MOST
    }
}

/// What a walk found.
#[derive(Debug, Default)]
struct Walk {
    /// The blobs that are not there.
    missing: HashSet<CasDigest>,
    /// The trees and directories that are there, but something in them is not, or they are none.
    broken: HashMap<CasDigest, Vec<CasDigest>>,
}

impl Walk {
    /// What a result lacks; `None` if nothing.
    fn lacks(&self, references: &References) -> Option<Vec<CasDigest>> {
        let mut lacking = Vec::new();
        let parts = references.trees.iter().chain(&references.directories);
        for blob in references.blobs.iter().chain(parts) {
            if self.missing.contains(blob) {
                lacking.push(*blob);
            }
            if let Some(within) = self.broken.get(blob) {
                // A tree that is none has to be written again itself.
                let hole = if within.is_empty() {
                    &[*blob][..]
                } else {
                    within
                };
                lacking.extend_from_slice(hole);
            }
        }
        (!lacking.is_empty()).then_some(lacking)
    }
}

impl Completeness {
    /// Results of `results`, whose blobs are in `blobs`. A tree that is found complete is taken to
    /// be so for `lifetime` ([`LIFETIME`]).
    pub fn new(
        results: Arc<dyn ActionCache>,
        blobs: Arc<dyn BlobStore>,
        lifetime: Duration,
    ) -> Self {
        Self {
            results,
            blobs,
            lifetime,
            removals: Arc::default(),
            view: Arc::from(""),
            known: Arc::default(),
            contents: Arc::new(Contents {
                trees: Recalled::new(TREES),
                files: Recalled::new(FILES),
            }),
        }
    }

    /// `removals` grows whenever a blob leaves the store: what was found before is looked at again.
    #[must_use]
    pub fn with_removals(mut self, removals: Arc<AtomicU64>) -> Self {
        self.removals = removals;
        self
    }

    /// The same results, as complete as they are for somebody who sees only `blobs`. Two views with
    /// one name must see the same.
    #[must_use]
    pub fn of_view(&self, view: Arc<str>, blobs: Arc<dyn BlobStore>) -> Self {
        Self {
            results: self.results.clone(),
            blobs,
            lifetime: self.lifetime,
            removals: self.removals.clone(),
            view,
            known: self.known.clone(),
            contents: self.contents.clone(),
        }
    }

    /// The same, of which nothing is taken to be complete because it was found so before.
    #[must_use]
    pub fn without_memory(self) -> Self {
        Self {
            lifetime: Duration::ZERO,
            known: Arc::default(),
            ..self
        }
    }

    /// The blobs that an encoded `ActionResult` names and that are not there.
    pub async fn missing_of(
        &self,
        result: &[u8],
        function: DigestFunction,
    ) -> Result<Vec<CasDigest>, Fault> {
        let references = references(result, function).map_err(|error| {
            Fault::invalid("the result cannot be stored: its encoding is wrong").caused_by(error)
        })?;
        let walk = self.walk(&[&references]).await?;
        Ok(walk.lacks(&references).unwrap_or_default())
    }

    /// Looks at all that some results name.
    async fn walk(&self, results: &[&References]) -> Result<Walk, Fault> {
        // Read first: whatever is removed from here on makes the walk's findings void.
        let removals = self.removals.load(Ordering::Acquire);
        let mut walk = Walk::default();
        let mut named = HashSet::new();
        for references in results {
            named.extend(&references.blobs);
            named.extend(&references.trees);
            named.extend(&references.directories);
        }
        self.look(named.into_iter(), &mut walk.missing).await?;
        let trees = results.iter().flat_map(|references| &references.trees);
        let trees = trees.filter(|tree| !walk.missing.contains(tree)).copied();
        let trees = self.unknown(trees.collect(), removals);
        self.walk_trees(trees, removals, &mut walk).await?;
        for references in results {
            for directory in &references.directories {
                if !walk.missing.contains(directory) && !walk.broken.contains_key(directory) {
                    self.walk_directory(directory, &mut walk).await?;
                }
            }
        }
        Ok(walk)
    }

    /// Notes those of some blobs that are not there.
    async fn look(
        &self,
        blobs: impl Iterator<Item = CasDigest> + Send,
        missing: &mut HashSet<CasDigest>,
    ) -> Result<(), Fault> {
        let blobs: Vec<CasDigest> = blobs.collect();
        if !blobs.is_empty() {
            missing.extend(self.blobs.missing(&blobs).await?);
        }
        Ok(())
    }

    async fn walk_trees(
        &self,
        trees: HashSet<CasDigest>,
        removals: u64,
        walk: &mut Walk,
    ) -> Result<(), Fault> {
        let mut group = Vec::new();
        let mut bytes = 0;
        for tree in trees {
            if tree.size > LARGEST_TREE {
                walk.broken.insert(tree, Vec::new());
                continue;
            }
            bytes += tree.size;
            group.push(tree);
            if bytes > GROUP {
                self.walk_group(&group, removals, walk).await?;
                group.clear();
                bytes = 0;
            }
        }
        self.walk_group(&group, removals, walk).await
    }

    async fn walk_group(
        &self,
        trees: &[CasDigest],
        removals: u64,
        walk: &mut Walk,
    ) -> Result<(), Fault> {
        if trees.is_empty() {
            return Ok(());
        }
        let mut files_of: Vec<(CasDigest, Arc<[CasDigest]>)> = Vec::new();
        let mut unread = Vec::new();
        for (tree, files) in trees.iter().zip(self.contents.trees.get(trees)) {
            match files {
                Some(files) => files_of.push((*tree, files)),
                None => unread.push(*tree),
            }
        }
        let bytes = if unread.is_empty() {
            Vec::new()
        } else {
            self.blobs.read_many(&unread).await
        };
        for (tree, bytes) in unread.into_iter().zip(bytes) {
            match read(bytes)?.and_then(|bytes| tree_files(&bytes, tree.function).ok()) {
                Some(files) => {
                    let files: Arc<[CasDigest]> = files.into();
                    let bytes = size_of_val(&*files);
                    self.contents.trees.note(tree, files.clone(), bytes);
                    files_of.push((tree, files));
                }
                None => drop(walk.broken.insert(tree, Vec::new())),
            }
        }
        let files: HashSet<CasDigest> = files_of
            .iter()
            .flat_map(|(_, files)| files.iter().copied())
            .collect();
        let mut missing = HashSet::new();
        self.look(files.into_iter(), &mut missing).await?;
        let mut complete = Vec::new();
        for (tree, files) in files_of {
            let lacking = files.iter().filter(|file| missing.contains(file));
            let lacking: Vec<_> = lacking.copied().collect();
            if lacking.is_empty() {
                complete.push(tree);
            } else {
                walk.broken.insert(tree, lacking);
            }
        }
        self.note_known(complete, removals);
        Ok(())
    }

    /// Walks down from a directory, level by level.
    async fn walk_directory(&self, top: &CasDigest, walk: &mut Walk) -> Result<(), Fault> {
        let mut seen = HashSet::from([*top]);
        let mut level = vec![*top];
        let mut lacking = HashSet::new();
        while !level.is_empty() {
            let mut next = Vec::new();
            let mut files = HashSet::new();
            for (directory, bytes) in level.iter().zip(self.blobs.read_many(&level).await) {
                let children = read(bytes)?
                    .and_then(|bytes| directory_children(&bytes, directory.function).ok());
                let Some(children) = children else {
                    lacking.insert(*directory);
                    continue;
                };
                files.extend(children.files);
                next.extend(
                    children
                        .directories
                        .into_iter()
                        .filter(|below| seen.insert(*below)),
                );
            }
            self.look(files.into_iter(), &mut lacking).await?;
            if seen.len() > MOST_DIRECTORIES {
                lacking.insert(*top);
                break;
            }
            level = next;
        }
        if !lacking.is_empty() {
            walk.broken.insert(*top, lacking.into_iter().collect());
        }
        Ok(())
    }

    /// Those of some trees that were not found complete lately.
    fn unknown(&self, mut trees: HashSet<CasDigest>, removals: u64) -> HashSet<CasDigest> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.views.get(&self.view)
            && known.removals == removals
        {
            let is_known = |tree: &CasDigest| {
                let found = found.get(tree);
                found.is_some_and(|found| found.elapsed() < self.lifetime)
            };
            trees.retain(|tree| !is_known(tree));
        }
        trees
    }

    fn note_known(&self, trees: Vec<CasDigest>, removals: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.removals != removals {
            known.views.clear();
            known.count = 0;
            known.removals = removals;
        }
        let now = Instant::now();
        for tree in trees {
            if !known.make_room(self.lifetime) {
                break;
            }
            let found = known.views.entry(self.view.clone()).or_default();
            if found.insert(tree, now).is_none() {
                known.count += 1;
            }
        }
    }

    /// Reads small files that results name which were just found complete for this view: what was
    /// read before is not read again.
    pub async fn read_named(&self, blobs: &[CasDigest]) -> Vec<Result<Bytes, Fault>> {
        let recalled = self.contents.files.get(blobs);
        let unread = blobs.iter().zip(&recalled);
        let unread = unread.filter(|(_, recalled)| recalled.is_none());
        let unread: Vec<CasDigest> = unread.map(|(blob, _)| *blob).collect();
        let mut read = if unread.is_empty() {
            Vec::new()
        } else {
            self.blobs.read_many(&unread).await
        }
        .into_iter();
        let answers = blobs.iter().zip(recalled).map(|(blob, recalled)| {
            if let Some(bytes) = recalled {
                return Ok(bytes);
            }
            let bytes = read.next().unwrap_or_else(|| Err(Fault::not_found(blob)))?;
            // A part of a larger buffer would hold all of that.
            let own = Bytes::copy_from_slice(&bytes);
            self.contents.files.note(*blob, own, bytes.len());
            Ok(bytes)
        });
        answers.collect()
    }

    async fn complete(
        &self,
        keys: &[ActionKey],
        mut results: Vec<Option<Bytes>>,
    ) -> Result<Vec<Option<Bytes>>, Fault> {
        // A result that cannot be read is as good as none.
        let named: Vec<Option<References>> = keys
            .iter()
            .zip(&results)
            .map(|(key, result)| references(result.as_ref()?, key.action.function).ok())
            .collect();
        let walk = self
            .walk(&named.iter().flatten().collect::<Vec<_>>())
            .await?;
        for (result, references) in results.iter_mut().zip(&named) {
            let is_complete = references
                .as_ref()
                .is_some_and(|references| walk.lacks(references).is_none());
            if !is_complete {
                *result = None;
            }
        }
        Ok(results)
    }
}

/// A blob that went away since it was looked for is a hole, not a fault.
fn read(bytes: Result<Bytes, Fault>) -> Result<Option<Bytes>, Fault> {
    match bytes {
        Ok(bytes) => Ok(Some(bytes)),
        Err(fault) if matches!(fault.kind, FaultKind::NotFound | FaultKind::Invalid) => Ok(None),
        Err(fault) => Err(fault),
    }
}

impl ActionCache for Completeness {
    fn get<'a>(
        &'a self,
        keys: &'a [ActionKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, Fault>> {
        Box::pin(async move {
            let results = self.results.get(keys).await?;
            self.complete(keys, results).await
        })
    }

    /// Stores a result, complete or not. With [`PutMode::IfAbsent`] a result that is there but has
    /// a hole counts as absent.
    fn put<'a>(
        &'a self,
        key: &'a ActionKey,
        result: Bytes,
        mode: PutMode,
    ) -> BoxFuture<'a, Result<Bytes, Fault>> {
        Box::pin(async move {
            let there = self.results.put(key, result.clone(), mode).await?;
            if there == result {
                return Ok(there);
            }
            let complete = self
                .complete(std::slice::from_ref(key), vec![Some(there)])
                .await?;
            match complete.into_iter().flatten().next() {
                Some(there) => Ok(there),
                None => self.results.put(key, result, PutMode::Replace).await,
            }
        })
    }

    fn remove<'a>(&'a self, key: &'a ActionKey) -> BoxFuture<'a, Result<bool, Fault>> {
        self.results.remove(key)
    }

    fn swap<'a>(
        &'a self,
        key: &'a ActionKey,
        old: Option<&'a Bytes>,
        new: Bytes,
    ) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async move {
            if old.is_some() {
                return self.results.swap(key, old, new).await;
            }
            // One that is there and has a hole counts as none.
            let there = self.results.get(std::slice::from_ref(key)).await?;
            let there = there.into_iter().next().flatten();
            if there.is_some() {
                let complete = self.complete(std::slice::from_ref(key), vec![there.clone()]);
                if complete.await?.iter().any(Option::is_some) {
                    return Ok(false);
                }
            }
            self.results.swap(key, there.as_ref(), new).await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use ashlar_proto::convert::digest_to_wire;
    use ashlar_proto::wire::reapi;
    use prost::Message as _;

    use super::*;
    use crate::blob_store::{ByteRange, ByteStream, once};
    use crate::conformance;
    use crate::memory::MemoryStore;

    const FUNCTION: DigestFunction = DigestFunction::Blake3;

    fn empty() -> ((), Arc<Completeness>) {
        let memory = Arc::new(MemoryStore::new(1 << 30));
        let cache = Completeness::new(memory.clone(), memory, LIFETIME);
        ((), Arc::new(cache))
    }

    conformance::action_cache_tests!(results, std::future::ready(empty()));
    conformance::exact_action_cache_tests!(exact, std::future::ready(empty()));

    /// A store that counts what it is asked and may lose blobs.
    #[derive(Debug)]
    struct Lossy {
        inner: MemoryStore,
        lost: Mutex<HashSet<CasDigest>>,
        asked: AtomicUsize,
        unreadable: AtomicBool,
    }

    impl Lossy {
        fn is_lost(&self, blob: &CasDigest) -> bool {
            self.lost.lock().unwrap().contains(blob)
        }

        async fn keep(&self, bytes: impl Into<Bytes>) -> CasDigest {
            let bytes = bytes.into();
            let digest = CasDigest::of(FUNCTION, &bytes);
            self.inner.write(&digest, once(bytes)).await.unwrap();
            digest
        }
    }

    impl BlobStore for Lossy {
        fn missing<'a>(
            &'a self,
            blobs: &'a [CasDigest],
        ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
            self.asked.fetch_add(blobs.len(), Ordering::Relaxed);
            Box::pin(async move {
                let missing: HashSet<_> = self.inner.missing(blobs).await?.into_iter().collect();
                let is_gone = |blob: &&CasDigest| missing.contains(blob) || self.is_lost(blob);
                Ok(blobs.iter().filter(is_gone).copied().collect())
            })
        }

        fn read<'a>(
            &'a self,
            blob: &'a CasDigest,
            range: ByteRange,
        ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
            Box::pin(async move {
                if self.is_lost(blob) || self.unreadable.load(Ordering::Relaxed) {
                    return Err(Fault::not_found(blob));
                }
                self.inner.read(blob, range).await
            })
        }

        fn write<'a>(
            &'a self,
            blob: &'a CasDigest,
            bytes: ByteStream,
        ) -> BoxFuture<'a, Result<(), Fault>> {
            self.inner.write(blob, bytes)
        }
    }

    fn file(digest: &CasDigest) -> reapi::FileNode {
        reapi::FileNode {
            digest: Some(digest_to_wire(digest)),
            ..Default::default()
        }
    }

    struct Scene {
        store: Arc<Lossy>,
        cache: Completeness,
        removals: Arc<AtomicU64>,
        key: ActionKey,
        result: Bytes,
        parts: Vec<CasDigest>,
    }

    /// A result that names something in every way there is.
    async fn scene() -> Scene {
        let store = Arc::new(Lossy {
            inner: MemoryStore::new(1 << 30),
            lost: Mutex::default(),
            asked: AtomicUsize::new(0),
            unreadable: AtomicBool::new(false),
        });
        let mut parts = Vec::new();
        for text in ["output", "stdout", "chunk", "below", "leaf", "top"] {
            parts.push(store.keep(text).await);
        }
        let [output, stdout, chunk, below, leaf, top] = parts[..] else {
            unreachable!("six were written");
        };
        let tree = reapi::Tree {
            root: Some(reapi::Directory {
                files: vec![file(&chunk)],
                ..Default::default()
            }),
            children: vec![reapi::Directory {
                files: vec![file(&below)],
                ..Default::default()
            }],
        };
        let tree = store.keep(tree.encode_to_vec()).await;
        let inner = reapi::Directory {
            files: vec![file(&leaf)],
            ..Default::default()
        };
        let inner = store.keep(inner.encode_to_vec()).await;
        let root = reapi::Directory {
            files: vec![file(&top)],
            directories: vec![reapi::DirectoryNode {
                name: "inner".to_owned(),
                digest: Some(digest_to_wire(&inner)),
            }],
            ..Default::default()
        };
        let root = store.keep(root.encode_to_vec()).await;
        parts.extend([tree, inner, root]);
        let result = reapi::ActionResult {
            output_files: vec![reapi::OutputFile {
                digest: Some(digest_to_wire(&output)),
                ..Default::default()
            }],
            stdout_digest: Some(digest_to_wire(&stdout)),
            output_directories: vec![
                reapi::OutputDirectory {
                    tree_digest: Some(digest_to_wire(&tree)),
                    ..Default::default()
                },
                reapi::OutputDirectory {
                    root_directory_digest: Some(digest_to_wire(&root)),
                    ..Default::default()
                },
            ],
            ..Default::default()
        };
        let removals = Arc::new(AtomicU64::new(0));
        let cache = Completeness::new(
            Arc::new(MemoryStore::new(1 << 30)),
            store.clone(),
            Duration::from_secs(3600),
        )
        .with_removals(Arc::clone(&removals));
        let key = ActionKey {
            instance: String::new(),
            action: CasDigest::of(FUNCTION, b"action"),
        };
        let result = Bytes::from(result.encode_to_vec());
        cache
            .put(&key, result.clone(), PutMode::Replace)
            .await
            .unwrap();
        Scene {
            store,
            cache,
            removals,
            key,
            result,
            parts,
        }
    }

    impl Scene {
        async fn hit(&self) -> bool {
            let keys = std::slice::from_ref(&self.key);
            self.cache.get(keys).await.unwrap()[0].is_some()
        }

        fn lose(&self, blob: &CasDigest) {
            self.store.lost.lock().unwrap().insert(*blob);
            self.removals.fetch_add(1, Ordering::Release);
        }
    }

    #[tokio::test]
    async fn one_missing_blob_of_any_kind_makes_a_miss() {
        let scene = scene().await;
        assert!(scene.hit().await);
        assert_eq!(scene.parts.len(), 9);
        for part in &scene.parts {
            scene.lose(part);
            assert!(!scene.hit().await, "{part} is lost");
            let missing = scene.cache.missing_of(&scene.result, FUNCTION).await;
            assert_eq!(missing.unwrap(), vec![*part]);
            scene.store.lost.lock().unwrap().clear();
            assert!(scene.hit().await);
        }
    }

    #[tokio::test]
    async fn a_known_tree_is_not_walked_again_until_something_is_removed() {
        let scene = scene().await;
        assert!(scene.hit().await);
        let asked = || scene.store.asked.swap(0, Ordering::Relaxed);
        let first = asked();
        assert!(scene.hit().await);
        // The two files of the tree.
        assert_eq!(asked(), first - 2);
        scene.removals.fetch_add(1, Ordering::Release);
        assert!(scene.hit().await);
        assert_eq!(asked(), first);
    }

    #[tokio::test]
    async fn what_one_view_knows_says_nothing_to_another() {
        let scene = scene().await;
        assert!(scene.hit().await);
        let keys = std::slice::from_ref(&scene.key);
        // The other sees the tree, but not the file in it.
        let other = Arc::new(Lossy {
            inner: MemoryStore::new(1 << 30),
            lost: Mutex::default(),
            asked: AtomicUsize::new(0),
            unreadable: AtomicBool::new(false),
        });
        for part in &scene.parts {
            let bytes = scene.store.inner.read_many(&[*part]).await.remove(0);
            other.keep(bytes.unwrap()).await;
        }
        let view = scene.cache.of_view("other".into(), other.clone());
        other.lost.lock().unwrap().insert(scene.parts[2]);
        assert_eq!(view.get(keys).await.unwrap(), [None]);
        assert!(scene.hit().await);
        other.lost.lock().unwrap().clear();
        assert_eq!(view.get(keys).await.unwrap(), [Some(scene.result.clone())]);
        // And now it knows it by itself.
        let asked = || other.asked.swap(0, Ordering::Relaxed);
        asked();
        assert!(view.get(keys).await.unwrap()[0].is_some());
        let again = asked();
        scene.removals.fetch_add(1, Ordering::Release);
        assert!(view.get(keys).await.unwrap()[0].is_some());
        assert_eq!(asked(), again + 2);
    }

    #[tokio::test]
    async fn what_never_changes_is_read_once() {
        let scene = scene().await;
        let tree = scene.parts[6];
        let output = scene.parts[0];
        assert!(scene.hit().await);
        let read = scene.cache.read_named(&[output, tree]).await;
        assert_eq!(read[0].as_ref().unwrap(), "output");
        // Nothing is known to be there any more, and only reading would fail.
        scene.removals.fetch_add(1, Ordering::Release);
        scene.store.unreadable.store(true, Ordering::Relaxed);
        let keys = std::slice::from_ref(&scene.key);
        let mut walk = Walk::default();
        let trees = HashSet::from([tree]);
        let walked = scene.cache.walk_trees(trees, 1, &mut walk);
        walked.await.unwrap();
        let again = scene.cache.read_named(&[output, scene.parts[1]]).await;
        assert_eq!(again[0].as_ref().unwrap(), "output");
        again[1].as_ref().unwrap_err();
        // What is lost is lost, whatever is remembered of it.
        scene.lose(&output);
        scene.store.unreadable.store(false, Ordering::Relaxed);
        assert_eq!(scene.cache.get(keys).await.unwrap(), [None]);
    }

    #[tokio::test]
    async fn a_result_with_a_hole_makes_room_for_the_next() {
        let scene = scene().await;
        let other = Bytes::from(
            reapi::ActionResult {
                stdout_raw: Bytes::from_static(b"another"),
                ..Default::default()
            }
            .encode_to_vec(),
        );
        let put = || {
            let other = other.clone();
            scene.cache.put(&scene.key, other, PutMode::IfAbsent)
        };
        assert_eq!(put().await.unwrap(), scene.result);
        scene.lose(&scene.parts[2]);
        assert_eq!(put().await.unwrap(), other);
        assert!(scene.hit().await);
    }

    #[tokio::test]
    async fn what_is_no_result_is_no_hit() {
        let scene = scene().await;
        let nonsense = Bytes::from_static(b"no result");
        let put = scene
            .cache
            .put(&scene.key, nonsense.clone(), PutMode::Replace);
        put.await.unwrap();
        assert!(!scene.hit().await);
        let refused = scene.cache.missing_of(&nonsense, FUNCTION).await;
        assert_eq!(refused.unwrap_err().kind, FaultKind::Invalid);
    }
}
