//! Store, registry client, executor and shared caches, set out together.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use ashlar_engine::driver::Built;
use ashlar_exec::executor::{BlobFetcher, LocalExecutor};
use ashlar_exec::layer::compress::default_level;
use ashlar_exec::layer::{Retimed, retimed};
use ashlar_exec::sandbox::IdChoice;
use ashlar_image::blob_source::LayerBlob;
use ashlar_image::export::{ExportImage, FilesystemStream, ImageOptions, LayerOptions};
use ashlar_image::pull::ImageFetcher;
use ashlar_image::registry::{RegistryClient, RegistryEnvironment, RegistrySettings};
use ashlar_model::config::{DateTime, ImageConfig};
use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::LayerId;
use ashlar_model::executor::{BlobForm, PackRequest, StepExecutor as _};
use ashlar_model::layer::{LayerOrigin, LayerRecord, StoredBlob, Timestamp};
use ashlar_model::reference::Reference;
use ashlar_sharing::sharing::Sharing;
use ashlar_sharing::upload::LayerTars;
use ashlar_store::home::in_use::InUse;
use ashlar_store::home::{Home, StoreError};
use tokio::runtime::Handle;

use crate::error::WorkshopError;
use crate::images::{Fetch, Library, blob};
use crate::remover::SandboxRemover;
use crate::variables::Variables;

/// Receives warnings, a line each.
pub type WarningSink = Arc<dyn Fn(&str) + Send + Sync>;

/// Makes a registry client; with `insecure`, one that trusts the registries of these names.
pub type ClientSource = Arc<dyn Fn(bool, &[Reference]) -> RegistryClient + Send + Sync>;

/// How registries are spoken to in some environment. With `tls_verify`, they have to show a
/// certificate that can be checked.
pub fn registry_settings(variables: &Variables, tls_verify: bool) -> RegistrySettings {
    RegistrySettings {
        environment: RegistryEnvironment::from_lookup(|name| variables.get(name)),
        all_insecure: !tls_verify,
        ..RegistrySettings::default()
    }
}

/// What tools are made of, beside a store.
#[derive(Clone)]
pub struct Basics {
    /// How registries are spoken to.
    pub registries: RegistrySettings,
    /// Who has blobs of images that no registry has, if anybody does.
    pub blobs: Option<Arc<dyn BlobFetcher>>,
    /// Who is told what the user should know.
    pub warnings: WarningSink,
}

impl std::fmt::Debug for Basics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Basics")
            .field("registries", &self.registries)
            .finish_non_exhaustive()
    }
}

/// The tools of one command, or of one assignment of a farm. Nothing is started and no connection made before it is needed.
#[derive(Clone)]
pub struct Workshop {
    home: Home,
    client: RegistryClient,
    registry_settings: RegistrySettings,
    fetch: Fetch,
    executor: LocalExecutor,
    sharing: Sharing,
    _in_use: Arc<InUse>,
}

impl std::fmt::Debug for Workshop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workshop")
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

impl Workshop {
    /// Sets the tools out, with the shared caches that `open` opens. Nothing is removed from the
    /// store while they are there.
    pub fn new<E: From<StoreError>>(
        home: Home,
        basics: Basics,
        open: impl FnOnce(ClientSource) -> Result<Sharing, E>,
    ) -> Result<Self, E> {
        let Basics {
            registries: registry_settings,
            blobs,
            warnings,
        } = basics;
        let in_use = Arc::new(home.in_use()?);
        home.set_remover(Arc::new(SandboxRemover::new(home.clone())));
        let client = RegistryClient::new(registry_settings.clone());
        let fetch = Fetch::new(client.clone(), home.clone(), Arc::new(|_, _| {})).or_from(blobs);
        let fetcher = Arc::new(fetch.clone());
        let sharing = {
            let (client, settings_of) = (client.clone(), registry_settings.clone());
            open(Arc::new(move |insecure: bool, names: &[Reference]| {
                client_for(&client, &settings_of, insecure, names)
            }))?
        };
        let executor = LocalExecutor::new(home.clone(), IdChoice::Best, fetcher, warnings);
        let executor = executor
            .fetching(sharing.fetcher())
            .restoring(sharing.snapshots());
        let tars: Arc<dyn LayerTars> = Arc::new(executor.clone());
        sharing.set_tars(&tars);
        Ok(Self {
            home,
            client,
            registry_settings,
            fetch,
            executor,
            sharing,
            _in_use: in_use,
        })
    }

    /// The shared caches.
    pub const fn sharing(&self) -> &Sharing {
        &self.sharing
    }

    /// The local store.
    pub const fn home(&self) -> &Home {
        &self.home
    }

    /// Where steps and containers run.
    pub const fn executor(&self) -> &LocalExecutor {
        &self.executor
    }

    /// The images that can be had.
    pub fn library(&self, pull: bool, now: Timestamp) -> Library {
        let fetcher = ImageFetcher::new(self.client.clone(), self.home.clone());
        Library::new(self.home.clone(), fetcher, pull, now)
    }

    /// A registry client; with `insecure`, one that trusts the registries of these names.
    pub fn client(&self, insecure: bool, names: &[Reference]) -> RegistryClient {
        client_for(&self.client, &self.registry_settings, insecure, names)
    }

    /// An image in the form that an exporter takes. With `here`, all layers' blobs are in the
    /// store; without, those of base images may be missing.
    pub async fn export_image(
        &self,
        built: &Built,
        options: &ImageOptions,
        here: bool,
    ) -> Result<ExportImage, WorkshopError> {
        let epoch = options.times.epoch(built.epoch);
        let mut config = built.config.clone();
        if let Some(epoch) = epoch {
            bound_history(&mut config, built.inherited_history, epoch);
        }
        let mut layers = Vec::with_capacity(built.layers.len());
        for (number, layer) in built.layers.iter().enumerate() {
            let is_own = layer.origin.is_of_step();
            match epoch.filter(|_| is_own && options.times.rewrite) {
                Some(epoch) => {
                    let retimed = self.retimed(layer, options.layers, epoch).await?;
                    if let Some(diff_id) = config.rootfs.diff_ids.get_mut(number) {
                        *diff_id = retimed.diff_id;
                    }
                    layers.push(self.blob_of(layer, retimed.blob));
                }
                None => layers.push(self.layer_blob(layer, options.layers, here).await?),
            }
        }
        Ok(ExportImage::new(
            options.format,
            &config,
            layers,
            options.names.clone(),
        ))
    }

    /// A layer with no time after `latest`.
    async fn retimed(
        &self,
        layer: &LayerRecord,
        options: LayerOptions,
        latest: i64,
    ) -> Result<Retimed, WorkshopError> {
        let form = blob_form(&options);
        let made = self.blob_in_form(layer, form, true).await?;
        let made =
            made.ok_or_else(|| WorkshopError::bug(format!("layer {} has no blob", layer.id)))?;
        let (home, path) = (
            self.home.clone(),
            self.home.blobs().path(&made.descriptor.digest),
        );
        let work = tokio::task::spawn_blocking(move || retimed(&home, &path, latest, form));
        let done = work
            .await
            .map_err(|error| WorkshopError::bug(error.to_string()))?;
        done.map_err(|error| {
            WorkshopError::environment(format!("cannot rewrite the times of layer {}", layer.id))
                .caused_by(error)
        })
    }

    async fn layer_blob(
        &self,
        layer: &LayerRecord,
        options: LayerOptions,
        here: bool,
    ) -> Result<LayerBlob, WorkshopError> {
        let form = blob_form(&options);
        let as_it_came = matches!(layer.origin, LayerOrigin::Image { .. }) && !options.force;
        let made = if as_it_came {
            // A base image's layers keep the form in which they came, unless told otherwise.
            layer.blobs.first().cloned()
        } else {
            self.blob_in_form(layer, form, here).await?
        };
        let StoredBlob { descriptor, .. } = made.ok_or_else(|| {
            WorkshopError::bug(format!("layer {} has no blob to export", layer.id))
        })?;
        if here && as_it_came && !blob::is_whole(&self.home, &descriptor).await? {
            let repositories = match &layer.origin {
                LayerOrigin::Image { repositories } => repositories.as_slice(),
                LayerOrigin::Step | LayerOrigin::Shared { .. } => &[],
            };
            let fetched = self.fetch.blob(&descriptor, repositories).await;
            fetched?;
        }
        Ok(self.blob_of(layer, descriptor))
    }

    /// A layer's blob in some form, made anew if it is not here. One that is to be exported is
    /// hashed first; one that is pushed only if it has to be sent.
    async fn blob_in_form(
        &self,
        layer: &LayerRecord,
        form: BlobForm,
        here: bool,
    ) -> Result<Option<StoredBlob>, WorkshopError> {
        if let Some(made) = layer.blob(form) {
            let blob = &made.descriptor;
            let usable = if here {
                blob::is_whole(&self.home, blob).await?
            } else {
                // One of a layer that another machine made is made when it has to be sent.
                matches!(layer.origin, LayerOrigin::Shared { .. }) || self.home.blobs().has(blob)
            };
            if usable {
                return Ok(Some(made.clone()));
            }
        }
        let wanted = PackRequest {
            diff_id: true,
            blobs: vec![form],
        };
        let packed = self.executor.pack(layer.id, Vec::new(), wanted).await;
        Ok(packed?.blob(form).cloned())
    }

    /// A layer's blob, to be read by an exporter or a push.
    pub fn blob_of(&self, layer: &LayerRecord, descriptor: Descriptor) -> LayerBlob {
        blob::layer_blob(&self.home, &self.fetch, &self.executor, layer, descriptor)
    }

    /// The files of an image. Must be read beside the runtime, not on it.
    pub fn filesystem(&self, layers: &[LayerRecord]) -> RootFiles {
        RootFiles {
            executor: self.executor.clone(),
            layers: layers.iter().map(|layer| layer.id).collect(),
            home: self.home.clone(),
            runtime: Handle::current(),
        }
    }
}

fn client_for(
    client: &RegistryClient,
    settings: &RegistrySettings,
    insecure: bool,
    names: &[Reference],
) -> RegistryClient {
    if !insecure {
        return client.clone();
    }
    let mut settings = settings.clone();
    settings
        .insecure
        .extend(names.iter().map(|name| name.registry().to_owned()));
    RegistryClient::new(settings)
}

/// Bounds the times of what an image's own instructions did; those of its base stay.
fn bound_history(config: &mut ImageConfig, inherited: usize, latest: i64) {
    let latest = DateTime::new(latest, 0);
    let own = config.history.iter_mut().skip(inherited);
    for time in own
        .map(|entry| &mut entry.created)
        .chain([&mut config.created])
    {
        *time = Some(time.map_or(latest, |time| time.min(latest)));
    }
}

/// The form of blobs that an output's options ask for.
pub fn blob_form(options: &LayerOptions) -> BlobForm {
    BlobForm {
        compression: options.compression,
        level: options
            .level
            .unwrap_or_else(|| default_level(options.compression)),
    }
}

/// The merged filesystem of an image, as the sandbox reads it.
#[derive(Debug)]
pub struct RootFiles {
    executor: LocalExecutor,
    layers: Vec<LayerId>,
    home: Home,
    runtime: Handle,
}

impl FilesystemStream for RootFiles {
    fn write_tar(&mut self, sink: &mut dyn std::io::Write) -> std::io::Result<()> {
        let scratch = self.home.scratch().map_err(std::io::Error::other)?;
        let fifo: PathBuf = scratch.path().join("files");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )?;
        let (executor, layers, path) = (self.executor.clone(), self.layers.clone(), fifo.clone());
        let export = ashlar_engine::task::spawn_on(&self.runtime, async move {
            let outcome = executor.export(&layers, path.clone()).await;
            // If the sandbox failed before it opened the fifo, nobody else will: let the reader
            // see the end.
            drop(
                std::fs::OpenOptions::new()
                    .write(true)
                    .custom_flags(nonblocking())
                    .open(&path),
            );
            outcome
        });
        let copied =
            std::fs::File::open(&fifo).and_then(|mut tar| std::io::copy(&mut tar, sink).map(drop));
        let exported = self.runtime.block_on(export);
        drop(std::fs::remove_dir_all(scratch.path()));
        copied?;
        match exported {
            Ok(outcome) => outcome.map_err(std::io::Error::other),
            Err(error) => Err(std::io::Error::other(error)),
        }
    }
}

fn nonblocking() -> i32 {
    i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default()
}
