//! Directories of contexts that work has left, for the work that comes next.
//!
//! Of two contexts of a namespace, most files are often the same. What a directory already has is not
//! fetched and not made again: it gets a name in the next one. That is less for the farm, and far less
//! for filesystems that make files slowly after many were removed.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ashlar_remote::context::Fetched;
use ashlar_store::home::scratch::Scratch;
use tokio::runtime::Handle;

/// So many directories are kept at most.
const MOST: usize = 4;
/// What all of them may take.
const LIMIT: u64 = 2 << 30;
/// Of what a store may take, no more than one part in so many.
const PART: u64 = 8;

/// A directory with contexts that were fetched. They are removed with it.
#[derive(Debug)]
pub struct Kept {
    /// Holds the directories.
    scratch: Option<Scratch>,
    fetched: Vec<Fetched>,
}

impl Kept {
    /// What is in a directory.
    pub const fn new(scratch: Scratch, fetched: Vec<Fetched>) -> Self {
        Self {
            scratch: Some(scratch),
            fetched,
        }
    }

    /// What is there.
    pub fn fetched(&self) -> &[Fetched] {
        &self.fetched
    }

    /// What it takes.
    fn bytes(&self) -> u64 {
        let bytes = self.fetched.iter().map(|fetched| fetched.listing.bytes());
        bytes.fold(0, u64::saturating_add)
    }
}

impl Drop for Kept {
    /// Removes the files, beside whatever comes next. What cannot be removed, or is left by a worker
    /// that ends, is swept later.
    fn drop(&mut self) {
        let (Some(scratch), Ok(runtime)) = (self.scratch.take(), Handle::try_current()) else {
            return;
        };
        let remove = move || drop(std::fs::remove_dir_all(scratch.path()));
        drop(runtime.spawn_blocking(remove));
    }
}

/// What is kept for all namespaces; what was used last comes first.
#[derive(Debug)]
pub struct KeptContexts {
    limit: u64,
    kept: Mutex<VecDeque<(String, Kept)>>,
}

impl KeptContexts {
    /// Nothing yet. `limit` is what the store of a namespace may take.
    pub fn new(limit: Option<u64>) -> Self {
        Self {
            limit: limit.map_or(LIMIT, |limit| LIMIT.min(limit / PART)),
            kept: Mutex::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<(String, Kept)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps nothing any more.
    pub fn clear(&self) {
        let gone = std::mem::take(&mut *self.kept());
        drop(gone);
    }

    /// Takes out what was kept last for a namespace: nobody else has it then.
    pub fn take(&self, namespace: &str) -> Option<Kept> {
        let mut kept = self.kept();
        let place = kept.iter().position(|(of, _)| of == namespace)?;
        kept.remove(place).map(|(_, kept)| kept)
    }

    /// Keeps something for a namespace, and nothing that was kept for it before. What there is no room
    /// for is removed.
    pub fn put(&self, namespace: &str, new: Kept) {
        let mut gone = Vec::new();
        let mut kept = self.kept();
        while let Some(place) = kept.iter().position(|(of, _)| of == namespace) {
            gone.extend(kept.remove(place));
        }
        kept.push_front((namespace.to_owned(), new));
        let bytes = |kept: &VecDeque<(String, Kept)>| {
            let each = kept.iter().map(|(_, kept)| kept.bytes());
            each.fold(0, u64::saturating_add)
        };
        while kept.len() > MOST || bytes(&kept) > self.limit {
            gone.extend(kept.pop_back());
        }
        drop(kept);
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use ashlar_store::home::Home;

    use super::*;

    fn kept(home: &Home) -> (Kept, std::path::PathBuf) {
        let scratch = home.scratch().unwrap();
        let path = scratch.path().to_owned();
        (Kept::new(scratch, Vec::new()), path)
    }

    #[tokio::test]
    async fn each_namespace_has_what_it_left_last() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let all = KeptContexts::new(None);
        assert!(all.take("a").is_none());
        let (first, gone) = kept(&home);
        all.put("a", first);
        let (second, path) = kept(&home);
        all.put("a", second);
        let taken = all.take("a").expect("it was kept");
        assert!(all.take("a").is_none(), "two have it");
        all.put("a", taken);
        for other in ["b", "c", "d"] {
            all.put(other, kept(&home).0);
        }
        assert!(path.exists());
        // There is no room for five.
        all.put("e", kept(&home).0);
        assert!(all.take("a").is_none());
        assert!(all.take("b").is_some());
        // They are removed beside.
        for path in [gone, path] {
            while path.exists() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
    }
}
