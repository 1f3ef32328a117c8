//! The options of one output: taken one by one, and nothing may be left.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ashlar_model::media_type::Compression;
use ashlar_model::reference::Reference;

use super::{
    Destination, EpochChoice, ImageOptions, LayerOptions, OutputSpec, OutputSpecError, TimeOptions,
    suggest,
};
use crate::manifest::ManifestFormat;

const IMAGE_KEYS: [&str; 7] = [
    "name",
    "rewrite-timestamp",
    "source-date-epoch",
    "compression",
    "compression-level",
    "force-compression",
    "oci-mediatypes",
];
/// What BuildKit has besides. A `.` at the end stands for any name behind it.
const KEYS_OF_BUILDKIT: [&str; 22] = [
    "annotation.",
    "annotation-manifest.",
    "annotation-manifest-descriptor.",
    "annotation-index.",
    "annotation-index-descriptor.",
    "attestation-inline",
    "attestation-prefix",
    "buildinfo",
    "buildinfo-attrs",
    "compatibility-version",
    "context",
    "danging-name-empty-only",
    "dangling-name-prefix",
    "mode",
    "name-canonical",
    "nydus-fs-version",
    "oci-artifact",
    "platform-split",
    "prefer-nondist-layers",
    "push-by-digest",
    "store",
    "unpack",
];

/// The times that a configuration can hold: those of the years 0 to 9999.
const POSSIBLE_TIMES: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// The `key=value` pairs of a spec that nobody has taken yet.
pub(super) struct Attributes {
    values: BTreeMap<String, String>,
    asked: Vec<&'static str>,
}

impl Attributes {
    pub(super) fn read(spec: &str, fields: &[String]) -> Result<Self, OutputSpecError> {
        let mut values = BTreeMap::new();
        for field in fields {
            let Some((key, value)) = field.split_once('=') else {
                return Err(OutputSpecError::Syntax {
                    spec: spec.to_owned(),
                    reason: format!("`{field}` is not of the form key=value"),
                });
            };
            let key = key.trim().to_ascii_lowercase();
            if values.insert(key.clone(), value.to_owned()).is_some() {
                return Err(OutputSpecError::Twice(key));
            }
        }
        Ok(Self {
            values,
            asked: Vec::new(),
        })
    }

    pub(super) fn take(&mut self, key: &'static str) -> Option<String> {
        self.asked.push(key);
        self.values.remove(key)
    }

    fn bad(key: &'static str, value: String, expected: impl Into<String>) -> OutputSpecError {
        OutputSpecError::Value {
            key,
            value,
            expected: expected.into(),
        }
    }

    /// Go's `strconv.ParseBool`.
    fn flag(&mut self, key: &'static str) -> Result<Option<bool>, OutputSpecError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        match value.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
            _ => Err(Self::bad(key, value, "true or false")),
        }
    }

    pub(super) fn destination(&mut self) -> Destination {
        match self.take("dest").as_deref() {
            None | Some("" | "-") => Destination::Stdout,
            Some(path) => Destination::File(PathBuf::from(path)),
        }
    }

    pub(super) fn directory(&mut self, kind: &'static str) -> Result<PathBuf, OutputSpecError> {
        match self.take("dest").as_deref() {
            None | Some("" | "-") => Err(OutputSpecError::NoDestination(kind)),
            Some(path) => Ok(PathBuf::from(path)),
        }
    }

    pub(super) fn oci(&mut self) -> Result<OutputSpec, OutputSpecError> {
        let options = self.options(ManifestFormat::Oci)?;
        if options.format != ManifestFormat::Oci {
            return Err(Self::bad(
                "oci-mediatypes",
                "false".to_owned(),
                "true, as an OCI layout has OCI media types; type=docker has others",
            ));
        }
        if self.flag("tar")?.unwrap_or(true) {
            Ok(OutputSpec::Oci(self.destination(), options))
        } else {
            Ok(OutputSpec::OciDirectory(
                self.directory("oci,tar=false")?,
                options,
            ))
        }
    }

    pub(super) fn docker(&mut self) -> Result<OutputSpec, OutputSpecError> {
        let options = self.options(ManifestFormat::Docker)?;
        if self.flag("tar")? == Some(false) {
            return Err(Self::bad(
                "tar",
                "false".to_owned(),
                "true: a directory is made by type=oci,tar=false",
            ));
        }
        match self.take("dest").as_deref() {
            // With Docker's daemon this loads the image there; there is no daemon here.
            None | Some("") => Err(OutputSpecError::NoDestination("docker")),
            Some("-") => Ok(OutputSpec::Docker(Destination::Stdout, options)),
            Some(path) => Ok(OutputSpec::Docker(
                Destination::File(PathBuf::from(path)),
                options,
            )),
        }
    }

    pub(super) fn image(&mut self, is_registry: bool) -> Result<OutputSpec, OutputSpecError> {
        Ok(OutputSpec::Image {
            push: self.flag("push")?.unwrap_or(is_registry),
            insecure: self.flag("registry.insecure")?.unwrap_or(false),
            options: self.options(ManifestFormat::Oci)?,
        })
    }

    fn options(&mut self, usual: ManifestFormat) -> Result<ImageOptions, OutputSpecError> {
        let format = match self.flag("oci-mediatypes")? {
            None => usual,
            Some(true) => ManifestFormat::Oci,
            Some(false) => ManifestFormat::Docker,
        };
        Ok(ImageOptions {
            names: self.names()?,
            format,
            layers: self.layers()?,
            times: self.times()?,
        })
    }

    fn times(&mut self) -> Result<TimeOptions, OutputSpecError> {
        let rewrite = self.flag("rewrite-timestamp")?.unwrap_or(false);
        let epoch = match self.take("source-date-epoch") {
            None => EpochChoice::OfBuild,
            Some(text) if text.is_empty() => EpochChoice::None,
            Some(text) => match text.parse() {
                Ok(seconds) if POSSIBLE_TIMES.contains(&seconds) => EpochChoice::At(seconds),
                _ => {
                    let expected = "a number of seconds since 1970, or nothing";
                    return Err(Self::bad("source-date-epoch", text, expected));
                }
            },
        };
        Ok(TimeOptions { rewrite, epoch })
    }

    fn names(&mut self) -> Result<Vec<Reference>, OutputSpecError> {
        let Some(list) = self.take("name") else {
            return Ok(Vec::new());
        };
        let names = list
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        names
            .map(|name| {
                let reference: Reference =
                    name.parse().map_err(|source| OutputSpecError::Name {
                        name: name.to_owned(),
                        source,
                    })?;
                if reference.digest().is_some() {
                    return Err(OutputSpecError::NameWithDigest(name.to_owned()));
                }
                Ok(reference)
            })
            .collect()
    }

    fn layers(&mut self) -> Result<LayerOptions, OutputSpecError> {
        let compression = match self.take("compression") {
            None => Compression::Gzip,
            Some(value) => match value.as_str() {
                "gzip" => Compression::Gzip,
                "zstd" => Compression::Zstd,
                "uncompressed" => Compression::Uncompressed,
                _ => {
                    return Err(Self::bad(
                        "compression",
                        value,
                        "gzip, zstd or uncompressed",
                    ));
                }
            },
        };
        // The ranges are BuildKit's.
        let highest = match compression {
            Compression::Gzip => 9,
            Compression::Zstd => 22,
            Compression::Uncompressed => 0,
        };
        let level = match self.take("compression-level") {
            None => None,
            Some(value) => match value.parse::<i32>() {
                Ok(level) if (0..=highest).contains(&level) => Some(level),
                _ => {
                    return Err(Self::bad(
                        "compression-level",
                        value,
                        format!("a number from 0 to {highest} for this compression"),
                    ));
                }
            },
        };
        Ok(LayerOptions {
            compression,
            level,
            force: self.flag("force-compression")?.unwrap_or(false),
        })
    }

    /// What is left was not asked for.
    pub(super) fn finish(self, kind: &str) -> Result<(), OutputSpecError> {
        let Some(key) = self.values.into_keys().next() else {
            return Ok(());
        };
        let kind = kind.to_owned();
        let is_buildkits = KEYS_OF_BUILDKIT.iter().any(|known| {
            known
                .strip_suffix('.')
                .map_or(key == *known, |_| key.starts_with(known))
        });
        if is_buildkits {
            return Err(OutputSpecError::NotSupported { kind, key });
        }
        if IMAGE_KEYS.contains(&key.as_str()) {
            return Err(OutputSpecError::NotForType { kind, key });
        }
        let suggestion = suggest::nearest(&key, &self.asked);
        Err(OutputSpecError::UnknownKey {
            kind,
            key,
            suggestion,
        })
    }
}
