mod hostile;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ashlar_engine::context::Context;
use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_model::executor::BoxFuture;
use ashlar_model::layer::EntryKind;
use ashlar_model::select::PathRules;
use ashlar_model::step::Selection;
use ashlar_store::BlobStore;
use ashlar_store::blob_store::{ByteRange, ByteStream};
use ashlar_store::fault::Fault;
use ashlar_store::home::Home;
use ashlar_store::home::quota::Meter;
use ashlar_store::memory::MemoryStore;
use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// A context, a store, and a place for what is fetched.
struct Lab {
    directory: TempDir,
    store: Arc<Counting>,
    meter: Meter,
}

impl Lab {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join("context")).unwrap();
        let home = Home::open(&directory.path().join("home")).unwrap();
        Self {
            store: Arc::new(Counting::default()),
            meter: home.meter(),
            directory,
        }
    }

    fn context(&self) -> PathBuf {
        self.directory.path().join("context")
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.context().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn select(&self, pattern: &str) -> Arc<Selection> {
        let context = Context::open(&self.context(), PathRules::default(), None).unwrap();
        Arc::new(context.select(&[pattern]).unwrap().pop().unwrap())
    }

    fn store(&self) -> Arc<dyn BlobStore> {
        self.store.clone()
    }

    fn hints(&self) -> Hints {
        Hints::load(Some(self.directory.path().join("hints")))
    }

    async fn send(
        &self,
        function: DigestFunction,
        selection: &Arc<Selection>,
    ) -> Result<(ContextRef, Sent), ContextError> {
        let hints = self.hints();
        let from = (&*self.context(), selection);
        let sent = send(&self.store(), function, from, &hints, &|_| {}).await;
        hints.save(&self.meter).unwrap();
        sent
    }

    /// Fetches into a new directory.
    async fn fetch(&self, reference: &ContextRef) -> Result<(Listing, PathBuf), ContextError> {
        self.fetch_beside(reference, &[]).await
    }

    /// The same beside what was fetched before.
    async fn fetch_beside(
        &self,
        reference: &ContextRef,
        near: &[Fetched],
    ) -> Result<(Listing, PathBuf), ContextError> {
        let listing = list(&self.store(), reference, &Limits::default()).await?;
        let into = tempfile::tempdir_in(self.directory.path()).unwrap().keep();
        fetch(&self.store(), &listing, &into, &self.meter, near).await?;
        Ok((listing, into))
    }
}

/// A store that counts questions, and can be told to answer with other bytes.
#[derive(Debug)]
struct Counting {
    inner: MemoryStore,
    questions: AtomicUsize,
    /// Bytes that were asked for.
    read: AtomicU64,
}

impl Default for Counting {
    fn default() -> Self {
        Self {
            inner: MemoryStore::new(1 << 30),
            questions: AtomicUsize::new(0),
            read: AtomicU64::new(0),
        }
    }
}

impl BlobStore for Counting {
    fn missing<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        self.inner.missing(blobs)
    }

    fn read<'a>(
        &'a self,
        blob: &'a CasDigest,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
        self.read.fetch_add(blob.size, Ordering::Relaxed);
        self.inner.read(blob, range)
    }

    fn write<'a>(
        &'a self,
        blob: &'a CasDigest,
        bytes: ByteStream,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        self.inner.write(blob, bytes)
    }
}

/// Bytes that do not repeat.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// The files below a directory.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else if entry.file_type().unwrap().is_file() {
                let path = entry.path().strip_prefix(root).unwrap().to_owned();
                found.insert(path, fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

const BOTH: [DigestFunction; 2] = [DigestFunction::Blake3, DigestFunction::Sha256];

#[tokio::test]
async fn files_arrive_as_they_were() {
    for function in BOTH {
        let lab = Lab::new();
        lab.write("empty", "");
        lab.write("src/main.rs", "fn main() {}");
        lab.write("src/copy.rs", "fn main() {}");
        lab.write("src/deep/er/x", "x");
        lab.write("large", noise(1, 300_000));
        lab.write("giant", noise(2, 9_000_000));
        for number in 0..300 {
            lab.write(&format!("many/{number}"), noise(number, 2_000));
        }
        symlink("src", lab.context().join("link")).unwrap();
        fs::set_permissions(
            lab.context().join("large"),
            fs::Permissions::from_mode(0o751),
        )
        .unwrap();
        fs::hard_link(lab.context().join("large"), lab.context().join("larger")).unwrap();
        let selection = lab.select(".");
        let (reference, sent) = lab.send(function, &selection).await.unwrap();
        assert!(sent.blobs > 5 && sent.sent_blobs == sent.blobs, "{sent:?}");
        let (listing, there) = lab.fetch(&reference).await.unwrap();
        assert_eq!(listing.selection(), &selection);
        let mut expected = files(&lab.context());
        // Its other name is a hard link of the listing, which is made from the first.
        assert!(expected.remove(Path::new("larger")).is_some());
        assert!(expected == files(&there), "files differ");
    }
}

#[tokio::test]
async fn what_has_not_changed_costs_one_question() {
    for function in BOTH {
        let lab = Lab::new();
        for number in 0..2_000 {
            lab.write(&format!("{}/{number}", number % 50), noise(number, 3_000));
        }
        lab.write("giant", noise(7, 5_000_000));
        let selection = lab.select(".");
        let (first, _) = lab.send(function, &selection).await.unwrap();
        let before = lab.store.questions.load(Ordering::Relaxed);
        let (again, sent) = lab.send(function, &selection).await.unwrap();
        assert_eq!(again, first);
        assert_eq!((sent.read, sent.sent), (0, 0));
        assert_eq!(lab.store.questions.load(Ordering::Relaxed) - before, 1);
    }
}

#[tokio::test]
async fn one_changed_file_sends_one_bundle() {
    let lab = Lab::new();
    for number in 0..5_000 {
        lab.write(&format!("{}/{number}", number % 50), noise(number, 3_000));
    }
    lab.send(DigestFunction::Blake3, &lab.select("."))
        .await
        .unwrap();
    lab.write("17/17", noise(1 << 40, 3_000));
    let (reference, sent) = lab
        .send(DigestFunction::Blake3, &lab.select("."))
        .await
        .unwrap();
    assert!((1..=2).contains(&sent.sent_blobs), "{sent:?}");
    assert!(sent.read < 2_000_000 && sent.sent < 2_500_000, "{sent:?}");
    let (_, there) = lab.fetch(&reference).await.unwrap();
    assert!(files(&lab.context()) == files(&there), "files differ");
}

#[tokio::test]
async fn what_is_near_is_not_fetched() {
    let lab = Lab::new();
    for number in 0..1_000 {
        lab.write(&format!("{}/{number}", number % 10), noise(number, 3_000));
    }
    lab.write("giant", noise(7, 5_000_000));
    lab.write("twice/1", noise(1, 3_000));
    let function = DigestFunction::Blake3;
    let (reference, _) = lab.send(function, &lab.select(".")).await.unwrap();
    let (listing, directory) = lab.fetch(&reference).await.unwrap();
    let near = [Fetched {
        directory: directory.clone(),
        listing,
    }];
    // Some files change, come, go and move.
    lab.write("3/3", noise(1 << 40, 3_000));
    lab.write("new/file", "new");
    lab.write("5/15", "");
    fs::rename(lab.context().join("4/4"), lab.context().join("moved")).unwrap();
    fs::remove_file(lab.context().join("6/6")).unwrap();
    let (reference, _) = lab.send(function, &lab.select(".")).await.unwrap();
    // What is near may have been damaged or lost.
    fs::remove_file(directory.join("7/7")).unwrap();
    fs::write(directory.join("8/8"), "another size").unwrap();
    lab.store.read.store(0, Ordering::Relaxed);
    let (_, there) = lab.fetch_beside(&reference, &near).await.unwrap();
    assert!(files(&lab.context()) == files(&there), "files differ");
    let read = lab.store.read.load(Ordering::Relaxed);
    assert!(read < 1_500_000, "{read} bytes were read");
    // What is near goes, and takes nothing along.
    fs::remove_dir_all(&directory).unwrap();
    assert!(files(&lab.context()) == files(&there), "files differ");
    let (_, there) = lab.fetch_beside(&reference, &near).await.unwrap();
    assert!(files(&lab.context()) == files(&there), "files differ");
}

#[tokio::test]
async fn a_store_that_has_lost_something_gets_it_again() {
    let lab = Lab::new();
    for number in 0..500 {
        lab.write(&format!("{number}"), noise(number, 3_000));
    }
    lab.write("giant", noise(7, 5_000_000));
    let selection = lab.select(".");
    let (first, before) = lab.send(DigestFunction::Sha256, &selection).await.unwrap();
    let empty = Lab {
        store: Arc::default(),
        ..lab
    };
    let (again, sent) = empty
        .send(DigestFunction::Sha256, &selection)
        .await
        .unwrap();
    assert_eq!(again, first);
    assert_eq!(sent.sent_blobs, before.sent_blobs);
    empty.fetch(&again).await.unwrap();
}

/// What somebody does to a file.
type Change<'a> = &'a dyn Fn(&Path);

#[tokio::test]
async fn a_file_that_changed_is_an_error() {
    for (path, length) in [("small", 100), ("large", 200_000), ("giant", 5_000_000)] {
        let lab = Lab::new();
        for number in 0..100 {
            lab.write(&format!("{number}"), noise(number, 3_000));
        }
        lab.write(path, noise(1, length));
        let selection = lab.select(".");
        let changes: [Change<'_>; 5] = [
            &|file| fs::write(file, noise(2, length)).unwrap(),
            &|file| fs::write(file, noise(1, length - 1)).unwrap(),
            &|file| fs::write(file, noise(1, length + 1)).unwrap(),
            &|file| fs::remove_file(file).unwrap(),
            &|file| symlink("0", file).unwrap(),
        ];
        for change in changes {
            let file = lab.context().join(path);
            change(&file);
            let sent = lab.send(DigestFunction::Sha256, &selection).await;
            let error = sent.unwrap_err();
            assert!(
                matches!(&error, ContextError::Changed { path } if *path == file),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn nothing_is_a_context_too() {
    let lab = Lab::new();
    let (reference, sent) = lab
        .send(DigestFunction::Blake3, &lab.select("."))
        .await
        .unwrap();
    assert_eq!(sent.blobs, 0);
    let (listing, there) = lab.fetch(&reference).await.unwrap();
    assert_eq!(listing.bytes(), 0);
    assert!(files(&there).is_empty());
    let none = Arc::new(Selection::default());
    let (reference, _) = lab.send(DigestFunction::Blake3, &none).await.unwrap();
    let (listing, _) = lab.fetch(&reference).await.unwrap();
    assert_eq!(listing.selection(), &none);
}

#[tokio::test]
async fn single_files_and_parts_arrive() {
    let lab = Lab::new();
    lab.write("a/b/one", "1");
    lab.write("a/b/two", "2");
    lab.write("a/c/one", "1");
    for pattern in ["a/b/one", "a/*", "a/b", "a/*/one"] {
        let selection = lab.select(pattern);
        let (reference, _) = lab.send(DigestFunction::Blake3, &selection).await.unwrap();
        let (listing, there) = lab.fetch(&reference).await.unwrap();
        assert_eq!(listing.selection(), &selection, "{pattern}");
        for item in &selection.items {
            for entry in &item.entries {
                let path = item.path.join_path(&entry.path);
                if let EntryKind::File { .. } = entry.kind {
                    let original = fs::read(lab.context().join(path.as_path())).unwrap();
                    assert_eq!(fs::read(there.join(path.as_path())).unwrap(), original);
                }
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Made {
    File(u8, usize),
    Directory,
    Link,
}

fn trees() -> impl Strategy<Value = BTreeMap<String, Made>> {
    let name = "[a-c]{1,2}";
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let made = prop_oneof![
        4 => (any::<u8>(), 0..3_000_usize).prop_map(|(seed, length)| Made::File(seed, length)),
        1 => (any::<u8>(), 100_000..3_000_000_usize).prop_map(|(seed, length)| Made::File(seed, length)),
        1 => Just(Made::Directory),
        1 => Just(Made::Link),
    ];
    prop::collection::btree_map(path, made, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_tree_comes_back(tree in trees(), sha256: bool) {
        let lab = Lab::new();
        for (path, made) in &tree {
            let place = lab.context().join(path);
            let parent = place.parent().unwrap();
            if fs::create_dir_all(parent).is_err() || place.symlink_metadata().is_ok() {
                continue;
            }
            match made {
                Made::File(seed, length) => fs::write(place, noise((*seed).into(), *length)).unwrap(),
                Made::Directory => fs::create_dir(place).unwrap(),
                Made::Link => symlink("nowhere", place).unwrap(),
            }
        }
        let function = BOTH[usize::from(sha256)];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let selection = lab.select(".");
            let (reference, _) = lab.send(function, &selection).await.unwrap();
            let (listing, there) = lab.fetch(&reference).await.unwrap();
            assert_eq!(listing.selection(), &selection);
            assert!(files(&lab.context()) == files(&there));
        });
    }
}
