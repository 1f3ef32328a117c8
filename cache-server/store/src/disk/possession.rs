//! Who has shown which blobs.

use std::sync::Arc;

use ashlar_model::cas::CasDigest;
use ashlar_model::executor::BoxFuture;

use super::key::Key;
use super::writer::Work;
use super::{DiskStore, blocking, holders};
use crate::blob_store::is_empty_blob;
use crate::fault::Fault;
use crate::possession::Possession;

impl DiskStore {
    /// Those of some blobs that one of some namespaces holds; they count as used.
    async fn held_among(
        &self,
        namespaces: Vec<String>,
        keys: Vec<Key>,
    ) -> Result<Vec<bool>, Fault> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let (held, entries) = shared.index.read(|index| {
                let held = index.with(|at| holders::any_holds(at, &namespaces, &keys))?;
                let theirs = keys.iter().zip(&held).filter(|(_, is_held)| **is_held);
                let theirs: Vec<Key> = theirs.map(|(key, _)| key.clone()).collect();
                let entries = index.entries(&theirs)?;
                Ok((held, theirs.into_iter().zip(entries).collect::<Vec<_>>()))
            })?;
            let there = entries.iter();
            shared.used(there.filter_map(|(key, entry)| Some((key, (*entry)?))));
            Ok(held)
        })
        .await
    }
}

impl Possession for DiskStore {
    fn held<'a>(
        &'a self,
        namespaces: &'a [String],
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<bool>, Fault>> {
        Box::pin(async move {
            let keys = blobs.iter().map(Key::blob).collect();
            let mut held = self.held_among(namespaces.to_vec(), keys).await?;
            for (is_held, blob) in held.iter_mut().zip(blobs) {
                *is_held |= is_empty_blob(blob);
            }
            Ok(held)
        })
    }

    fn note<'a>(
        &'a self,
        namespace: &'a str,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            // Noting again costs no write.
            let mut blobs: Vec<Key> = blobs.iter().map(Key::blob).collect();
            let held = self
                .held_among(vec![namespace.to_owned()], blobs.clone())
                .await?;
            let mut held = held.into_iter();
            blobs.retain(|_| held.next() == Some(false));
            if !blobs.is_empty() {
                let namespace = namespace.to_owned();
                self.work(Work::Note { namespace, blobs }).await?;
            }
            Ok(())
        })
    }

    fn bytes<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<u64, Fault>> {
        Box::pin(async move {
            let (shared, namespace) = (Arc::clone(&self.shared), namespace.to_owned());
            blocking(move || {
                shared
                    .index
                    .read(|index| index.with(|at| holders::bytes_of(at, &namespace)))
            })
            .await
        })
    }

    fn largest(&self, most: usize) -> BoxFuture<'_, Result<Vec<(String, u64)>, Fault>> {
        Box::pin(async move {
            let shared = Arc::clone(&self.shared);
            blocking(move || {
                let mut all = shared.index.read(|index| index.with(holders::all))?;
                all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
                all.truncate(most);
                Ok(all)
            })
            .await
        })
    }

    /// What leaves the store is held by nobody from the same commit on.
    fn implies_presence(&self) -> bool {
        true
    }
}
