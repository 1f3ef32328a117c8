//! Reading OCI layouts in the test's own process.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// An OCI image layout on disk.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout in a directory.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let marker = json(&root.join("oci-layout"));
        assert_eq!(marker["imageLayoutVersion"], "1.0.0", "{}", root.display());
        Self { root }
    }

    /// `index.json`.
    pub fn index(&self) -> Value {
        json(&self.root.join("index.json"))
    }

    /// Where a blob lies.
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        self.root.join("blobs").join(digest.replace(':', "/"))
    }

    /// A blob that is JSON.
    pub fn blob(&self, digest: &str) -> Value {
        json(&self.blob_path(digest))
    }

    /// The digest of the only image's manifest.
    #[track_caller]
    pub fn manifest_digest(&self) -> String {
        let index = self.index();
        let manifests = index["manifests"]
            .as_array()
            .expect("an index has manifests");
        assert_eq!(manifests.len(), 1, "{index:#}");
        text(&manifests[0]["digest"])
    }

    /// The only image's manifest.
    #[track_caller]
    pub fn manifest(&self) -> Value {
        self.blob(&self.manifest_digest())
    }

    /// The only image's configuration.
    #[track_caller]
    pub fn config(&self) -> Value {
        self.blob(&text(&self.manifest()["config"]["digest"]))
    }

    /// The digests of the only image's layers, bottom first.
    #[track_caller]
    pub fn layers(&self) -> Vec<String> {
        let manifest = self.manifest();
        let layers = manifest["layers"]
            .as_array()
            .expect("a manifest has layers");
        layers.iter().map(|layer| text(&layer["digest"])).collect()
    }
}

/// A JSON value that must be a string.
#[track_caller]
pub fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is not a string"))
        .to_owned()
}

fn json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
