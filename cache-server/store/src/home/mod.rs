//! The local store: plain files below one directory, shared by any number of processes with no
//! server between them.
//!
//! ```text
//! $ASHLAR_HOME/
//!   FORMAT                           this layout's version
//!   blobs/sha256/<hex>               manifests, configurations, compressed layers      [blobs]
//!   partial/<hex>                    downloads under way, taken up again after a break  [blobs]
//!   layers/<layer id>/record         what is known of a layer                           [layers]
//!   layers/<layer id>/index          its entries
//!   layers/<layer id>/tar            its plain tar, where it is kept so
//!   layers/<layer id>/whole-<id map> when its tree was last found whole                 [trees]
//!   layers/<layer id>/ground         what of its tree depends on the layers below
//!   layers/<layer id>/ground-<id map>  the layers below that its tree was last set for
//!   layers/<layer id>/copies         which shared caches have it                        [copies]
//!   trees/<id map>/<layer id>/       its files, owned as that id map has it
//!   content/<content digest>         the layer that first had this content
//!   results/{definition,content}/<key>   which layer a step gave                        [results]
//!   instructions/<instruction key>   says that the instruction ever ran
//!   images/<name>                    tagged images                                      [images]
//!   sources/{http,git,tree}/<key>/   what was fetched from elsewhere                     [sources]
//!   caches/<id map>/<cache>/          directories that steps keep: RUN --mount=type=cache [caches]
//!   hints/                           caches that may be lost at any time (stat caches)
//!   in-use                           shared by whoever works with layers              [in_use]
//!   locks/<name>                     held while one process makes what others wait for  [lock]
//!   tmp/<random>/, <random>.lock     work under way                                     [scratch]
//!   quota/                           how much it may take, and takes                      [quota]
//! ```
//!
//! # Invariants
//!
//! - Whatever lies under its final name is whole: it was written to a temporary name on the same
//!   filesystem and renamed. Nothing is changed in place.
//! - Records end in a checksum ([`record`]): one torn by a power cut is dropped, and what it named
//!   is made again.
//!
//! # Damage
//!
//! Files are not synced to disk, and people copy stores, restore them from archives and clean up in
//! them. What is promised:
//!
//! - Records, results and indexes have checksums. A damaged one counts as absent.
//! - Blobs and tars have their digests checked whenever they are read whole: unpacked, compressed
//!   anew, exported, pushed. A damaged one is dropped, and made again from another form of the
//!   layer or fetched.
//! - Trees are compared with their index before the first use after each start of the machine: by
//!   what `stat` says (kind, size, mode, owner, time), not by their bytes, for that would cost more
//!   than most steps. Their bytes are checked whenever they go into a tar, so that what is exported
//!   is right. What a RUN or a COPY --from reads in a tree whose bytes changed without a change of
//!   size or time, or since the machine started, is not noticed: `ashlar fsck` ([`fsck`]) reads everything.
//! - A layer that has no whole form left is forgotten, and with it the results that name it.
//! - A record is written after what it names, so a crash leaves at worst garbage.
//! - Locks are `flock`s: the kernel frees them with the process.

pub mod blobs;
pub mod caches;
pub mod copies;
mod error;
pub mod fsck;
pub mod gc;
pub mod images;
pub mod in_use;
pub mod layers;
pub mod lock;
pub mod pushed;
pub mod quota;
pub mod record;
pub mod results;
pub mod scratch;
pub mod sources;
pub mod trees;

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{StoreError, io_hint};

use blobs::BlobStore;
use quota::UserCell;

/// Version of the layout above. A home of another version is refused, never guessed at.
const FORMAT: &str = "ashlar home 1\n";

/// Directories that every store has.
const DIRECTORIES: [&str; 12] = [
    "blobs/sha256",
    "partial",
    "layers",
    "trees",
    "content",
    "results/definition",
    "results/content",
    "instructions",
    "images",
    "hints",
    "locks",
    "tmp",
];

/// Directories that are for nobody else's eyes: set-id files of images belong to the user or to the
/// user's subordinate ids, and whoever can reach them can run them as those.
const PRIVATE: [&str; 2] = ["trees", "tmp"];

/// The local store of one user. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Home {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    blobs: BlobStore,
    user: UserCell,
}

impl Home {
    /// Opens the store at `root`, making it if there is none.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let root = std::path::absolute(root).map_err(|e| StoreError::io("find", root, e))?;
        let format = root.join("FORMAT");
        match fs::read_to_string(&format) {
            Ok(text) if text == FORMAT => Self::make_directories(&root)?,
            // Torn by a power cut while the store was made.
            Ok(text) if FORMAT.starts_with(&text) => Self::create(&root)?,
            Ok(text) => {
                return Err(StoreError::Format {
                    root,
                    found: text.trim().chars().take(60).collect(),
                });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Self::create(&root)?,
            Err(error) => return Err(StoreError::io("read", &format, error)),
        }
        let user = UserCell::of(&root);
        let blobs = BlobStore::new(&root, user.clone());
        Ok(Self {
            inner: Arc::new(Inner { root, blobs, user }),
        })
    }

    fn create(root: &Path) -> Result<(), StoreError> {
        Self::make_directories(root)?;
        // Last: a home without it is made again. Several processes may do so at once.
        record::write_atomically(&root.join("FORMAT"), FORMAT.as_bytes())
    }

    /// Makes the directories that are missing: all of them, or some that were lost.
    fn make_directories(root: &Path) -> Result<(), StoreError> {
        for directory in DIRECTORIES {
            let path = root.join(directory);
            if !path.is_dir() {
                fs::create_dir_all(&path).map_err(|e| StoreError::io("create", &path, e))?;
            }
        }
        for directory in PRIVATE {
            let path = root.join(directory);
            let found = fs::metadata(&path).map_err(|e| StoreError::io("stat", &path, e))?;
            if found.mode() & 0o077 != 0 {
                // Another user's store, which may be looked at, stays as it is.
                let _ignored = fs::set_permissions(&path, Permissions::from_mode(0o700));
            }
        }
        Ok(())
    }

    /// The directory of the store.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The blobs.
    pub fn blobs(&self) -> &BlobStore {
        &self.inner.blobs
    }

    /// The directory of caches that may be lost at any time.
    pub fn hints(&self) -> PathBuf {
        self.inner.root.join("hints")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opening_makes_the_store_once() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("a/b");
        Home::open(&root).unwrap();
        Home::open(&root).unwrap();
        assert_eq!(fs::read_to_string(root.join("FORMAT")).unwrap(), FORMAT);
    }

    #[test]
    fn lost_directories_are_made_again() {
        let directory = tempfile::tempdir().unwrap();
        Home::open(directory.path()).unwrap();
        for name in DIRECTORIES {
            fs::remove_dir(directory.path().join(name)).unwrap();
            Home::open(directory.path()).unwrap();
            assert!(directory.path().join(name).is_dir(), "{name}");
        }
    }

    #[test]
    fn nobody_else_reaches_files_of_images() {
        let directory = tempfile::tempdir().unwrap();
        let mode = |name: &str| fs::metadata(directory.path().join(name)).unwrap().mode() & 0o777;
        Home::open(directory.path()).unwrap();
        assert_eq!((mode("trees"), mode("tmp")), (0o700, 0o700));
        let trees = directory.path().join("trees");
        fs::set_permissions(&trees, Permissions::from_mode(0o755)).unwrap();
        Home::open(directory.path()).unwrap();
        assert_eq!(mode("trees"), 0o700);
    }

    #[test]
    fn another_version_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("FORMAT"), "ashlar home 99\n").unwrap();
        let error = Home::open(directory.path()).unwrap_err();
        assert!(matches!(error, StoreError::Format { .. }), "{error}");
    }

    #[test]
    fn an_unwritable_place_is_named() {
        let error = Home::open(Path::new("/proc/nowhere")).unwrap_err();
        assert!(error.to_string().contains("/proc/nowhere"), "{error}");
    }
}
