//! No Dockerfile that parses makes the planner or the linter panic, whatever its images say; nor
//! does the beginning of one that does not parse.
#![no_main]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ashlar_engine::dockerfile::parse;
use ashlar_engine::event::{BuildEvent, EventSink};
use ashlar_engine::plan::source::Fault;
use ashlar_engine::plan::{
    BaseImage, ContextSource, ImageSource, NamedContext, PlanError, PlanOptions, PlanSources,
    RemoteSources, SourceError, check, check_beginning, outline, plan,
};
use ashlar_model::config::ImageConfig;
use ashlar_model::digest::{BlobDigest, DiffId, LayerId};
use ashlar_model::executor::{BoxFuture, StepOutput};
use ashlar_model::platform::Platform;
use ashlar_model::remote::{RemoteFiles, RemoteSource};
use libfuzzer_sys::fuzz_target;

/// Every image is there. Its name is its trigger.
struct Images;

impl ImageSource for Images {
    fn image<'a>(
        &'a self,
        context: &'a NamedContext,
        platform: &'a Platform,
    ) -> BoxFuture<'a, Result<BaseImage, SourceError>> {
        let name = format!("{context:?}");
        let mut config = ImageConfig::new(platform);
        config.config.on_build = vec![format!("ENV A={}", name.len())];
        Box::pin(std::future::ready(Ok(BaseImage {
            digest: BlobDigest::of(name.as_bytes()),
            layers: vec![LayerId::of_diff_id(&DiffId::of(name.as_bytes()))],
            name,
            config,
        })))
    }
}

struct Nobody;

impl EventSink for Nobody {
    fn emit(&self, event: BuildEvent) {
        if let BuildEvent::Finding(finding) = event {
            drop((finding.to_string(), finding.snippet()));
        }
    }
}

/// Nothing is to be had from elsewhere.
struct Nowhere;

fn nowhere<T>() -> Result<T, SourceError> {
    Err(SourceError {
        message: "there is no elsewhere".to_owned(),
        hint: None,
        fault: Fault::Environment,
        cause: None,
    })
}

impl RemoteSources for Nowhere {
    fn resolve<'a>(
        &'a self,
        _source: &'a RemoteSource,
    ) -> BoxFuture<'a, Result<RemoteFiles, SourceError>> {
        Box::pin(std::future::ready(nowhere()))
    }

    fn fetch<'a>(
        &'a self,
        _files: &'a RemoteFiles,
        _output: Option<Arc<dyn StepOutput>>,
    ) -> BoxFuture<'a, Result<Arc<dyn ContextSource>, SourceError>> {
        Box::pin(std::future::ready(nowhere()))
    }
}

fn no_directory(_path: &Path) -> Result<Arc<dyn ContextSource>, SourceError> {
    Err(SourceError {
        message: "there are no directories here".to_owned(),
        hint: None,
        fault: Fault::Input,
        cause: None,
    })
}

fn shown<T>(outcome: Result<T, PlanError>) {
    if let Err(error) = outcome {
        drop(error.place.map(|place| place.snippet()));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let platform = Platform::new("linux", "amd64", None);
    let options = PlanOptions {
        build_args: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
        ..PlanOptions::new(platform)
    };
    let mut all_rules = options.clone();
    all_rules.build_args.insert(
        "BUILDKIT_DOCKERFILE_CHECK".to_owned(),
        "experimental=all".to_owned(),
    );
    let sources = PlanSources {
        images: Arc::new(Images),
        remotes: Arc::new(Nowhere),
        vertices: 0,
        context: None,
        named: Arc::new(no_directory),
        events: Arc::new(Nobody),
    };
    let dockerfile = match parse("Dockerfile", bytes) {
        Ok(dockerfile) => dockerfile,
        Err(error) => {
            if let Some(beginning) = error.beginning() {
                shown(check_beginning(beginning, &options, &sources.events));
            }
            return;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    shown(runtime.block_on(plan(&dockerfile, &options, &sources)));
    shown(runtime.block_on(check(&dockerfile, &all_rules, &sources)));
    shown(runtime.block_on(outline(&dockerfile, &options, &sources)));
});
