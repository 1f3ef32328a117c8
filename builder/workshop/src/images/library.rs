//! Finds images: in the local store, in registries, in OCI layouts.

use ashlar_engine::plan::source::Fault;
use ashlar_engine::plan::{BaseImage, ImageSource, NamedContext, SourceError};
use ashlar_image::oci_layout::LayoutReference;
use ashlar_image::pull::{ImageFetcher, ImageHandle, PullError};
use ashlar_model::config::ImageConfig;
use ashlar_model::executor::BoxFuture;
use ashlar_model::layer::Timestamp;
use ashlar_model::platform::Platform;
use ashlar_model::reference::Reference;
use ashlar_store::home::images::ImageRecord;
use ashlar_store::home::{Home, StoreError};
use futures::TryStreamExt as _;

use super::failure::to_source_error;
use super::register::{register_image, register_layers};

/// The images that this machine can get at.
#[derive(Debug, Clone)]
pub struct Library {
    home: Home,
    fetcher: ImageFetcher,
    /// Whether registries are asked even for images that are here.
    pull: bool,
    now: Timestamp,
}

impl Library {
    /// A library over a store. With `pull`, registries are asked even for images that are here.
    pub const fn new(home: Home, fetcher: ImageFetcher, pull: bool, now: Timestamp) -> Self {
        Self {
            home,
            fetcher,
            pull,
            now,
        }
    }

    /// Whether registries are asked even for images that are here.
    pub const fn pulls(&self) -> bool {
        self.pull
    }

    /// The fetcher.
    pub const fn fetcher(&self) -> &ImageFetcher {
        &self.fetcher
    }

    /// An image that is here under this name, for this platform, whole but for its layers.
    pub fn local(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<(ImageRecord, ImageConfig)>, StoreError> {
        let Some(record) = self.home.image(reference)? else {
            return Ok(None);
        };
        if !platform.accepts(&record.platform) {
            return Ok(None);
        }
        for layer in &record.layers {
            if self.home.layer(layer)?.is_none() {
                return Ok(None);
            }
        }
        // A damaged configuration counts as absent.
        let Ok(bytes) = self.home.blobs().read(&record.config.digest) else {
            return Ok(None);
        };
        Ok(ImageConfig::from_slice(&bytes)
            .ok()
            .map(|config| (record, config)))
    }

    /// Gets an image from its registry and notes it under its name. Layers are not fetched.
    pub async fn fetch(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<(ImageRecord, ImageHandle), PullError> {
        let handle = self.fetcher.pull(reference, platform).await?;
        let record = register_image(&self.home, reference, &handle, platform, self.now).map_err(
            |source| PullError::Store {
                image: reference.to_string(),
                source,
            },
        )?;
        Ok((record, handle))
    }

    /// Opens an image of an OCI layout and takes its layers into the store: the layout may be
    /// gone when they are needed.
    pub async fn open_layout(
        &self,
        layout: &LayoutReference,
        platform: &Platform,
    ) -> Result<(Vec<ashlar_model::digest::LayerId>, ImageHandle), PullError> {
        let handle = self.fetcher.open_layout(layout, platform).await?;
        let all = 0..handle.manifest.layers.len();
        self.fetcher
            .fetch_layers(&handle, all, None)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        let layers = register_layers(&self.home, &handle).map_err(|source| PullError::Store {
            image: layout.to_string(),
            source,
        })?;
        Ok((layers, handle))
    }

    async fn find(
        &self,
        context: &NamedContext,
        platform: &Platform,
    ) -> Result<BaseImage, SourceError> {
        match context {
            NamedContext::Image(reference) => {
                if !self.pull
                    && let Some((record, config)) =
                        self.local(reference, platform).map_err(of_store)?
                {
                    return Ok(base(reference, record, config));
                }
                let (record, handle) = self
                    .fetch(reference, platform)
                    .await
                    .map_err(to_source_error)?;
                Ok(base(reference, record, handle.config))
            }
            NamedContext::OciLayout {
                directory,
                selector,
            } => {
                let layout = layout_reference(directory, selector.as_deref())?;
                let (layers, handle) = self
                    .open_layout(&layout, platform)
                    .await
                    .map_err(to_source_error)?;
                Ok(BaseImage {
                    name: layout.to_string(),
                    digest: handle.manifest_descriptor.digest,
                    config: handle.config,
                    layers,
                })
            }
            NamedContext::Directory(path) => Err(no_image(path.display())),
            NamedContext::Remote(source) => Err(no_image(source)),
        }
    }
}

pub(super) fn no_image(what: impl std::fmt::Display) -> SourceError {
    SourceError {
        message: format!("{what} is a directory, not an image"),
        hint: None,
        fault: Fault::Input,
        cause: None,
    }
}

pub(super) fn base(reference: &Reference, record: ImageRecord, config: ImageConfig) -> BaseImage {
    let digest = record.manifest.as_ref().unwrap_or(&record.config).digest;
    let name = if reference.digest().is_some() {
        reference.to_string()
    } else {
        format!("{reference}@{digest}")
    };
    BaseImage {
        name,
        digest,
        config,
        layers: record.layers,
    }
}

pub(super) fn layout_reference(
    directory: &std::path::Path,
    selector: Option<&str>,
) -> Result<LayoutReference, SourceError> {
    let directory = directory.to_owned();
    let (tag, digest) = match selector {
        Some(text) if text.contains(':') => {
            let digest = text.parse().map_err(|error| SourceError {
                message: format!("`{text}` names no image of {}", directory.display()),
                hint: None,
                fault: Fault::Input,
                cause: Some(Box::<ashlar_model::digest::DigestParseError>::new(error)),
            })?;
            (None, Some(digest))
        }
        other => (other.map(str::to_owned), None),
    };
    Ok(LayoutReference {
        directory,
        tag,
        digest,
    })
}

pub(super) fn of_store(error: StoreError) -> SourceError {
    SourceError {
        message: "the local store failed".to_owned(),
        hint: None,
        fault: Fault::Environment,
        cause: Some(Box::new(error)),
    }
}

impl ImageSource for Library {
    fn image<'a>(
        &'a self,
        context: &'a NamedContext,
        platform: &'a Platform,
    ) -> BoxFuture<'a, Result<BaseImage, SourceError>> {
        Box::pin(self.find(context, platform))
    }
}
