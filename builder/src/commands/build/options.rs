//! The command line, as options of the engine.

use std::collections::BTreeMap;

use ashlar_engine::plan::{Allowed, NamedContext, PlanOptions};
use ashlar_image::pull::ImageSource;
use ashlar_model::platform::Platform;

use super::emulation;
use crate::cli::build::BuildArgs;
use crate::cli::value::{ContextSource, Entitlement};
use crate::diagnostics::CliError;
use crate::settings::Settings;
use crate::settings::env::PROXY_VARIABLES;

/// The variable that dates a build, of the environment and of the Dockerfile alike.
const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The frontend that a build argument names.
pub(super) fn frontend(options: &PlanOptions) -> Option<&str> {
    options
        .build_args
        .get("BUILDKIT_SYNTAX")
        .map(String::as_str)
}

pub(super) fn plan_options(args: &BuildArgs, settings: &Settings) -> Result<PlanOptions, CliError> {
    let environment = settings.environment();
    let mut build_args = BTreeMap::new();
    // Proxies of the environment reach RUN as they do with Docker's client.
    for name in PROXY_VARIABLES {
        if let Some(value) = environment.text(name) {
            build_args.insert(name.to_owned(), value.to_owned());
        }
    }
    for arg in &args.build_args {
        let value = match &arg.value {
            Some(value) => Some(value.clone()),
            None => match environment.lookup(&arg.name) {
                None => None,
                Some(value) => Some(value.to_str().map(str::to_owned).ok_or_else(|| {
                    CliError::usage(format!(
                        "--build-arg {}: the variable's value is not UTF-8",
                        arg.name
                    ))
                })?),
            },
        };
        if let Some(value) = value {
            build_args.insert(arg.name.clone(), value);
        }
    }
    // As Docker's clients pass it on.
    if let Some(epoch) = environment.source_date_epoch() {
        build_args
            .entry(SOURCE_DATE_EPOCH.to_owned())
            .or_insert_with(|| epoch.to_owned());
    }
    let contexts = args.build_contexts.iter().map(|context| {
        let source = match &context.source {
            ContextSource::Directory(path) => NamedContext::Directory(path.clone()),
            ContextSource::Remote(remote) => NamedContext::Remote(remote.clone()),
            ContextSource::Image(ImageSource::Registry(reference)) => {
                NamedContext::Image(reference.clone())
            }
            ContextSource::Image(ImageSource::Layout(layout)) => NamedContext::OciLayout {
                directory: layout.directory.clone(),
                selector: layout
                    .digest
                    .map(|digest| digest.to_string())
                    .or_else(|| layout.tag.clone()),
            },
        };
        (context.name.to_ascii_lowercase(), source)
    });
    let build_platform = Platform::host();
    Ok(PlanOptions {
        target: args.target.clone(),
        build_args,
        labels: args
            .labels
            .iter()
            .map(|label| (label.name.clone(), label.value.clone()))
            .collect(),
        platform: args
            .platform
            .clone()
            .unwrap_or_else(|| build_platform.clone()),
        implicit_platform: args.platform.is_none(),
        emulated: emulation::platforms(&build_platform),
        build_platform,
        contexts: contexts.collect(),
        network: args.network,
        extra_hosts: args.add_hosts.clone(),
        shm_size: args.shm_size.map(|size| size.0).filter(|size| *size > 0),
        ulimits: args.ulimits.clone(),
        allowed: Allowed {
            insecure: args.allowed.contains(&Entitlement::SecurityInsecure),
            host_network: args.allowed.contains(&Entitlement::NetworkHost),
        },
    })
}
