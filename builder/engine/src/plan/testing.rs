//! Plans Dockerfiles with images and files that need not exist, for tests.

use std::path::Path;
use std::sync::Mutex;

use ashlar_model::config::{DateTime, HistoryEntry};
use ashlar_model::digest::{BlobDigest, DiffId, LayerId};
use ashlar_model::executor::{BoxFuture, StepOutput};
use ashlar_model::remote::{GitCommit, HttpFile, RemoteFiles, RemoteSource};
use ashlar_model::select::SourceQuery;
use ashlar_model::step::{RunSpec, Selection};

use super::source::Fault;
use super::*;
use crate::dockerfile::parse;
use crate::graph::{NodeKind, PlannedCopy, PlannedOp};

/// Knows every image but those called `missing`. Some are special: `onbuild` and the like have
/// triggers, `arm` is for another processor, `empty` has no layers, `bare` no environment, `old`
/// a history. Remembers what was asked for, and for which platform.
#[derive(Default)]
pub(crate) struct Images {
    pub(crate) names: Mutex<Vec<String>>,
    pub(crate) platforms: Mutex<Vec<String>>,
}

impl ImageSource for Images {
    fn image<'a>(
        &'a self,
        context: &'a NamedContext,
        platform: &'a Platform,
    ) -> BoxFuture<'a, Result<BaseImage, SourceError>> {
        let NamedContext::Image(reference) = context else {
            panic!("{context:?}")
        };
        let name = reference.familiar();
        self.names.lock().unwrap().push(name.clone());
        self.platforms.lock().unwrap().push(platform.to_string());
        Box::pin(async move {
            if name.starts_with("missing") {
                return Err(SourceError {
                    message: format!("{name}: not found"),
                    hint: None,
                    fault: Fault::Input,
                    cause: None,
                });
            }
            let mut config = ImageConfig::new(platform);
            config.config.env = vec!["BASE=1".into(), "PATH=/base".into()];
            config.config.working_dir = "/base".into();
            config.config.cmd = Some(vec!["base-cmd".into()]);
            let triggers: &[&str] = match name.trim_end_matches(":latest") {
                "onbuild" => &["RUN triggered", "ENV T=1"],
                "onbuild-copy" => &["COPY --from=tools /t /t"],
                "onbuild-bad" => &["WHAT is this"],
                _ => &[],
            };
            let mut layers = vec![LayerId::of_diff_id(&DiffId::of(name.as_bytes()))];
            match name.trim_end_matches(":latest") {
                "arm" => config.architecture = "arm64".into(),
                "empty" => layers.clear(),
                "bare" => config.config.env.clear(),
                "old" => {
                    config.created = Some(DateTime::new(50, 0));
                    config.history = vec![HistoryEntry {
                        created: Some(DateTime::new(40, 0)),
                        created_by: "base layer".into(),
                        ..HistoryEntry::default()
                    }];
                }
                _ => {}
            }
            config.config.on_build = triggers.iter().map(|text| (*text).to_owned()).collect();
            let digest = BlobDigest::of(name.as_bytes());
            Ok(BaseImage {
                name,
                digest,
                config,
                layers,
            })
        })
    }
}

pub(crate) struct Files;

impl ContextSource for Files {
    fn root(&self) -> &Path {
        Path::new("/context")
    }

    fn select(&self, sources: &[SourceQuery]) -> Result<Vec<Arc<Selection>>, SourceError> {
        let one = |source: &SourceQuery| {
            if source.path.contains("absent") {
                return Err(SourceError {
                    message: format!("{:?}: not found", source.path),
                    hint: None,
                    fault: Fault::Input,
                    cause: None,
                });
            }
            Ok(Arc::new(Selection::default()))
        };
        sources.iter().map(one).collect()
    }
}

#[derive(Default)]
pub(crate) struct Names(pub(crate) Mutex<Vec<String>>);

impl EventSink for Names {
    fn emit(&self, event: BuildEvent) {
        if let BuildEvent::Announced { name, .. } = event {
            self.0.lock().unwrap().push(name.to_string());
        }
    }
}

pub(crate) struct Planned {
    pub(crate) plan: Plan,
    /// The images that were asked for.
    pub(crate) images: Vec<String>,
    /// The platforms that they were asked for.
    pub(crate) platforms: Vec<String>,
    /// What was announced.
    pub(crate) names: Vec<String>,
    /// Sources from elsewhere that were asked for.
    pub(crate) remotes: Vec<String>,
}

pub(crate) fn options() -> PlanOptions {
    PlanOptions {
        build_platform: Platform::new("linux", "arm64", None),
        ..PlanOptions::new(Platform::new("linux", "amd64", None))
    }
}

/// Knows every source from elsewhere but those called `missing`; none is fetched but for its time.
/// Remembers what was asked for.
#[derive(Default)]
pub(crate) struct Remotes {
    pub(crate) asked: Mutex<Vec<String>>,
}

/// A commit that stands for a text.
pub(crate) fn commit_of(text: &str) -> String {
    BlobDigest::of(text.as_bytes()).to_hex()[..40].to_owned()
}

impl RemoteSources for Remotes {
    fn resolve<'a>(
        &'a self,
        source: &'a RemoteSource,
    ) -> BoxFuture<'a, Result<RemoteFiles, SourceError>> {
        let text = source.to_string();
        self.asked.lock().unwrap().push(text.clone());
        Box::pin(async move {
            if text.contains("missing") {
                return Err(SourceError {
                    message: format!("{text}: not found"),
                    hint: None,
                    fault: Fault::Input,
                    cause: None,
                });
            }
            Ok(match source {
                RemoteSource::Git(source) => RemoteFiles::Git(GitCommit {
                    source: source.clone(),
                    reference: "refs/heads/main".to_owned(),
                    object: commit_of(&text),
                    commit: commit_of(&text),
                }),
                RemoteSource::Http(source) => RemoteFiles::Http(HttpFile {
                    source: source.clone(),
                    digest: source.checksum.unwrap_or(BlobDigest::of(text.as_bytes())),
                }),
            })
        })
    }

    fn fetch<'a>(
        &'a self,
        _files: &'a RemoteFiles,
        _output: Option<Arc<dyn StepOutput>>,
    ) -> BoxFuture<'a, Result<Arc<dyn ContextSource>, SourceError>> {
        Box::pin(async { Ok(Arc::new(Dated) as Arc<dyn ContextSource>) })
    }
}

/// Files that were made in 2001.
struct Dated;

impl ContextSource for Dated {
    fn root(&self) -> &Path {
        Path::new("/dated")
    }

    fn modified(&self) -> Option<i64> {
        Some(1_000_000_000)
    }

    fn select(&self, sources: &[SourceQuery]) -> Result<Vec<Arc<Selection>>, SourceError> {
        Ok(sources.iter().map(|_| Arc::default()).collect())
    }
}

pub(crate) fn plan_with(
    text: &str,
    change: impl FnOnce(&mut PlanOptions),
) -> Result<Planned, PlanError> {
    let dockerfile = parse("Dockerfile", text.as_bytes()).unwrap();
    let mut options = options();
    change(&mut options);
    let images = Arc::new(Images::default());
    let names = Arc::new(Names::default());
    let remotes = Arc::new(Remotes::default());
    let sources = PlanSources {
        images: images.clone(),
        remotes: remotes.clone(),
        vertices: 0,
        context: Some(Arc::new(Files)),
        named: Arc::new(|_: &Path| Ok(Arc::new(Files) as Arc<dyn ContextSource>)),
        events: names.clone(),
    };
    let plan = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(plan(&dockerfile, &options, &sources))?;
    Ok(Planned {
        plan,
        images: std::mem::take(&mut *images.names.lock().unwrap()),
        platforms: std::mem::take(&mut *images.platforms.lock().unwrap()),
        remotes: std::mem::take(&mut *remotes.asked.lock().unwrap()),
        names: std::mem::take(&mut *names.0.lock().unwrap()),
    })
}

/// The outline of a Dockerfile.
pub(crate) fn outline_with(
    text: &str,
    change: impl FnOnce(&mut PlanOptions),
) -> Result<Outline, PlanError> {
    let dockerfile = parse("Dockerfile", text.as_bytes()).unwrap();
    let mut options = options();
    change(&mut options);
    let sources = PlanSources {
        images: Arc::new(Images::default()),
        remotes: Arc::new(Remotes::default()),
        vertices: 0,
        context: None,
        named: Arc::new(|_: &Path| Ok(Arc::new(Files) as Arc<dyn ContextSource>)),
        events: Arc::new(Names::default()),
    };
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(outline(&dockerfile, &options, &sources))
}

pub(crate) fn planned(text: &str) -> Planned {
    plan_with(text, |_| {}).unwrap()
}

pub(crate) fn refused(text: &str) -> PlanError {
    plan_with(text, |_| {}).map(|p| p.names).unwrap_err()
}

impl Planned {
    pub(crate) fn ops<'a>(&'a self) -> Vec<&'a PlannedOp> {
        let op = |kind: &'a NodeKind| match kind {
            NodeKind::Step { op, .. } => Some(op),
            NodeKind::Base(_) | NodeKind::Stack { .. } => None,
        };
        self.plan
            .graph
            .nodes()
            .filter_map(|(_, node)| op(&node.kind))
            .collect()
    }

    pub(crate) fn run(&self, number: usize) -> &RunSpec {
        let runs = self.ops().into_iter().filter_map(|op| match op {
            PlannedOp::Run(run) => Some(&run.spec),
            _ => None,
        });
        runs.collect::<Vec<_>>()[number]
    }

    pub(crate) fn copy(&self, number: usize) -> &PlannedCopy {
        let copies = self.ops().into_iter().filter_map(|op| match op {
            PlannedOp::Copy(copy) => Some(copy),
            _ => None,
        });
        copies.collect::<Vec<_>>()[number]
    }

    pub(crate) fn history(&self) -> Vec<&str> {
        self.plan
            .config
            .history
            .iter()
            .map(|entry| entry.created_by.as_str())
            .collect()
    }

    pub(crate) fn env(&self, number: usize) -> Vec<String> {
        self.run(number)
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }
}
