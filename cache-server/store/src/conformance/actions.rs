//! What every [`ActionCache`] must do.

use ashlar_model::cas::{ActionKey, CasDigest, DigestFunction};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::future::join_all;

use crate::action_cache::{ActionCache, PutMode};
use crate::fault::Fault;

/// An encoded `ActionResult` that names no blob and tells itself from others by its raw standard
/// output (field 5).
fn result(text: &[u8]) -> Bytes {
    let mut encoded = BytesMut::new();
    encoded.put_u8(5 << 3 | 2);
    let mut length = text.len();
    while length >= 0x80 {
        encoded.put_u8(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    encoded.put_u8(length.to_le_bytes()[0]);
    encoded.put_slice(text);
    encoded.freeze()
}

fn key(text: &str) -> ActionKey {
    ActionKey {
        instance: String::new(),
        action: CasDigest::of(DigestFunction::Blake3, text.as_bytes()),
    }
}

async fn get(cache: &impl ActionCache, key: &ActionKey) -> Option<Bytes> {
    let mut results = get_many(cache, std::slice::from_ref(key)).await;
    assert_eq!(results.len(), 1);
    results.remove(0)
}

async fn get_many(cache: &impl ActionCache, keys: &[ActionKey]) -> Vec<Option<Bytes>> {
    cache.get(keys).await.expect("get")
}

async fn put(cache: &impl ActionCache, key: &ActionKey, result: &Bytes, mode: PutMode) -> Bytes {
    let put: Result<_, Fault> = cache.put(key, result.clone(), mode).await;
    put.expect("put")
}

/// An empty cache has nothing.
pub async fn there_is_no_result_at_first(cache: impl ActionCache) {
    assert_eq!(get(&cache, &key("a")).await, None);
    assert_eq!(get_many(&cache, &[]).await, Vec::<Option<Bytes>>::new());
}

/// A result comes back byte for byte.
pub async fn what_is_put_is_given(cache: impl ActionCache) {
    let stored = result(b"one");
    let answer = put(&cache, &key("a"), &stored, PutMode::Replace).await;
    assert_eq!(answer, stored);
    assert_eq!(get(&cache, &key("a")).await, Some(stored));
    assert_eq!(get(&cache, &key("b")).await, None);
}

/// Answers tell hits from misses by their place.
pub async fn answers_are_in_the_order_of_the_questions(cache: impl ActionCache) {
    let mut expected = Vec::new();
    let mut keys = Vec::new();
    for number in 0..30 {
        let text = format!("{number}");
        let stored = (number % 3 != 0).then(|| result(text.as_bytes()));
        if let Some(stored) = &stored {
            put(&cache, &key(&text), stored, PutMode::Replace).await;
        }
        keys.push(key(&text));
        expected.push(stored);
    }
    keys.reverse();
    expected.reverse();
    assert_eq!(get_many(&cache, &keys).await, expected);
}

/// `Replace` replaces, `IfAbsent` leaves and says what is there.
pub async fn a_result_is_replaced_or_stays(cache: impl ActionCache) {
    let (first, second) = (result(b"first"), result(b"second"));
    let key = key("a");
    assert_eq!(put(&cache, &key, &first, PutMode::IfAbsent).await, first);
    assert_eq!(put(&cache, &key, &second, PutMode::IfAbsent).await, first);
    assert_eq!(get(&cache, &key).await, Some(first));
    assert_eq!(put(&cache, &key, &second, PutMode::Replace).await, second);
    assert_eq!(get(&cache, &key).await, Some(second));
}

/// The same action in another instance, or under another function, is another.
pub async fn instances_and_functions_are_separate(cache: impl ActionCache) {
    let plain = key("a");
    let elsewhere = ActionKey {
        instance: "team/main".to_owned(),
        action: plain.action,
    };
    let sha256 = ActionKey {
        instance: String::new(),
        action: CasDigest {
            function: DigestFunction::Sha256,
            ..plain.action
        },
    };
    let keys = [plain, elsewhere, sha256];
    for (number, key) in keys.iter().enumerate() {
        let stored = result(format!("{number}").as_bytes());
        put(&cache, key, &stored, PutMode::IfAbsent).await;
    }
    let expected: Vec<_> = [b"0", b"1", b"2"].map(|text| Some(result(text))).into();
    assert_eq!(get_many(&cache, &keys).await, expected);
}

/// A result may be long.
pub async fn a_large_result_is_kept(cache: impl ActionCache) {
    let large = result(&vec![7; 1 << 20]);
    put(&cache, &key("a"), &large, PutMode::Replace).await;
    assert_eq!(get(&cache, &key("a")).await, Some(large));
}

/// What is removed is gone, and may come again.
pub async fn a_removed_result_is_gone(cache: impl ActionCache) {
    let (key, stored) = (key("a"), result(b"one"));
    assert!(!cache.remove(&key).await.expect("remove"));
    put(&cache, &key, &stored, PutMode::Replace).await;
    assert!(cache.remove(&key).await.expect("remove"));
    assert_eq!(get(&cache, &key).await, None);
    put(&cache, &key, &stored, PutMode::IfAbsent).await;
    assert_eq!(get(&cache, &key).await, Some(stored));
}

/// Of many that store under one key with `IfAbsent`, all are told the same result.
pub async fn only_one_of_many_is_first(cache: impl ActionCache) {
    let key = key("a");
    let stores = (0..20).map(|number| {
        let (cache, key) = (&cache, &key);
        async move {
            let own = result(format!("{number}").as_bytes());
            put(cache, key, &own, PutMode::IfAbsent).await
        }
    });
    let answers = join_all(stores).await;
    let there = get(&cache, &key).await.expect("one was stored");
    assert!(answers.iter().all(|answer| *answer == there), "{answers:?}");
}

/// A result is replaced only for whoever knows the one that is there.
pub async fn a_swap_needs_what_is_there(cache: impl ActionCache) {
    let key = key("a");
    let (one, two) = (result(b"one"), result(b"two"));
    let swap = async |old: Option<&Bytes>, new: &Bytes| {
        let swapped = cache.swap(&key, old, new.clone()).await;
        swapped.expect("swap")
    };
    assert!(!swap(Some(&one), &two).await);
    assert!(swap(None, &one).await);
    assert!(!swap(None, &two).await);
    assert!(!swap(Some(&two), &two).await);
    assert_eq!(get(&cache, &key).await, Some(one.clone()));
    assert!(swap(Some(&one), &two).await);
    assert_eq!(get(&cache, &key).await, Some(two));
}

/// Of many that know the same, one is lucky.
pub async fn only_one_of_many_swaps(cache: impl ActionCache) {
    let key = key("a");
    for old in [None, Some(result(b"first"))] {
        if let Some(old) = &old {
            put(&cache, &key, old, PutMode::Replace).await;
        }
        let swaps = (0..20).map(|number| {
            let (cache, key, old) = (&cache, &key, old.as_ref());
            async move {
                let own = result(format!("{number}").as_bytes());
                let swapped = cache.swap(key, old, own.clone()).await;
                swapped.expect("swap").then_some(own)
            }
        });
        let won: Vec<_> = join_all(swaps).await.into_iter().flatten().collect();
        assert_eq!(won.len(), 1, "{won:?}");
        assert_eq!(get(&cache, &key).await, won.into_iter().next());
    }
}
