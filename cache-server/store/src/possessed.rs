//! A store as one sees it who gets only the blobs whose bytes have been shown.
//!
//! What the namespaces of a view do not hold is not there for it, whoever else has it: it is
//! missing, it is read in the same words as what is nowhere, and whoever sends its bytes has to send
//! all of them. A store below may pass over the bytes of a blob that it has; here they are hashed to
//! the end before the blob counts as held.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use ashlar_model::cas::CasDigest;
use ashlar_model::executor::BoxFuture;
use bytes::Bytes;
use futures::{StreamExt as _, stream};

use crate::blob_store::{BlobStore, ByteRange, ByteStream};
use crate::checked::{check, checked};
use crate::fault::Fault;
use crate::possession::Possession;

/// A store as some namespaces see it.
#[derive(Debug)]
pub struct Possessed {
    blobs: Arc<dyn BlobStore>,
    possession: Arc<dyn Possession>,
    /// Those whose blobs are seen; what is written is the first one's.
    namespaces: Vec<String>,
}

impl Possessed {
    /// What `own` and `reads` hold of `blobs`. What is written is `own`'s.
    pub fn new(
        blobs: Arc<dyn BlobStore>,
        possession: Arc<dyn Possession>,
        own: String,
        reads: impl IntoIterator<Item = String>,
    ) -> Self {
        Self {
            blobs,
            possession,
            namespaces: [own].into_iter().chain(reads).collect(),
        }
    }

    /// Whose what is written is.
    fn own(&self) -> &str {
        self.namespaces.first().map_or("", String::as_str)
    }

    async fn held(&self, blobs: &[CasDigest]) -> Result<Vec<bool>, Fault> {
        self.possession.held(&self.namespaces, blobs).await
    }

    /// Writes a blob that may be there already, but not for these namespaces.
    async fn write_checked(&self, blob: &CasDigest, bytes: ByteStream) -> Result<(), Fault> {
        let shared = Arc::new(Mutex::new(checked(blob, bytes).fuse()));
        let ours = shared.clone();
        let mut bytes: ByteStream = Box::pin(stream::poll_fn(move |context| {
            let mut bytes = ours.lock().unwrap_or_else(PoisonError::into_inner);
            bytes.poll_next_unpin(context)
        }));
        let theirs = Box::pin(stream::poll_fn(move |context| {
            let mut bytes = shared.lock().unwrap_or_else(PoisonError::into_inner);
            bytes.poll_next_unpin(context)
        }));
        self.blobs.write(blob, theirs).await?;
        // What the store did not want to see has to be right all the same.
        while let Some(piece) = bytes.next().await {
            piece?;
        }
        self.possession.note(self.own(), &[*blob]).await
    }

    async fn read_held(&self, blobs: &[CasDigest]) -> Result<Vec<Result<Bytes, Fault>>, Fault> {
        let held = self.held(blobs).await?;
        let theirs = theirs(blobs, &held);
        let mut read = if theirs.is_empty() {
            Vec::new()
        } else {
            self.blobs.read_many(&theirs).await
        }
        .into_iter();
        let answers = blobs.iter().zip(held).map(|(blob, is_held)| {
            let read = if is_held { read.next() } else { None };
            read.unwrap_or_else(|| Err(Fault::not_found(blob)))
        });
        Ok(answers.collect())
    }
}

/// Those of some blobs that are held.
fn theirs(blobs: &[CasDigest], held: &[bool]) -> Vec<CasDigest> {
    let held = blobs.iter().zip(held).filter(|(_, is_held)| **is_held);
    held.map(|(blob, _)| *blob).collect()
}

/// Those of some blobs that are not held, or are gone.
fn absent(blobs: &[CasDigest], held: &[bool], gone: Vec<CasDigest>) -> Vec<CasDigest> {
    let gone: HashSet<_> = gone.into_iter().collect();
    let absent = blobs.iter().zip(held);
    let absent = absent.filter(|(blob, is_held)| !**is_held || gone.contains(blob));
    absent.map(|(blob, _)| *blob).collect()
}

impl BlobStore for Possessed {
    fn missing<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        Box::pin(async move {
            let held = self.held(blobs).await?;
            if self.possession.implies_presence() {
                let missing = blobs.iter().zip(held).filter(|(_, is_held)| !is_held);
                return Ok(missing.map(|(blob, _)| *blob).collect());
            }
            let gone = self.blobs.missing(&theirs(blobs, &held)).await?;
            Ok(absent(blobs, &held, gone))
        })
    }

    fn look<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        Box::pin(async move {
            let held = self.held(blobs).await?;
            let gone = self.blobs.look(&theirs(blobs, &held)).await?;
            Ok(absent(blobs, &held, gone))
        })
    }

    fn read<'a>(
        &'a self,
        blob: &'a CasDigest,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
        Box::pin(async move {
            if self.held(std::slice::from_ref(blob)).await? == [true] {
                self.blobs.read(blob, range).await
            } else {
                Err(Fault::not_found(blob))
            }
        })
    }

    fn write<'a>(
        &'a self,
        blob: &'a CasDigest,
        bytes: ByteStream,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(self.write_checked(blob, bytes))
    }

    fn read_many<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Vec<Result<Bytes, Fault>>> {
        Box::pin(async move {
            let read = self.read_held(blobs).await;
            read.unwrap_or_else(|fault| blobs.iter().map(|_| Err(again(&fault))).collect())
        })
    }

    fn write_many<'a>(
        &'a self,
        blobs: Vec<(CasDigest, Bytes)>,
    ) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        Box::pin(async move {
            let mut answers = Vec::with_capacity(blobs.len());
            let mut sound = Vec::new();
            for (blob, bytes) in blobs {
                let checked = check(&blob, &bytes);
                if checked.is_ok() {
                    sound.push((blob, bytes));
                }
                answers.push((blob, checked));
                // Hashing takes no turn of its own.
                tokio::task::yield_now().await;
            }
            let mut written = self.blobs.write_many(sound).await.into_iter();
            let mut shown = Vec::new();
            for (blob, answer) in &mut answers {
                if answer.is_ok() {
                    if let Some(written) = written.next() {
                        *answer = written;
                    }
                    if answer.is_ok() {
                        shown.push(*blob);
                    }
                }
            }
            let noted = if shown.is_empty() {
                Ok(())
            } else {
                self.possession.note(self.own(), &shown).await
            };
            let answers = answers.into_iter();
            let answers = answers.map(|(_, answer)| match (&noted, answer) {
                (Err(fault), Ok(())) => Err(again(fault)),
                (_, answer) => answer,
            });
            answers.collect()
        })
    }
}

/// One fault that many are told of.
fn again(fault: &Fault) -> Fault {
    Fault::new(fault.kind, crate::fault::in_one_line(fault))
}

#[cfg(test)]
mod tests {
    use ashlar_model::cas::DigestFunction;

    use super::*;
    use crate::blob_store::{collect, once};
    use crate::conformance;
    use crate::disk::{DiskSettings, DiskStore};
    use crate::fault::FaultKind;
    use crate::memory::MemoryStore;

    const OURS: &str = "acme/web/pr/17";
    const MAIN: &str = "acme/web/main";
    const THEIRS: &str = "other/team";

    fn view(store: &Arc<impl BlobStore + Possession + 'static>, own: &str) -> Possessed {
        let reads = (own == OURS).then(|| MAIN.to_owned());
        Possessed::new(store.clone(), store.clone(), own.to_owned(), reads)
    }

    fn in_memory() -> ((), Arc<Possessed>) {
        let store = Arc::new(MemoryStore::new(1 << 30));
        ((), Arc::new(view(&store, OURS)))
    }

    fn on_disk() -> (tempfile::TempDir, Arc<DiskStore>) {
        let directory = tempfile::tempdir().unwrap();
        let settings = DiskSettings::default();
        let clock = crate::clock::system();
        let store = DiskStore::open(directory.path(), settings, clock).unwrap();
        (directory, Arc::new(store))
    }

    fn over_disk() -> (tempfile::TempDir, Arc<Possessed>) {
        let (directory, store) = on_disk();
        (directory, Arc::new(view(&store, OURS)))
    }

    conformance::blob_store_tests!(memory, std::future::ready(in_memory()));
    conformance::blob_store_tests!(disk, std::future::ready(over_disk()));

    async fn nobodys_eyes_reach_further<S: BlobStore + Possession + 'static>(store: Arc<S>) {
        let (ours, main, theirs) = (view(&store, OURS), view(&store, MAIN), view(&store, THEIRS));
        let bytes = Bytes::from(vec![7; 3000]);
        let blob = CasDigest::of(DigestFunction::Blake3, &bytes);
        let unknown = CasDigest::of(DigestFunction::Blake3, b"unknown");
        main.write(&blob, once(bytes.clone())).await.unwrap();

        for sees in [&main, &ours] {
            assert_eq!(sees.missing(&[unknown, blob]).await.unwrap(), [unknown]);
            let read = sees.read(&blob, ByteRange::WHOLE).await.unwrap();
            assert_eq!(collect(read, 3000).await.unwrap(), bytes);
        }
        assert_eq!(
            theirs.missing(&[unknown, blob]).await.unwrap(),
            [unknown, blob]
        );
        let told = |fault: Fault, blob: &CasDigest| {
            assert_eq!(fault.kind, FaultKind::NotFound);
            fault.to_string().replace(&blob.to_string(), "it")
        };
        let mut words = Vec::new();
        for asked in [blob, unknown] {
            let fault = theirs.read(&asked, ByteRange::WHOLE).await.err().unwrap();
            words.push(told(fault, &asked));
            let fault = theirs.read_many(&[asked]).await.remove(0).unwrap_err();
            words.push(told(fault, &asked));
        }
        assert!(words.iter().all(|word| word == &words[0]), "{words:?}");

        // Wrong bytes get nobody a blob, though the store below has it.
        let wrong = Bytes::from(vec![8; 3000]);
        let fault = theirs.write(&blob, once(wrong.clone())).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Invalid);
        let fault = theirs
            .write(&blob, once(bytes.slice(1..)))
            .await
            .unwrap_err();
        assert_eq!(fault.kind, FaultKind::Invalid);
        let fault = theirs.write_many(vec![(blob, wrong)]).await.remove(0);
        assert_eq!(fault.unwrap_err().kind, FaultKind::Invalid);
        assert_eq!(theirs.missing(&[blob]).await.unwrap(), [blob]);
        assert_eq!(store.bytes(THEIRS).await.unwrap(), 0);

        // The right ones do; and what somebody writes is not his namesake's above.
        theirs.write(&blob, once(bytes.clone())).await.unwrap();
        assert_eq!(theirs.missing(&[blob]).await.unwrap(), []);
        assert_eq!(store.bytes(THEIRS).await.unwrap(), 3000);
        let more = Bytes::from_static(b"of the pull request");
        let own = CasDigest::of(DigestFunction::Blake3, &more);
        let written = ours.write_many(vec![(own, more.clone())]).await;
        assert!(written.iter().all(Result::is_ok), "{written:?}");
        assert_eq!(ours.read_many(&[own]).await.remove(0).unwrap(), more);
        assert_eq!(main.missing(&[own]).await.unwrap(), [own]);
    }

    #[tokio::test]
    async fn in_memory_nobodys_eyes_reach_further() {
        nobodys_eyes_reach_further(Arc::new(MemoryStore::new(1 << 30))).await;
    }

    #[tokio::test]
    async fn on_disk_nobodys_eyes_reach_further() {
        let (_directory, store) = on_disk();
        nobodys_eyes_reach_further(store).await;
    }
}
