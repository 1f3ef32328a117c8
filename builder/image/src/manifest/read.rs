//! Reading manifests that strangers wrote.

use std::collections::BTreeMap;

use ashlar_model::descriptor::Descriptor;
use ashlar_model::media_type::{DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use ashlar_model::platform::Platform;
use serde::Deserialize;

use super::{ImageIndex, ImageManifest, Manifest, SchemaVersion};

/// Largest manifest that is read, in bytes.
///
/// Source: OCI distribution specification, "Pushing Manifests": registries should take at least
/// 4 MiB, so none that is larger can be relied on. It bounds what a hostile registry can make us
/// keep in memory.
pub const MAX_MANIFEST_SIZE: u64 = 4 * 1024 * 1024;

/// A text is no manifest that Ashlar can use.
#[derive(Debug, thiserror::Error)]
pub enum ReadManifestError {
    /// It has more bytes than any registry need take.
    #[error("the manifest has {0} bytes, more than the {MAX_MANIFEST_SIZE} allowed")]
    TooLarge(u64),
    /// It is no JSON, or a field has the wrong type.
    #[error("the manifest cannot be understood")]
    Json(#[source] serde_json::Error),
    /// It is in Docker's first format.
    #[error(
        "the image has a manifest of Docker's schema version {0}, which registries gave up in \
         2017; push the image again with a current tool"
    )]
    SchemaVersion(u64),
    /// It is something else than an image, or claims to be two things.
    #[error("the manifest has the media type `{0}`, which is no image's")]
    MediaType(String),
    /// Its own media type is not the one it was sent with.
    #[error("the manifest was sent as `{sent}` but says that it is `{inside}`")]
    Disagreement {
        /// By the server or the descriptor.
        sent: String,
        /// By the manifest.
        inside: String,
    },
    /// It lacks what every image has.
    #[error("the manifest names no configuration")]
    NoConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: u64,
    media_type: Option<String>,
    config: Option<WireDescriptor>,
    layers: Option<Vec<WireDescriptor>>,
    manifests: Option<Vec<WireDescriptor>>,
    annotations: Option<BTreeMap<String, String>>,
}

/// A descriptor with what other programs leave out or write as `null`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDescriptor {
    media_type: Option<String>,
    digest: ashlar_model::digest::BlobDigest,
    size: u64,
    platform: Option<WirePlatform>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct WirePlatform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

impl From<WireDescriptor> for Descriptor {
    fn from(wire: WireDescriptor) -> Self {
        let platform = wire.platform.map(|platform| {
            Platform::new(
                &platform.os.unwrap_or_default(),
                &platform.architecture.unwrap_or_default(),
                platform.variant.as_deref(),
            )
        });
        Self {
            media_type: wire.media_type.unwrap_or_default(),
            digest: wire.digest,
            size: wire.size,
            platform,
            annotations: wire.annotations.unwrap_or_default(),
        }
    }
}

fn descriptors(wire: Option<Vec<WireDescriptor>>) -> Vec<Descriptor> {
    wire.unwrap_or_default()
        .into_iter()
        .map(Into::into)
        .collect()
}

impl Manifest {
    /// Reads a manifest or index. `sent_as` is the media type that came with it, empty if none
    /// did; parameters behind a `;` do not matter.
    pub fn read(bytes: &[u8], sent_as: &str) -> Result<Self, ReadManifestError> {
        if bytes.len() as u64 > MAX_MANIFEST_SIZE {
            return Err(ReadManifestError::TooLarge(bytes.len() as u64));
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(ReadManifestError::Json)?;
        if wire.schema_version != 2 {
            return Err(ReadManifestError::SchemaVersion(wire.schema_version));
        }
        let sent = sent_as.split(';').next().unwrap_or_default().trim();
        let media_type = agreed_media_type(&wire, sent)?;
        let annotations = wire.annotations.unwrap_or_default();
        match media_type.as_str() {
            OCI_INDEX | DOCKER_INDEX => Ok(Self::Index(ImageIndex {
                schema_version: SchemaVersion,
                media_type,
                manifests: descriptors(wire.manifests),
                annotations,
            })),
            OCI_MANIFEST | DOCKER_MANIFEST => Ok(Self::Image(ImageManifest {
                schema_version: SchemaVersion,
                media_type,
                config: wire.config.ok_or(ReadManifestError::NoConfig)?.into(),
                layers: descriptors(wire.layers),
                annotations,
            })),
            _ => Err(ReadManifestError::MediaType(media_type)),
        }
    }
}

/// A manifest read as one thing by us and as another by someone else would have one digest and
/// two meanings (CVE-2021-41190): what was sent, what is written inside and what the fields are
/// must agree.
fn agreed_media_type(wire: &Wire, sent: &str) -> Result<String, ReadManifestError> {
    let known = |media_type: &str| {
        matches!(
            media_type,
            OCI_INDEX | DOCKER_INDEX | OCI_MANIFEST | DOCKER_MANIFEST
        )
    };
    let inside = wire.media_type.as_deref().unwrap_or_default();
    // Some servers send every manifest as `application/json` or with no type at all.
    let sent = if known(sent) { sent } else { "" };
    let media_type = match (sent, inside) {
        ("", "") if wire.manifests.is_some() => OCI_INDEX,
        ("", "") => OCI_MANIFEST,
        ("", inside) => inside,
        (sent, "") => sent,
        (sent, inside) if sent == inside => sent,
        (sent, inside) => {
            return Err(ReadManifestError::Disagreement {
                sent: sent.to_owned(),
                inside: inside.to_owned(),
            });
        }
    };
    let is_index = super::is_index(media_type);
    if (is_index && (wire.config.is_some() || wire.layers.is_some()))
        || (!is_index && wire.manifests.is_some())
    {
        return Err(ReadManifestError::MediaType(format!(
            "{media_type} with the fields of another"
        )));
    }
    Ok(media_type.to_owned())
}

#[cfg(test)]
mod tests {
    use ashlar_model::digest::BlobDigest;
    use proptest::prelude::*;

    use super::*;

    fn descriptor() -> String {
        format!(
            r#"{{"mediaType":"t","digest":"{}","size":1,"annotations":null,"platform":null}}"#,
            BlobDigest::of(b"x")
        )
    }

    #[test]
    fn nulls_and_missing_media_types_are_understood() {
        let text = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":null,"annotations":null,"x":1}}"#,
            descriptor()
        );
        let Manifest::Image(manifest) =
            Manifest::read(text.as_bytes(), "application/json; charset=utf-8").unwrap()
        else {
            panic!("not an image");
        };
        assert_eq!(manifest.media_type, OCI_MANIFEST);
        assert!(manifest.layers.is_empty());
    }

    #[test]
    fn an_index_is_told_by_its_fields() {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}","size":3,
                "platform":{{"os":"linux","architecture":"arm64","variant":"v8"}}}}]}}"#,
            BlobDigest::of(b"x")
        );
        let Manifest::Index(index) = Manifest::read(text.as_bytes(), "").unwrap() else {
            panic!("not an index");
        };
        assert_eq!(
            index.manifests[0].platform.as_ref().unwrap().to_string(),
            "linux/arm64"
        );
    }

    #[test]
    fn two_meanings_are_refused() {
        let both = format!(
            r#"{{"schemaVersion":2,"config":{0},"layers":[],"manifests":[{0}]}}"#,
            descriptor()
        );
        assert!(matches!(
            Manifest::read(both.as_bytes(), OCI_INDEX),
            Err(ReadManifestError::MediaType(_))
        ));
        assert!(matches!(
            Manifest::read(both.as_bytes(), OCI_MANIFEST),
            Err(ReadManifestError::MediaType(_))
        ));
        let liar = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","config":{}}}"#,
            descriptor()
        );
        assert!(matches!(
            Manifest::read(liar.as_bytes(), OCI_MANIFEST),
            Err(ReadManifestError::Disagreement { .. })
        ));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let read = |text: &str| Manifest::read(text.as_bytes(), "").unwrap_err();
        assert!(matches!(read("nonsense"), ReadManifestError::Json(_)));
        assert!(matches!(
            read(r#"{"schemaVersion":1,"fsLayers":[]}"#),
            ReadManifestError::SchemaVersion(1)
        ));
        assert!(matches!(
            read(r#"{"schemaVersion":2,"mediaType":"application/x"}"#),
            ReadManifestError::MediaType(_)
        ));
        assert!(matches!(
            read(r#"{"schemaVersion":2}"#),
            ReadManifestError::NoConfig
        ));
        let negative = descriptor().replace(r#""size":1"#, r#""size":-1"#);
        assert!(matches!(
            read(&format!(r#"{{"schemaVersion":2,"config":{negative}}}"#)),
            ReadManifestError::Json(_)
        ));
        let vast = " ".repeat(usize::try_from(MAX_MANIFEST_SIZE).unwrap() + 1);
        assert!(matches!(read(&vast), ReadManifestError::TooLarge(_)));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,200}") {
            let _either_way = Manifest::read(text.as_bytes(), "");
        }
    }
}
