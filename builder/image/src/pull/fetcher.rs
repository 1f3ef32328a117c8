//! Fetches images into the store.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_model::config::{ImageConfig, MAX_CONFIG_SIZE, ReadConfigError};
use ashlar_model::descriptor::Descriptor;
use ashlar_model::executor::BoxFuture;
use ashlar_model::platform::Platform;
use ashlar_model::reference::Reference;
use ashlar_store::home::{Home, StoreError};
use futures::stream::{self, Stream, StreamExt as _};

use super::error::PullError;
use super::handle::{ImageHandle, ImageSource, is_config};
use crate::blob_source::{BlobReader, BlobSource, FileBlob, LayerBlob, PrepareError};
use crate::export::ExportImage;
use crate::manifest::{
    ImageManifest, MAX_MANIFEST_SIZE, Manifest, ReadManifestError, choose, is_index,
};
use crate::oci_layout::{LayoutReference, OciLayout};
use crate::registry::{FetchedBlob, Progress, RegistryClient};

/// Told how many bytes of which layer (counted from 0) there are.
pub type LayerProgress = Arc<dyn Fn(usize, u64) + Send + Sync>;

/// Indexes that may lie inside each other. Real images have one, rarely two.
const MAX_DEPTH: usize = 4;
/// Layers fetched at once. The client limits connections further.
const LAYERS_AT_ONCE: usize = 4;

/// Gets images from registries and OCI layouts into a store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ImageFetcher {
    client: RegistryClient,
    home: Home,
}

impl ImageFetcher {
    /// A fetcher that uses this client and this store.
    pub const fn new(client: RegistryClient, home: Home) -> Self {
        Self { client, home }
    }

    /// The client.
    pub const fn client(&self) -> &RegistryClient {
        &self.client
    }

    /// Gets manifest and configuration of an image for a platform. A reference with a digest whose
    /// blobs are in the store needs no network.
    pub async fn pull(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ImageHandle, PullError> {
        let known = reference
            .digest()
            .and_then(|digest| Some((digest, self.home.blobs().size_of(&digest)?)));
        let resolved = match known {
            Some((digest, size)) if size <= MAX_MANIFEST_SIZE => Descriptor::new("", digest, size),
            _ => self.resolve(reference).await?,
        };
        self.pull_resolved(reference, &resolved, platform).await
    }

    /// What a reference points to now.
    pub async fn resolve(&self, reference: &Reference) -> Result<Descriptor, PullError> {
        self.client
            .resolve(reference)
            .await
            .map_err(|source| PullError::Registry {
                image: reference.to_string(),
                source: Box::new(source),
            })
    }

    /// Gets manifest and configuration of an image whose reference was resolved before.
    pub async fn pull_resolved(
        &self,
        reference: &Reference,
        resolved: &Descriptor,
        platform: &Platform,
    ) -> Result<ImageHandle, PullError> {
        let source = ImageSource::Registry(reference.clone());
        self.image(source, Place::Registry(reference), resolved, platform)
            .await
    }

    /// Gets manifest and configuration of an image in an OCI layout.
    pub async fn open_layout(
        &self,
        reference: &LayoutReference,
        platform: &Platform,
    ) -> Result<ImageHandle, PullError> {
        let (layout, resolved) = self.layout(reference)?;
        let source = ImageSource::Layout(reference.clone());
        self.image(source, Place::Layout(layout), &resolved, platform)
            .await
    }

    fn layout(&self, reference: &LayoutReference) -> Result<(OciLayout, Descriptor), PullError> {
        let open = || {
            let layout = OciLayout::open(&reference.directory)?;
            let found = layout.find(reference.tag.as_deref(), reference.digest)?;
            Ok((layout, found))
        };
        open().map_err(|source| PullError::Layout {
            image: reference.to_string(),
            source,
        })
    }

    async fn image(
        &self,
        source: ImageSource,
        place: Place<'_>,
        resolved: &Descriptor,
        platform: &Platform,
    ) -> Result<ImageHandle, PullError> {
        let origin = Origin {
            fetcher: self,
            source: &source,
            place,
        };
        let (manifest_descriptor, manifest) = origin.manifest(resolved, platform).await?;
        let config = origin.config(&manifest.config).await?;
        ImageHandle {
            resolved: resolved.clone(),
            manifest_descriptor,
            manifest,
            config,
            source,
        }
        .check()
    }

    /// Gets one layer (counted from 0, bottom first) into the store, unless it is there.
    pub async fn fetch_layer(
        &self,
        image: &ImageHandle,
        index: usize,
        progress: Option<&LayerProgress>,
    ) -> Result<FetchedBlob, PullError> {
        let layer = image
            .manifest
            .layers
            .get(index)
            .ok_or_else(|| PullError::NoLayer {
                image: image.source.to_string(),
                index,
            })?;
        if self.home.blobs().has(layer) {
            return Ok(FetchedBlob::Present);
        }
        let place = match &image.source {
            ImageSource::Registry(reference) => Place::Registry(reference),
            ImageSource::Layout(reference) => Place::Layout(self.layout(reference)?.0),
        };
        let origin = Origin {
            fetcher: self,
            source: &image.source,
            place,
        };
        let progress = progress.map(|progress| {
            let progress = Arc::clone(progress);
            Arc::new(move |bytes| progress(index, bytes)) as Progress
        });
        origin.blob(layer, progress.as_ref()).await
    }

    /// A layer as exporters take it. Its blob is fetched when they need it.
    pub fn layer_blob(&self, image: &ImageHandle, index: usize) -> Option<LayerBlob> {
        let descriptor = image.manifest.layers.get(index)?.clone();
        let repositories = match &image.source {
            ImageSource::Registry(reference) => vec![reference.clone()],
            ImageSource::Layout(_) => Vec::new(),
        };
        let source = LazyLayer {
            fetcher: self.clone(),
            path: self.home.blobs().path(&descriptor.digest),
            image: image.clone(),
            index,
        };
        Some(LayerBlob {
            descriptor,
            source: Arc::new(source),
            repositories,
        })
    }

    /// A pulled image as exporters take it, manifest and digest unchanged.
    pub fn to_export(
        &self,
        image: &ImageHandle,
        names: Vec<Reference>,
    ) -> Result<ExportImage, PullError> {
        let blob = |descriptor: &Descriptor| {
            self.home
                .blobs()
                .read(&descriptor.digest)
                .map_err(|source| PullError::Store {
                    image: image.source.to_string(),
                    source,
                })
        };
        let layers = (0..image.manifest.layers.len())
            .filter_map(|index| self.layer_blob(image, index))
            .collect();
        let export = ExportImage::with_manifest(
            &image.manifest,
            blob(&image.manifest_descriptor)?.into(),
            blob(image.config_descriptor())?.into(),
            layers,
            names,
        );
        Ok(export.at(image.config.created))
    }

    /// Gets some layers, several at once. Yields the number of each as it is there, in whatever
    /// order they come. Nothing moves while the stream is not polled: hand on what it yields, so
    /// that unpacking does not hold up the network.
    pub fn fetch_layers<'a>(
        &'a self,
        image: &'a ImageHandle,
        layers: impl IntoIterator<Item = usize> + 'a,
        progress: Option<&'a LayerProgress>,
    ) -> impl Stream<Item = Result<(usize, FetchedBlob), PullError>> + 'a {
        stream::iter(layers)
            .map(move |index| async move {
                let fetched = self.fetch_layer(image, index, progress).await?;
                Ok((index, fetched))
            })
            .buffer_unordered(LAYERS_AT_ONCE)
    }
}

/// A layer that is fetched when its bytes are needed.
#[derive(Debug)]
struct LazyLayer {
    fetcher: ImageFetcher,
    image: ImageHandle,
    index: usize,
    path: PathBuf,
}

impl BlobSource for LazyLayer {
    fn prepare(&self) -> BoxFuture<'_, Result<(), PrepareError>> {
        Box::pin(async move {
            self.fetcher
                .fetch_layer(&self.image, self.index, None)
                .await?;
            Ok(())
        })
    }

    fn open(&self, offset: u64) -> io::Result<BlobReader> {
        FileBlob(self.path.clone()).open(offset)
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }
}

/// Where the blobs of one image come from.
struct Origin<'a> {
    fetcher: &'a ImageFetcher,
    source: &'a ImageSource,
    place: Place<'a>,
}

/// An open [`ImageSource`].
enum Place<'a> {
    Registry(&'a Reference),
    Layout(OciLayout),
}

impl Origin<'_> {
    fn image(&self) -> String {
        self.source.to_string()
    }

    fn store_error(&self, source: StoreError) -> PullError {
        PullError::Store {
            image: self.image(),
            source,
        }
    }

    /// Follows indexes down to the manifest for a platform.
    async fn manifest(
        &self,
        resolved: &Descriptor,
        platform: &Platform,
    ) -> Result<(Descriptor, ImageManifest), PullError> {
        let mut descriptor = resolved.clone();
        for _ in 0..MAX_DEPTH {
            let bytes = self.manifest_bytes(&descriptor).await?;
            // A descriptor's type is not the word of whoever made the manifest: only a type that
            // contradicts it matters.
            let manifest = Manifest::read(&bytes, &descriptor.media_type).map_err(|source| {
                PullError::Manifest {
                    image: self.image(),
                    source,
                }
            })?;
            match manifest {
                Manifest::Image(image) => {
                    descriptor.media_type.clone_from(&image.media_type);
                    return Ok((descriptor, image));
                }
                Manifest::Index(index) => {
                    let chosen = choose(&index.manifests, platform).map_err(|source| {
                        PullError::Platform {
                            image: self.image(),
                            source,
                        }
                    })?;
                    descriptor = chosen.clone();
                }
            }
        }
        Err(PullError::Depth {
            image: self.image(),
            limit: MAX_DEPTH,
        })
    }

    async fn manifest_bytes(&self, descriptor: &Descriptor) -> Result<Vec<u8>, PullError> {
        if descriptor.size > MAX_MANIFEST_SIZE {
            return Err(PullError::Manifest {
                image: self.image(),
                source: ReadManifestError::TooLarge(descriptor.size),
            });
        }
        let blobs = self.fetcher.home.blobs();
        // A damaged blob is dropped by reading it, and fetched again.
        if blobs.has(descriptor)
            && let Ok(bytes) = blobs.read(&descriptor.digest)
        {
            return Ok(bytes);
        }
        let reference = match &self.place {
            Place::Registry(reference) => *reference,
            Place::Layout(_) => return self.small_blob(descriptor).await,
        };
        let by_digest = reference.with_digest(descriptor.digest);
        let fetched = self
            .fetcher
            .client
            .fetch_manifest(&by_digest)
            .await
            .map_err(|source| PullError::Registry {
                image: self.image(),
                source: Box::new(source),
            })?;
        blobs
            .put(&fetched.bytes)
            .map_err(|source| self.store_error(source))?;
        Ok(fetched.bytes)
    }

    async fn config(&self, descriptor: &Descriptor) -> Result<ImageConfig, PullError> {
        let error = |source| PullError::Config {
            image: self.image(),
            source,
        };
        if !is_config(&descriptor.media_type) || is_index(&descriptor.media_type) {
            return Err(PullError::NotAnImage {
                image: self.image(),
                media_type: descriptor.media_type.chars().take(120).collect(),
            });
        }
        if descriptor.size > MAX_CONFIG_SIZE {
            return Err(error(ReadConfigError::TooLarge(descriptor.size)));
        }
        let bytes = self.small_blob(descriptor).await?;
        ImageConfig::from_slice(&bytes).map_err(error)
    }

    async fn small_blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, PullError> {
        let blobs = self.fetcher.home.blobs();
        self.blob(descriptor, None).await?;
        match blobs.read(&descriptor.digest) {
            // It was damaged and is dropped now, so that it is fetched.
            Err(StoreError::WrongContent { .. } | StoreError::NoBlob(_)) => {
                self.blob(descriptor, None).await?;
                blobs
                    .read(&descriptor.digest)
                    .map_err(|source| self.store_error(source))
            }
            other => other.map_err(|source| self.store_error(source)),
        }
    }

    async fn blob(
        &self,
        descriptor: &Descriptor,
        progress: Option<&Progress>,
    ) -> Result<FetchedBlob, PullError> {
        let home = &self.fetcher.home;
        if home.blobs().has(descriptor) {
            return Ok(FetchedBlob::Present);
        }
        match &self.place {
            Place::Registry(reference) => self
                .fetcher
                .client
                .fetch_blob(reference, descriptor, home, progress)
                .await
                .map_err(|source| PullError::Registry {
                    image: self.image(),
                    source: Box::new(source),
                }),
            Place::Layout(layout) => {
                let (owned, wanted, home) = (layout.clone(), descriptor.clone(), home.clone());
                tokio::task::spawn_blocking(move || owned.import(&wanted, &home))
                    .await
                    .map_err(|_| PullError::Interrupted(layout.root().to_owned()))?
                    .map_err(|source| PullError::Import {
                        image: self.image(),
                        source,
                    })?;
                if let Some(progress) = progress {
                    progress(descriptor.size);
                }
                Ok(FetchedBlob::Downloaded { received: 0 })
            }
        }
    }
}
