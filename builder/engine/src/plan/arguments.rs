//! Build arguments outside of stages: automatic ones, global ARGs, proxies.

use std::collections::BTreeMap;

use ashlar_model::platform::Platform;

use super::error::PlanError;
use super::options::PlanOptions;
use crate::dockerfile::Dockerfile;
use crate::dockerfile::expand::Expander;

/// Arguments that reach RUN without being declared, and that no key and no history holds.
const PROXIES: [&str; 5] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// Build arguments that steer the builder and are never part of an environment.
const BUILDER_ARGUMENTS: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Whether an argument steers the builder, and is never part of an environment.
pub(super) fn is_for_builder(name: &str) -> bool {
    BUILDER_ARGUMENTS.contains(&name)
}

/// The arguments that FROM sees, and that a stage inherits by declaring them without a value.
#[derive(Debug, Clone)]
pub struct Globals {
    values: BTreeMap<String, String>,
}

impl Globals {
    /// Evaluates the global ARGs of a Dockerfile.
    pub(super) fn new(dockerfile: &Dockerfile, options: &PlanOptions) -> Result<Self, PlanError> {
        Self::evaluate(dockerfile, options, &options.build_args)
    }

    /// What they would be if no build argument were given for them. The automatic ones are those
    /// of this build.
    pub(super) fn of_defaults(
        dockerfile: &Dockerfile,
        options: &PlanOptions,
    ) -> Result<Self, PlanError> {
        Self::evaluate(dockerfile, options, &BTreeMap::new())
    }

    fn evaluate(
        dockerfile: &Dockerfile,
        options: &PlanOptions,
        build_args: &BTreeMap<String, String>,
    ) -> Result<Self, PlanError> {
        let expander = Expander::new(dockerfile.directives.escape);
        let mut values = automatic(dockerfile, options);
        for instruction in &dockerfile.global_args {
            for declaration in &instruction.kind.declarations {
                let value = if let Some(value) = build_args.get(&declaration.name) {
                    Some(value.clone())
                } else if let Some(default) = &declaration.default {
                    let expanded = expander.process_word(default, &values).map_err(|error| {
                        PlanError::from(error).within(&dockerfile.source, instruction)
                    })?;
                    Some(expanded.text)
                } else {
                    None
                };
                if let Some(value) = value {
                    values.insert(declaration.name.clone(), value);
                }
            }
        }
        Ok(Self { values })
    }

    /// A global argument that has a value.
    pub fn get(&self, name: &str) -> Option<&String> {
        self.values.get(name)
    }

    /// Sets an argument, or takes it away.
    pub(super) fn set(&mut self, name: &str, value: Option<String>) {
        match value {
            Some(value) => self.values.insert(name.to_owned(), value),
            None => self.values.remove(name),
        };
    }

    /// All of them, for expansion.
    pub(crate) const fn values(&self) -> &BTreeMap<String, String> {
        &self.values
    }
}

/// The automatic arguments; a build argument of the same name overrides each.
fn automatic(dockerfile: &Dockerfile, options: &PlanOptions) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (prefix, platform) in [
        ("TARGET", &options.platform),
        ("BUILD", &options.build_platform),
    ] {
        let Platform { os, arch, variant } = platform;
        values.insert(format!("{prefix}PLATFORM"), platform.to_string());
        values.insert(format!("{prefix}OS"), os.clone());
        values.insert(format!("{prefix}OSVERSION"), String::new());
        values.insert(format!("{prefix}ARCH"), arch.clone());
        values.insert(
            format!("{prefix}VARIANT"),
            variant.clone().unwrap_or_default(),
        );
    }
    let target = options.target.as_deref().filter(|name| !name.is_empty());
    let target = target
        .or_else(|| dockerfile.stages.last()?.name())
        .unwrap_or("default");
    values.insert("TARGETSTAGE".to_owned(), target.to_owned());
    for (name, value) in &mut values {
        if let Some(given) = options.build_args.get(name) {
            value.clone_from(given);
        }
    }
    values
}

/// The proxy settings among the build arguments, in both spellings, sorted.
pub(super) fn proxies(options: &PlanOptions) -> Vec<(String, String)> {
    let mut found = BTreeMap::new();
    for (name, value) in &options.build_args {
        let upper = name.to_ascii_uppercase();
        if PROXIES.contains(&upper.as_str()) {
            found.insert(upper.to_ascii_lowercase(), value.clone());
            found.insert(upper, value.clone());
        }
    }
    found.into_iter().collect()
}
