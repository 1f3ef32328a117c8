//! Machines that remember what they ran, and a cache that they share.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ashlar_engine::event::{BuildEvent, EventSink};
use ashlar_engine::plan::source::Fault;
use ashlar_engine::plan::{ContextSource, RemoteSources, SourceError};
use ashlar_engine::schedule::{ScheduleOptions, Surroundings};
use ashlar_engine::share::{
    Belief, FoundLayer, Leave, MadeResult, Probed, ResultKey, SharedResults, StepLease, WaitingSink,
};
use ashlar_model::digest::{
    ContentDigest, ContentKey, DefinitionKey, DiffId, InstructionKey, LayerId,
};
use ashlar_model::executor::{
    BoxFuture, ExitStatus, OutputStream, PackRequest, StepError, StepExecutor, StepOutcome,
    StepOutput, StepRequest,
};
use ashlar_model::layer::LayerRecord;
use ashlar_model::mount::{CacheMount, MountSpec};
use ashlar_model::remote::{RemoteFiles, RemoteSource};
use ashlar_model::select::SourceQuery;
use ashlar_model::step::{CopySource, Selection, StepOp};
use ashlar_store::home::Home;
use ashlar_store::home::results::{DefinitionResult, Word};

/// Runs commands by remembering them. A layer contains what was run, and what that stood on.
#[derive(Debug)]
pub(super) struct Executor {
    home: Home,
    pub(super) ran: Mutex<Vec<String>>,
    contents: Mutex<HashMap<LayerId, String>>,
    /// Commands that find a layer lost, once.
    pub(super) loses: Mutex<HashSet<String>>,
}

fn text_of(op: &StepOp) -> String {
    match op {
        StepOp::Run(run) => run.args.join(" "),
        StepOp::Copy(copy) => match &copy.sources[0] {
            CopySource::Layers { query, .. } => format!("copy {}", query.path),
            CopySource::Inline { name, .. } => format!("file {name}"),
            CopySource::Directory { root, .. } => format!("copy of {}", root.display()),
            CopySource::Fetched { .. } => "add".to_owned(),
        },
        StepOp::MakeDirectory(directory) => format!("directory {}", directory.path),
    }
}

/// The filesystems that a step reads beside its own.
fn sources_of(op: &StepOp) -> Vec<LayerId> {
    let layers: Vec<&Vec<LayerId>> = match op {
        StepOp::Run(run) => {
            let sources = run.mounts.iter().filter_map(MountSpec::source);
            sources.map(|source| &source.layers).collect()
        }
        StepOp::Copy(copy) => {
            let sources = copy.sources.iter();
            let layers = sources.filter_map(|source| match source {
                CopySource::Layers { layers, .. } => Some(layers),
                _ => None,
            });
            layers.collect()
        }
        StepOp::MakeDirectory(_) => Vec::new(),
    };
    layers.into_iter().flatten().copied().collect()
}

impl Executor {
    fn content(&self, layer: LayerId) -> ContentDigest {
        match self.contents.lock().unwrap().get(&layer) {
            Some(text) => blake3::hash(text.as_bytes()).into(),
            None => self.home.layer(&layer).unwrap().unwrap().content.unwrap(),
        }
    }

    fn text(&self, op: &StepOp, parent: &[LayerId]) -> String {
        let contents = |layers: &[LayerId]| {
            let contents = layers.iter().map(|layer| self.content(*layer).to_hex());
            contents.collect::<Vec<_>>().join(" ")
        };
        let (below, beside) = (contents(parent), contents(&sources_of(op)));
        format!("{} on {below} with {beside}", text_of(op))
    }
}

impl StepExecutor for Executor {
    fn execute<'a>(
        &'a self,
        request: StepRequest,
        output: Arc<dyn StepOutput>,
    ) -> BoxFuture<'a, Result<StepOutcome, StepError>> {
        Box::pin(async move {
            let text = text_of(&request.op);
            tokio::time::sleep(Duration::from_millis(2)).await;
            if self.loses.lock().unwrap().remove(&text) {
                let layers = request.parent.last().copied().into_iter().collect();
                return Err(StepError::LayersLost { layers });
            }
            self.ran.lock().unwrap().push(text.clone());
            if text.starts_with("fail") {
                output.write(OutputStream::Stderr, b"one\ntwo\n");
                return Err(StepError::Failed {
                    command: text,
                    status: ExitStatus::Code(3),
                });
            }
            let layer = self.home.new_layer_id().unwrap();
            let text = self.text(&request.op, &request.parent);
            self.contents.lock().unwrap().insert(layer, text);
            self.home
                .put_layer(&LayerRecord::made_by_step(layer))
                .unwrap();
            std::fs::create_dir_all(self.home.tree_path("map", &layer)).unwrap();
            Ok(StepOutcome { layer })
        })
    }

    fn pack<'a>(
        &'a self,
        layer: LayerId,
        _below: Vec<LayerId>,
        _wanted: PackRequest,
    ) -> BoxFuture<'a, Result<LayerRecord, StepError>> {
        Box::pin(async move {
            let mut record = self.home.layer(&layer).unwrap().unwrap();
            if let Some(text) = self.contents.lock().unwrap().get(&layer) {
                let content: ContentDigest = blake3::hash(text.as_bytes()).into();
                record.content = Some(content);
                record.diff_id = Some(DiffId::of(text.as_bytes()));
                record.tar_size = Some(text.len() as u64);
                self.home.put_layer(&record).unwrap();
            }
            Ok(record)
        })
    }

    fn select<'a>(
        &'a self,
        _layers: Vec<LayerId>,
        sources: Vec<SourceQuery>,
    ) -> BoxFuture<'a, Result<Vec<Selection>, StepError>> {
        let none = sources.iter().map(|_| Selection::default()).collect();
        Box::pin(async { Ok(none) })
    }

    fn forget_caches<'a>(
        &'a self,
        _caches: Vec<CacheMount>,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }
}

/// What a cache has.
#[derive(Debug, Default)]
pub(super) struct Cache {
    results: HashMap<DefinitionKey, Vec<LayerRecord>>,
    contents: HashMap<ContentKey, LayerRecord>,
    instructions: HashSet<InstructionKey>,
}

/// A machine's view of the cache.
#[derive(Debug)]
struct View {
    home: Home,
    cache: Arc<Mutex<Cache>>,
    /// Clients write nothing.
    writes: bool,
    distrusted: Mutex<HashSet<LayerId>>,
}

impl View {
    fn put(&self, result: &MadeResult) {
        if !self.writes {
            return;
        }
        let shared = |layer: &LayerId| {
            let record = self.home.layer(layer).unwrap().unwrap();
            match record.origin.is_of_step() {
                true => LayerRecord::of_shared(
                    record.diff_id.unwrap(),
                    record.tar_size.unwrap(),
                    record.content.unwrap(),
                    Vec::new(),
                ),
                false => record,
            }
        };
        let records: Vec<LayerRecord> = result.stack.iter().map(shared).collect();
        let mut cache = self.cache.lock().unwrap();
        if let (Some(content), Some(own)) = (result.content, records.last()) {
            cache.contents.insert(content, own.clone());
        }
        cache.instructions.insert(result.instruction);
        cache.results.insert(result.definition, records);
    }
}

impl SharedResults for View {
    fn probe<'a>(
        &'a self,
        definitions: &'a [DefinitionKey],
        instructions: &'a [InstructionKey],
    ) -> BoxFuture<'a, Probed> {
        let cache = self.cache.lock().unwrap();
        let distrusted = self.distrusted.lock().unwrap();
        let mut probed = Probed::default();
        for key in definitions {
            let Some(records) = cache.results.get(key) else {
                continue;
            };
            if records.iter().any(|record| distrusted.contains(&record.id)) {
                continue;
            }
            for record in records {
                if self.home.layer(&record.id).unwrap().is_none() {
                    self.home.put_layer(record).unwrap();
                }
            }
            let result = DefinitionResult {
                stack: records.iter().map(|record| record.id).collect(),
                word: Word::Bare(None),
            };
            self.home.put_definition_result(key, &result).unwrap();
            probed.definitions.push(*key);
        }
        let ran = |key: &&InstructionKey| cache.instructions.contains(*key);
        probed.instructions = instructions.iter().filter(ran).copied().collect();
        Box::pin(async { probed })
    }

    fn by_content<'a>(&'a self, key: &'a ContentKey) -> BoxFuture<'a, Option<FoundLayer>> {
        let record = self.cache.lock().unwrap().contents.get(key).cloned();
        let found = record.map(|record| {
            self.home.put_layer(&record).unwrap();
            FoundLayer {
                layer: record.id,
                word: Word::Bare(None),
            }
        });
        Box::pin(async { found })
    }

    fn belief(&self, _key: ResultKey<'_>, _word: &Word) -> Belief {
        Belief::Taken
    }

    fn refusal(&self, _definition: &DefinitionKey) -> Option<String> {
        None
    }

    fn demands_proof(&self) -> bool {
        false
    }

    fn leave<'a>(
        &'a self,
        _definition: &'a DefinitionKey,
        _name: &'a str,
        _waiting: WaitingSink<'a>,
    ) -> BoxFuture<'a, Leave> {
        Box::pin(async { Leave::Run(None) })
    }

    fn publish(&self, result: MadeResult, _lease: Option<Box<dyn StepLease>>) {
        self.put(&result);
    }

    fn wants(&self, _definition: &DefinitionKey) -> bool {
        false
    }

    fn offer(&self, result: MadeResult) {
        self.put(&result);
    }

    fn lost<'a>(&'a self, _layers: &'a [LayerId]) -> BoxFuture<'a, Vec<LayerId>> {
        Box::pin(async { Vec::new() })
    }

    fn distrust(&self, layers: &[LayerId]) {
        self.distrusted.lock().unwrap().extend(layers);
    }
}

/// There is nothing elsewhere.
struct Nowhere;

impl RemoteSources for Nowhere {
    fn resolve<'a>(
        &'a self,
        _source: &'a RemoteSource,
    ) -> BoxFuture<'a, Result<RemoteFiles, SourceError>> {
        Box::pin(async { Err(nothing()) })
    }

    fn fetch<'a>(
        &'a self,
        _files: &'a RemoteFiles,
        _output: Option<Arc<dyn StepOutput>>,
    ) -> BoxFuture<'a, Result<Arc<dyn ContextSource>, SourceError>> {
        Box::pin(async { Err(nothing()) })
    }
}

fn nothing() -> SourceError {
    SourceError {
        message: "there is nothing".to_owned(),
        hint: None,
        fault: Fault::Input,
        cause: None,
    }
}

#[derive(Default)]
pub(super) struct Events(pub(super) Mutex<Vec<BuildEvent>>);

impl EventSink for Events {
    fn emit(&self, event: BuildEvent) {
        self.0.lock().unwrap().push(event);
    }
}

/// A machine with a store of its own.
pub(super) struct Machine {
    _directory: tempfile::TempDir,
    pub(super) home: Home,
    pub(super) executor: Arc<Executor>,
    pub(super) events: Arc<Events>,
    shared: Option<Arc<dyn SharedResults>>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Machine")
    }
}

impl Machine {
    /// A machine with a view of a cache, if there is one.
    pub(super) fn new(cache: Option<&Arc<Mutex<Cache>>>, writes: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let shared = cache.map(|cache| {
            Arc::new(View {
                home: home.clone(),
                cache: Arc::clone(cache),
                writes,
                distrusted: Mutex::default(),
            }) as Arc<dyn SharedResults>
        });
        Self {
            _directory: directory,
            executor: Arc::new(Executor {
                home: home.clone(),
                ran: Mutex::default(),
                contents: Mutex::default(),
                loses: Mutex::default(),
            }),
            home,
            events: Arc::default(),
            shared,
        }
    }

    pub(super) fn surroundings(&self) -> Surroundings {
        Surroundings {
            home: self.home.clone(),
            remotes: Arc::new(Nowhere),
            executor: self.executor.clone(),
            shared: self.shared.clone(),
            farm: None,
            events: self.events.clone(),
        }
    }

    pub(super) fn options(&self) -> ScheduleOptions {
        ScheduleOptions {
            jobs: 4,
            wanted: PackRequest {
                diff_id: true,
                blobs: Vec::new(),
            },
            ..ScheduleOptions::default()
        }
    }

    /// What it ran since it was last asked.
    pub(super) fn ran(&self) -> Vec<String> {
        let mut ran = std::mem::take(&mut *self.executor.ran.lock().unwrap());
        ran.sort();
        ran
    }
}
