//! What notes of who has which blobs have to be like.

use std::sync::Arc;

use ashlar_model::cas::{CasDigest, DigestFunction};
use bytes::Bytes;
use futures::future::join_all;

use crate::blob_store::{BlobStore, once};
use crate::possession::Possession;

const MAIN: &str = "org/repo/main";
const PULL: &str = "org/repo/pr/17";

/// Stores a blob, as nobody's.
async fn blob(store: &impl BlobStore, text: &str) -> CasDigest {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    let digest = CasDigest::of(DigestFunction::Blake3, &bytes);
    store.write(&digest, once(bytes)).await.expect("written");
    digest
}

async fn held(store: &impl Possession, namespaces: &[&str], blobs: &[CasDigest]) -> Vec<bool> {
    let namespaces: Vec<String> = namespaces.iter().map(|&name| name.to_owned()).collect();
    store.held(&namespaces, blobs).await.expect("held")
}

/// But the empty blob is everybody's.
pub async fn nobody_holds_anything_at_first(store: Arc<impl Possession + BlobStore>) {
    let blob = blob(&*store, "a").await;
    let empty = CasDigest::of(DigestFunction::Sha256, b"");
    assert_eq!(
        held(&*store, &[MAIN, PULL], &[blob, empty]).await,
        [false, true]
    );
    assert_eq!(held(&*store, &[MAIN], &[]).await, [false; 0]);
    assert_eq!(held(&*store, &[], &[blob]).await, [false]);
    assert_eq!(store.bytes(MAIN).await.expect("bytes"), 0);
}

/// And nobody else does.
pub async fn who_shows_a_blob_holds_it(store: Arc<impl Possession + BlobStore>) {
    let blobs = [blob(&*store, "a").await, blob(&*store, "b").await];
    let unknown = CasDigest::of(DigestFunction::Sha256, b"a");
    store.note(MAIN, &blobs[..1]).await.expect("noted");
    store.note(PULL, &blobs[1..]).await.expect("noted");
    let asked = [blobs[1], unknown, blobs[0]];
    assert_eq!(held(&*store, &[MAIN], &asked).await, [false, false, true]);
    assert_eq!(held(&*store, &[PULL], &asked).await, [true, false, false]);
    assert_eq!(
        held(&*store, &[PULL, MAIN], &asked).await,
        [true, false, true]
    );
    assert_eq!(held(&*store, &["org/repo"], &asked).await, [false; 3]);
}

/// However often they are shown.
pub async fn bytes_are_counted_once(store: Arc<impl Possession + BlobStore>) {
    let blobs = [blob(&*store, "aaaa").await, blob(&*store, "bb").await];
    for _ in 0..3 {
        store.note(MAIN, &blobs).await.expect("noted");
    }
    store.note(PULL, &blobs[1..]).await.expect("noted");
    assert_eq!(store.bytes(MAIN).await.expect("bytes"), 6);
    assert_eq!(store.bytes(PULL).await.expect("bytes"), 2);
    let largest = store.largest(10).await.expect("largest");
    assert_eq!(largest, [(MAIN.to_owned(), 6), (PULL.to_owned(), 2)]);
    assert_eq!(store.largest(1).await.expect("largest").len(), 1);
}

/// Each is counted once even then.
pub async fn many_note_at_once(store: Arc<impl Possession + BlobStore>) {
    let store = &*store;
    let blobs = (0..50).map(|number| async move { blob(store, &format!("{number:04}")).await });
    let blobs = join_all(blobs).await;
    let noted = join_all((0..8).map(|_| store.note(MAIN, &blobs))).await;
    assert!(noted.iter().all(Result::is_ok), "{noted:?}");
    assert_eq!(held(store, &[MAIN], &blobs).await, [true; 50]);
    assert_eq!(store.bytes(MAIN).await.expect("bytes"), 200);
}
