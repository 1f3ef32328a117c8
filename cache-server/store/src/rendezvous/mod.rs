//! The near tiers of several servers as one.
//!
//! Each blob has an *owner* among the servers: the one with the largest hash of the blob and the
//! server's address (rendezvous hashing). All servers that know the same members agree upon it, and
//! if one comes or goes, only its own blobs get another. The owner keeps near what it was asked for;
//! the others ask the owner, and keep nothing. So a blob is fetched from far away once, and lies near
//! once.
//!
//! The far store alone counts. An owner that is away, slow or wrong costs a moment: the blob comes
//! from far away then, and that owner is not asked for some seconds.
//!
//! | module | subject |
//! |---|---|
//! | [`members`] | who is there, by names that are looked up again and again |
//! | `peer` | one other server, and when it is not asked |

pub mod members;
mod peer;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ashlar_model::cas::CasDigest;
use ashlar_model::executor::BoxFuture;
use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt as _, stream};

use crate::blob_store::{BlobStore, ByteRange, ByteStream, bounds, collect_part, once};
use crate::checked::checked;
use crate::fault::{Fault, FaultKind};
use members::{Members, Owner};
use peer::Peer;

/// Blobs up to this length come from their owner whole, before anything of them is given on.
const WHOLE: u64 = 1 << 20;

/// The near tiers of several servers in front of one far store.
#[derive(Debug)]
pub struct Rendezvous {
    /// This server's own: near in front of far.
    own: Arc<dyn BlobStore>,
    far: Arc<dyn BlobStore>,
    members: Arc<Members>,
}

impl Rendezvous {
    /// Blobs of this server are read through `own`, whatever else through its owner, or from `far`.
    pub fn new(own: Arc<dyn BlobStore>, far: Arc<dyn BlobStore>, members: Arc<Members>) -> Self {
        Self { own, far, members }
    }

    /// A large blob from its owner, which goes on from far away if the owner leaves.
    async fn stream(
        &self,
        peer: &Arc<Peer>,
        blob: &CasDigest,
        range: ByteRange,
    ) -> Result<ByteStream, Fault> {
        let (start, end) = bounds(blob, range)?;
        let from_peer = peer.read(blob, range).await?;
        let state = Resumed {
            bytes: from_peer,
            far: Some(self.far.clone()),
            blob: *blob,
            position: start,
            end,
        };
        let bytes: ByteStream = Box::pin(stream::try_unfold(state, |mut state| async move {
            let piece = state.next().await?;
            Ok(piece.map(|piece| (piece, state)))
        }));
        Ok(if end - start == blob.size {
            // Of two sources each is checked at most by itself.
            checked(blob, bytes)
        } else {
            bytes
        })
    }
}

/// A stream that has another source if its own breaks.
struct Resumed {
    bytes: ByteStream,
    /// Taken when it is used.
    far: Option<Arc<dyn BlobStore>>,
    blob: CasDigest,
    position: u64,
    end: u64,
}

impl Resumed {
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            let fault = match self.bytes.next().await {
                Some(Ok(piece)) => {
                    self.position += piece.len() as u64;
                    return Ok(Some(piece));
                }
                None if self.position >= self.end => return Ok(None),
                None => Fault::invalid(format!("{} ended early", self.blob)),
                Some(Err(fault)) => fault,
            };
            // Bytes that are wrong are not made right by what follows.
            let has_left = fault.kind == FaultKind::Unavailable;
            let Some(far) = self.far.take().filter(|_| has_left) else {
                return Err(fault);
            };
            let rest = ByteRange {
                offset: self.position,
                limit: Some(self.end.saturating_sub(self.position)),
            };
            self.bytes = far.read(&self.blob, rest).await?;
        }
    }
}

impl BlobStore for Rendezvous {
    fn missing<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        self.far.missing(blobs)
    }

    fn look<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        self.far.look(blobs)
    }

    fn read<'a>(
        &'a self,
        blob: &'a CasDigest,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
        Box::pin(async move {
            let (start, end) = bounds(blob, range)?;
            let peer = match self.members.owner(blob) {
                Owner::Own => return self.own.read(blob, range).await,
                Owner::Nobody => return self.far.read(blob, range).await,
                Owner::Peer(peer) => peer,
            };
            let read = if blob.size <= WHOLE {
                let whole = async {
                    let bytes = peer.read(blob, range).await?;
                    peer.heard(collect_part(bytes, end - start).await)
                };
                whole.await.map(once)
            } else {
                self.stream(&peer, blob, range).await
            };
            match read {
                Ok(bytes) => Ok(bytes),
                // Whatever the owner says: only the far store knows what is not there.
                Err(_) => self.far.read(blob, range).await,
            }
        })
    }

    fn write<'a>(
        &'a self,
        blob: &'a CasDigest,
        bytes: ByteStream,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        match self.members.owner(blob) {
            Owner::Own => self.own.write(blob, bytes),
            Owner::Peer(_) | Owner::Nobody => self.far.write(blob, bytes),
        }
    }

    fn read_many<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Vec<Result<Bytes, Fault>>> {
        Box::pin(async move {
            // By owner: the places of its blobs among the questions.
            let mut groups: Vec<(Owner, Vec<usize>)> = Vec::new();
            for (at, blob) in blobs.iter().enumerate() {
                let owner = self.members.owner(blob);
                match groups.iter_mut().find(|(known, _)| known.is(&owner)) {
                    Some((_, places)) => places.push(at),
                    None => groups.push((owner, vec![at])),
                }
            }
            let read = groups.into_iter().map(|(owner, places)| async move {
                let wanted: Vec<CasDigest> = places
                    .iter()
                    .filter_map(|at| blobs.get(*at).copied())
                    .collect();
                let read = match owner {
                    Owner::Own => self.own.read_many(&wanted).await,
                    Owner::Nobody => self.far.read_many(&wanted).await,
                    Owner::Peer(peer) => self.read_many_from(&peer, &wanted).await,
                };
                (places, read)
            });
            let mut answers: Vec<Result<Bytes, Fault>> = blobs
                .iter()
                .map(|blob| Err(Fault::not_found(blob)))
                .collect();
            for (places, read) in join_all(read).await {
                for (at, bytes) in places.into_iter().zip(read) {
                    if let Some(answer) = answers.get_mut(at) {
                        *answer = bytes;
                    }
                }
            }
            answers
        })
    }

    fn write_many<'a>(
        &'a self,
        blobs: Vec<(CasDigest, Bytes)>,
    ) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        self.far.write_many(blobs)
    }
}

impl Rendezvous {
    /// Small blobs from their owner, and what it does not give from far away.
    async fn read_many_from(&self, peer: &Peer, blobs: &[CasDigest]) -> Vec<Result<Bytes, Fault>> {
        let mut answers = peer.read_many(blobs).await;
        let lacking: Vec<CasDigest> = answers
            .iter()
            .zip(blobs)
            .filter(|(answer, _)| answer.is_err())
            .map(|(_, blob)| *blob)
            .collect();
        if lacking.is_empty() {
            return answers;
        }
        let mut far = self.far.read_many(&lacking).await.into_iter();
        for answer in answers.iter_mut().filter(|answer| answer.is_err()) {
            if let Some(bytes) = far.next() {
                *answer = bytes;
            }
        }
        answers
    }
}
