//! The Dockerfile and the context from elsewhere: a git repository, an archive or a file of a URL.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ashlar_engine::context::Context;
use ashlar_engine::event::{BuildEvent, EventSink, VertexId};
use ashlar_engine::plan::{PlanOptions, RemoteSources as _};
use ashlar_exec::layer::{Decompressor, is_tar_header};
use ashlar_model::layer::Timestamp;
use ashlar_model::remote::{FileTimes, HttpFile, HttpSource, RemoteFiles, RemoteSource};
use ashlar_model::select::PathRules;
use ashlar_store::home::lock::FileLock;
use ashlar_store::home::sources::{DirectoryRecord, SourceClass, SourceKey};
use ashlar_workshop::sources::{OpenContext, Sources, stat_cache};

use super::input::{self, Given, Input};
use crate::cli::build::BuildArgs;
use crate::diagnostics::CliError;
use crate::failure::source_to_cli_error;

/// What of the input comes from elsewhere.
#[derive(Debug)]
pub(super) struct RemoteInput {
    /// The context; `None` if it is here.
    context: Option<RemoteSource>,
    /// The Dockerfile, if `--file` is a URL.
    file: Option<HttpSource>,
}

impl RemoteInput {
    /// Looks whether anything of the input comes from elsewhere. A directory that is here is meant
    /// by its name, whatever that looks like.
    pub(super) fn of(args: &BuildArgs, options: &PlanOptions) -> Result<Option<Self>, CliError> {
        let text = args.context.to_str().filter(|_| !args.context.is_dir());
        let mut context = match text {
            Some(text) => RemoteSource::parse_context(text)
                .map_err(|error| CliError::usage(error.to_string()))?,
            None => None,
        };
        if let Some(RemoteSource::Git(git)) = &mut context {
            let argument = |name: &str| options.build_args.get(name).map(String::as_str);
            if argument("BUILDKIT_CONTEXT_KEEP_GIT_DIR").is_some_and(is_true) {
                git.keep_git_dir = Some(true);
            }
            if argument("SOURCE_DATE_EPOCH").is_some_and(|value| !value.is_empty()) {
                git.times = FileTimes::Commit;
            }
        }
        let file = args.file.as_ref().and_then(|file| file.to_str());
        let file = file.and_then(HttpSource::parse);
        Ok((context.is_some() || file.is_some()).then_some(Self { context, file }))
    }
}

fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

/// Fetches an input.
pub(super) struct InputFetcher<'a> {
    pub(super) args: &'a BuildArgs,
    pub(super) sources: &'a Sources,
    pub(super) events: &'a dyn EventSink,
    /// The build argument `BUILDKIT_SYNTAX`.
    pub(super) frontend: Option<&'a str>,
    /// How many vertices were announced.
    pub(super) vertices: u32,
}

impl InputFetcher<'_> {
    pub(super) async fn fetch(&mut self, remote: &RemoteInput) -> Result<Input, CliError> {
        let given = match &remote.file {
            Some(file) => Some(self.dockerfile(file).await?),
            None => None,
        };
        let home = self.sources.home().clone();
        let Some(source) = &remote.context else {
            return Input::read(self.args, &home, self.frontend, given);
        };
        let name = match source {
            RemoteSource::Git(_) => format!("[internal] load git source {source}"),
            RemoteSource::Http(_) => format!("[internal] load remote build context {source}"),
        };
        let work = self.start(&name);
        let loaded = self.load(source).await;
        self.end(work, loaded.as_ref().err());
        let Loaded {
            directory,
            modified,
            dockerfile,
        } = loaded?;
        let given = match (given, dockerfile) {
            (Some(given), _) => given,
            (None, Some(text)) => Given {
                name: "Dockerfile".to_owned(),
                text,
            },
            (None, None) => input::dockerfile_in(&directory, self.args)?,
        };
        let cache = Some(stat_cache(&home, &directory));
        let context =
            Context::open(&directory, PathRules::default(), cache).map_err(input::of_context)?;
        let context = OpenContext {
            context,
            modified: modified.map(|time| time.seconds),
            meter: home.meter(),
        };
        Ok(Input::new(&given, self.frontend, Some(context)))
    }

    /// The Dockerfile of a URL.
    async fn dockerfile(&mut self, source: &HttpSource) -> Result<Given, CliError> {
        let work = self.start(&format!("[internal] load remote build definition {source}"));
        let fetched = async {
            let source = RemoteSource::Http(source.clone());
            match self.sources.resolve(&source).await? {
                RemoteFiles::Http(file) => self.sources.file(&file).await.map(Some),
                RemoteFiles::Git(_) => Ok(None),
            }
        };
        let fetched = fetched.await.map_err(source_to_cli_error);
        self.end(work, fetched.as_ref().err());
        let text = match fetched? {
            Some(file) => input::read_text(File::open(&file.path), &source.to_string())?,
            None => Vec::new(),
        };
        Ok(Given {
            name: source.to_string(),
            text,
        })
    }

    async fn load(&self, source: &RemoteSource) -> Result<Loaded, CliError> {
        let files = self.sources.resolve(source).await;
        let files = files.map_err(source_to_cli_error)?;
        if let RemoteFiles::Http(file) = &files {
            let fetched = self.sources.file(file).await.map_err(source_to_cli_error)?;
            if is_archive(&fetched.path) {
                return self.unpack(file, fetched.path).await;
            }
            let text = input::read_text(File::open(&fetched.path), &source.to_string())?;
            let (directory, modified) = self.directory(&files).await?;
            return Ok(Loaded {
                directory,
                modified,
                dockerfile: Some(text),
            });
        }
        let (directory, modified) = self.directory(&files).await?;
        Ok(Loaded {
            directory,
            modified,
            dockerfile: None,
        })
    }

    async fn directory(
        &self,
        files: &RemoteFiles,
    ) -> Result<(PathBuf, Option<Timestamp>), CliError> {
        let made = self.sources.directory(files, None).await;
        made.map_err(source_to_cli_error)
    }

    /// Unpacks an archive into the store, unless it is there.
    async fn unpack(&self, file: &HttpFile, archive: PathBuf) -> Result<Loaded, CliError> {
        let home = self.sources.home().clone();
        let key = SourceKey::new(SourceClass::Tree, &["archive", &file.digest.to_hex()]);
        let what = file.source.to_string();
        let work = move || -> Result<Loaded, CliError> {
            let _lock = FileLock::acquire(&home.source_lock_path(&key))?;
            let (directory, record) = match home.source_directory(&key)? {
                Some(known) => known,
                None => {
                    let scratch = home.scratch()?;
                    let made = scratch.path().join("tree");
                    let plain = File::open(&archive).and_then(Decompressor::of_archive);
                    let plain = plain.map_err(|error| {
                        CliError::failed(format!("cannot read the archive {what}")).caused_by(error)
                    })?;
                    let time = input::unpack(plain, &made, &what, &home.meter())?;
                    let record = DirectoryRecord { what, time };
                    let directory = home.put_source_directory(&key, &made, &record)?;
                    drop(fs::remove_dir_all(scratch.path()));
                    (directory, record)
                }
            };
            Ok(Loaded {
                directory,
                modified: record.time,
                dockerfile: None,
            })
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| CliError::interrupted())?
    }

    fn start(&mut self, name: &str) -> (VertexId, Instant) {
        self.vertices += 1;
        let vertex = VertexId(self.vertices);
        self.events.emit(BuildEvent::Announced {
            vertex,
            name: name.into(),
        });
        self.events.emit(BuildEvent::Started { vertex });
        (vertex, Instant::now())
    }

    fn end(&self, (vertex, started): (VertexId, Instant), error: Option<&CliError>) {
        let elapsed = started.elapsed();
        self.events.emit(match error {
            None => BuildEvent::Finished { vertex, elapsed },
            Some(error) => BuildEvent::Failed {
                vertex,
                elapsed,
                error: error.message().into(),
            },
        });
    }
}

/// A context that is here.
struct Loaded {
    directory: PathBuf,
    modified: Option<Timestamp>,
    /// The Dockerfile, where the context is nothing else.
    dockerfile: Option<Vec<u8>>,
}

/// Whether a file is a tar, plain or compressed; anything compressed is meant to be one.
fn is_archive(path: &Path) -> bool {
    const COMPRESSED: [&[u8]; 4] = [b"BZh", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(512).read_to_end(&mut start));
    read.is_ok()
        && (COMPRESSED.iter().any(|magic| start.starts_with(magic)) || is_tar_header(&start))
}
