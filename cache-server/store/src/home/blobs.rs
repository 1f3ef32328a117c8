//! Content-addressed blobs: `blobs/sha256/<hex>`, as in an OCI layout.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::BlobDigest;
use sha2::{Digest as _, Sha256};

use super::StoreError;
use super::lock::FileLock;
use super::quota::{Claim, Growth, Meter, Metered, UserCell, on_disk};

/// Blobs by their SHA-256.
#[derive(Debug)]
pub struct BlobStore {
    root: PathBuf,
    user: UserCell,
}

impl BlobStore {
    pub(super) fn new(home: &Path, user: UserCell) -> Self {
        Self {
            root: home.to_owned(),
            user,
        }
    }

    /// Keeps a blob from being evicted, there or not.
    fn claim(&self, digest: &BlobDigest) -> Result<(), StoreError> {
        self.user.claim(&[Claim::Blob(*digest)])
    }

    /// Where a blob lies if it is there.
    pub fn path(&self, digest: &BlobDigest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.to_hex())
    }

    /// A blob's length in bytes; `None` if it is not there.
    pub fn size_of(&self, digest: &BlobDigest) -> Option<u64> {
        // One that cannot be claimed may be gone in a moment.
        self.claim(digest).ok()?;
        self.length_of(digest)
    }

    /// A blob's length, for those who only look.
    pub(super) fn length_of(&self, digest: &BlobDigest) -> Option<u64> {
        fs::metadata(self.path(digest))
            .ok()
            .map(|metadata| metadata.len())
    }

    /// Whether a blob is there with the length that its descriptor gives.
    pub fn has(&self, descriptor: &Descriptor) -> bool {
        self.size_of(&descriptor.digest) == Some(descriptor.size)
    }

    /// Opens a blob to be streamed. Its length is checked, and a damaged blob dropped; its bytes
    /// are the reader's to check.
    pub fn open(&self, descriptor: &Descriptor) -> Result<File, StoreError> {
        self.claim(&descriptor.digest)?;
        let path = self.path(&descriptor.digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(StoreError::NoBlob(descriptor.digest));
            }
            Err(error) => return Err(StoreError::io("open", &path, error)),
        };
        let actual = file
            .metadata()
            .map_err(|e| StoreError::io("stat", &path, e))?
            .len();
        if actual != descriptor.size {
            // A manifest that is wrong, or means harm, must not cost us a good blob.
            self.verify(&descriptor.digest)?;
            return Err(StoreError::WrongSize {
                digest: descriptor.digest,
                expected: descriptor.size,
                actual,
            });
        }
        Ok(file)
    }

    /// Hashes a blob, and drops it if its bytes are not what its name says. Whether it is there and
    /// whole.
    pub fn verify(&self, digest: &BlobDigest) -> Result<bool, StoreError> {
        let path = self.path(digest);
        let whole = match sha256(&path) {
            Ok(found) => found == *digest.as_bytes(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(StoreError::io("read", &path, error)),
        };
        if !whole {
            self.forget(digest)?;
        }
        Ok(whole)
    }

    /// Reads a small blob whole and checks it. A damaged one is dropped.
    pub fn read(&self, digest: &BlobDigest) -> Result<Vec<u8>, StoreError> {
        self.claim(digest)?;
        self.read_unclaimed(digest)
    }

    /// As [`read`](Self::read), for those who only look.
    pub(super) fn read_unclaimed(&self, digest: &BlobDigest) -> Result<Vec<u8>, StoreError> {
        let path = self.path(digest);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(StoreError::NoBlob(*digest));
            }
            Err(error) => return Err(StoreError::io("read", &path, error)),
        };
        let actual = BlobDigest::of(&bytes);
        if actual != *digest {
            self.forget(digest)?;
            let size = bytes.len() as u64;
            return Err(StoreError::WrongContent {
                expected: *digest,
                actual,
                size,
            });
        }
        Ok(bytes)
    }

    /// Stores a small blob.
    pub fn put(&self, bytes: &[u8]) -> Result<BlobDigest, StoreError> {
        let digest = BlobDigest::of(bytes);
        if self.size_of(&digest) != Some(bytes.len() as u64) {
            let _permit = self.user.meter().admit(on_disk(bytes.len() as u64))?;
            super::record::write_atomically(&self.path(&digest), bytes)?;
        }
        Ok(digest)
    }

    /// Starts a blob whose digest is not known yet.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        let (temporary, file) = super::scratch::create_file(&self.root, "blob")?;
        Ok(BlobWriter {
            temporary: Some(temporary),
            file: Metered::new(file, self.user.meter()),
            hasher: Sha256::new(),
            size: 0,
            blobs: self.root.join("blobs/sha256"),
            user: self.user.clone(),
        })
    }

    /// Takes a finished file into the store under a digest that the caller has computed from
    /// exactly these bytes. The file must lie on the store's filesystem.
    pub fn adopt(&self, file: &Path, digest: &BlobDigest) -> Result<(), StoreError> {
        self.claim(digest)?;
        let path = self.path(digest);
        fs::rename(file, &path).map_err(|e| StoreError::io("rename", file, e))
    }

    /// Opens the download of a blob, waiting until no other process is at it.
    ///
    /// What an earlier, broken download left is kept and its bytes are hashed, so that the rest
    /// can be asked for from [`PartialBlob::len`] on.
    pub fn partial(&self, digest: &BlobDigest) -> Result<PartialBlob, StoreError> {
        let lock = FileLock::acquire(
            &self
                .root
                .join("locks")
                .join(format!("blob-{}", digest.to_hex())),
        )?;
        let path = self.root.join("partial").join(digest.to_hex());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| StoreError::io("create", &path, e))?;
        let mut hasher = Sha256::new();
        let length =
            hash_rest(&mut file, &mut hasher).map_err(|e| StoreError::io("read", &path, e))?;
        self.claim(digest)?;
        Ok(PartialBlob {
            path,
            file,
            meter: self.user.meter(),
            growth: Growth::of_file(length),
            hasher,
            length,
            digest: *digest,
            target: self.path(digest),
            _lock: lock,
        })
    }

    /// Removes a blob; no error if it is not there.
    pub fn forget(&self, digest: &BlobDigest) -> Result<(), StoreError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(StoreError::io("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// All blobs and their sizes in bytes.
    pub fn list(&self) -> Result<Vec<(BlobDigest, u64)>, StoreError> {
        let path = self.root.join("blobs/sha256");
        let mut blobs = Vec::new();
        for entry in fs::read_dir(&path).map_err(|e| StoreError::io("list", &path, e))? {
            let entry = entry.map_err(|e| StoreError::io("list", &path, e))?;
            let name = entry.file_name();
            if let (Some(Ok(digest)), Ok(metadata)) =
                (name.to_str().map(BlobDigest::from_hex), entry.metadata())
            {
                blobs.push((digest, metadata.len()));
            }
        }
        Ok(blobs)
    }
}

/// A file's SHA-256.
pub fn sha256(file: &Path) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    hash_rest(&mut File::open(file)?, &mut hasher)?;
    Ok(hasher.finalize().into())
}

/// Hashes a file from where it stands to its end. Returns how many bytes that were.
fn hash_rest(file: &mut File, hasher: &mut Sha256) -> io::Result<u64> {
    let mut buffer = vec![0; 256 * 1024];
    let mut length = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(length),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                length += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn empty(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

/// A blob being written; gone if it is dropped before [`commit`](Self::commit).
#[derive(Debug)]
pub struct BlobWriter {
    /// `None` once committed.
    temporary: Option<PathBuf>,
    file: Metered<File>,
    hasher: Sha256,
    size: u64,
    blobs: PathBuf,
    user: UserCell,
}

impl BlobWriter {
    /// How many bytes are there already.
    pub const fn len(&self) -> u64 {
        self.size
    }

    /// Whether nothing is there yet.
    pub const fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Adds the next bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_all(bytes).map_err(|error| {
            let path = self.temporary.as_deref().unwrap_or(Path::new(""));
            StoreError::io("write", path, error)
        })
    }

    /// Throws away what is there, to start anew.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        let path = self.temporary.clone().unwrap_or_default();
        empty(self.file.restart()).map_err(|e| StoreError::io("truncate", &path, e))?;
        self.hasher = Sha256::new();
        self.size = 0;
        Ok(())
    }

    /// Stores what was written. If `expected` is given and differs, nothing is stored.
    pub fn commit(
        mut self,
        expected: Option<(BlobDigest, u64)>,
    ) -> Result<(BlobDigest, u64), StoreError> {
        let digest = BlobDigest::from_bytes(std::mem::take(&mut self.hasher).finalize().into());
        check(expected, digest, self.size)?;
        self.user.claim(&[Claim::Blob(digest)])?;
        let target = self.blobs.join(digest.to_hex());
        if let Some(temporary) = &self.temporary {
            fs::rename(temporary, &target).map_err(|e| StoreError::io("rename", temporary, e))?;
        }
        self.temporary = None;
        Ok((digest, self.size))
    }
}

fn check(
    expected: Option<(BlobDigest, u64)>,
    actual: BlobDigest,
    size: u64,
) -> Result<(), StoreError> {
    match expected {
        Some((digest, length)) if length != size => Err(StoreError::WrongSize {
            digest,
            expected: length,
            actual: size,
        }),
        Some((digest, _)) if digest != actual => Err(StoreError::WrongContent {
            expected: digest,
            actual,
            size,
        }),
        _ => Ok(()),
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Nothing can be done about a failure; `prune` removes what is left.
            let _ignored = fs::remove_file(temporary);
        }
    }
}

/// A download under way. Dropped without [`commit`](Self::commit), its bytes stay for the next try.
#[derive(Debug)]
pub struct PartialBlob {
    path: PathBuf,
    file: File,
    meter: Meter,
    growth: Growth,
    hasher: Sha256,
    length: u64,
    digest: BlobDigest,
    target: PathBuf,
    _lock: FileLock,
}

impl PartialBlob {
    /// What the bytes must be.
    pub const fn digest(&self) -> &BlobDigest {
        &self.digest
    }

    /// How many bytes are there already.
    pub const fn len(&self) -> u64 {
        self.length
    }

    /// Whether nothing is there yet.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether another process has finished the blob while this one waited for the lock.
    pub fn is_done_already(&self) -> bool {
        self.target.exists()
    }

    /// Adds the next bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let permit = self.meter.admit(self.growth.grown_by(bytes.len() as u64))?;
        self.file
            .write_all(bytes)
            .map_err(|e| StoreError::io("write", &self.path, e))?;
        drop(permit);
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Throws away what is there, to start anew.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        empty(&mut self.file).map_err(|e| StoreError::io("truncate", &self.path, e))?;
        self.hasher = Sha256::new();
        self.growth = Growth::default();
        self.length = 0;
        Ok(())
    }

    /// Stores the blob if it is the right one, else throws the bytes away.
    pub fn commit(mut self, expected_size: Option<u64>) -> Result<u64, StoreError> {
        let actual = BlobDigest::from_bytes(std::mem::take(&mut self.hasher).finalize().into());
        let size = expected_size.unwrap_or(self.length);
        if let Err(error) = check(Some((self.digest, size)), actual, self.length) {
            // The error that matters is the wrong content.
            let _ignored = fs::remove_file(&self.path);
            return Err(error);
        }
        fs::rename(&self.path, &self.target)
            .map_err(|e| StoreError::io("rename", &self.path, e))?;
        Ok(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Home;
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        (directory, home)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (_directory, home) = home();
        let mut writer = home.blobs().writer().unwrap();
        writer.write_all(b"hello").unwrap();
        let (digest, size) = writer.commit(None).unwrap();
        assert_eq!((digest, size), (BlobDigest::of(b"hello"), 5));
        assert_eq!(home.blobs().read(&digest).unwrap(), b"hello");
        assert_eq!(home.blobs().list().unwrap(), [(digest, 5)]);
    }

    #[test]
    fn wrong_bytes_are_never_stored() {
        let (directory, home) = home();
        let expected = BlobDigest::of(b"right");
        let mut writer = home.blobs().writer().unwrap();
        writer.write_all(b"wrong").unwrap();
        assert!(matches!(
            writer.commit(Some((expected, 5))),
            Err(StoreError::WrongContent { .. })
        ));
        assert_eq!(home.blobs().size_of(&expected), None);
        assert_eq!(
            fs::read_dir(directory.path().join("tmp")).unwrap().count(),
            0
        );
    }

    #[test]
    fn a_damaged_blob_is_dropped() {
        let (_directory, home) = home();
        let digest = home.blobs().put(b"hello").unwrap();
        fs::write(home.blobs().path(&digest), b"jello").unwrap();
        assert!(matches!(
            home.blobs().read(&digest),
            Err(StoreError::WrongContent { .. })
        ));
        assert!(matches!(
            home.blobs().read(&digest),
            Err(StoreError::NoBlob(_))
        ));

        home.blobs().put(b"hello").unwrap();
        fs::write(home.blobs().path(&digest), b"hell").unwrap();
        let descriptor = Descriptor::new("x", digest, 5);
        assert!(matches!(
            home.blobs().open(&descriptor),
            Err(StoreError::WrongSize { .. })
        ));
        assert!(!home.blobs().has(&descriptor));
    }

    #[test]
    fn a_wrong_descriptor_costs_no_good_blob() {
        let (_directory, home) = home();
        let digest = home.blobs().put(b"hello").unwrap();
        let wrong = Descriptor::new("x", digest, 4);
        assert!(matches!(
            home.blobs().open(&wrong),
            Err(StoreError::WrongSize { actual: 5, .. })
        ));
        assert_eq!(home.blobs().read(&digest).unwrap(), b"hello");
    }

    #[test]
    fn a_broken_download_goes_on_where_it_stopped() {
        let (_directory, home) = home();
        let digest = BlobDigest::of(b"hello world");
        let mut first = home.blobs().partial(&digest).unwrap();
        first.append(b"hello ").unwrap();
        drop(first);
        let mut second = home.blobs().partial(&digest).unwrap();
        assert_eq!(second.len(), 6);
        second.append(b"world").unwrap();
        assert_eq!(second.commit(Some(11)).unwrap(), 11);
        assert_eq!(home.blobs().read(&digest).unwrap(), b"hello world");
        assert!(home.blobs().partial(&digest).unwrap().is_done_already());
    }

    #[test]
    fn a_wrong_download_is_thrown_away() {
        let (_directory, home) = home();
        let digest = BlobDigest::of(b"right");
        let mut partial = home.blobs().partial(&digest).unwrap();
        partial.append(b"wrong").unwrap();
        partial.commit(Some(5)).unwrap_err();
        let mut partial = home.blobs().partial(&digest).unwrap();
        assert!(partial.is_empty());
        partial.append(b"rubbish").unwrap();
        partial.restart().unwrap();
        partial.append(b"right").unwrap();
        partial.commit(Some(5)).unwrap();
        assert_eq!(home.blobs().size_of(&digest), Some(5));
    }
}
