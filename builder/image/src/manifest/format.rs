//! The two families of media types.

use ashlar_model::descriptor::Descriptor;
use ashlar_model::media_type::{
    Compression, DOCKER_CONFIG, DOCKER_LAYER_GZIP, DOCKER_LAYER_TAR, DOCKER_LAYER_ZSTD,
    DOCKER_MANIFEST, OCI_CONFIG, OCI_MANIFEST,
};

/// Whose media types a manifest uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ManifestFormat {
    /// OCI image specification.
    #[default]
    Oci,
    /// Docker image manifest, version 2, schema 2.
    Docker,
}

impl ManifestFormat {
    /// Of the manifest itself.
    pub const fn manifest_media_type(self) -> &'static str {
        match self {
            Self::Oci => OCI_MANIFEST,
            Self::Docker => DOCKER_MANIFEST,
        }
    }

    /// Of the configuration.
    pub const fn config_media_type(self) -> &'static str {
        match self {
            Self::Oci => OCI_CONFIG,
            Self::Docker => DOCKER_CONFIG,
        }
    }

    /// Of a layer.
    pub const fn layer_media_type(self, compression: Compression) -> &'static str {
        match (self, compression) {
            (Self::Oci, _) => compression.oci_media_type(),
            (Self::Docker, Compression::Uncompressed) => DOCKER_LAYER_TAR,
            (Self::Docker, Compression::Gzip) => DOCKER_LAYER_GZIP,
            (Self::Docker, Compression::Zstd) => DOCKER_LAYER_ZSTD,
        }
    }

    /// A layer's descriptor in this form. One of a type that is no layer we know stays as it is.
    pub(super) fn layer(self, layer: &Descriptor) -> Descriptor {
        let media_type = Compression::of_layer_media_type(&layer.media_type)
            .map_or(layer.media_type.as_str(), |compression| {
                self.layer_media_type(compression)
            });
        Descriptor {
            media_type: media_type.to_owned(),
            ..layer.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use ashlar_model::media_type::OCI_LAYER_ZSTD;

    use super::super::describe;
    use super::*;

    #[test]
    fn layers_change_family_and_keep_their_compression() {
        for (from, format, to) in [
            (
                DOCKER_LAYER_GZIP,
                ManifestFormat::Oci,
                "application/vnd.oci.image.layer.v1.tar+gzip",
            ),
            (OCI_LAYER_ZSTD, ManifestFormat::Docker, DOCKER_LAYER_ZSTD),
            (OCI_LAYER_ZSTD, ManifestFormat::Oci, OCI_LAYER_ZSTD),
            (
                "application/x-other",
                ManifestFormat::Docker,
                "application/x-other",
            ),
        ] {
            assert_eq!(format.layer(&describe(from, b"x")).media_type, to);
        }
    }
}
