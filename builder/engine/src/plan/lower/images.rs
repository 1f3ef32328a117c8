//! Asks for the images that stages stand on or copy from.

use ashlar_model::platform::Platform;
use ashlar_model::reference::Reference;
use futures::future::join_all;

use super::Lowering;
use crate::dockerfile::source::SourceRange;
use crate::event::VertexId;
use crate::graph::{Base, ImageIdentity, Node, NodeId, NodeKind};
use crate::key::image_key;
use crate::plan::error::PlanError;
use crate::plan::options::NamedContext;
use crate::plan::source::BaseImage;
use crate::plan::stages::{StageBase, foreign_names, named_context, replaced};

/// An image that the text names.
struct Wanted {
    name: String,
    context: NamedContext,
    platform: Platform,
    range: SourceRange,
}

impl Lowering<'_> {
    /// Asks for all images that the Dockerfile itself names, at once. Triggers of base images
    /// may name more; those are asked for when they are met.
    pub(super) async fn resolve_known_images(&mut self) -> Result<(), PlanError> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for (index, stage) in self.dockerfile.stages.iter().enumerate() {
            if !self.stages.needed[index] {
                continue;
            }
            let origin = &self.stages.origins[index];
            let platform = &origin.platform;
            let mut want = |name: &str, context: NamedContext, platform: &Platform, range| {
                if !matches!(
                    context,
                    NamedContext::Directory(_) | NamedContext::Remote(_)
                ) && !context.is_scratch()
                    && !wanted
                        .iter()
                        .any(|one| one.name == name && one.platform == *platform)
                {
                    let platform = platform.clone();
                    wanted.push(Wanted {
                        name: name.to_owned(),
                        context,
                        platform,
                        range,
                    });
                }
            };
            if let Some(context) = replaced(self.dockerfile, self.options, index, platform) {
                let name = stage.name().unwrap_or_default();
                want(name, context.clone(), platform, stage.from.range);
                continue;
            }
            if let StageBase::External(name) = &origin.base {
                let context = self
                    .external(name, platform)
                    .map_err(|error| error.at(&self.dockerfile.source, stage.from.range))?;
                want(name, context, platform, stage.from.range);
            }
            for instruction in &stage.instructions {
                // A later stage is no source, and no image either: that, and a name that is
                // wrong, is reported when its instruction is lowered.
                for from in foreign_names(self.dockerfile, &instruction.kind) {
                    if from != "scratch"
                        && let Ok(context) = self.external(&from, &self.options.platform)
                    {
                        want(&from, context, &self.options.platform, instruction.range);
                    }
                }
            }
        }
        let vertices: Vec<_> = wanted
            .iter()
            .map(|one| {
                let name = image_name(&one.context);
                self.start_internal(&format!("[internal] load metadata for {name}"))
            })
            .collect();
        let images = &self.sources.images;
        let found = wanted
            .iter()
            .map(|one| images.image(&one.context, &one.platform));
        let found = join_all(found).await;
        let mut first_error = None;
        for ((one, result), work) in wanted.into_iter().zip(found).zip(vertices) {
            match result {
                Ok(image) => {
                    self.end_internal(work, Ok(()));
                    self.images.insert((one.name, one.platform), image);
                }
                Err(error) => {
                    let error = PlanError::from(error).at(&self.dockerfile.source, one.range);
                    self.end_internal(work, Err(&error));
                    first_error.get_or_insert(error);
                }
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// What a name that is no stage stands for: a named context, or an image.
    pub(super) fn external(
        &self,
        name: &str,
        platform: &Platform,
    ) -> Result<NamedContext, PlanError> {
        if let Some(context) = named_context(self.options, name, platform) {
            return Ok(context.clone());
        }
        if let Some(rest) = name.strip_prefix("oci-layout://") {
            return Ok(oci_layout(rest));
        }
        let reference = name.strip_prefix("docker-image://").unwrap_or(name);
        let reference: Reference = reference
            .parse()
            .map_err(|error| PlanError::new(format!("failed to parse image name: {error}")))?;
        Ok(NamedContext::Image(reference))
    }

    /// The image behind a name.
    pub(super) async fn image(
        &mut self,
        name: &str,
        context: &NamedContext,
        platform: &Platform,
    ) -> Result<BaseImage, PlanError> {
        let key = (name.to_owned(), platform.clone());
        if let Some(image) = self.images.get(&key) {
            return Ok(image.clone());
        }
        let work = self.start_internal(&format!(
            "[internal] load metadata for {}",
            image_name(context)
        ));
        let result = self
            .sources
            .images
            .image(context, platform)
            .await
            .map_err(PlanError::from);
        self.end_internal(work, result.as_ref().map(|_| ()));
        let image = result?;
        self.images.insert(key, image.clone());
        Ok(image)
    }

    /// A node for the filesystem of an image.
    pub(super) fn image_node(
        &mut self,
        image: &BaseImage,
        platform: &Platform,
        range: SourceRange,
    ) -> NodeId {
        self.graph.add(Node {
            vertex: VertexId(0),
            name: format!("FROM {}", image.name).into(),
            range: Some(range),
            kind: NodeKind::Base(Base {
                key: image_key(&image.digest, platform),
                layers: image.layers.clone(),
                image: Some(ImageIdentity {
                    digest: image.digest,
                    platform: platform.clone(),
                }),
            }),
        })
    }
}

fn image_name(context: &NamedContext) -> String {
    match context {
        NamedContext::Image(reference) => reference.to_string(),
        NamedContext::Directory(path) => path.display().to_string(),
        NamedContext::Remote(source) => source.to_string(),
        NamedContext::OciLayout {
            directory,
            selector,
        } => {
            let selector = selector
                .as_deref()
                .map(|s| format!(":{s}"))
                .unwrap_or_default();
            format!("oci-layout://{}{selector}", directory.display())
        }
    }
}

/// Reads `DIR[:TAG|@DIGEST]`. A colon starts a tag only after the last slash.
pub(crate) fn oci_layout(text: &str) -> NamedContext {
    let name_start = text.rfind('/').map_or(0, |at| at + 1);
    let (directory, selector) = if let Some((directory, digest)) = text.rsplit_once('@') {
        (directory, Some(digest))
    } else if let Some(colon) = text[name_start..].rfind(':') {
        let at = name_start + colon;
        (&text[..at], Some(&text[at + 1..]))
    } else {
        (text, None)
    };
    NamedContext::OciLayout {
        directory: directory.into(),
        selector: selector.filter(|text| !text.is_empty()).map(str::to_owned),
    }
}
