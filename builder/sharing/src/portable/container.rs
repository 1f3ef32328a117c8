//! Where a portable cache is kept: a manifest under a name, and blobs that it names.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use ashlar_model::descriptor::Descriptor;
use ashlar_model::executor::BoxFuture;
use ashlar_model::media_type::OCI_MANIFEST;
use ashlar_store::fault::{Fault, FaultKind};
use ashlar_store::home::blobs;
use ashlar_store::home::record::write_atomically;
use bytes::Bytes;
use serde_json::{Value, json};

/// Keeps a manifest under a name, and blobs.
pub trait Container: Send + Sync + fmt::Debug {
    /// The manifest; `None` if there is none yet.
    fn manifest(&self) -> BoxFuture<'_, Result<Option<Bytes>, Fault>>;

    /// A file with a blob's bytes, which are those of its digest.
    fn blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<PathBuf, Fault>>;

    /// Keeps a blob.
    fn put_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<(), Fault>>;

    /// Keeps a manifest under the name. All that it names is there.
    fn put_manifest(&self, manifest: Bytes) -> BoxFuture<'_, Result<(), Fault>>;
}

/// The longest index or manifest of a directory that is read.
const LONGEST_FILE: u64 = 16 << 20;
/// Where an OCI layout keeps a manifest's name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A directory: an OCI image layout.
#[derive(Debug)]
pub struct DirectoryContainer {
    root: PathBuf,
    name: String,
}

impl DirectoryContainer {
    /// The manifest of this name in an OCI image layout, which is made when something is kept.
    pub const fn new(root: PathBuf, name: String) -> Self {
        Self { root, name }
    }

    fn blob_path(&self, hex: &str) -> PathBuf {
        self.root.join("blobs/sha256").join(hex)
    }

    fn index(&self) -> Result<Option<Value>, Fault> {
        let path = self.root.join("index.json");
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let index = serde_json::from_slice(&bytes).map_err(|error| {
            Fault::invalid(format!("{} is no index of an OCI layout", path.display()))
                .caused_by(error)
        })?;
        Ok(Some(index))
    }

    fn manifest_here(&self) -> Result<Option<Bytes>, Fault> {
        let Some(index) = self.index()? else {
            return Ok(None);
        };
        let manifests = index["manifests"].as_array();
        let mut named = manifests.into_iter().flatten();
        let Some(found) = named.find(|one| one["annotations"][REF_NAME] == self.name) else {
            return Ok(None);
        };
        let descriptor: Descriptor = serde_json::from_value(found.clone())
            .map_err(|error| Fault::invalid("the OCI layout is damaged").caused_by(error))?;
        let path = self.blob_path(&descriptor.digest.to_hex());
        let bytes = read(&path)?.ok_or_else(|| lost(&descriptor))?;
        if ashlar_model::digest::BlobDigest::of(&bytes) != descriptor.digest {
            return Err(Fault::invalid(format!("{} is damaged", path.display())));
        }
        Ok(Some(bytes.into()))
    }

    fn put_here(&self, manifest: &Bytes) -> Result<(), Fault> {
        let digest = ashlar_model::digest::BlobDigest::of(manifest);
        self.write(&self.blob_path(&digest.to_hex()), manifest)?;
        let layout = json!({"imageLayoutVersion": "1.0.0"}).to_string();
        self.write(&self.root.join("oci-layout"), layout.as_bytes())?;
        let mut manifests: Vec<Value> = match self.index()? {
            Some(index) => index["manifests"].as_array().cloned().unwrap_or_default(),
            None => Vec::new(),
        };
        manifests.retain(|one| one["annotations"][REF_NAME] != self.name);
        manifests.push(json!({
            "mediaType": OCI_MANIFEST,
            "digest": digest.to_string(),
            "size": manifest.len(),
            "annotations": {REF_NAME: self.name},
        }));
        let index = json!({
            "schemaVersion": 2,
            "mediaType": ashlar_model::media_type::OCI_INDEX,
            "manifests": manifests,
        });
        self.write(&self.root.join("index.json"), index.to_string().as_bytes())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Fault> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| io_fault("make", parent, error))?;
        }
        write_atomically(path, bytes).map_err(|error| {
            Fault::new(
                FaultKind::Internal,
                format!("cannot write {}", path.display()),
            )
            .caused_by(error)
        })
    }

    fn blob_here(&self, blob: &Descriptor) -> Result<PathBuf, Fault> {
        let path = self.blob_path(&blob.digest.to_hex());
        match blobs::sha256(&path) {
            Ok(digest) if digest == *blob.digest.as_bytes() => Ok(path),
            Ok(_) => Err(Fault::invalid(format!("{} is damaged", path.display()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(lost(blob)),
            Err(error) => Err(io_fault("read", &path, error)),
        }
    }
}

fn lost(blob: &Descriptor) -> Fault {
    Fault::new(FaultKind::NotFound, format!("it has no {}", blob.digest))
}

fn io_fault(action: &str, path: &Path, error: io::Error) -> Fault {
    let kind = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => FaultKind::Exhausted,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => FaultKind::Denied,
        _ => FaultKind::Internal,
    };
    Fault::new(kind, format!("cannot {action} {}", path.display())).caused_by(error)
}

/// A file that is not too long; `None` if there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Fault> {
    use io::Read as _;
    let open = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(path)?
            .take(LONGEST_FILE)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match open() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(io_fault("read", path, error)),
    }
}

impl Container for DirectoryContainer {
    fn manifest(&self) -> BoxFuture<'_, Result<Option<Bytes>, Fault>> {
        Box::pin(async { self.manifest_here() })
    }

    fn blob<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<PathBuf, Fault>> {
        Box::pin(async { self.blob_here(blob) })
    }

    fn put_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let path = self.blob_path(&blob.digest.to_hex());
            let here = fs::metadata(&path).is_ok_and(|file| file.len() == blob.size);
            if here && self.blob_here(blob).is_ok() {
                return Ok(());
            }
            self.write(&path, &bytes)
        })
    }

    fn put_manifest(&self, manifest: Bytes) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move { self.put_here(&manifest) })
    }
}
