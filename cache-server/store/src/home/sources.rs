//! What was fetched from elsewhere: files of URLs, git repositories, their checkouts, archives.
//!
//! ```text
//! sources/http/<key>/record              what a URL gave; the file itself is a blob
//! sources/git/<key>/record, repository/  a bare repository with what was fetched of a remote
//! sources/tree/<key>/record, tree/       files of a commit, of an archive, or the one of a URL
//! ```
//!
//! Keys are hashes of what names the source. An entry with a record is whole; one without is
//! garbage. The record's times are those of the entry's last use (see [`gc`](super::gc)).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ashlar_model::digest::BlobDigest;
use ashlar_model::layer::Timestamp;
use serde::{Deserialize, Serialize};

use super::layers::SMALL_RECORD;
use super::quota::Claim;
use super::{Home, StoreError, record};

/// Context of the hashes that name entries.
const KEY_CONTEXT: &str = "ashlar 2026-11 source of files v1";

/// What kind of source an entry is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceClass {
    /// What a URL gave.
    Http,
    /// A git repository.
    Git,
    /// Files of a commit or of an archive.
    Tree,
}

impl SourceClass {
    /// All classes.
    pub const ALL: [Self; 3] = [Self::Http, Self::Git, Self::Tree];

    const fn directory(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Git => "git",
            Self::Tree => "tree",
        }
    }
}

/// Names one entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceKey {
    class: SourceClass,
    name: String,
}

impl SourceKey {
    /// The entry of what these words name together.
    pub fn new(class: SourceClass, words: &[&str]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(KEY_CONTEXT);
        for word in words {
            hasher.update(&(word.len() as u64).to_le_bytes());
            hasher.update(word.as_bytes());
        }
        let name = hasher.finalize().to_hex()[..40].to_owned();
        Self { class, name }
    }
}

/// What a URL gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRecord {
    /// The URL, without credentials.
    pub what: String,
    /// Digest of the file's bytes, by which they are a blob of the store.
    pub blob: BlobDigest,
    /// How many bytes.
    pub size: u64,
    /// The `ETag`, whole.
    pub etag: Option<String>,
    /// `Last-Modified` as the server wrote it, where it is good enough to tell versions apart.
    pub last_modified: Option<String>,
    /// When the file was last modified, if the server said so.
    pub modified: Option<Timestamp>,
}

/// A directory that was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryRecord {
    /// Where it came from, without credentials.
    pub what: String,
    /// The time that stands for the whole: that of the commit, or of an archive's newest file.
    pub time: Option<Timestamp>,
}

impl Home {
    /// The directory of an entry. May not exist.
    pub fn source_path(&self, key: &SourceKey) -> PathBuf {
        self.root()
            .join("sources")
            .join(key.class.directory())
            .join(&key.name)
    }

    /// The lock of an entry: held by whoever makes or changes it.
    pub fn source_lock_path(&self, key: &SourceKey) -> PathBuf {
        let class = key.class.directory();
        self.root()
            .join("locks")
            .join(format!("source-{class}-{}", key.name))
    }

    /// What a URL gave; `None` if nothing is known.
    pub fn http_source(&self, key: &SourceKey) -> Result<Option<HttpRecord>, StoreError> {
        self.claim_source(key)?;
        let found: Option<HttpRecord> = record::read_used(&self.source_path(key).join("record"))?;
        if let Some(found) = &found {
            self.claim(&[Claim::Blob(found.blob)])?;
        }
        Ok(found)
    }

    /// Keeps an entry from being evicted, there or not.
    fn claim_source(&self, key: &SourceKey) -> Result<(), StoreError> {
        let source = format!("{}/{}", key.class.directory(), key.name);
        self.claim(&[Claim::Source(source)])
    }

    /// Notes what a URL gave.
    pub fn put_http_source(&self, key: &SourceKey, known: &HttpRecord) -> Result<(), StoreError> {
        self.claim_source(key)?;
        self.claim(&[Claim::Blob(known.blob)])?;
        let _permit = self.admit(2 * SMALL_RECORD)?;
        record::write(&self.source_path(key).join("record"), known)
    }

    /// A directory that was fetched before, and its record; `None` if it was not, or not to its
    /// end.
    pub fn source_directory(
        &self,
        key: &SourceKey,
    ) -> Result<Option<(PathBuf, DirectoryRecord)>, StoreError> {
        self.claim_source(key)?;
        let path = self.source_path(key);
        let known: Option<DirectoryRecord> = record::read_used(&path.join("record"))?;
        let directory = path.join(directory_name(key.class));
        Ok(known
            .filter(|_| directory.is_dir())
            .map(|known| (directory, known)))
    }

    /// Takes a directory in that was made on the store's filesystem. The caller holds the entry's
    /// lock. Returns where it is now.
    pub fn put_source_directory(
        &self,
        key: &SourceKey,
        made: &Path,
        known: &DirectoryRecord,
    ) -> Result<PathBuf, StoreError> {
        self.claim_source(key)?;
        let _permit = self.admit(2 * SMALL_RECORD)?;
        let path = self.source_path(key);
        fs::create_dir_all(&path).map_err(|e| StoreError::io("create", &path, e))?;
        let directory = path.join(directory_name(key.class));
        // Without a record it is what a crash has left.
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(StoreError::io("remove", &directory, error));
            }
            _ => {}
        }
        fs::rename(made, &directory).map_err(|e| StoreError::io("rename", made, e))?;
        record::write(&path.join("record"), known)?;
        Ok(directory)
    }

    /// Drops an entry that turned out to be damaged.
    pub fn forget_source(&self, key: &SourceKey) -> Result<(), StoreError> {
        let path = self.source_path(key).join("record");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(StoreError::io("remove", &path, error))
            }
            _ => Ok(()),
        }
    }
}

const fn directory_name(class: SourceClass) -> &'static str {
    match class {
        SourceClass::Git => "repository",
        SourceClass::Http | SourceClass::Tree => "tree",
    }
}

/// All entries: where each is, whole or not.
pub(super) fn list(home: &Home) -> Result<Vec<PathBuf>, StoreError> {
    let mut entries = Vec::new();
    for class in SourceClass::ALL {
        let directory = home.root().join("sources").join(class.directory());
        let names = match super::layers::list_names(&directory, |name| Some(name.to_owned())) {
            // Made when the first source is.
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => continue,
            names => names?,
        };
        entries.extend(names.into_iter().map(|name| directory.join(name)));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record_of(what: &str) -> DirectoryRecord {
        DirectoryRecord {
            what: what.to_owned(),
            time: None,
        }
    }

    #[test]
    fn words_do_not_run_into_each_other() {
        let key = |words: &[&str]| SourceKey::new(SourceClass::Tree, words);
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a"]), SourceKey::new(SourceClass::Git, &["a"]));
    }

    #[test]
    fn a_directory_without_record_counts_as_absent() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let key = SourceKey::new(SourceClass::Tree, &["x"]);
        let make = |name: &str| {
            let scratch = home.scratch().unwrap();
            let made = scratch.path().join("made");
            fs::create_dir(&made).unwrap();
            fs::write(made.join(name), "").unwrap();
            home.put_source_directory(&key, &made, &record_of(name))
                .unwrap()
        };
        assert_eq!(home.source_directory(&key).unwrap(), None);
        let tree = make("one");
        assert!(tree.join("one").is_file());
        home.forget_source(&key).unwrap();
        assert_eq!(home.source_directory(&key).unwrap(), None);
        let tree = make("two");
        assert!(tree.join("two").is_file() && !tree.join("one").exists());
        let found = home.source_directory(&key).unwrap();
        assert_eq!(found, Some((tree, record_of("two"))));
        assert_eq!(list(&home).unwrap(), [home.source_path(&key)]);
    }
}
