//! The configurations of images, for those who look at a build without running it: no layer is
//! fetched, and nothing is noted under a name.

use ashlar_engine::plan::{BaseImage, ImageSource, NamedContext, SourceError};
use ashlar_image::pull::ImageHandle;
use ashlar_model::digest::LayerId;
use ashlar_model::executor::BoxFuture;
use ashlar_model::platform::Platform;

use super::failure::to_source_error;
use super::library::{Library, base, layout_reference, no_image, of_store};

/// Finds images as a [`Library`] does, and leaves their layers where they are.
#[derive(Debug, Clone)]
pub struct Configurations {
    library: Library,
}

impl Configurations {
    /// The configurations of what a library has.
    pub const fn new(library: Library) -> Self {
        Self { library }
    }

    async fn find(
        &self,
        context: &NamedContext,
        platform: &Platform,
    ) -> Result<BaseImage, SourceError> {
        let fetcher = self.library.fetcher();
        let found = match context {
            NamedContext::Image(reference) => {
                let here = if self.library.pulls() {
                    None
                } else {
                    self.library.local(reference, platform).map_err(of_store)?
                };
                if let Some((record, config)) = here {
                    return Ok(base(reference, record, config));
                }
                fetcher.pull(reference, platform).await
            }
            NamedContext::OciLayout {
                directory,
                selector,
            } => {
                let layout = layout_reference(directory, selector.as_deref())?;
                fetcher.open_layout(&layout, platform).await
            }
            NamedContext::Directory(path) => return Err(no_image(path.display())),
            NamedContext::Remote(source) => return Err(no_image(source)),
        };
        Ok(described(found.map_err(to_source_error)?))
    }
}

fn described(handle: ImageHandle) -> BaseImage {
    let layers = handle
        .layers()
        .map(|(_, diff_id)| LayerId::of_diff_id(&diff_id));
    BaseImage {
        name: handle.source.to_string(),
        digest: handle.manifest_descriptor.digest,
        layers: layers.collect(),
        config: handle.config,
    }
}

impl ImageSource for Configurations {
    fn image<'a>(
        &'a self,
        context: &'a NamedContext,
        platform: &'a Platform,
    ) -> BoxFuture<'a, Result<BaseImage, SourceError>> {
        Box::pin(self.find(context, platform))
    }
}
