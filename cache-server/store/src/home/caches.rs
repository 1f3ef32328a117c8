//! Directories of cache mounts: what steps keep for later steps and builds, and no result holds.
//!
//! ```text
//! caches/<id map>/<id>-<beginning>/
//!   name          the cache's id, for people
//!   0/            its files, owned as that id map has it
//!   0.lock        shared by those who use them, or held by one alone
//!   1/, 1.lock    another copy, for steps that share with nobody
//! ```
//!
//! `<id>` and `<beginning>` are hashes, the latter of what the cache held at first and whose it
//! is: caches that began differently are different caches. A directory comes to its name whole.
//! Lock files stay, so that a lock is never held on a file that nobody else can see; all goes only
//! when nobody uses the store ([`gc`](super::gc)).

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::layers::list_names;
use super::{Home, StoreError, record};

/// How many bytes of a hash a name has.
const NAME_BYTES: usize = 16;

/// One cache: a directory with its copies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cache {
    directory: PathBuf,
}

/// Holds a copy of a cache against those who would use it otherwise; until it is dropped, or the
/// process ends in whatever way.
#[derive(Debug)]
pub struct CacheLock {
    _file: File,
}

impl Home {
    /// The directory of all caches.
    pub fn caches_directory(&self) -> PathBuf {
        self.root().join("caches")
    }

    /// The cache of an id that began in some way, for an id map. Nothing is made but the
    /// directory for its copies.
    pub fn cache(
        &self,
        id_map: &str,
        id: &str,
        beginning: &blake3::Hash,
    ) -> Result<Cache, StoreError> {
        let begin = name_of(beginning);
        let directory = self
            .caches_directory()
            .join(id_map)
            .join(format!("{}-{begin}", name_of(&blake3::hash(id.as_bytes()))));
        fs::create_dir_all(&directory).map_err(|e| StoreError::io("create", &directory, e))?;
        let name = directory.join("name");
        if !name.exists() {
            record::write_atomically(&name, id.as_bytes())?;
        }
        Ok(Cache { directory })
    }

    /// All caches of an id for an id map, whatever they began with.
    pub fn caches_of(&self, id_map: &str, id: &str) -> Result<Vec<Cache>, StoreError> {
        let prefix = format!("{}-", name_of(&blake3::hash(id.as_bytes())));
        let parent = self.caches_directory().join(id_map);
        list_names(&parent, |name| {
            name.starts_with(&prefix).then(|| Cache {
                directory: parent.join(name),
            })
        })
    }

    /// All caches for all id maps.
    pub fn caches(&self) -> Result<Vec<Cache>, StoreError> {
        let root = self.caches_directory();
        let mut caches = Vec::new();
        for id_map in list_names(&root, |name| Some(root.join(name)))? {
            caches.extend(list_names(&id_map, |name| {
                Some(Cache {
                    directory: id_map.join(name),
                })
            })?);
        }
        Ok(caches)
    }
}

impl Cache {
    /// Where it lies, with all its copies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The id that it was made for, as far as it can be read.
    pub fn id(&self) -> String {
        let bytes = fs::read(self.directory.join("name")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Where the files of a copy are, or will be.
    pub fn files(&self, copy: u32) -> PathBuf {
        self.directory.join(copy.to_string())
    }

    /// The copies whose files are there.
    pub fn copies(&self) -> Result<Vec<u32>, StoreError> {
        list_names(&self.directory, |name| name.parse().ok())
    }

    /// Uses a copy beside others who do; `None` if somebody holds it alone.
    pub fn try_share(&self, copy: u32) -> Result<Option<CacheLock>, StoreError> {
        self.try_lock(copy, FlockOperation::NonBlockingLockShared)
    }

    /// Uses a copy alone; `None` if somebody uses it.
    pub fn try_hold(&self, copy: u32) -> Result<Option<CacheLock>, StoreError> {
        self.try_lock(copy, FlockOperation::NonBlockingLockExclusive)
    }

    fn try_lock(
        &self,
        copy: u32,
        operation: FlockOperation,
    ) -> Result<Option<CacheLock>, StoreError> {
        let path = self.directory.join(format!("{copy}.lock"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| StoreError::io("lock", &path, e))?;
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(Some(CacheLock { _file: file })),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(errno) => return Err(StoreError::io("lock", &path, errno.into())),
            }
        }
    }
}

fn name_of(hash: &blake3::Hash) -> String {
    hash.to_hex().chars().take(2 * NAME_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(home: &Home, id_map: &str, id: &str, beginning: &str) -> Cache {
        home.cache(id_map, id, &blake3::hash(beginning.as_bytes()))
            .unwrap()
    }

    #[test]
    fn caches_are_told_apart_by_map_id_and_beginning() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let all = [
            cache(&home, "one", "a", ""),
            cache(&home, "many", "a", ""),
            cache(&home, "one", "b", ""),
            cache(&home, "one", "a", "seed"),
        ];
        for (number, one) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|other| other == one), Some(number));
        }
        assert_eq!(cache(&home, "one", "a", ""), all[0]);
        assert_eq!(home.caches().unwrap().len(), 4);
        assert_eq!(home.caches_of("one", "a").unwrap().len(), 2);
        assert_eq!(all[2].id(), "b");
        assert!(home.caches_of("none", "a").unwrap().is_empty());
    }

    #[test]
    fn a_copy_is_shared_by_many_or_held_by_one() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let cache = cache(&home, "map", "a", "");
        let shared = cache.try_share(0).unwrap().unwrap();
        let also = cache.try_share(0).unwrap().unwrap();
        assert!(cache.try_hold(0).unwrap().is_none());
        assert!(cache.try_hold(1).unwrap().is_some());
        drop((shared, also));
        let held = cache.try_hold(0).unwrap().unwrap();
        assert!(cache.try_share(0).unwrap().is_none());
        drop(held);
        assert!(cache.try_share(0).unwrap().is_some());
    }

    #[test]
    fn copies_are_what_has_files() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let cache = cache(&home, "map", "a", "");
        drop(cache.try_hold(3).unwrap());
        assert!(cache.copies().unwrap().is_empty());
        fs::create_dir(cache.files(3)).unwrap();
        assert_eq!(cache.copies().unwrap(), [3]);
    }
}
