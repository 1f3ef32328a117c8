//! Machines that share results through caches in memory.

mod fakes;
mod farm;
mod faults;
mod grpc;
mod leases;
mod portable;
mod sharing;
mod trust;

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ashlar_engine::share::{MadeResult, SharedResults as _};
use ashlar_exec::executor::SharedLayerFetcher;
use ashlar_exec::layer::unpack::index_only;
use ashlar_model::cas::{CasDigest, SharedLayer};
use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::{BlobDigest, ContentKey, DefinitionKey, InstructionKey, LayerId};
use ashlar_model::executor::{BoxFuture, StepError};
use ashlar_model::layer::{LayerOrigin, LayerRecord, StoredBlob, Timestamp};
use ashlar_model::media_type::{Compression, OCI_LAYER_GZIP};
use ashlar_store::home::Home;
use ashlar_store::home::results::Word;

use crate::address::Mode;
use crate::breaker::WarningSink;
use crate::cache::Cache;
use crate::sharing::{Proof, Sharing};
use crate::upload::LayerTars;
use fakes::Server;

/// A machine with a store of its own.
struct Machine {
    _directory: tempfile::TempDir,
    home: Home,
    sharing: Sharing,
    warnings: Arc<Mutex<Vec<String>>>,
}

/// Reads the tars that tests put into a store, and fetches others as the executor does.
struct StoredTars(Home, Arc<dyn SharedLayerFetcher>);

impl std::fmt::Debug for StoredTars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoredTars")
    }
}

impl LayerTars for StoredTars {
    fn describe<'a>(
        &'a self,
        layer: LayerId,
        _below: Vec<LayerId>,
    ) -> BoxFuture<'a, Result<LayerRecord, StepError>> {
        let known = self.0.layer(&layer).unwrap();
        Box::pin(async move { known.ok_or(StepError::Cancelled) })
    }

    fn open<'a>(
        &'a self,
        layer: LayerId,
        _below: Vec<LayerId>,
    ) -> BoxFuture<'a, Result<Box<dyn Read + Send>, StepError>> {
        Box::pin(async move {
            let record = self.0.layer(&layer).unwrap().unwrap();
            if let LayerOrigin::Shared { copies } = &record.origin
                && !self.0.holds_tar_of(&record)
            {
                self.1.fetch_layer(&record, copies, None).await?;
            }
            let tar = std::fs::File::open(self.0.tar_path(&layer));
            let tar = tar.map_err(|_| StepError::LayersLost {
                layers: vec![layer],
            })?;
            Ok(Box::new(tar) as Box<dyn Read + Send>)
        })
    }
}

/// A tar with files of these names and lengths; the bytes come from the name.
fn tar(files: &[(&str, usize)], mtime: u64) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, length) in files {
        let mut state = *blake3::hash(name.as_bytes()).as_bytes();
        let mut bytes = Vec::with_capacity(length + 32);
        while bytes.len() < *length {
            state = *blake3::hash(&state).as_bytes();
            bytes.extend_from_slice(&state);
        }
        bytes.truncate(*length);
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(mtime);
        header.set_entry_type(tar::EntryType::Regular);
        builder
            .append_data(&mut header, name, bytes.as_slice())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

fn key(name: &str) -> DefinitionKey {
    DefinitionKey::from(blake3::hash(name.as_bytes()))
}

fn content_key(name: &str) -> ContentKey {
    ContentKey::from(blake3::hash(name.as_bytes()))
}

fn instruction(name: &str) -> InstructionKey {
    InstructionKey::from(blake3::hash(name.as_bytes()))
}

/// A result of these layers, under keys of this name.
fn result(name: &str, stack: &[LayerId]) -> MadeResult {
    MadeResult {
        name: name.to_owned(),
        definition: key(name),
        instruction: instruction(name),
        content: Some(content_key(name)),
        stack: stack.to_vec(),
        made: Vec::new(),
        word: Word::Own,
        replaces: false,
    }
}

impl Machine {
    /// A machine that uses these caches.
    fn new(servers: &[(&Arc<Server>, Mode)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        Self::of_home((directory, home), servers, Proof::default())
    }

    /// The next build of this machine.
    fn again(self, servers: &[(&Arc<Server>, Mode)]) -> Self {
        Self::of_home((self._directory, self.home), servers, Proof::default())
    }

    fn of_home(
        (directory, home): (tempfile::TempDir, Home),
        servers: &[(&Arc<Server>, Mode)],
        proof: Proof,
    ) -> Self {
        let warnings: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&warnings);
        let sink: WarningSink =
            Arc::new(move |text: &str| told.lock().unwrap().push(text.to_owned()));
        let caches = servers.iter().map(|(server, mode)| {
            let name = server.name.clone();
            let connect = Arc::new(Arc::clone(server)) as _;
            let trust = Arc::clone(proof.policy.of(&name, ""));
            let cache = Cache::new(name, String::new(), *mode, connect, Arc::clone(&sink));
            Arc::new(cache.trusting(trust))
        });
        let caches = caches.collect();
        let sharing = Sharing::new(home.clone(), caches, None, "me@here".to_owned(), proof);
        let tars: Arc<dyn LayerTars> = Arc::new(StoredTars(home.clone(), sharing.fetcher()));
        sharing.set_tars(&tars);
        Self {
            _directory: directory,
            home,
            sharing,
            warnings,
        }
    }

    /// Makes a layer as a step does.
    fn make(&self, tar: &[u8]) -> LayerId {
        let read = index_only(tar).unwrap();
        let mut record = LayerRecord::made_by_step(self.home.new_layer_id().unwrap());
        record.diff_id = Some(read.diff_id);
        record.tar_size = Some(tar.len() as u64);
        record.content = Some(read.index.content_digest());
        record.created = Some(Timestamp {
            seconds: 1_796_000_000,
            nanoseconds: 0,
        });
        record.blobs = vec![StoredBlob {
            descriptor: Descriptor::new(OCI_LAYER_GZIP, BlobDigest::of(tar), 7),
            compression: Compression::Gzip,
            level: Some(6),
        }];
        self.home.put_layer(&record).unwrap();
        std::fs::write(self.home.tar_path(&record.id), tar).unwrap();
        record.id
    }

    /// A layer that came with an image.
    fn pulled(&self) -> LayerId {
        let digest = BlobDigest::of(b"blob of the base");
        let blob = StoredBlob {
            descriptor: Descriptor::new(OCI_LAYER_GZIP, digest, 16),
            compression: Compression::Gzip,
            level: None,
        };
        let diff_id = ashlar_model::digest::DiffId::of(b"base");
        let repository = "registry.example.com/base".parse().unwrap();
        let record = LayerRecord::of_image(diff_id, blob, Some(repository));
        self.home.put_layer(&record).unwrap();
        record.id
    }

    async fn publish(&self, result: MadeResult) {
        self.sharing.publish(result, None);
        self.finish().await;
    }

    async fn finish(&self) {
        assert!(self.sharing.finish(Duration::from_secs(30)).await, "hangs");
    }

    /// Looks results up by definition key, and gives the layers of those that are found.
    async fn look_up(&self, names: &[&str]) -> Vec<Option<Vec<LayerId>>> {
        let keys: Vec<DefinitionKey> = names.iter().map(|name| key(name)).collect();
        let instructions: Vec<InstructionKey> =
            names.iter().map(|name| instruction(name)).collect();
        let probed = self.sharing.probe(&keys, &instructions).await;
        let stack = |key: &DefinitionKey| {
            probed.definitions.contains(key).then(|| {
                let found = self.home.result_by_definition(key).unwrap();
                found.expect("a result that was probed is here").stack
            })
        };
        keys.iter().map(stack).collect()
    }

    /// Fetches a layer's tar. `None` if it cannot be had.
    async fn fetch(&self, layer: &LayerId) -> Option<Vec<u8>> {
        let record = self.home.layer(layer).unwrap().unwrap();
        let copies = self.copies(layer);
        let fetcher = self.sharing.fetcher();
        fetcher.fetch_layer(&record, &copies, None).await.unwrap();
        std::fs::read(self.home.tar_path(layer)).ok()
    }

    fn copies(&self, layer: &LayerId) -> Vec<SharedLayer> {
        match self.home.layer(layer).unwrap().unwrap().origin {
            LayerOrigin::Shared { copies } => copies,
            other => panic!("not shared: {other:?}"),
        }
    }

    /// The chunks of a layer that was sent to the first cache.
    async fn chunks_of(&self, layer: &LayerId) -> Vec<CasDigest> {
        let copies = self.home.copies_of(layer).unwrap();
        let cache = &self.sharing.caches()[0];
        let chunks = crate::fetch::chunks_of(cache, &copies[0].trees).await;
        let chunks = chunks.unwrap();
        [chunks.headers, chunks.contents].concat()
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap().clone()
    }
}
