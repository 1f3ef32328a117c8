//! Reading an OCI image layout: a directory with images as files.
//!
//! ```text
//! oci-layout             {"imageLayoutVersion":"1.0.0"}
//! index.json             the images, each with its name as an annotation
//! blobs/sha256/<hex>     manifests, configurations, layers
//! ```
//!
//! A layout is as little trusted as a registry: sizes are bounded and digests checked. Blobs enter
//! the store by a hard link where that is possible (same filesystem, same owner), else by copying;
//! either way they are read and hashed once.

mod import;
mod reference;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::BlobDigest;
use serde::Deserialize;

use crate::manifest::{
    IMAGE_NAME, ImageIndex, MAX_MANIFEST_SIZE, Manifest, REFERENCE_NAME, ReadManifestError,
};

pub use import::ImportBlobError;
pub use reference::{LayoutReference, LayoutReferenceParseError, SCHEME};

/// A layout cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenLayoutError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The directory is something else.
    #[error("{} is no OCI layout: it has no usable file `oci-layout`", .0.display())]
    NotALayout(PathBuf),
    /// The layout is of a version that is not known.
    #[error("{} is an OCI layout of version {version}; only 1.x is known", path.display())]
    Version {
        /// The directory.
        path: PathBuf,
        /// Its version.
        version: String,
    },
    /// The list of images cannot be understood.
    #[error("cannot use {}", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: ReadManifestError,
    },
    /// The list of images is something else.
    #[error("{} is no list of images", .0.display())]
    NotAnIndex(PathBuf),
    /// There is no such image.
    #[error("{} has no image {wanted}; it has: {available}", path.display())]
    NoImage {
        /// The directory.
        path: PathBuf,
        /// What was asked for.
        wanted: String,
        /// The names that there are.
        available: String,
    },
}

/// An OCI layout in a directory.
#[derive(Debug, Clone)]
pub struct OciLayout {
    root: PathBuf,
    index: ImageIndex,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

impl OciLayout {
    /// Opens the layout in a directory.
    pub fn open(root: &Path) -> Result<Self, OpenLayoutError> {
        let not_a_layout = || OpenLayoutError::NotALayout(root.to_owned());
        let marker = read_bounded(&root.join("oci-layout")).map_err(|_| not_a_layout())?;
        let marker: Marker = serde_json::from_slice(&marker).map_err(|_| not_a_layout())?;
        if !marker.image_layout_version.starts_with("1.") {
            return Err(OpenLayoutError::Version {
                path: root.to_owned(),
                version: marker.image_layout_version.chars().take(40).collect(),
            });
        }
        let path = root.join("index.json");
        let bytes = read_bounded(&path).map_err(|source| OpenLayoutError::Read {
            path: path.clone(),
            source,
        })?;
        match Manifest::read(&bytes, "") {
            Ok(Manifest::Index(index)) => Ok(Self {
                root: root.to_owned(),
                index,
            }),
            Ok(Manifest::Image(_)) => Err(OpenLayoutError::NotAnIndex(path)),
            Err(source) => Err(OpenLayoutError::Index { path, source }),
        }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a blob lies if it is there.
    pub fn blob_path(&self, digest: &BlobDigest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.to_hex())
    }

    /// The manifest or index that a tag or digest stands for. Without either: the only image
    /// there is, else the one tagged `latest`.
    pub fn find(
        &self,
        tag: Option<&str>,
        digest: Option<BlobDigest>,
    ) -> Result<Descriptor, OpenLayoutError> {
        let entries = &self.index.manifests;
        let tagged = |tag: &str| entries.iter().find(|entry| is_tagged(entry, tag));
        let found = match (digest, tag) {
            (Some(digest), _) => entries
                .iter()
                .find(|entry| entry.digest == digest)
                .cloned()
                .or_else(|| self.unlisted(digest)),
            (None, Some(tag)) => tagged(tag).cloned(),
            (None, None) => match entries.as_slice() {
                [only] => Some(only.clone()),
                _ => tagged("latest").cloned(),
            },
        };
        found.ok_or_else(|| OpenLayoutError::NoImage {
            path: self.root.clone(),
            wanted: match (digest, tag) {
                (Some(digest), _) => format!("with the digest {digest}"),
                (None, tag) => format!("tagged {}", tag.unwrap_or("latest")),
            },
            available: self.names(),
        })
    }

    /// A manifest that is in the layout, though not in its list: one inside an index.
    fn unlisted(&self, digest: BlobDigest) -> Option<Descriptor> {
        let size = fs::metadata(self.blob_path(&digest)).ok()?.len();
        (size <= MAX_MANIFEST_SIZE).then(|| Descriptor::new("", digest, size))
    }

    fn names(&self) -> String {
        let names: Vec<String> = self
            .index
            .manifests
            .iter()
            .map(|entry| {
                entry
                    .annotations
                    .get(REFERENCE_NAME)
                    .cloned()
                    .unwrap_or_else(|| entry.digest.to_string())
            })
            .collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    }
}

/// Tools write a tag, or a whole name with a tag at its end.
fn is_tagged(entry: &Descriptor, tag: &str) -> bool {
    [REFERENCE_NAME, IMAGE_NAME]
        .iter()
        .filter_map(|key| entry.annotations.get(*key))
        .any(|name| {
            name == tag
                || name
                    .strip_suffix(tag)
                    .is_some_and(|rest| rest.ends_with(':'))
        })
}

/// Reads a file that has no reason to be large.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(MAX_MANIFEST_SIZE + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use ashlar_model::media_type::OCI_MANIFEST;

    use super::*;
    use crate::manifest::describe;

    fn layout(names: &[&str]) -> (tempfile::TempDir, OciLayout) {
        let directory = tempfile::tempdir().unwrap();
        let manifests = names
            .iter()
            .map(|name| {
                let mut descriptor = describe(OCI_MANIFEST, name.as_bytes());
                if !name.is_empty() {
                    let name = (*name).to_owned();
                    descriptor.annotations.insert(REFERENCE_NAME.into(), name);
                }
                descriptor
            })
            .collect();
        fs::write(
            directory.path().join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        fs::write(
            directory.path().join("index.json"),
            ImageIndex::new(manifests).to_vec(),
        )
        .unwrap();
        let layout = OciLayout::open(directory.path()).unwrap();
        (directory, layout)
    }

    #[test]
    fn images_are_found_by_tag_whole_name_and_digest() {
        let (_directory, layout) = layout(&["1.0", "docker.io/library/app:2.0", "x1.0"]);
        let digest = |name: &str| BlobDigest::of(name.as_bytes());
        let find = |tag, digest| layout.find(tag, digest).unwrap().digest;
        assert_eq!(find(Some("1.0"), None), digest("1.0"));
        assert_eq!(find(Some("2.0"), None), digest("docker.io/library/app:2.0"));
        assert_eq!(find(None, Some(digest("x1.0"))), digest("x1.0"));
    }

    #[test]
    fn without_a_tag_the_only_image_or_the_latest_is_meant() {
        let (_directory, one) = layout(&["whatever"]);
        assert_eq!(
            one.find(None, None).unwrap().digest,
            BlobDigest::of(b"whatever")
        );
        let (_directory, several) = layout(&["a", "latest"]);
        assert_eq!(
            several.find(None, None).unwrap().digest,
            BlobDigest::of(b"latest")
        );
    }

    #[test]
    fn a_missing_image_names_those_there_are() {
        let (_directory, layout) = layout(&["a", "b"]);
        let error = layout.find(Some("c"), None).unwrap_err().to_string();
        assert!(
            error.ends_with("has no image tagged c; it has: a, b"),
            "{error}"
        );
        layout.find(None, None).unwrap_err();
        layout.find(None, Some(BlobDigest::of(b"c"))).unwrap_err();
    }

    #[test]
    fn other_directories_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let open = || OciLayout::open(directory.path()).unwrap_err();
        assert!(matches!(open(), OpenLayoutError::NotALayout(_)));
        let marker = directory.path().join("oci-layout");
        fs::write(&marker, r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
        assert!(matches!(open(), OpenLayoutError::Version { .. }));
        fs::write(&marker, r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        assert!(matches!(open(), OpenLayoutError::Read { .. }));
        let index = directory.path().join("index.json");
        fs::write(&index, "x").unwrap();
        assert!(matches!(open(), OpenLayoutError::Index { .. }));
    }
}
