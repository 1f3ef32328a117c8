//! Where things are under the store's directory, and writes that are whole after a power cut.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use ashlar_model::cas::{CasDigest, DigestFunction};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::fault::{Fault, FaultKind};

/// Paths under the store's directory.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn index(&self) -> PathBuf {
        self.root.join("index.redb")
    }

    pub(super) fn damaged_index(&self) -> PathBuf {
        self.root.join("index.redb.damaged")
    }

    pub(super) fn epoch(&self) -> PathBuf {
        self.root.join("epoch")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(super) fn packs(&self) -> PathBuf {
        self.root.join("packs")
    }

    pub(super) fn pack(&self, number: u32) -> PathBuf {
        self.packs().join(format!("{number:08x}.pack"))
    }

    pub(super) fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    pub(super) fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// The file of a large blob: two levels of directories keep each of them small.
    pub(super) fn file(&self, blob: &CasDigest) -> PathBuf {
        let hash = blob.hash_hex();
        let mut path = self.files();
        path.push(blob.function.name());
        path.push(&hash[..2]);
        path.push(&hash[2..4]);
        path.push(format!("{hash}-{}", blob.size));
        path
    }

    /// The blob that a file of the directory of `function` is called after.
    pub(super) fn blob_of(function: DigestFunction, file_name: &str) -> Option<CasDigest> {
        let (hash, size) = file_name.split_once('-')?;
        let mut bytes = [0; 32];
        if hash.len() != 64 {
            return None;
        }
        for (place, byte) in bytes.iter_mut().enumerate() {
            let digits = hash.get(2 * place..2 * place + 2)?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        let blob = CasDigest {
            function,
            hash: bytes,
            size: size.parse().ok()?,
        };
        // Nothing but the one way to write it.
        (file_name == format!("{}-{}", blob.hash_hex(), blob.size)).then_some(blob)
    }

    /// The number of a pack's file.
    pub(super) fn pack_number(file_name: &str) -> Option<u32> {
        let digits = file_name.strip_suffix(".pack")?;
        let number = u32::from_str_radix(digits, 16).ok()?;
        (file_name == format!("{number:08x}.pack")).then_some(number)
    }

    /// Makes the directories, forgets what was being written when the last process ended, and
    /// keeps other processes out.
    pub(super) fn prepare(&self) -> Result<File, Fault> {
        // The server decides who may read, not the file system.
        let make = |path: PathBuf| {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(&path);
            made.map_err(fault("make", &path))
        };
        make(self.packs())?;
        make(self.files())?;
        let lock = self.take_lock()?;
        match fs::remove_dir_all(self.temporary()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(fault("empty", &self.temporary())(error));
            }
            _ => make(self.temporary())?,
        }
        Ok(lock)
    }

    fn take_lock(&self) -> Result<File, Fault> {
        let path = self.lock();
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(fault("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(Errno::WOULDBLOCK) => Err(Fault::new(
                FaultKind::Unavailable,
                format!("another process uses {}", self.root.display()),
            )),
            Err(errno) => Err(fault("lock", &path)(errno.into())),
        }
    }

    /// Counts openings of the store: the number is higher each time, whatever else is lost.
    pub(super) fn next_epoch(&self) -> Result<u64, Fault> {
        let path = self.epoch();
        let last = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse::<u64>().map_err(|error| {
                Fault::new(
                    FaultKind::Internal,
                    format!("{} holds no number", path.display()),
                )
                .caused_by(error)
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(fault("read", &path)(error)),
        };
        let next = last + 1;
        let temporary = self.root.join("epoch.new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(format!("{next}\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            sync_directory(&self.root)
        };
        write().map_err(fault("write", &path))?;
        Ok(next)
    }
}

/// Makes names in a directory outlast a power cut.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// What an I/O error is to a caller.
pub(super) fn fault(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Fault {
    move |error| {
        let kind = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => FaultKind::Exhausted,
            _ => FaultKind::Internal,
        };
        Fault::new(kind, format!("cannot {action} {}", path.display())).caused_by(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_after_their_blobs() {
        let layout = Layout::new(Path::new("store"));
        let blob = CasDigest::of(DigestFunction::Sha256, b"a");
        let path = layout.file(&blob);
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(Layout::blob_of(DigestFunction::Sha256, name), Some(blob));
        assert_eq!(Layout::blob_of(DigestFunction::Sha256, "x-1"), None);
        let other = format!("{}-01", blob.hash_hex());
        assert_eq!(Layout::blob_of(DigestFunction::Sha256, &other), None);
        assert_eq!(Layout::pack_number("0000000a.pack"), Some(10));
        assert_eq!(Layout::pack_number("a.pack"), None);
    }

    #[test]
    fn nobody_but_the_server_reads_what_is_stored() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("store");
        let layout = Layout::new(&root);
        let _lock = layout.prepare().unwrap();
        for path in [root, layout.packs(), layout.files(), layout.temporary()] {
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", path.display());
        }
    }

    #[test]
    fn each_opening_has_a_higher_epoch_and_only_one_process() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let lock = layout.prepare().unwrap();
        assert_eq!(layout.next_epoch().unwrap(), 1);
        assert_eq!(layout.next_epoch().unwrap(), 2);
        let fault = layout.prepare().unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unavailable);
        drop(lock);
        drop(layout.prepare().unwrap());
    }
}
