//! Owners that are there, away, slow and wrong. `cache-server/tests` has them as real servers.

use ashlar_model::cas::DigestFunction;

use super::members::PeerSettings;
use super::*;
use crate::blob_store::collect;
use crate::conformance;
use crate::memory::MemoryStore;
use crate::tiered::{TieredBlobs, Writes};

fn memory() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(1 << 30))
}

/// A server whose peers are not there.
async fn among_absent() -> (Arc<MemoryStore>, Arc<Rendezvous>) {
    let (near, far) = (memory(), memory());
    let own = Arc::new(TieredBlobs::new(near.clone(), far.clone(), Writes::Both));
    // Nobody listens on ports of that sort.
    let peers = ["127.0.0.1:1", "127.0.0.1:2"].map(str::to_owned).to_vec();
    let members = Members::new(peers, "127.0.0.1:3".to_owned(), PeerSettings::default());
    members.look_up().await;
    (near, Arc::new(Rendezvous::new(own, far, Arc::new(members))))
}

conformance::blob_store_tests!(absent, among_absent());

#[tokio::test]
async fn only_what_is_its_own_is_kept_near() {
    let (near, store) = among_absent().await;
    let mut own = 0;
    for seed in 0..60_u8 {
        let bytes = Bytes::from(vec![seed; 2000]);
        let blob = CasDigest::of(DigestFunction::Blake3, &bytes);
        store.far.write(&blob, once(bytes.clone())).await.unwrap();
        let read = store.read(&blob, ByteRange::WHOLE).await.unwrap();
        assert_eq!(collect(read, blob.size).await.unwrap(), bytes);
        let is_own = matches!(store.members.owner(&blob), Owner::Own);
        own += u32::from(is_own);
        assert_eq!(near.missing(&[blob]).await.unwrap().is_empty(), is_own);
    }
    assert!((5..40).contains(&own), "{own} of 60");
}

/// Gives half of a blob and breaks off.
fn half(blob: &Bytes) -> ByteStream {
    let pieces = vec![
        Ok(blob.slice(..blob.len() / 2)),
        Err(Fault::new(FaultKind::Unavailable, "the owner has left")),
    ];
    Box::pin(stream::iter(pieces))
}

#[tokio::test]
async fn a_stream_that_breaks_goes_on_from_far_away() {
    let far = memory();
    let bytes = Bytes::from(
        (0..3_000_000_u32)
            .map(|n| n.to_le_bytes()[1])
            .collect::<Vec<_>>(),
    );
    let blob = CasDigest::of(DigestFunction::Blake3, &bytes);
    far.write(&blob, once(bytes.clone())).await.unwrap();
    let mut state = Resumed {
        bytes: half(&bytes),
        far: Some(far),
        blob,
        position: 0,
        end: blob.size,
    };
    let mut whole = Vec::new();
    while let Some(piece) = state.next().await.unwrap() {
        whole.extend_from_slice(&piece);
    }
    assert!(whole == bytes);
}
