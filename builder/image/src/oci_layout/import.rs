//! Blobs from a layout into the store.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::BlobDigest;
use ashlar_store::home::{Home, StoreError};
use rustix::fs::{AtFlags, CWD, linkat};
use sha2::{Digest as _, Sha256};

use super::OciLayout;

/// A blob could not be taken from a layout.
#[derive(Debug, thiserror::Error)]
pub enum ImportBlobError {
    /// The layout lacks it.
    #[error("the OCI layout lacks the blob {}", .0.display())]
    Missing(PathBuf),
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not what its name says.
    #[error(
        "{} has the wrong content: {actual_size} bytes with the digest {actual} instead of \
         {expected_size} bytes",
        path.display()
    )]
    WrongContent {
        /// The file.
        path: PathBuf,
        /// Its digest.
        actual: BlobDigest,
        /// Its size in bytes.
        actual_size: u64,
        /// Its size by the descriptor.
        expected_size: u64,
    },
    /// The store failed.
    #[error("cannot store a blob of the OCI layout")]
    Store(#[source] StoreError),
}

/// Bytes read at once.
const BUFFER: usize = 256 * 1024;

impl OciLayout {
    /// Takes a blob into the store, unless it is there. Blocks.
    pub fn import(&self, descriptor: &Descriptor, home: &Home) -> Result<(), ImportBlobError> {
        if home.blobs().has(descriptor) {
            return Ok(());
        }
        let path = self.blob_path(&descriptor.digest);
        let read = |source: io::Error| match source.kind() {
            ErrorKind::NotFound => ImportBlobError::Missing(path.clone()),
            _ => ImportBlobError::Read {
                path: path.clone(),
                source,
            },
        };
        let mut file = File::open(&path).map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        let wrong = |actual, actual_size| ImportBlobError::WrongContent {
            path: path.clone(),
            actual,
            actual_size,
            expected_size: descriptor.size,
        };
        let target = home.blobs().path(&descriptor.digest);
        let store = target.parent().and_then(|parent| fs::metadata(parent).ok());
        // Another owner could still change the file under our name.
        let linkable = metadata.is_file()
            && store.is_some_and(|store| {
                (store.dev(), store.uid()) == (metadata.dev(), metadata.uid())
            });

        let mut writer = None;
        if !linkable {
            writer = Some(home.blobs().writer().map_err(ImportBlobError::Store)?);
        }
        let mut hasher = Sha256::new();
        let mut size = 0;
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = file.read(&mut buffer).map_err(read)?;
            if count == 0 {
                break;
            }
            size += count as u64;
            match &mut writer {
                // The writer hashes.
                Some(writer) => writer
                    .write_all(&buffer[..count])
                    .map_err(|e| ImportBlobError::Store(StoreError::io("write", &target, e)))?,
                None => hasher.update(&buffer[..count]),
            }
        }
        if let Some(writer) = writer {
            return match writer.commit(Some((descriptor.digest, descriptor.size))) {
                Ok(_) => Ok(()),
                Err(StoreError::WrongContent { actual, size, .. }) => Err(wrong(actual, size)),
                Err(StoreError::WrongSize { actual, .. }) => Err(wrong(descriptor.digest, actual)),
                Err(error) => Err(ImportBlobError::Store(error)),
            };
        }
        let actual = BlobDigest::from_bytes(hasher.finalize().into());
        if (actual, size) != (descriptor.digest, descriptor.size) {
            return Err(wrong(actual, size));
        }
        self.link(&file, descriptor, home)
    }

    /// Links the very file that was hashed, not whatever its name stands for by now.
    fn link(
        &self,
        file: &File,
        descriptor: &Descriptor,
        home: &Home,
    ) -> Result<(), ImportBlobError> {
        let target = home.blobs().path(&descriptor.digest);
        let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
        match linkat(CWD, &opened, CWD, &target, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => Ok(()),
            // Someone else has stored it; if it is damaged, reading it will tell.
            Err(rustix::io::Errno::EXIST) => Ok(()),
            // Filesystems without hard links, and too many of them.
            Err(_) => self.copy(descriptor, home),
        }
    }

    fn copy(&self, descriptor: &Descriptor, home: &Home) -> Result<(), ImportBlobError> {
        let path = self.blob_path(&descriptor.digest);
        let read = |source| ImportBlobError::Read {
            path: path.clone(),
            source,
        };
        let mut file = File::open(&path).map_err(read)?;
        let mut writer = home.blobs().writer().map_err(ImportBlobError::Store)?;
        io::copy(&mut file, &mut writer).map_err(read)?;
        writer
            .commit(Some((descriptor.digest, descriptor.size)))
            .map(|_| ())
            .map_err(ImportBlobError::Store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{ImageIndex, describe};

    struct Fixture {
        directory: tempfile::TempDir,
        layout: OciLayout,
        home: Home,
    }

    fn fixture() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("layout");
        fs::create_dir_all(root.join("blobs/sha256")).unwrap();
        fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(root.join("index.json"), ImageIndex::new(vec![]).to_vec()).unwrap();
        Fixture {
            layout: OciLayout::open(&root).unwrap(),
            home: Home::open(&directory.path().join("home")).unwrap(),
            directory,
        }
    }

    #[test]
    fn a_good_blob_is_linked() {
        let Fixture {
            directory,
            layout,
            home,
        } = fixture();
        let descriptor = describe("x", b"hello");
        let path = layout.blob_path(&descriptor.digest);
        fs::write(&path, "hello").unwrap();
        layout.import(&descriptor, &home).unwrap();
        assert_eq!(home.blobs().read(&descriptor.digest).unwrap(), b"hello");
        let stored = fs::metadata(home.blobs().path(&descriptor.digest)).unwrap();
        assert_eq!(stored.ino(), fs::metadata(&path).unwrap().ino());
        layout.import(&descriptor, &home).unwrap();
        drop(directory);
    }

    #[test]
    fn wrong_blobs_never_enter_the_store() {
        let Fixture {
            directory,
            layout,
            home,
        } = fixture();
        let descriptor = describe("x", b"hello");
        assert!(matches!(
            layout.import(&descriptor, &home),
            Err(ImportBlobError::Missing(_))
        ));
        for content in ["jello", "hell", "hello!", ""] {
            fs::write(layout.blob_path(&descriptor.digest), content).unwrap();
            let error = layout.import(&descriptor, &home).unwrap_err();
            assert!(
                matches!(error, ImportBlobError::WrongContent { .. }),
                "{content}: {error}"
            );
            assert!(!home.blobs().path(&descriptor.digest).exists());
        }
        drop(directory);
    }

    #[test]
    fn a_blob_of_another_filesystem_is_copied() {
        let Fixture {
            directory, layout, ..
        } = fixture();
        let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
        let home = Home::open(elsewhere.path()).unwrap();
        let descriptor = describe("x", b"hello");
        fs::write(layout.blob_path(&descriptor.digest), "jello").unwrap();
        assert!(matches!(
            layout.import(&descriptor, &home),
            Err(ImportBlobError::WrongContent { .. })
        ));
        fs::write(layout.blob_path(&descriptor.digest), "hello").unwrap();
        layout.import(&descriptor, &home).unwrap();
        assert_eq!(home.blobs().read(&descriptor.digest).unwrap(), b"hello");
        drop(directory);
    }
}
