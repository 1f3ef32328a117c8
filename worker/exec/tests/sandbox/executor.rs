//! Layers and caches of the local executor, on their way to other machines and back.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};

use ashlar_exec::executor::{
    BlobFetcher, CacheSnapshots, LocalExecutor, SharedLayerFetcher, Snapshot, store_failed,
};
use ashlar_exec::layer::split::{Beside, ChunkSource, Part, ReceiveError, receive, split};
use ashlar_exec::sandbox::IdChoice;
use ashlar_model::cas::{DigestFunction, SharedLayer};
use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::{DiffId, LayerId};
use ashlar_model::executor::{
    BoxFuture, OutputStream, PackRequest, StepError, StepExecutor as _, StepOutput, StepRequest,
};
use ashlar_model::layer::{LayerOrigin, LayerRecord, StoredBlob};
use ashlar_model::media_type::Compression;
use ashlar_model::mount::{CacheMount, CacheSharing, MountSpec, OptionalOwner};
use ashlar_model::reference::Reference;
use ashlar_model::step::{Network, RunSpec, Security, StepOp};
use ashlar_store::home::Home;
use bytes::Bytes;

use crate::rig::{ALL, MANY, Rig, User};
use crate::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test!(ALL, executor::a_layer_comes_to_another_store_bit_for_bit),
    test!(ALL, executor::a_damaged_layer_is_never_sent),
    test!(ALL, executor::a_stream_that_is_dropped_leaves_nothing),
    test!(ALL, executor::many_layers_are_unpacked_while_they_come),
    test!(ALL, executor::a_layer_that_cannot_be_fetched_is_lost),
    test!(ALL, executor::what_a_cache_holds_comes_to_another_store),
    test!(MANY, executor::owners_in_caches_are_those_inside),
    test!(ALL, executor::a_cache_that_cannot_be_restored_begins_empty),
];

/// The chunks of a split layer, in memory.
#[derive(Debug, Clone, Default)]
struct Chunks {
    headers: VecDeque<Bytes>,
    contents: VecDeque<Bytes>,
    /// Whether all but the headers are gone.
    broken: bool,
}

impl ChunkSource for Chunks {
    fn next(&mut self, part: Part) -> io::Result<Option<Bytes>> {
        match part {
            Part::Headers => Ok(self.headers.pop_front()),
            Part::Contents if self.broken => Err(io::Error::other("the cache has gone")),
            Part::Contents => Ok(self.contents.pop_front()),
        }
    }
}

fn split_all(tar: impl Read + Send) -> io::Result<Chunks> {
    let mut chunks = Chunks::default();
    let split = split(tar, DigestFunction::Sha256, |chunk| {
        match chunk.part {
            Part::Headers => chunks.headers.push_back(chunk.bytes),
            Part::Contents => chunks.contents.push_back(chunk.bytes),
        }
        Ok::<_, io::Error>(())
    });
    match split {
        Ok(_) => Ok(chunks),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Gives out one layer, or none.
struct Fetcher {
    home: Home,
    chunks: Option<Chunks>,
    /// Whether the first of two copies is not whole.
    fails_first: bool,
    asked: Mutex<usize>,
}

impl SharedLayerFetcher for Fetcher {
    fn fetch_layer<'a>(
        &'a self,
        layer: &'a LayerRecord,
        _: &'a [SharedLayer],
        beside: Option<Beside>,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        *self.asked.lock().unwrap() += 1;
        Box::pin(async move {
            let Some(chunks) = &self.chunks else {
                return Ok(());
            };
            let (home, layer, mut chunks) = (self.home.clone(), layer.clone(), chunks.clone());
            let fails_first = self.fails_first;
            let work = move || {
                if !fails_first {
                    return receive(&home, &layer, &mut chunks, beside);
                }
                let mut half = chunks.clone();
                half.contents.truncate(half.contents.len() / 2);
                receive(&home, &layer, &mut half, beside).unwrap_err();
                receive(&home, &layer, &mut chunks, None)
            };
            match tokio::task::spawn_blocking(work).await.unwrap() {
                Ok(()) => Ok(()),
                Err(ReceiveError::Store(error)) => Err(store_failed(error)),
                Err(ReceiveError::Wrong(_)) => Ok(()),
                Err(error) => panic!("{error:?}"),
            }
        })
    }
}

impl BlobFetcher for Fetcher {
    fn fetch<'a>(
        &'a self,
        _: &'a Descriptor,
        _: &'a [Reference],
    ) -> BoxFuture<'a, Result<(), StepError>> {
        panic!("all blobs are here")
    }
}

impl CacheSnapshots for Fetcher {
    fn latest<'a>(&'a self, _: &'a CacheMount) -> BoxFuture<'a, Option<Snapshot>> {
        *self.asked.lock().unwrap() += 1;
        let snapshot = self
            .chunks
            .clone()
            .map(|chunks| Box::new(chunks) as Snapshot);
        Box::pin(async move { snapshot })
    }
}

/// What a step wrote.
#[derive(Debug, Default)]
struct Lines(Mutex<Vec<u8>>);

impl StepOutput for Lines {
    fn write(&self, _: OutputStream, bytes: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(bytes);
    }
}

/// A store of its own with a base layer, and an executor over it.
struct Machine<'a> {
    rig: &'a Rig,
    home: Home,
    executor: LocalExecutor,
    fetcher: Arc<Fetcher>,
    warnings: Arc<Mutex<Vec<String>>>,
    base: LayerId,
}

impl<'a> Machine<'a> {
    fn new(rig: &'a Rig, name: &str, chunks: Option<Chunks>) -> Self {
        let home = Home::open(&rig.directory.join(name)).unwrap();
        let fetcher = Arc::new(Fetcher {
            home: home.clone(),
            fails_first: name.contains("second"),
            chunks,
            asked: Mutex::default(),
        });
        let warnings = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&warnings);
        let executor = LocalExecutor::new(
            home.clone(),
            IdChoice::Best,
            Arc::clone(&fetcher) as Arc<dyn BlobFetcher>,
            Arc::new(move |line: &str| told.lock().unwrap().push(line.to_owned())),
        );
        let base = base_layer(rig, &home);
        Self {
            rig,
            home,
            executor: executor.fetching(Arc::clone(&fetcher) as _),
            fetcher,
            warnings,
            base,
        }
    }

    fn restoring(mut self) -> Self {
        let snapshots = Arc::clone(&self.fetcher);
        self.executor = self.executor.restoring(snapshots);
        self
    }

    fn run(
        &self,
        script: &str,
        above: &[LayerId],
        mounts: Vec<MountSpec>,
    ) -> Result<(LayerId, String), StepError> {
        let spec = RunSpec {
            args: ["/bin/sh", "-ec", script].map(ToOwned::to_owned).into(),
            env: vec![("PATH".to_owned(), "/bin".to_owned())],
            unkeyed_env: Vec::new(),
            cwd: "/".to_owned(),
            user: String::new(),
            network: Network::None,
            hostname: "box".to_owned(),
            extra_hosts: Vec::new(),
            script: None,
            mounts,
            security: Security::Sandbox,
            ulimits: Vec::new(),
        };
        let request = StepRequest {
            op: StepOp::Run(spec),
            parent: [&[self.base], above].concat(),
            will_be_mounted: true,
            wanted: PackRequest::default(),
        };
        let lines = Arc::new(Lines::default());
        let step = self.executor.execute(request, Arc::clone(&lines) as _);
        let outcome = self.rig.runtime.block_on(step);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        match outcome {
            Ok(outcome) => Ok((outcome.layer, text)),
            Err(error) => Err(error),
        }
    }

    fn pack(&self, layer: LayerId, wanted: PackRequest) -> Result<LayerRecord, StepError> {
        let pack = self.executor.pack(layer, vec![self.base], wanted);
        self.rig.runtime.block_on(pack)
    }

    /// Splits a layer's tar. The runtime goes on beside it.
    fn send(&self, layer: LayerId) -> io::Result<(Chunks, LayerRecord)> {
        let below = [self.base];
        let tar = self.executor.layer_tar(&layer, &below);
        let mut tar = self.rig.runtime.block_on(tar).map_err(io::Error::other)?;
        let chunks = split_all(&mut tar)?;
        Ok((chunks, tar.finish().map_err(io::Error::other)?))
    }

    fn scratch(&self) -> usize {
        let entries = fs::read_dir(self.home.root().join("tmp")).unwrap();
        entries.count()
    }
}

/// Busybox and a few names for it, as the layer of an image.
fn base_layer(rig: &Rig, home: &Home) -> LayerId {
    let mut tar = tar::Builder::new(Vec::new());
    tar.follow_symlinks(false);
    tar.append_dir_all("", rig.busybox()).unwrap();
    let mut below = tar::Header::new_ustar();
    below.set_entry_type(tar::EntryType::Directory);
    below.set_mode(0o755);
    below.set_size(0);
    for name in ["gone/", "remade/", "remade/sub/"] {
        tar.append_data(&mut below, name, io::empty()).unwrap();
    }
    let mut bytes = tar.into_inner().unwrap();
    own_by_root(&mut bytes);
    let digest = home.blobs().put(&bytes).unwrap();
    let blob = StoredBlob {
        descriptor: Descriptor::new(
            Compression::Uncompressed.oci_media_type(),
            digest,
            bytes.len() as u64,
        ),
        compression: Compression::Uncompressed,
        level: None,
    };
    let record = LayerRecord::of_image(DiffId::of(&bytes), blob, None);
    home.put_layer(&record).unwrap();
    record.id
}

/// Gives every entry to root, whoever made the files.
fn own_by_root(tar: &mut [u8]) {
    let mut place = 0;
    while tar[place] != 0 {
        let header: &mut [u8; 512] = tar[place..].first_chunk_mut().unwrap();
        header[108..124].copy_from_slice(b"0000000\x000000000\0");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = std::str::from_utf8(&header[124..135]).unwrap();
        let size = usize::from_str_radix(size, 8).unwrap();
        place += 512 + size.next_multiple_of(512);
    }
}

/// Leaves entries of every kind that may be made by this user.
fn every_kind(user: User) -> String {
    let mut script = String::from(
        "mkdir -p made/deep made/empty; echo text >made/deep/file; printf '' >made/nothing
         ln made/deep/file made/link; ln -s ../deep/file made/symlink; mkfifo made/pipe
         chmod 4755 made/deep/file; chmod 1770 made/empty; touch -h -d @-5 made/symlink
         touch -d @99999999999 made/nothing; rmdir gone; rm -r remade; mkdir remade
         echo new >remade/new; name=made/; for i in 1 2 3 4 5 6 7 8 9 10; do
             name=$name/a-long-name-with-an-\u{e9}-in-it-$i; mkdir $name; done; echo deep >$name/file
         dd if=/dev/zero of=made/zeros bs=1024 count=1500 2>/dev/null
         seq 200000 >made/large; cp /bin/busybox made/program
         ",
    );
    if user != User::One {
        script.push_str("chown 1000:2000 made/large; chown -h 3:4 made/symlink\n");
    }
    if user == User::Root {
        script.push_str("mknod made/null c 1 3\n");
    }
    script
}

pub(crate) fn a_layer_comes_to_another_store_bit_for_bit(rig: &Rig) {
    let here = Machine::new(rig, "here", None);
    let (layer, _) = here.run(&every_kind(rig.user), &[], Vec::new()).unwrap();
    // It was never read.
    assert_eq!(here.home.layer(&layer).unwrap().unwrap().diff_id, None);
    let (chunks, record) = here.send(layer).unwrap();
    let (diff_id, size) = (record.diff_id.unwrap(), record.tar_size.unwrap());
    assert!(size > 4_000_000 && chunks.contents.len() > 10, "{size}");
    assert_eq!(here.scratch(), 0);
    let wanted = PackRequest {
        diff_id: true,
        blobs: Vec::new(),
    };
    let record = here.pack(layer, wanted.clone()).unwrap();
    assert_eq!(
        (record.diff_id, record.tar_size),
        (Some(diff_id), Some(size))
    );
    let (again, _) = here.send(layer).unwrap();
    assert_eq!(
        (&again.headers, &again.contents),
        (&chunks.headers, &chunks.contents)
    );

    // Another machine knows it by its record only, until something needs it.
    let there = Machine::new(rig, "there", Some(chunks.clone()));
    let content = record.content.unwrap();
    let shared = LayerRecord::of_shared(diff_id, size, content, Vec::new());
    there.home.put_layer(&shared).unwrap();
    assert_eq!(there.pack(shared.id, wanted).unwrap(), shared);
    assert_eq!(*there.fetcher.asked.lock().unwrap(), 0);
    let look = "cat made/deep/file made/link remade/new; ls -ln made | wc -l; test ! -e gone
                stat -c '%a %h %u %Y' made/deep/file made/large made/nothing; ls remade
                find made | sort | while read f; do stat -c '%n %F %s %a %u %g %Y' $f; done";
    let (_, seen) = there.run(look, &[shared.id], Vec::new()).unwrap();
    let (_, original) = here.run(look, &[layer], Vec::new()).unwrap();
    assert_eq!(seen, original);
    assert_eq!(*there.fetcher.asked.lock().unwrap(), 1);
    // It can be sent on from there: from the tar, and from a blob.
    let (forwarded, _) = there.send(shared.id).unwrap();
    assert_eq!(forwarded.headers, chunks.headers);
    let gzip = PackRequest {
        diff_id: true,
        blobs: vec![ashlar_model::executor::BlobForm {
            compression: Compression::Gzip,
            level: 1,
        }],
    };
    let packed = there.pack(shared.id, gzip).unwrap();
    fs::remove_file(there.home.tar_path(&shared.id)).unwrap();
    let (from_blob, _) = there.send(packed.id).unwrap();
    assert_eq!(from_blob.contents, chunks.contents);
    // Its index is that of the layer, times included.
    let (one, other) = (
        here.home.layer_index(&layer).unwrap().unwrap(),
        there.home.layer_index(&shared.id).unwrap().unwrap(),
    );
    assert_eq!(one.content_digest(), other.content_digest());
    assert_eq!(there.scratch(), 0);
    assert_eq!(*there.warnings.lock().unwrap(), [""; 0]);
}

/// Changes a byte of a file in a layer's tree, and nothing else.
fn damage(rig: &Rig, home: &Home, layer: LayerId, path: &str) {
    let tree = home.tree_path(&rig.helper.id_map().fingerprint(), &layer);
    let file = tree.join(path);
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes[0] ^= 1;
    fs::write(&file, bytes).unwrap();
    let opened = fs::File::options().write(true).open(&file).unwrap();
    opened.set_modified(time).unwrap();
}

pub(crate) fn a_damaged_layer_is_never_sent(rig: &Rig) {
    let here = Machine::new(rig, "here", None);
    let (layer, _) = here
        .run("seq 100000 >file; chmod 666 file", &[], Vec::new())
        .unwrap();
    let wanted = PackRequest {
        diff_id: true,
        blobs: Vec::new(),
    };
    let record = here.pack(layer, wanted).unwrap();
    damage_as_inside(rig, &here.home, layer);
    here.send(layer).unwrap_err();
    assert_eq!(here.scratch(), 0);
    // A kept tar with other bytes.
    let mut shared = LayerRecord::of_shared(
        record.diff_id.unwrap(),
        1024,
        record.content.unwrap(),
        Vec::new(),
    );
    shared.origin = LayerOrigin::Step;
    here.home.put_layer(&shared).unwrap();
    fs::write(here.home.tar_path(&shared.id), [0; 1024]).unwrap();
    let error = here.send(shared.id).unwrap_err();
    let error = ashlar_model::error_chain::error_chain(&error);
    assert!(error.contains("damaged"), "{error}");
}

/// The files of a tree may be another user's as this process sees them.
fn damage_as_inside(rig: &Rig, home: &Home, layer: LayerId) {
    damage(rig, home, layer, "file");
}

pub(crate) fn a_stream_that_is_dropped_leaves_nothing(rig: &Rig) {
    let here = Machine::new(rig, "here", None);
    let (layer, _) = here.run("seq 1000000 >file", &[], Vec::new()).unwrap();
    for read in [0, 1, 1_000_000] {
        let below = [here.base];
        let tar = here.executor.layer_tar(&layer, &below);
        let mut tar = rig.runtime.block_on(tar).unwrap();
        let mut bytes = vec![0; read];
        tar.read_exact(&mut bytes).unwrap();
        drop(tar);
        assert_eq!(here.scratch(), 0);
    }
    // The file worker has not been stuck by them.
    let (chunks, _) = here.send(layer).unwrap();
    assert!(!chunks.contents.is_empty());
}

pub(crate) fn many_layers_are_unpacked_while_they_come(rig: &Rig) {
    let here = Machine::new(rig, "here", None);
    let (layer, _) = here
        .run("mkdir d; seq 400000 >d/file", &[], Vec::new())
        .unwrap();
    let (chunks, _) = here.send(layer).unwrap();
    let wanted = PackRequest {
        diff_id: true,
        blobs: Vec::new(),
    };
    let record = here.pack(layer, wanted).unwrap();
    let (diff_id, size) = (record.diff_id.unwrap(), record.tar_size.unwrap());
    let look = "wc d/file; tail -n 3 d/file";
    let (_, original) = here.run(look, &[layer], Vec::new()).unwrap();
    // The second has a first copy that is not whole.
    for name in ["there", "second"] {
        let there = Machine::new(rig, name, Some(chunks.clone()));
        let content = record.content.unwrap();
        let shared = LayerRecord::of_shared(diff_id, size, content, Vec::new());
        // More of them than the file worker has threads.
        let layers: Vec<LayerId> = (0..20)
            .map(|number| {
                let mut one = shared.clone();
                one.id = LayerId::from_bytes([number; 16]);
                there.home.put_layer(&one).unwrap();
                one.id
            })
            .collect();
        let (_, seen) = there.run(look, &layers, Vec::new()).unwrap();
        assert_eq!(seen, original, "{name}");
        assert_eq!(*there.fetcher.asked.lock().unwrap(), 20);
        assert_eq!(there.scratch(), 0);
        assert_eq!(*there.warnings.lock().unwrap(), [""; 0]);
    }
    // One whose files are not those that its record speaks of is no layer.
    let there = Machine::new(rig, "lying", Some(chunks));
    let content = ashlar_model::layer::LayerIndex::default().content_digest();
    let shared = LayerRecord::of_shared(diff_id, size, content, Vec::new());
    there.home.put_layer(&shared).unwrap();
    let error = there.run(look, &[shared.id], Vec::new()).unwrap_err();
    assert!(matches!(error, StepError::LayersLost { .. }), "{error:?}");
    let map = rig.helper.id_map().fingerprint();
    assert!(!there.home.tree_path(&map, &shared.id).exists());
    assert_eq!(there.home.layer(&shared.id).unwrap(), None);
}

pub(crate) fn a_layer_that_cannot_be_fetched_is_lost(rig: &Rig) {
    let there = Machine::new(rig, "there", None);
    let content = ashlar_model::layer::LayerIndex::default().content_digest();
    let shared = LayerRecord::of_shared(DiffId::of(b"tar"), 3, content, Vec::new());
    there.home.put_layer(&shared).unwrap();
    assert!(there.home.holds_files_of(&shared).unwrap());
    let error = there.run("true", &[shared.id], Vec::new()).unwrap_err();
    let StepError::LayersLost { layers } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(layers, &[shared.id]);
    assert_eq!(*there.fetcher.asked.lock().unwrap(), 1);
    // No result that names it is found again.
    assert_eq!(there.home.layer(&shared.id).unwrap(), None);
    let error = there.run("true", &[shared.id], Vec::new()).unwrap_err();
    assert!(matches!(error, StepError::LayersLost { .. }), "{error:?}");
}

fn cache(sharing: CacheSharing) -> CacheMount {
    CacheMount {
        target: "/cache".to_owned(),
        id: "id".to_owned(),
        sharing,
        seed: None,
        owner: OptionalOwner::default(),
        read_only: false,
    }
}

fn save(machine: &Machine<'_>, mount: &CacheMount) -> Option<Chunks> {
    let saved = machine.executor.save_cache(mount);
    let tar = machine.rig.runtime.block_on(saved).unwrap()?;
    Some(split_all(tar).unwrap())
}

pub(crate) fn what_a_cache_holds_comes_to_another_store(rig: &Rig) {
    let mount = cache(CacheSharing::Locked);
    let here = Machine::new(rig, "here", None);
    assert!(save(&here, &mount).is_none());
    assert_eq!(here.executor.used_caches(), []);
    let fill = "mkdir -p cache/d; seq 100000 >cache/d/file; ln cache/d/file cache/link
                chmod 700 cache; mkfifo cache/p";
    let mounts = || vec![MountSpec::Cache(mount.clone())];
    here.run(fill, &[], mounts()).unwrap();
    assert_eq!(here.executor.used_caches(), std::slice::from_ref(&mount));
    let saved = save(&here, &mount).unwrap();
    assert_eq!(here.scratch(), 0);

    let there = Machine::new(rig, "there", Some(saved.clone())).restoring();
    // Saved again it is what it was, to the nanosecond.
    there.run("true", &[], mounts()).unwrap();
    let again = save(&there, &mount).unwrap();
    assert_eq!(again.headers, saved.headers);
    assert_eq!(again.contents, saved.contents);
    let look = "stat -c '%n %a %h %Y %F' cache cache/d/file cache/p; tail -n 1 cache/link
                echo more >cache/d/more";
    let (_, seen) = there.run(look, &[], mounts()).unwrap();
    let (_, original) = here.run(look, &[], mounts()).unwrap();
    assert_eq!(seen, original);
    // Once is enough, and what is there stays.
    let (_, more) = there.run("cat cache/d/more", &[], mounts()).unwrap();
    assert_eq!(more, "more\n");
    assert_eq!(*there.fetcher.asked.lock().unwrap(), 1);
    assert_eq!(*there.warnings.lock().unwrap(), [""; 0]);

    // Nobody saves what somebody uses.
    let id_map = rig.helper.id_map().fingerprint();
    let used = here.home.caches_of(&id_map, "id").unwrap();
    let lock = used[0].try_share(0).unwrap().unwrap();
    assert!(save(&here, &mount).is_none());
    drop(lock);
    assert!(save(&here, &mount).is_some());
}

pub(crate) fn owners_in_caches_are_those_inside(rig: &Rig) {
    let mount = cache(CacheSharing::Shared);
    let mounts = || vec![MountSpec::Cache(mount.clone())];
    let here = Machine::new(rig, "here", None);
    let fill = "echo x >cache/f; chown 5:6 cache/f; chown 7:8 cache; chmod 751 cache";
    here.run(fill, &[], mounts()).unwrap();
    let saved = save(&here, &mount).unwrap();
    let there = Machine::new(rig, "there", Some(saved)).restoring();
    let look = "stat -c '%u:%g %a' cache cache/f";
    let (_, seen) = there.run(look, &[], mounts()).unwrap();
    assert_eq!(seen, "7:8 751\n5:6 644\n");
}

pub(crate) fn a_cache_that_cannot_be_restored_begins_empty(rig: &Rig) {
    let mount = cache(CacheSharing::Private);
    let mounts = || vec![MountSpec::Cache(mount.clone())];
    let here = Machine::new(rig, "here", None);
    here.run("seq 500000 >cache/file", &[], mounts()).unwrap();
    let mut saved = save(&here, &mount).unwrap();
    for (name, change) in [("broken", true), ("garbage", false)] {
        if change {
            saved.broken = true;
        } else {
            saved = Chunks::default();
        }
        let there = Machine::new(rig, name, Some(saved.clone())).restoring();
        let (_, seen) = there.run("ls -a cache", &[], mounts()).unwrap();
        assert_eq!(seen, ".\n..\n", "{name}");
        let warnings = there.warnings.lock().unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("/cache"), "{warnings:?}");
        assert_eq!(there.scratch(), 0);
    }
    // Nothing was saved.
    let there = Machine::new(rig, "nothing", None).restoring();
    let (_, seen) = there.run("ls -a cache", &[], mounts()).unwrap();
    assert_eq!(seen, ".\n..\n");
    assert!(Path::new(there.home.root()).is_dir());
}
