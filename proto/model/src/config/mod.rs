//! The OCI image configuration: what a container of the image is started with, and how the image
//! came about.
//!
//! Field names are those of the OCI image specification (`config.md`) with the Docker extensions
//! that BuildKit keeps (`ArgsEscaped`, `Healthcheck`, `OnBuild`, `Shell`).
//!
//! # Invariants
//!
//! - The writer is a pure function of the value: struct order for fields, bytewise order for map
//!   keys, nothing written for what is empty. Equal configurations give equal digests.
//! - The reader is tolerant: a `null` is as good as an absent field, and unknown keys are dropped,
//!   as BuildKit drops those of a base image.

mod container;
mod history;
mod lenient;
mod time;

use crate::digest::DiffId;
use crate::platform::Platform;
use serde::{Deserialize, Serialize};

pub use container::{ContainerConfig, Healthcheck};
pub use history::HistoryEntry;
pub use time::DateTime;

/// Largest configuration that is read, in bytes. The largest that the public registries hold have
/// some hundred kilobytes; the limit bounds what a hostile one can make us keep in memory.
pub const MAX_CONFIG_SIZE: u64 = 8 * 1024 * 1024;

/// An image configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made.
    #[serde(
        default,
        deserialize_with = "time::tolerant",
        skip_serializing_if = "Option::is_none"
    )]
    pub created: Option<DateTime>,
    /// Who made it (MAINTAINER).
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub author: String,
    /// Processor in GOARCH words.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub architecture: String,
    /// Variant of the processor, such as `v7`.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub variant: String,
    /// Operating system in GOOS words.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub os: String,
    /// Version of the operating system; Windows only.
    #[serde(
        rename = "os.version",
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
    /// What the image needs of the operating system; Windows only.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// What containers are started with.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub config: ContainerConfig,
    /// The layers.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub rootfs: RootFilesystem,
    /// What made the layers, oldest first.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub history: Vec<HistoryEntry>,
}

/// The layers of an image by the digests of their uncompressed tars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFilesystem {
    /// Always `layers`.
    #[serde(
        rename = "type",
        default = "layers",
        deserialize_with = "lenient::or_default"
    )]
    pub kind: String,
    /// One for each layer, bottom first.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub diff_ids: Vec<DiffId>,
}

fn layers() -> String {
    "layers".to_owned()
}

impl Default for RootFilesystem {
    fn default() -> Self {
        Self {
            kind: layers(),
            diff_ids: Vec::new(),
        }
    }
}

/// A text is no image configuration.
#[derive(Debug, thiserror::Error)]
pub enum ReadConfigError {
    /// It is no JSON, or a field has the wrong type.
    #[error("the image configuration cannot be understood")]
    Json(#[source] serde_json::Error),
    /// It has more bytes than any real one.
    #[error("the image configuration has {0} bytes, more than the {MAX_CONFIG_SIZE} allowed")]
    TooLarge(u64),
}

impl ImageConfig {
    /// An empty configuration for a platform, as `FROM scratch` starts with.
    pub fn new(platform: &Platform) -> Self {
        Self {
            architecture: platform.arch.clone(),
            variant: platform.variant.clone().unwrap_or_default(),
            os: platform.os.clone(),
            ..Self::default()
        }
    }

    /// Reads the JSON form.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, ReadConfigError> {
        if bytes.len() as u64 > MAX_CONFIG_SIZE {
            return Err(ReadConfigError::TooLarge(bytes.len() as u64));
        }
        // An array would do for a structure all of whose fields have defaults.
        if bytes
            .trim_ascii_start()
            .first()
            .is_some_and(|first| *first != b'{')
        {
            let error = serde::de::Error::custom("it is no JSON object");
            return Err(ReadConfigError::Json(error));
        }
        serde_json::from_slice(bytes).map_err(ReadConfigError::Json)
    }

    /// The JSON form, compact. The bytes are the image's identity: its ID is their digest.
    pub fn to_vec(&self) -> Vec<u8> {
        // Maps have string keys and nothing here can refuse to be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What the image runs on, normalised.
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, Some(&self.variant))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_written_in_the_documented_order() {
        let mut config = ImageConfig::new(&Platform::new("linux", "arm", Some("v7")));
        config.created = Some("2026-11-23T08:00:00Z".parse().unwrap());
        config.author = "me".into();
        config.config.user = "app".into();
        config.config.env = vec!["PATH=/bin".into()];
        config.config.cmd = Some(vec!["sh".into()]);
        config.config.exposed_ports.insert("80/tcp".into());
        config.rootfs.diff_ids = vec![DiffId::of(b"layer")];
        config.history.push(HistoryEntry {
            created_by: "ENV PATH=/bin".into(),
            empty_layer: true,
            ..HistoryEntry::default()
        });
        let expected = format!(
            concat!(
                r#"{{"created":"2026-11-23T08:00:00Z","author":"me","architecture":"arm","#,
                r#""variant":"v7","os":"linux","config":{{"User":"app","#,
                r#""ExposedPorts":{{"80/tcp":{{}}}},"Env":["PATH=/bin"],"Cmd":["sh"]}},"#,
                r#""rootfs":{{"type":"layers","diff_ids":["{}"]}},"#,
                r#""history":[{{"created_by":"ENV PATH=/bin","empty_layer":true}}]}}"#
            ),
            DiffId::of(b"layer")
        );
        assert_eq!(String::from_utf8(config.to_vec()).unwrap(), expected);
    }

    #[test]
    fn nulls_and_unknown_keys_do_not_matter() {
        let text = br#"{"created":null,"author":null,"architecture":"amd64","os":"linux",
            "os.version":null,"os.features":null,"moby.buildkit.cache.v0":"AAAA","container":"x",
            "config":{"Hostname":"h","Env":null,"Cmd":null,"Labels":null,"Volumes":null,
                      "ExposedPorts":null,"Healthcheck":null,"ArgsEscaped":null,"User":null},
            "rootfs":{"type":"layers","diff_ids":null},"history":[{"created":null}]}"#;
        let config = ImageConfig::from_slice(text).unwrap();
        assert_eq!(config.config, ContainerConfig::default());
        assert_eq!(config.rootfs, RootFilesystem::default());
        assert_eq!(config.history, [HistoryEntry::default()]);
        let minimal = ImageConfig::from_slice(br#"{"config":null,"rootfs":null}"#).unwrap();
        assert_eq!(minimal, ImageConfig::default());
    }

    #[test]
    fn a_time_nobody_can_read_is_as_good_as_none() {
        let config = ImageConfig::from_slice(br#"{"created":"yesterday"}"#).unwrap();
        assert_eq!(config.created, None);
    }

    #[test]
    fn text_that_is_no_configuration_is_refused() {
        for text in ["", "[]", "{", r#"{"rootfs":{"diff_ids":["sha256:12"]}}"#] {
            let error = ImageConfig::from_slice(text.as_bytes()).unwrap_err();
            assert!(matches!(error, ReadConfigError::Json(_)), "{text}");
        }
        let vast = vec![b' '; usize::try_from(MAX_CONFIG_SIZE).unwrap() + 1];
        assert!(matches!(
            ImageConfig::from_slice(&vast),
            Err(ReadConfigError::TooLarge(_))
        ));
    }

    #[test]
    fn the_platform_is_normalised() {
        let config =
            ImageConfig::from_slice(br#"{"os":"linux","architecture":"aarch64","variant":"v8"}"#)
                .unwrap();
        assert_eq!(config.platform().to_string(), "linux/arm64");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            env in prop::collection::vec("[A-Z]{1,8}=.{0,20}", 0..4),
            labels in prop::collection::btree_map("[a-z.]{1,12}", ".{0,20}", 0..4),
            command in prop::option::of(prop::collection::vec(".{0,12}", 0..3)),
            seconds in 0..4_000_000_000_i64,
            nanoseconds in 0..1_000_000_000_u32,
        ) {
            let mut config = ImageConfig::new(&Platform::new("linux", "amd64", None));
            config.created = Some(DateTime::new(seconds, nanoseconds));
            config.config.env = env;
            config.config.labels = labels;
            config.config.cmd = command.filter(|words| !words.is_empty());
            let bytes = config.to_vec();
            let back = ImageConfig::from_slice(&bytes).unwrap();
            prop_assert_eq!(&back, &config);
            prop_assert_eq!(back.to_vec(), bytes);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,200}") {
            let _either_way = ImageConfig::from_slice(text.as_bytes());
        }
    }
}
