use std::error::Error;
use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::{
    BlobDigest, ContentDigest, ContentKey, DefinitionKey, DiffId, InstructionKey, LayerId,
};
use ashlar_model::layer::{LayerRecord, StoredBlob, Timestamp};
use ashlar_model::media_type::{Compression, OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST};
use ashlar_model::platform::Platform;

use super::super::images::ImageRecord;
use super::super::results::{ContentResult, DefinitionResult};
use super::super::sources::{DirectoryRecord, HttpRecord, SourceClass, SourceKey};
use super::*;

/// Remembers what it was asked to remove.
#[derive(Default)]
struct Remover(Mutex<Vec<PathBuf>>);

impl TreeRemover for Remover {
    fn remove(&self, paths: &[PathBuf]) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.0.lock().unwrap().extend_from_slice(paths);
        Ok(())
    }
}

struct Store {
    _directory: tempfile::TempDir,
    home: Home,
}

impl Store {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        Self {
            _directory: directory,
            home,
        }
    }

    /// A layer with a tree and a blob of so many bytes each.
    fn layer(&self, name: &str, bytes: usize) -> LayerId {
        let id = self.home.new_layer_id().unwrap();
        let tree = self.home.tree_path("map", &id);
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("file"), vec![b'x'; bytes]).unwrap();
        let content = format!("blob of {name}").into_bytes();
        let padded = [content, vec![b'y'; bytes]].concat();
        let digest = self.home.blobs().put(&padded).unwrap();
        let mut layer = LayerRecord::made_by_step(id);
        layer.diff_id = Some(DiffId::of(name.as_bytes()));
        layer.blobs = vec![StoredBlob {
            descriptor: Descriptor::new(OCI_LAYER_GZIP, digest, padded.len() as u64),
            compression: Compression::Gzip,
            level: None,
        }];
        self.home.put_layer(&layer).unwrap();
        id
    }

    fn blob_of(&self, layer: &LayerId) -> Descriptor {
        let record = self.home.layer(layer).unwrap().unwrap();
        record.blobs[0].descriptor.clone()
    }

    fn image(&self, name: &str, layers: &[LayerId]) -> ImageRecord {
        let config = format!("{{\"name\":\"{name}\"}}");
        let digest = self.home.blobs().put(config.as_bytes()).unwrap();
        let image = ImageRecord {
            reference: name.parse().unwrap(),
            config: Descriptor::new(OCI_CONFIG, digest, config.len() as u64),
            manifest: None,
            platform: Platform::host(),
            layers: layers.to_vec(),
            tagged: Timestamp::default(),
        };
        self.home.put_image(&image).unwrap();
        image
    }

    /// A cached result that was last used at some second.
    fn result(&self, name: &str, stack: &[LayerId], used: u64) -> DefinitionKey {
        let key = DefinitionKey::from(blake3::hash(name.as_bytes()));
        let result = DefinitionResult::own(stack.to_vec());
        self.home.put_definition_result(&key, &result).unwrap();
        self.used("definition", &key.to_hex(), used);
        key
    }

    fn used(&self, kind: &str, name: &str, second: u64) {
        let time = UNIX_EPOCH + Duration::from_secs(second);
        let path = self.home.root().join("results").join(kind).join(name);
        let times = FileTimes::new().set_accessed(time).set_modified(time);
        File::open(path).unwrap().set_times(times).unwrap();
    }

    fn collect(&self, policy: Policy) -> Report {
        collect(&self.home, policy, Duration::ZERO, &Remover::default()).unwrap()
    }

    fn layers(&self) -> Vec<LayerId> {
        self.home.layer_ids().unwrap()
    }

    fn has(&self, layer: &LayerId) -> bool {
        let record = self.home.layer(layer).unwrap().is_some();
        let tree = self.home.tree_path("map", layer).join("file").exists();
        assert_eq!(record, tree, "a layer goes as a whole");
        record
    }

    fn names_below(&self, directory: &str) -> usize {
        fs::read_dir(self.home.root().join(directory))
            .unwrap()
            .count()
    }
}

#[test]
fn what_nobody_needs_goes_and_the_rest_stays() {
    let store = Store::new();
    let (base, tagged, cached, orphan) = (
        store.layer("base", 10),
        store.layer("tagged", 10),
        store.layer("cached", 10),
        store.layer("orphan", 10_000),
    );
    let image = store.image("app", &[base, tagged]);
    let key = store.result("cached", &[base, cached], 5);
    let orphan_blob = store.blob_of(&orphan);
    let old_config = store
        .home
        .blobs()
        .put(b"{\"of\":\"an earlier build\"}")
        .unwrap();

    let report = store.collect(Policy::KeepResults);

    assert_eq!((report.layers, report.blobs, report.results), (1, 2, 0));
    assert!(report.freed >= 20_000, "{report:?}");
    assert!(!report.only_leftovers);
    for layer in [base, tagged, cached] {
        assert!(store.has(&layer));
        assert!(store.home.blobs().has(&store.blob_of(&layer)));
    }
    assert!(!store.has(&orphan));
    assert!(!store.home.blobs().has(&orphan_blob));
    assert_eq!(store.home.blobs().size_of(&old_config), None);
    assert!(store.home.blobs().has(&image.config));
    assert!(store.home.result_by_definition(&key).unwrap().is_some());
    assert_eq!(store.names_below("tmp"), 0);

    assert_eq!(store.collect(Policy::KeepResults), Report::default());
}

#[test]
fn all_leaves_the_tags_and_their_own_results() {
    let store = Store::new();
    let (tagged, cached) = (store.layer("tagged", 10), store.layer("cached", 10));
    store.image("app", &[tagged]);
    let own = store.result("own", &[tagged], 1);
    let other = store.result("other", &[tagged, cached], 9);

    let report = store.collect(Policy::KeepUpTo(0));

    assert_eq!((report.layers, report.results), (1, 1));
    assert_eq!(store.layers(), [tagged]);
    assert!(store.home.result_by_definition(&own).unwrap().is_some());
    assert!(store.home.result_by_definition(&other).unwrap().is_none());
}

#[test]
fn hints_go_only_with_everything() {
    let store = Store::new();
    fs::write(store.home.hints().join("context-1"), vec![1; 5000]).unwrap();
    store.collect(Policy::KeepResults);
    store.collect(Policy::KeepUpTo(1));
    assert_eq!(store.names_below("hints"), 1);
    assert!(store.collect(Policy::KeepUpTo(0)).freed >= 5000);
    assert_eq!(store.names_below("hints"), 0);
}

#[test]
fn a_limit_drops_the_longest_unused_first() {
    let store = Store::new();
    let layers: Vec<LayerId> = (0..4)
        .map(|number| store.layer(&format!("layer {number}"), 100_000))
        .collect();
    // Number 2 is the freshest although it was made before number 3.
    for (number, used) in [(0, 10), (1, 20), (2, 90), (3, 50)] {
        store.result(&format!("result {number}"), &[layers[number]], used);
    }
    // Each takes 200 kB and a little, the store's own directories less than 100 kB.
    let report = store.collect(Policy::KeepUpTo(600_000));
    assert_eq!(report.layers, 2);
    assert!(store.has(&layers[2]) && store.has(&layers[3]));
    let report = store.collect(Policy::KeepUpTo(400_000));
    assert_eq!(report.layers, 1);
    assert!(store.has(&layers[2]));
    assert_eq!(store.collect(Policy::KeepUpTo(400_000)).layers, 0);
}

#[test]
fn a_shared_layer_goes_with_its_last_result() {
    let store = Store::new();
    let base = store.layer("base", 100_000);
    let tips = [store.layer("old", 10), store.layer("new", 10)];
    store.result("old", &[base, tips[0]], 1);
    store.result("new", &[base, tips[1]], 2);
    // Dropping the old tip frees next to nothing, but it must not take the base with it.
    let total = Inventory::take(&store.home).unwrap().total();
    store.collect(Policy::KeepUpTo(total - 20_000));
    assert!(store.has(&base) && store.has(&tips[1]) && !store.has(&tips[0]));
    store.collect(Policy::KeepUpTo(100_000));
    assert!(store.layers().is_empty());
}

#[test]
fn nothing_goes_while_a_build_runs_but_leftovers() {
    let store = Store::new();
    let orphan = store.layer("orphan", 10);
    let scratch = store.home.scratch().unwrap().path().to_owned();
    fs::write(scratch.join("left"), vec![1; 10_000]).unwrap();
    let building = store.home.in_use().unwrap();

    let report = store.collect(Policy::KeepUpTo(0));

    assert!(report.only_leftovers);
    assert_eq!((report.leftovers, report.layers), (1, 0));
    assert!(report.freed >= 10_000);
    assert!(store.has(&orphan));
    assert!(!scratch.exists());
    drop(building);
    assert_eq!(store.collect(Policy::KeepUpTo(0)).layers, 1);
}

#[test]
fn a_scratch_directory_in_use_is_left_alone() {
    let store = Store::new();
    let scratch = store.home.scratch().unwrap();
    assert_eq!(store.collect(Policy::KeepUpTo(0)).leftovers, 0);
    assert!(scratch.path().is_dir());
}

#[test]
fn broken_downloads_go_and_running_ones_stay() {
    let store = Store::new();
    let (broken, running) = (BlobDigest::of(b"broken"), BlobDigest::of(b"running"));
    let mut partial = store.home.blobs().partial(&broken).unwrap();
    partial.append(b"bro").unwrap();
    drop(partial);
    let mut running = store.home.blobs().partial(&running).unwrap();
    running.append(b"run").unwrap();

    assert_eq!(store.collect(Policy::KeepResults).leftovers, 1);
    assert_eq!(store.names_below("partial"), 1);
    running.append(b"ning").unwrap();
    running.commit(None).unwrap();
}

#[test]
fn files_under_temporary_names_go() {
    let store = Store::new();
    store.image("app", &[]);
    // A tag that only looks like a temporary name.
    store.image("app:1.new-5-6", &[]);
    for path in [
        "images/docker.io%library%app:latest.new-4194399-0",
        "results/definition/00.new-4194399-1",
        "blobs/sha256/00.new-4194399-2",
        "locks/blob-00",
        "tmp/00.lock",
    ] {
        fs::write(store.home.root().join(path), "").unwrap();
    }
    store.collect(Policy::KeepResults);
    assert_eq!(store.home.images().unwrap().len(), 2);
    assert_eq!(store.names_below("images"), 2);
    for directory in ["results/definition", "locks", "tmp"] {
        assert_eq!(store.names_below(directory), 0, "{directory}");
    }
    assert_eq!(store.names_below("blobs/sha256"), 2);
}

#[test]
fn damaged_results_go() {
    let store = Store::new();
    let layer = store.layer("layer", 10);
    let gone = store.home.new_layer_id().unwrap();
    store.result("whole", &[layer], 1);
    store.result("layer gone", &[layer, gone], 1);
    store.result("torn", &[layer], 1);
    let torn = DefinitionKey::from(blake3::hash(b"torn")).to_hex();
    fs::write(store.home.root().join("results/definition").join(torn), "{").unwrap();

    let report = store.collect(Policy::KeepResults);
    assert_eq!((report.results, report.layers), (2, 0));
}

#[test]
fn a_base_image_stays_usable_while_its_layers_do() {
    let store = Store::new();
    let (base, other) = (store.layer("base", 10), store.layer("other", 10));
    let manifest_of = |layers: &[LayerId], config: &str| {
        let config = store.home.blobs().put(config.as_bytes()).unwrap();
        let layers = layers.iter().map(|layer| store.blob_of(layer));
        let manifest = serde_json::json!({
            "mediaType": OCI_MANIFEST,
            "config": Descriptor::new(OCI_CONFIG, config, 1),
            "layers": layers.collect::<Vec<_>>(),
        });
        let bytes = serde_json::to_vec(&manifest).unwrap();
        (store.home.blobs().put(&bytes).unwrap(), config)
    };
    let kept = manifest_of(&[base], "{\"a\":1}");
    let gone = manifest_of(&[base, other], "{\"b\":1}");
    let list = serde_json::json!({ "manifests": [Descriptor::new(OCI_MANIFEST, kept.0, 1)] });
    let list = store
        .home
        .blobs()
        .put(&serde_json::to_vec(&list).unwrap())
        .unwrap();
    store.result("built on it", &[base], 1);

    store.collect(Policy::KeepResults);

    let there = |digest: &BlobDigest| store.home.blobs().size_of(digest).is_some();
    assert!(there(&kept.0) && there(&kept.1) && there(&list));
    assert!(!there(&gone.0) && !there(&gone.1));
}

#[test]
fn notes_go_with_what_they_tell_of() {
    let store = Store::new();
    let layer = store.layer("layer", 10);
    let content = ContentDigest::from(blake3::hash(b"content"));
    store.home.note_content(&content, &layer).unwrap();
    let instruction = InstructionKey::from(blake3::hash(b"instruction"));
    let key = ContentKey::from(blake3::hash(b"key"));
    let result = ContentResult::own(layer);
    store
        .home
        .put_content_result(&instruction, &key, &result)
        .unwrap();

    store.collect(Policy::KeepResults);
    assert_eq!(
        store.home.layer_with_content(&content).unwrap(),
        Some(layer)
    );
    assert!(store.home.instruction_ever_ran(&instruction));

    assert_eq!(store.collect(Policy::KeepUpTo(0)).results, 1);
    assert_eq!(store.home.layer_with_content(&content).unwrap(), None);
    assert!(!store.home.instruction_ever_ran(&instruction));
}

/// Nobody may remove anything in procfs, not even root.
#[test]
fn what_cannot_be_deleted_directly_goes_to_the_remover() {
    let remover = Remover::default();
    let mut removal = Removal::new(&remover);
    let directory = tempfile::tempdir().unwrap();
    let mine = directory.path().join("mine");
    fs::create_dir_all(mine.join("below")).unwrap();
    removal.remove(&mine).unwrap();
    removal
        .remove(&directory.path().join("gone already"))
        .unwrap();
    removal.finish().unwrap();
    assert!(!mine.exists());
    assert!(remover.0.lock().unwrap().is_empty());

    let theirs = Path::new("/proc/self/fdinfo");
    removal.remove(theirs).unwrap();
    removal.finish().unwrap();
    assert_eq!(*remover.0.lock().unwrap(), [theirs]);

    let mut removal = Removal::new(&Forbidding);
    removal.remove(theirs).unwrap();
    let error = removal.finish().unwrap_err();
    assert!(matches!(error, RemoveError::Trees { .. }), "{error:?}");
}

struct Forbidding;

impl TreeRemover for Forbidding {
    fn remove(&self, _paths: &[PathBuf]) -> Result<(), Box<dyn Error + Send + Sync>> {
        Err("no sandbox here".into())
    }
}

#[test]
fn usage_tells_who_needs_what() {
    let store = Store::new();
    let (base, one, two) = (
        store.layer("base", 50_000),
        store.layer("one", 10_000),
        store.layer("two", 20_000),
    );
    let cached = store.layer("cached", 30_000);
    store.layer("orphan", 40_000);
    store.image("one", &[base, one]);
    let config = store.image("two", &[base, two]).config;
    // Another name of the second image.
    let mut again = store.home.image(&"two".parse().unwrap()).unwrap().unwrap();
    again.reference = "two:again".parse().unwrap();
    store.home.put_image(&again).unwrap();
    store.result("cached", &[base, cached], 1);

    let inventory = Inventory::take(&store.home).unwrap();
    let usage = Usage::of(&store.home, &inventory).unwrap();
    let trees = usage.kinds[&Kind::Trees];
    assert_eq!(trees.count, 5);
    assert!((80_000..130_000).contains(&trees.in_use), "{trees:?}");
    assert!((30_000..50_000).contains(&trees.cached), "{trees:?}");
    assert!((40_000..60_000).contains(&trees.unused), "{trees:?}");
    assert_eq!(usage.total().total(), inventory.total());

    let of = |name: &str| {
        let reference = name.parse().unwrap();
        let found = usage
            .images
            .iter()
            .find(|image| image.reference == reference);
        found.unwrap().clone()
    };
    assert!(inventory.blobs.contains_key(&config.digest));
    assert_eq!(of("two").shared, of("one").shared);
    assert!(of("two").shared >= 100_000);
    assert!(of("two").unique >= 40_000);
    assert_eq!(of("two").unique, of("two:again").unique);
    // What a collection would remove is what is unused.
    let unused = usage.total().unused;
    let freed = store.collect(Policy::KeepResults).freed;
    assert_eq!(freed, unused, "{usage:#?}\n{inventory:#?}");
}

#[test]
fn the_store_is_used_when_it_is_read() {
    let store = Store::new();
    let layer = store.layer("layer", 10);
    let key = store.result("result", &[layer], 1);
    assert!(store.home.result_by_definition(&key).unwrap().is_some());
    let inventory = Inventory::take(&store.home).unwrap();
    // Written at the first second of all, it was read just now.
    let made = fs::metadata(store.home.root().join("FORMAT")).unwrap();
    let made = made.modified().unwrap() - Duration::from_secs(60);
    assert!(inventory.results[0].used > made);
}

fn http_record(blob: BlobDigest, size: u64) -> HttpRecord {
    HttpRecord {
        what: "https://example.com/file".to_owned(),
        blob,
        size,
        etag: None,
        last_modified: None,
        modified: None,
    }
}

/// Says when a source was used last.
fn source_used(store: &Store, key: &SourceKey, second: u64) {
    let time = UNIX_EPOCH + Duration::from_secs(second);
    let times = FileTimes::new().set_modified(time).set_accessed(time);
    let record = File::open(store.home.source_path(key).join("record")).unwrap();
    record.set_times(times).unwrap();
}

#[test]
fn sources_stay_with_their_blobs_as_long_as_there_is_room() {
    let store = Store::new();
    let content = vec![b'x'; 200_000];
    let blob = store.home.blobs().put(&content).unwrap();
    let file = SourceKey::new(SourceClass::Http, &["https://example.com/file"]);
    store
        .home
        .put_http_source(&file, &http_record(blob, 200_000))
        .unwrap();
    let tree = SourceKey::new(SourceClass::Tree, &["commit"]);
    let scratch = store.home.scratch().unwrap();
    let made = scratch.path().join("tree");
    fs::create_dir(&made).unwrap();
    fs::write(made.join("file"), &content).unwrap();
    let record = DirectoryRecord {
        what: "commit".to_owned(),
        time: None,
    };
    store
        .home
        .put_source_directory(&tree, &made, &record)
        .unwrap();
    drop(scratch);
    // What a crash leaves: no record.
    let broken = SourceKey::new(SourceClass::Git, &["broken"]);
    fs::create_dir_all(store.home.source_path(&broken).join("repository")).unwrap();

    assert_eq!(store.collect(Policy::KeepResults).sources, 1);
    assert!(!store.home.source_path(&broken).exists());
    assert!(store.home.blobs().size_of(&blob).is_some());
    let inventory = Inventory::take(&store.home).unwrap();
    let usage = Usage::of(&store.home, &inventory).unwrap();
    let share = usage.kinds[&Kind::Sources];
    assert!(share.cached > 400_000 && share.unused == 0, "{share:?}");

    source_used(&store, &file, 10);
    source_used(&store, &tree, 20);
    let report = store.collect(Policy::KeepUpTo(300_000));
    assert_eq!((report.sources, report.blobs), (1, 1));
    assert!(store.home.source_directory(&tree).unwrap().is_some());
    assert_eq!(store.collect(Policy::KeepUpTo(0)).sources, 1);
    assert_eq!(store.names_below("sources/tree"), 0);
}
