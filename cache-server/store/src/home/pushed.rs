//! Where blobs have been pushed, as far as it was last known.
//!
//! A push to another repository of the same registry mounts them from there, and sends nothing. A
//! registry may have removed them meanwhile: it says so, and they are sent.

use std::path::PathBuf;

use ashlar_model::digest::BlobDigest;
use ashlar_model::reference::Reference;

use super::layers::SMALL_RECORD;
use super::{Home, StoreError, record};

/// Repositories that are remembered for one blob.
const REMEMBERED: usize = 8;

impl Home {
    fn pushed_path(&self, blob: &BlobDigest) -> PathBuf {
        self.hints().join("pushed").join(blob.to_hex())
    }

    /// Repositories that a blob was pushed to, the latest first.
    pub fn pushed_to(&self, blob: &BlobDigest) -> Vec<Reference> {
        // Only a hint: one that cannot be read is none.
        let known = record::read(&self.pushed_path(blob));
        known.ok().flatten().unwrap_or_default()
    }

    /// Notes that a repository has a blob.
    pub fn note_pushed(&self, blob: &BlobDigest, repository: &Reference) -> Result<(), StoreError> {
        let mut known = self.pushed_to(blob);
        let is_same = |one: &Reference| one.name() == repository.name();
        if known.first().is_some_and(is_same) {
            return Ok(());
        }
        known.retain(|one| !is_same(one));
        known.insert(0, repository.clone());
        known.truncate(REMEMBERED);
        let _permit = self.admit(SMALL_RECORD)?;
        record::write(&self.pushed_path(blob), &known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_repositories_of_a_blob_are_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let (blob, other) = (BlobDigest::of(b"a"), BlobDigest::of(b"b"));
        assert_eq!(home.pushed_to(&blob), []);
        let reference = |text: &str| text.parse::<Reference>().unwrap();
        for number in 0..10 {
            let name = reference(&format!("example.com/{number}:1"));
            home.note_pushed(&blob, &name).unwrap();
        }
        // A repository is one, whatever its tags.
        home.note_pushed(&blob, &reference("example.com/5:2"))
            .unwrap();
        let names: Vec<String> = home
            .pushed_to(&blob)
            .iter()
            .map(|one| one.repository().to_owned())
            .collect();
        assert_eq!(names, ["5", "9", "8", "7", "6", "4", "3", "2"]);
        assert_eq!(home.pushed_to(&other), []);
    }
}
