//! The stores of this worker: one for each namespace, so that results and cache mounts of teams
//! never meet.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ashlar_store::home::{Home, StoreError};

/// The longest part of a namespace's name that is part of its directory's.
const SHOWN: usize = 40;

/// All stores below one directory.
#[derive(Debug)]
pub struct Homes {
    root: PathBuf,
    limit: Option<u64>,
    limited: Mutex<BTreeSet<String>>,
}

impl Homes {
    /// Stores below `root`, each of which takes no more than `limit`. Nothing is opened.
    pub fn new(root: PathBuf, limit: Option<u64>) -> Self {
        Self {
            root,
            limit,
            limited: Mutex::default(),
        }
    }

    /// The directory of them all.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How much each of them may take.
    pub const fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// The store of a namespace, made if there is none. Each piece of work opens it for itself: what
    /// one uses may be evicted when it has ended, whoever else is at work.
    pub fn of(&self, namespace: &str) -> Result<Home, StoreError> {
        let home = Home::open(&self.root.join(directory(namespace)))?;
        let mut limited = self.limited.lock().unwrap_or_else(PoisonError::into_inner);
        if !limited.contains(namespace) {
            home.set_quota(self.limit)?;
            limited.insert(namespace.to_owned());
        }
        Ok(home)
    }

    /// The stores that are there, also those of an earlier worker.
    pub fn all(&self) -> Vec<Home> {
        let Ok(found) = std::fs::read_dir(&self.root) else {
            return Vec::new();
        };
        let directories = found.filter_map(|entry| Some(entry.ok()?.path()));
        let homes = directories.filter(|path| path.join("FORMAT").is_file());
        homes.filter_map(|path| Home::open(&path).ok()).collect()
    }
}

/// The name of a namespace's directory: for people, and its hash, for names are longer than file
/// names may be, and have characters that these may not have.
pub fn directory(namespace: &str) -> String {
    let word = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    let shown: String = namespace.chars().map(word).take(SHOWN).collect();
    let hash = blake3::hash(namespace.as_bytes()).to_hex();
    let shown = if shown.is_empty() { "main" } else { &shown };
    format!("{shown}-{}", &hash[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_namespace_has_a_store_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let homes = Homes::new(root.path().to_owned(), Some(100 << 20));
        let (one, again) = (homes.of("acme/web").unwrap(), homes.of("acme/web").unwrap());
        assert_eq!(one.root(), again.root());
        assert_eq!(one.quota().unwrap(), Some(100 << 20));
        let other = homes.of("acme_web").unwrap();
        assert_ne!(one.root(), other.root());
        let homes = Homes::new(root.path().to_owned(), None);
        assert_eq!(homes.all().len(), 2);
        assert_eq!(homes.of("acme/web").unwrap().quota().unwrap(), None);
    }

    #[test]
    fn names_of_directories_are_harmless() {
        assert!(directory("").starts_with("main-"));
        let name = directory(&"../é/".repeat(100));
        assert!(name.len() < 60 && name.starts_with("______"), "{name}");
    }
}
