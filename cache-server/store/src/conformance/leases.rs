//! What leases, and results stored under them, have to be like.
#![expect(
    clippy::panic,
    reason = "what is not as it has to be is the failure of a test"
)]

use std::sync::Arc;
use std::time::Duration;

use ashlar_model::cas::{ActionKey, CasDigest, DigestFunction};
use bytes::Bytes;
use futures::future::join_all;
use tokio::time::{sleep, timeout};

use crate::fault::FaultKind;
use crate::lease::{Acquired, Committed, Fence, Grant, LeaseKey, LeaseStore};

const LONG: Duration = Duration::from_secs(60);
/// The shortest that is granted.
const SHORT: Duration = Duration::from_secs(1);

/// The action that the tests speak of, and the key of its lease.
fn names(text: &str) -> (ActionKey, LeaseKey) {
    let action = CasDigest::of(DigestFunction::Blake3, text.as_bytes());
    let key = LeaseKey {
        instance: String::new(),
        key: action.hash_hex(),
    };
    let action = ActionKey {
        instance: String::new(),
        action,
    };
    (action, key)
}

async fn acquire(store: &impl LeaseStore, key: &LeaseKey, ttl: Duration) -> Acquired {
    store.acquire(key, "anna", ttl).await.expect("acquire")
}

async fn granted(store: &impl LeaseStore, key: &LeaseKey, ttl: Duration) -> Grant {
    match acquire(store, key, ttl).await {
        Acquired::Granted(grant) => grant,
        Acquired::Held(held) => panic!("{held:?}"),
    }
}

/// Tries until nobody else has it.
async fn granted_later(store: &impl LeaseStore, key: &LeaseKey, ttl: Duration) -> Grant {
    for _ in 0..200 {
        if let Acquired::Granted(grant) = acquire(store, key, ttl).await {
            return grant;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("the lease does not run out");
}

const fn fence(key: LeaseKey, number: u64) -> Fence {
    Fence { key, number }
}

async fn commit(
    store: &impl LeaseStore,
    key: &ActionKey,
    result: &'static str,
    fence: Option<&Fence>,
) -> Committed {
    let result = Bytes::from_static(result.as_bytes());
    let committed = store.commit(key, result, fence, None).await;
    committed.expect("commit")
}

/// Who comes second is told of the first.
pub async fn one_holds_a_key_at_a_time(store: Arc<impl LeaseStore>) {
    let (_, key) = names("a");
    assert_eq!(store.held(&key).await.expect("held"), None);
    let grant = granted(&*store, &key, LONG).await;
    assert_eq!(grant.ttl, LONG);
    let Acquired::Held(held) = acquire(&*store, &key, LONG).await else {
        panic!("two hold it");
    };
    assert_eq!((held.holder.as_str(), held.number), ("anna", grant.number));
    assert!(held.runs_out_in <= LONG && held.held_for < LONG, "{held:?}");
    let seen = store.held(&key).await.expect("held").expect("a holder");
    assert_eq!(seen.number, grant.number);
    assert!(store.release(&key, &grant.token).await.expect("release"));
    assert_eq!(store.held(&key).await.expect("held"), None);
    granted(&*store, &key, LONG).await;
}

/// A holder that says nothing loses it; one that renews does not.
pub async fn a_lease_runs_out_unless_it_is_renewed(store: Arc<impl LeaseStore>) {
    let (_, key) = names("a");
    let grant = granted(&*store, &key, SHORT).await;
    for _ in 0..4 {
        sleep(Duration::from_millis(400)).await;
        let ttl = store.renew(&key, &grant.token).await.expect("renewed");
        assert_eq!(ttl, SHORT);
    }
    assert!(matches!(
        acquire(&*store, &key, LONG).await,
        Acquired::Held(_)
    ));
    let next = granted_later(&*store, &key, LONG).await;
    assert!(next.number > grant.number);
    let fault = store.renew(&key, &grant.token).await.expect_err("lost");
    assert_eq!(fault.kind, FaultKind::NotFound);
}

/// Also if nothing is left of the grant before.
pub async fn numbers_grow_with_every_grant(store: Arc<impl LeaseStore>) {
    let (_, key) = names("a");
    let mut last = 0;
    for _ in 0..20 {
        let grant = granted(&*store, &key, LONG).await;
        assert!(grant.number > last, "{} after {last}", grant.number);
        last = grant.number;
        assert!(store.release(&key, &grant.token).await.expect("release"));
    }
}

/// A token of nobody, or of an earlier holder, does nothing.
pub async fn only_its_holder_renews_and_releases(store: Arc<impl LeaseStore>) {
    let (_, key) = names("a");
    let first = granted(&*store, &key, LONG).await;
    assert!(store.release(&key, &first.token).await.expect("release"));
    assert!(!store.release(&key, &first.token).await.expect("release"));
    let second = granted(&*store, &key, LONG).await;
    assert_ne!(first.token, second.token);
    for wrong in [first.token.as_str(), "", "no token"] {
        assert!(!store.release(&key, wrong).await.expect("release"));
        let fault = store.renew(&key, wrong).await.expect_err("lost");
        assert_eq!(fault.kind, FaultKind::NotFound);
    }
    store.renew(&key, &second.token).await.expect("renewed");
}

/// Of the holder at once, of each change, and of the end.
pub async fn who_watches_is_told(store: Arc<impl LeaseStore>) {
    let (_, key) = names("a");
    assert_eq!(store.changed(&key, 0).await.expect("told"), None);
    let first = granted(&*store, &key, LONG).await;
    let told = store.changed(&key, 0).await.expect("told").expect("held");
    assert_eq!(told.number, first.number);
    let change = store.changed(&key, first.number);
    let release = async {
        sleep(Duration::from_millis(100)).await;
        store.release(&key, &first.token).await.expect("release");
    };
    let both = async { tokio::join!(change, release) };
    let (told, ()) = timeout(Duration::from_secs(10), both)
        .await
        .expect("in time");
    assert_eq!(told.expect("told"), None);
    let second = granted(&*store, &key, SHORT).await;
    let told = store.changed(&key, first.number).await.expect("told");
    assert_eq!(told.expect("held").number, second.number);
    // Nobody renews it.
    let told = timeout(LONG, store.changed(&key, second.number)).await;
    assert_eq!(told.expect("in time").expect("told"), None);
}

/// However many ask at once.
pub async fn of_many_one_is_granted_it(store: Arc<impl LeaseStore>) {
    let (_, key) = names("a");
    let all = join_all((0..30).map(|_| acquire(&*store, &key, LONG))).await;
    let granted = all.iter().filter(|one| matches!(one, Acquired::Granted(_)));
    assert_eq!(granted.count(), 1, "{all:?}");
}

/// The same key in two instances is two.
pub async fn keys_of_instances_are_separate(store: Arc<impl LeaseStore>) {
    let (_, key) = names("a");
    let other = LeaseKey {
        instance: "org/repo/main".to_owned(),
        ..key.clone()
    };
    granted(&*store, &key, LONG).await;
    granted(&*store, &other, LONG).await;
}

/// Whoever comes second takes over what is there.
pub async fn the_first_commit_stays(store: Arc<impl LeaseStore>) {
    let (action, key) = names("a");
    let grant = granted(&*store, &key, LONG).await;
    let under = fence(key, grant.number);
    assert_eq!(
        commit(&*store, &action, "one", Some(&under)).await,
        Committed::Stored
    );
    let there = Committed::AlreadyThere(Bytes::from_static(b"one"));
    assert_eq!(commit(&*store, &action, "two", Some(&under)).await, there);
    assert_eq!(commit(&*store, &action, "two", None).await, there);
    let (other, _) = names("b");
    assert_eq!(commit(&*store, &other, "b", None).await, Committed::Stored);
}

/// The number of an earlier grant is worth nothing, even if the later one is given back.
pub async fn a_late_commit_is_refused(store: Arc<impl LeaseStore>) {
    let (action, key) = names("a");
    let first = granted(&*store, &key, SHORT).await;
    let second = granted_later(&*store, &key, LONG).await;
    let late = fence(key.clone(), first.number);
    assert_eq!(
        commit(&*store, &action, "late", Some(&late)).await,
        Committed::Superseded
    );
    assert!(store.release(&key, &second.token).await.expect("release"));
    assert_eq!(
        commit(&*store, &action, "late", Some(&late)).await,
        Committed::Superseded
    );
    let under = fence(key, second.number);
    assert_eq!(
        commit(&*store, &action, "two", Some(&under)).await,
        Committed::Stored
    );
}

/// A lease that ran out does no harm as long as nobody else was granted it.
pub async fn a_commit_without_rival_after_its_end_is_taken(store: Arc<impl LeaseStore>) {
    let (action, key) = names("a");
    let grant = granted(&*store, &key, SHORT).await;
    sleep(SHORT + Duration::from_millis(300)).await;
    let under = fence(key, grant.number);
    assert_eq!(
        commit(&*store, &action, "one", Some(&under)).await,
        Committed::Stored
    );
}

/// The result that is known to be incomplete makes room; another does not.
pub async fn a_result_with_a_hole_is_replaced(store: Arc<impl LeaseStore>) {
    let (action, key) = names("a");
    let grant = granted(&*store, &key, LONG).await;
    let under = fence(key, grant.number);
    commit(&*store, &action, "one", Some(&under)).await;
    let one = Bytes::from_static(b"one");
    let replace = async |hole: &Bytes, new: &'static str| {
        let new = Bytes::from_static(new.as_bytes());
        let committed = store.commit(&action, new, Some(&under), Some(hole)).await;
        committed.expect("commit")
    };
    assert_eq!(replace(&one, "two").await, Committed::Stored);
    let there = Committed::AlreadyThere(Bytes::from_static(b"two"));
    assert_eq!(replace(&one, "three").await, there);
}
