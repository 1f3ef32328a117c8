//! Where a built image goes.

use std::sync::Arc;

use ashlar_engine::driver::Built;
use ashlar_engine::event::{BuildEvent, EventSink, VertexId};
use ashlar_image::export::{
    Destination, ExportError, ExportImage, ImageOptions, LayerOptions, OutputSpec, TimeOptions,
    docker_archive, local, oci_layout, registry, tar,
};
use ashlar_image::manifest::ManifestFormat;
use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::BlobDigest;
use ashlar_model::executor::BlobForm;
use ashlar_model::reference::Reference;
use ashlar_remote::client::image::ImageOutcome;
use ashlar_remote::client::{FarmRunner, output_event};
use ashlar_remote::order::Push;
use ashlar_store::home::images::ImageRecord;

use crate::cli::build::BuildArgs;
use crate::commands::farm::{image_failure, to_cli_error};
use crate::diagnostics::CliError;
use crate::failure::registry_to_cli_error;
use crate::settings::Settings;
use crate::workshop::{Workshop, blob_form};

/// The outputs of one build.
#[derive(Debug)]
pub(super) struct Outputs {
    specs: Vec<OutputSpec>,
    tags: Vec<Reference>,
}

/// What came of the outputs.
#[derive(Debug)]
pub(super) struct Delivered {
    /// Digest of the configuration.
    pub(super) image_id: BlobDigest,
    /// The manifest, if one was made.
    pub(super) manifest: Option<Descriptor>,
    /// Names that the image was given.
    pub(super) names: Vec<Reference>,
    /// Whether an output was written to standard output.
    pub(super) stdout_is_taken: bool,
}

impl Outputs {
    /// Reads `--output`, `--push` and `--tag`. A name that an output lacks is the tag's.
    pub(super) fn parse(args: &BuildArgs) -> Result<Self, CliError> {
        let mut specs = Vec::with_capacity(args.outputs.len());
        for text in &args.outputs {
            let spec: OutputSpec = text
                .parse()
                .map_err(|error| CliError::usage(format!("--output {text}")).caused_by(error))?;
            specs.push(spec);
        }
        let tags = args.tags.clone();
        for spec in &mut specs {
            match spec {
                OutputSpec::Oci(_, options)
                | OutputSpec::OciDirectory(_, options)
                | OutputSpec::Docker(_, options)
                | OutputSpec::Image { options, .. }
                    if options.names.is_empty() =>
                {
                    options.names.clone_from(&tags);
                }
                _ => {}
            }
            if let OutputSpec::Image { push, options, .. } = spec {
                *push |= args.push;
                if options.names.is_empty() {
                    return Err(CliError::usage("an output of type=image needs a name")
                        .hint("give name=NAME in the output, or --tag NAME"));
                }
            }
        }
        let has_image = specs
            .iter()
            .any(|spec| matches!(spec, OutputSpec::Image { .. }));
        if args.push && !has_image {
            specs.push(OutputSpec::Image {
                push: true,
                insecure: false,
                options: ImageOptions {
                    names: tags.clone(),
                    format: ManifestFormat::Oci,
                    layers: LayerOptions::default(),
                    times: TimeOptions::default(),
                },
            });
        }
        let on_stdout = specs.iter().filter(|spec| writes_to_stdout(spec)).count();
        if on_stdout > 1 {
            return Err(CliError::usage("only one output can go to standard output"));
        }
        refuse_same_place(&specs)?;
        Ok(Self { specs, tags })
    }

    /// The names that the image is pushed under.
    pub(super) fn pushed_names(&self) -> Vec<Reference> {
        let pushes = self.specs.iter().filter_map(|spec| match spec {
            OutputSpec::Image {
                push: true,
                options,
                ..
            } => Some(&options.names),
            _ => None,
        });
        pushes.flatten().cloned().collect()
    }

    /// The compressed forms of layers that the outputs need here: what a farm pushes it compresses
    /// itself.
    pub(super) fn blob_forms(&self, on_farm: bool) -> Vec<BlobForm> {
        let mut forms = Vec::new();
        let here = self
            .specs
            .iter()
            .filter(|spec| !on_farm || !matches!(spec, OutputSpec::Image { .. }));
        for options in here.filter_map(layer_options) {
            let form = blob_form(&options);
            if !forms.contains(&form) {
                forms.push(form);
            }
        }
        forms
    }

    /// Whether an output reads the blobs of all layers. A push reads those that the registry lacks.
    pub(super) fn read_blobs(&self) -> bool {
        let mut options = self
            .specs
            .iter()
            .filter(|spec| layer_options(spec).is_some());
        options.any(|spec| !matches!(spec, OutputSpec::Image { .. }))
    }

    /// What a farm is to push.
    pub(super) fn pushes(&self) -> Vec<Push> {
        let pushes = self.specs.iter().filter_map(|spec| match spec {
            OutputSpec::Image {
                push: true,
                insecure,
                options,
            } => Some(Push {
                insecure: *insecure,
                options: options.clone(),
            }),
            _ => None,
        });
        pushes.collect()
    }

    /// Whether something is to come here: an output, or a name in the local store.
    pub(super) fn are_here(&self) -> bool {
        let is_push = |spec: &OutputSpec| matches!(spec, OutputSpec::Image { push: true, .. });
        !self.specs.iter().all(is_push) || self.specs.is_empty() && !self.tags.is_empty()
    }

    /// How many vertices the outputs announce.
    pub(super) fn vertices(&self) -> u32 {
        u32::try_from(self.specs.len()).unwrap_or(u32::MAX / 2)
    }

    /// Sends the image where it is to go. A farm that has built it pushes it.
    pub(super) async fn deliver(
        &self,
        built: &Built,
        (workshop, farm): (&Workshop, Option<&FarmRunner>),
        settings: &Settings,
        events: &Arc<dyn EventSink>,
    ) -> Result<Delivered, CliError> {
        let config = built.config.to_vec();
        let image_id = BlobDigest::of(&config);
        let delivery = Delivery {
            built,
            config,
            workshop,
            farm,
            settings,
            events,
        };
        let mut delivered = Delivered {
            image_id,
            manifest: None,
            names: Vec::new(),
            stdout_is_taken: self.specs.iter().any(writes_to_stdout),
        };
        if self.specs.is_empty() && !self.tags.is_empty() {
            delivery.store(&self.tags)?;
            delivered.names.clone_from(&self.tags);
        }
        let mut vertex = VertexId(built.vertices);
        for spec in &self.specs {
            vertex = VertexId(vertex.0 + 1);
            let started = std::time::Instant::now();
            events.emit(BuildEvent::Announced {
                vertex,
                name: spec_name(spec).into(),
            });
            events.emit(BuildEvent::Started { vertex });
            let outcome = self.one(spec, &delivery, &mut delivered, vertex).await;
            let elapsed = started.elapsed();
            events.emit(match &outcome {
                Ok(()) => BuildEvent::Finished { vertex, elapsed },
                Err(error) => BuildEvent::Failed {
                    vertex,
                    elapsed,
                    error: error.message().into(),
                },
            });
            outcome?;
        }
        Ok(delivered)
    }

    async fn one(
        &self,
        spec: &OutputSpec,
        delivery: &Delivery<'_>,
        delivered: &mut Delivered,
        vertex: VertexId,
    ) -> Result<(), CliError> {
        let Delivery {
            built,
            workshop,
            events,
            ..
        } = *delivery;
        match spec {
            OutputSpec::Oci(destination, options) => {
                let image = workshop.export_image(built, options, true).await?;
                delivered.note(&image);
                let destination = destination.clone();
                blocking(move || oci_layout::write_tar(&image, &destination)).await
            }
            OutputSpec::OciDirectory(directory, options) => {
                let image = workshop.export_image(built, options, true).await?;
                delivered.note(&image);
                let directory = directory.clone();
                blocking(move || oci_layout::write_directory(&image, &directory)).await
            }
            OutputSpec::Docker(destination, options) => {
                let image = workshop.export_image(built, options, true).await?;
                delivered.note(&image);
                let destination = destination.clone();
                blocking(move || docker_archive::write(&image, &destination)).await
            }
            OutputSpec::Local(directory) => {
                let mut files = workshop.filesystem(&built.layers);
                let directory = directory.clone();
                let export = blocking(move || local::write(&mut files, &directory)).await?;
                for skipped in export.skipped {
                    events.emit(BuildEvent::Warning {
                        message: skipped.into(),
                    });
                }
                Ok(())
            }
            OutputSpec::Tar(destination) => {
                let mut files = workshop.filesystem(&built.layers);
                let destination = destination.clone();
                blocking(move || tar::write(&mut files, &destination)).await
            }
            OutputSpec::Image {
                push,
                insecure,
                options,
            } => {
                delivery.store(&options.names)?;
                delivered.names.extend(options.names.iter().cloned());
                if *push && let Some(farm) = delivery.farm {
                    let push = Push {
                        insecure: *insecure,
                        options: options.clone(),
                    };
                    return delivery.push_by_farm(farm, push, delivered, vertex).await;
                }
                if *push {
                    let client = workshop.client(*insecure, &options.names);
                    let image = workshop.export_image(built, options, false).await?;
                    delivered.note(&image);
                    registry::push(&client, &image, None)
                        .await
                        .map_err(registry_to_cli_error)?;
                }
                Ok(())
            }
        }
    }
}

/// What is delivered, and with what.
struct Delivery<'a> {
    built: &'a Built,
    config: Vec<u8>,
    workshop: &'a Workshop,
    farm: Option<&'a FarmRunner>,
    settings: &'a Settings,
    events: &'a Arc<dyn EventSink>,
}

impl Delivery<'_> {
    /// Has a worker of the farm send the image: its layers do not come here.
    async fn push_by_farm(
        &self,
        farm: &FarmRunner,
        push: Push,
        delivered: &mut Delivered,
        vertex: VertexId,
    ) -> Result<(), CliError> {
        let events = Arc::clone(self.events);
        let told = Arc::new(move |event| {
            if let Some(event) = output_event(event, vertex) {
                events.emit(event);
            }
        });
        let names = push.options.names.clone();
        let outcome = farm.deliver(self.built, &[push], told).await;
        match outcome.map_err(to_cli_error)? {
            ImageOutcome::Failed(failure) => Err(image_failure(failure)),
            ImageOutcome::Made(image) => {
                if delivered.manifest.is_none() {
                    delivered.manifest = image.manifest;
                    // The output may have bounded the times of the configuration.
                    delivered.image_id = image.id;
                }
                for name in names {
                    if !delivered.names.contains(&name) {
                        delivered.names.push(name);
                    }
                }
                Ok(())
            }
        }
    }

    /// Keeps the image in the local store.
    fn store(&self, names: &[Reference]) -> Result<(), CliError> {
        let home = self.workshop.home();
        let digest = home.blobs().put(&self.config)?;
        let size = self.config.len() as u64;
        let config = Descriptor::new(ashlar_model::media_type::OCI_CONFIG, digest, size);
        for name in names {
            home.put_image(&ImageRecord {
                reference: name.clone(),
                config: config.clone(),
                manifest: None,
                platform: self.built.platform.clone(),
                layers: self.built.layers.iter().map(|layer| layer.id).collect(),
                tagged: self.settings.clock().now(),
            })?;
        }
        Ok(())
    }
}

impl Delivered {
    fn note(&mut self, image: &ExportImage) {
        if self.manifest.is_none() {
            self.manifest = Some(image.manifest.clone());
            // An output may have bounded the times of the configuration.
            self.image_id = image.config.digest;
        }
        for name in &image.names {
            if !self.names.contains(name) {
                self.names.push(name.clone());
            }
        }
    }
}

/// Work that blocks, beside the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ExportError> + Send + 'static,
) -> Result<T, CliError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) if error.is_broken_pipe() => Err(CliError::new(
            crate::diagnostics::ErrorKind::BrokenPipe,
            "nobody reads the output",
        )),
        Ok(Err(error)) => Err(CliError::of(
            crate::diagnostics::ErrorKind::Environment,
            error,
        )),
        Err(error) => Err(CliError::bug(error.to_string())),
    }
}

fn writes_to_stdout(spec: &OutputSpec) -> bool {
    matches!(
        spec,
        OutputSpec::Oci(Destination::Stdout, _)
            | OutputSpec::Docker(Destination::Stdout, _)
            | OutputSpec::Tar(Destination::Stdout)
    )
}

/// Two outputs to one place: the later would overwrite the earlier.
fn refuse_same_place(specs: &[OutputSpec]) -> Result<(), CliError> {
    let place = |spec: &OutputSpec| match spec {
        OutputSpec::Oci(Destination::File(path), _)
        | OutputSpec::Docker(Destination::File(path), _)
        | OutputSpec::Tar(Destination::File(path))
        | OutputSpec::OciDirectory(path, _)
        | OutputSpec::Local(path) => std::path::absolute(path).ok(),
        _ => None,
    };
    let mut places = Vec::new();
    for path in specs.iter().filter_map(place) {
        // Devices and pipes take one thing after the other.
        let takes_many = path.exists() && !path.is_file() && !path.is_dir();
        if !takes_many && places.contains(&path) {
            return Err(CliError::usage(format!(
                "two outputs go to {}",
                path.display()
            )));
        }
        places.push(path);
    }
    Ok(())
}

fn layer_options(spec: &OutputSpec) -> Option<LayerOptions> {
    match spec {
        OutputSpec::Oci(_, options)
        | OutputSpec::OciDirectory(_, options)
        | OutputSpec::Docker(_, options)
        | OutputSpec::Image {
            options,
            push: true,
            ..
        } => Some(options.layers),
        OutputSpec::Image { push: false, .. } | OutputSpec::Local(_) | OutputSpec::Tar(_) => None,
    }
}

/// How progress displays call an output.
fn spec_name(spec: &OutputSpec) -> String {
    let at = |destination: &Destination| match destination {
        Destination::File(path) => path.display().to_string(),
        Destination::Stdout => "standard output".to_owned(),
    };
    match spec {
        OutputSpec::Oci(destination, _) => {
            format!("exporting to OCI archive {}", at(destination))
        }
        OutputSpec::OciDirectory(path, _) => {
            format!("exporting to OCI layout {}", path.display())
        }
        OutputSpec::Docker(destination, _) => {
            format!("exporting to docker archive {}", at(destination))
        }
        OutputSpec::Local(path) => format!("copying files to {}", path.display()),
        OutputSpec::Tar(destination) => format!("sending tarball to {}", at(destination)),
        OutputSpec::Image { push, options, .. } => {
            let names: Vec<String> = options.names.iter().map(ToString::to_string).collect();
            let verb = if *push { "pushing" } else { "naming" };
            format!("{verb} {}", names.join(", "))
        }
    }
}
