//! What indices of blobs have to be like.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use ashlar_model::cas::{CasDigest, DigestFunction};
use futures::future::join_all;
use tokio::time::sleep;

use crate::clock;
use crate::objects::index::{BlobIndex, Place, Totals};
use crate::objects::name;

fn blob(number: usize) -> CasDigest {
    let function = [DigestFunction::Blake3, DigestFunction::Sha256];
    let text = format!("{number}");
    CasDigest::of(function[number % 2], text.as_bytes())
}

fn blobs(numbers: std::ops::Range<usize>) -> Vec<CasDigest> {
    numbers.map(blob).collect()
}

fn pack() -> String {
    name::new_pack().expect("a name")
}

/// Adds an object with blobs at offsets that follow from their places.
async fn add(index: &impl BlobIndex, object: &str, bytes: u64, blobs: &[CasDigest]) {
    let placed: Vec<_> = blobs
        .iter()
        .copied()
        .zip((0..).map(|at| at * 1000))
        .collect();
    index.add(object, bytes, &placed).await.expect("added");
}

async fn find(index: &impl BlobIndex, blobs: &[CasDigest]) -> Vec<Option<Place>> {
    index.find(blobs).await.expect("found")
}

async fn is_there(index: &impl BlobIndex, blobs: &[CasDigest]) -> Vec<bool> {
    let found = find(index, blobs).await;
    found.iter().map(Option::is_some).collect()
}

async fn names(index: &impl BlobIndex) -> Vec<String> {
    let oldest = index.oldest(100).await.expect("oldest");
    oldest.into_iter().map(|object| object.name).collect()
}

/// Neither blobs nor objects.
pub async fn nothing_is_known_at_first(index: Arc<impl BlobIndex>) {
    assert_eq!(find(&*index, &blobs(0..3)).await, [None, None, None]);
    assert_eq!(find(&*index, &[]).await, []);
    assert_eq!(names(&*index).await, [""; 0]);
    assert_eq!(index.totals().await.expect("totals"), Totals::default());
    let condemned = index.condemned(clock::system()(), 10).await;
    assert_eq!(condemned.expect("condemned"), [""; 0]);
}

/// In the order asked for, wherever it lies.
pub async fn what_is_added_is_found(index: Arc<impl BlobIndex>) {
    let (pack, all) = (pack(), blobs(0..50));
    let alone = name::new_blob(&all[49]).expect("a name");
    add(&*index, &pack, 49_000, &all[..49]).await;
    add(&*index, &alone, 1, &all[49..]).await;
    let asked: Vec<_> = all.iter().rev().copied().chain([blob(77)]).collect();
    let mut expected = vec![Some(Place {
        object: alone,
        offset: 0,
    })];
    expected.extend((0..49).rev().map(|at| {
        Some(Place {
            object: pack.clone(),
            offset: at * 1000,
        })
    }));
    expected.push(None);
    assert_eq!(find(&*index, &asked).await, expected);
    let within = index.within(&pack, &asked).await.expect("within");
    assert_eq!(within, asked[1..50]);
}

/// A blob is in one place.
pub async fn a_blob_moves_to_where_it_is_added_last(index: Arc<impl BlobIndex>) {
    let (first, second, all) = (pack(), pack(), blobs(0..4));
    add(&*index, &first, 4000, &all).await;
    add(&*index, &second, 2000, &all[2..]).await;
    let lie_in = async |object: &str| index.within(object, &all).await.expect("within");
    assert_eq!(lie_in(&first).await, all[..2]);
    assert_eq!(lie_in(&second).await, all[2..]);
    let totals = index.totals().await.expect("totals");
    assert_eq!((totals.blobs, totals.objects, totals.bytes), (4, 2, 6000));
}

/// What lies elsewhere meanwhile stays.
pub async fn only_what_lies_there_is_forgotten(index: Arc<impl BlobIndex>) {
    let (first, second, all) = (pack(), pack(), blobs(0..6));
    add(&*index, &first, 4000, &all[..4]).await;
    add(&*index, &second, 2000, &all[3..]).await;
    index.forget(&first, &all[1..]).await.expect("forgotten");
    let expected = [true, false, false, true, true, true];
    assert_eq!(is_there(&*index, &all).await, expected);
    assert_eq!(index.totals().await.expect("totals").blobs, 4);
}

/// Once time has passed.
pub async fn the_longest_unused_come_first(index: Arc<impl BlobIndex>) {
    let packs = [pack(), pack(), pack()];
    for (number, pack) in packs.iter().enumerate() {
        add(&*index, pack, 100 + number as u64, &[blob(number)]).await;
        sleep(Duration::from_millis(1100)).await;
    }
    let oldest = index.oldest(2).await.expect("oldest");
    let seen: Vec<_> = oldest
        .iter()
        .map(|object| (&object.name, object.bytes))
        .collect();
    assert_eq!(seen, [(&packs[0], 100), (&packs[1], 101)]);
    let ages = oldest.iter().map(|object| object.last_used);
    let ages: Vec<_> = ages
        .map(|used| clock::system()().duration_since(used))
        .collect();
    assert!(
        ages.iter()
            .all(|age| age.as_ref().is_ok_and(|age| age.as_secs() < 120)),
        "{ages:?}"
    );
    assert_eq!(index.oldest(0).await.expect("oldest"), []);
}

/// It is told when its time has come, until it is struck.
pub async fn a_condemned_object_has_no_blobs(index: Arc<impl BlobIndex>) {
    let (first, second, all) = (pack(), pack(), blobs(0..4));
    add(&*index, &first, 2000, &all[..2]).await;
    add(&*index, &second, 2000, &all[2..]).await;
    let time = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let condemned = async |seconds| {
        let condemned = index.condemned(time(seconds), 10).await;
        condemned.expect("condemned")
    };
    index
        .condemn(&first, &all, time(1000))
        .await
        .expect("condemned");
    assert_eq!(is_there(&*index, &all).await, [false, false, true, true]);
    assert_eq!(names(&*index).await, [second.as_str()]);
    let totals = index.totals().await.expect("totals");
    assert_eq!((totals.blobs, totals.objects, totals.bytes), (2, 1, 2000));
    assert_eq!(condemned(999).await, [""; 0]);
    assert_eq!(condemned(1000).await, [first.as_str()]);
    index.strike(&first).await.expect("struck");
    assert_eq!(condemned(1000).await, [""; 0]);
}

/// Whoever does not know whether it was done does it again.
pub async fn what_is_done_twice_counts_once(index: Arc<impl BlobIndex>) {
    let (first, second, all) = (pack(), pack(), blobs(0..4));
    for _ in 0..2 {
        add(&*index, &first, 3000, &all[..3]).await;
        add(&*index, &second, 1000, &all[3..]).await;
    }
    let totals = async || {
        let totals = index.totals().await.expect("totals");
        (totals.blobs, totals.objects, totals.bytes)
    };
    assert_eq!(totals().await, (4, 2, 4000));
    for _ in 0..2 {
        index.forget(&first, &all[..1]).await.expect("forgotten");
    }
    assert_eq!(totals().await, (3, 2, 4000));
    for _ in 0..2 {
        let condemned = index.condemn(&first, &all[..3], UNIX_EPOCH).await;
        condemned.expect("condemned");
    }
    assert_eq!(totals().await, (1, 1, 1000));
}

/// None is lost.
pub async fn many_add_at_once(index: Arc<impl BlobIndex>) {
    let index = &*index;
    let adds = (0..20).map(|number| async move {
        let all = blobs(number * 30..number * 30 + 60);
        add(index, &pack(), 60_000, &all).await;
    });
    join_all(adds).await;
    assert_eq!(is_there(index, &blobs(0..630)).await, [true; 630]);
    let totals = index.totals().await.expect("totals");
    assert_eq!(
        (totals.blobs, totals.objects, totals.bytes),
        (630, 20, 1_200_000)
    );
}
