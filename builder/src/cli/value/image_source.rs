//! Where an image is taken from: the store or a registry by name, or an OCI layout on disk.

use ashlar_image::pull::ImageSource;

/// `NAME`, `docker-image://NAME` or `oci-layout://DIR[:TAG][@DIGEST]`.
pub(in crate::cli) fn image_source(text: &str) -> Result<ImageSource, String> {
    let reference = |text: &str| {
        text.parse()
            .map(ImageSource::Registry)
            .map_err(|error: ashlar_model::reference::ReferenceParseError| super::chain(&error))
    };
    match text.split_once("://") {
        Some(("oci-layout", _)) => text.parse().map(ImageSource::Layout).map_err(
            |error: ashlar_image::oci_layout::LayoutReferenceParseError| super::chain(&error),
        ),
        Some(("docker-image" | "docker", rest)) => reference(rest),
        Some((scheme, _)) => Err(format!(
            "`{}://` is no source of images: write NAME, docker-image://NAME or oci-layout://DIR",
            scheme.chars().take(40).collect::<String>()
        )),
        None => reference(text),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn layouts_have_a_directory_and_perhaps_a_tag() {
        match image_source("oci-layout://./a:v1").unwrap() {
            ImageSource::Layout(layout) => {
                assert_eq!(layout.directory, Path::new("./a"));
                assert_eq!(layout.tag.as_deref(), Some("v1"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_are_references() {
        let expected = ImageSource::Registry("debian".parse().unwrap());
        assert_eq!(image_source("debian").unwrap(), expected);
        assert_eq!(image_source("docker-image://debian").unwrap(), expected);
    }

    #[test]
    fn what_names_no_image_is_refused() {
        for text in [
            "",
            "oci-layout://",
            "ftp://x",
            "UPPER",
            "oci-layout://a@sha256:0",
        ] {
            image_source(text).unwrap_err();
        }
    }
}
