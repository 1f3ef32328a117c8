//! Where files come from that are not of the stage itself: what `from` of COPY and of RUN's
//! mounts names when it names no stage.

use ashlar_model::remote::RemoteSource;

use super::Lowering;
use crate::dockerfile::source::SourceRange;
use crate::graph::NodeId;
use crate::plan::error::PlanError;
use crate::plan::options::NamedContext;

/// A place that files are taken from.
pub(super) enum Origin {
    /// A context directory, by number.
    Context(usize),
    /// A filesystem of the build.
    Node(NodeId),
    /// A context from elsewhere.
    Remote(RemoteSource),
}

impl Lowering<'_> {
    /// What a name that is no stage's stands for: nothing, a named context, or an image.
    pub(super) async fn external_origin(
        &mut self,
        from: &str,
        range: SourceRange,
    ) -> Result<Origin, PlanError> {
        if from == "scratch" {
            return Ok(Origin::Node(self.scratch_node(range)));
        }
        match self.external(from, &self.options.platform)? {
            NamedContext::Directory(path) => {
                let name = from.to_ascii_lowercase();
                Ok(Origin::Context(self.named_directory(&name, &path)?))
            }
            NamedContext::Remote(source) => Ok(Origin::Remote(source)),
            context if context.is_scratch() => Ok(Origin::Node(self.scratch_node(range))),
            context => {
                // Of the image's platform, whatever that of the stage.
                let platform = self.options.platform.clone();
                let image = self.image(from, &context, &platform).await?;
                self.note_image(from, &image.config, &platform);
                Ok(Origin::Node(self.image_node(&image, &platform, range)))
            }
        }
    }
}
