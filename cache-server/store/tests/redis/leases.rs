//! Leases: Redis that is lost under them, several servers, and a model.

use std::collections::HashMap;
use std::time::Duration;

use ashlar_store::lease::rules;
use ashlar_store::lease::{Acquired, Committed, Fence, Grant, LeaseKey, Limits};
use ashlar_store::{ActionCache as _, FaultKind, LeaseStore as _};
use ashlar_test_support::redis::{RedisServer, Reply};
use tokio::time::timeout;

use crate::footing::{granted, key, lease_of, leases, redis, result, results, single};

const PATIENCE: Duration = Duration::from_secs(30);

fn fence(key: &LeaseKey, grant: &Grant) -> Fence {
    Fence {
        key: key.clone(),
        number: grant.number,
    }
}

#[tokio::test]
async fn a_lease_that_redis_lost_is_superseded() {
    let (server, redis) = single();
    let (leases, results) = (leases(&redis), results(&redis));
    let action = key("a");
    let lease = lease_of(&action);
    // The lease of an action, and one in another slot.
    let other = LeaseKey {
        instance: String::new(),
        key: "mount".to_owned(),
    };
    for lease in [lease, other] {
        let first = granted(&leases, &lease).await;
        server.flush();
        assert_eq!(leases.held(&lease).await.unwrap(), None);
        let fault = leases.renew(&lease, &first.token).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::NotFound);
        assert!(!leases.release(&lease, &first.token).await.unwrap());
        let late = fence(&lease, &first);
        let commit = async |text, fence| {
            let committed = leases
                .commit(&action, result(text), Some(fence), None)
                .await;
            committed.unwrap()
        };
        assert_eq!(commit("late", &late).await, Committed::Superseded);
        let second = granted(&leases, &lease).await;
        assert!(second.number > first.number);
        assert_eq!(commit("late", &late).await, Committed::Superseded);
        assert_eq!(
            commit("two", &fence(&lease, &second)).await,
            Committed::Stored
        );
        assert!(results.remove(&action).await.unwrap());
    }
}

#[tokio::test]
async fn who_waits_on_one_server_is_told_of_what_is_done_on_another() {
    let (mut server, here) = single();
    let there = leases(&redis(&server.url()));
    let here = leases(&here);
    let lease = lease_of(&key("a"));
    for trouble in ["none", "cut", "restart"] {
        let grant = granted(&there, &lease).await;
        let change = async { here.changed(&lease, grant.number).await };
        let act = async {
            // Whether it waits already or not, it learns of it.
            tokio::time::sleep(Duration::from_millis(100)).await;
            match trouble {
                "cut" => server.cut_connections(),
                "restart" => server.restart(),
                _ => {}
            }
            assert!(there.release(&lease, &grant.token).await.unwrap());
        };
        let both = async { tokio::join!(change, act) };
        let (told, ()) = timeout(PATIENCE, both).await.expect(trouble);
        assert_eq!(told.unwrap(), None, "{trouble}");
    }
}

#[tokio::test]
async fn there_are_never_too_many() {
    let (_server, redis) = single();
    let limits = Limits {
        keys: 64 * 2,
        ..Limits::default()
    };
    let leases = ashlar_store::redis::RedisLeases::new(redis, limits, PATIENCE);
    // These are all of one tag.
    let lease = |number: u64| LeaseKey {
        instance: number.to_string(),
        key: "mount".to_owned(),
    };
    let first = granted(&leases, &lease(1)).await;
    granted(&leases, &lease(2)).await;
    let fault = leases.acquire(&lease(3), "", PATIENCE).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Exhausted);
    assert!(leases.release(&lease(1), &first.token).await.unwrap());
    granted(&leases, &lease(3)).await;
}

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % most
    }
}

/// A lease as a client has it from Redis, and its token and number in the model.
type Believed = (Grant, (String, u64));

/// Lets the time of all leases pass: their ends are long ago.
fn end_all(server: &RedisServer) {
    let mut client = server.client().unwrap();
    for key in server.command(&["KEYS", "farm:k*"]).array() {
        let Reply::Bulk(key) = key else {
            panic!("{key:?}");
        };
        client.command(&[&b"HSET"[..], &key, b"u", b"1"]).unwrap();
    }
}

/// Whatever clients do, Redis and the rules of one process agree.
#[tokio::test]
async fn the_scripts_follow_the_rules() {
    let (server, redis) = single();
    let (leases, results) = (leases(&redis), results(&redis));
    let actions: Vec<_> = (0..3).map(|number| key(&number.to_string())).collect();
    for seed in 0..8 {
        server.flush();
        let mut random = Random(seed);
        let mut model = rules::Leases::new(0, Limits::default());
        let mut now = Duration::ZERO;
        // What each client believes that it holds: in Redis and in the model.
        let mut believed: HashMap<(usize, u64), Believed> = HashMap::new();
        let mut stored: HashMap<usize, String> = HashMap::new();
        for step in 0..120 {
            let which = usize::try_from(random.below(3)).unwrap();
            let (action, client) = (&actions[which], random.below(3));
            let lease = lease_of(action);
            let mine = believed.get(&(which, client)).cloned();
            let what = random.below(10);
            let context = format!("seed {seed}, step {step}: {what} by {client} on {which}");
            match what {
                0..=2 => {
                    let token = step.to_string();
                    let ttl = Duration::from_secs(100);
                    let expected = model.acquire(&lease, &client.to_string(), &token, ttl, now);
                    let seen = leases
                        .acquire(&lease, &client.to_string(), ttl)
                        .await
                        .unwrap();
                    match (seen, expected) {
                        (Acquired::Granted(grant), rules::Acquired::Granted(granted)) => {
                            let expected = (token, granted.number);
                            believed.insert((which, client), (grant, expected));
                        }
                        (Acquired::Held(seen), rules::Acquired::Held(held)) => {
                            assert_eq!(seen.holder, held.holder, "{context}");
                        }
                        other => panic!("{context}: {other:?}"),
                    }
                }
                3 => {
                    let Some((grant, (token, _))) = mine else {
                        continue;
                    };
                    let expected = model.renew(&lease, &token, now).is_ok();
                    let seen = leases.renew(&lease, &grant.token).await;
                    assert_eq!(seen.is_ok(), expected, "{context}: {seen:?}");
                }
                4 | 5 => {
                    let Some((grant, (token, _))) = mine else {
                        continue;
                    };
                    let expected = model.release(&lease, &token, now);
                    let seen = leases.release(&lease, &grant.token).await.unwrap();
                    assert_eq!(seen, expected, "{context}");
                }
                6 => {
                    now += Duration::from_secs(1000);
                    end_all(&server);
                }
                7 => {
                    results.remove(action).await.unwrap();
                    stored.remove(&which);
                }
                _ => {
                    let Some((grant, (_, number))) = mine else {
                        continue;
                    };
                    let text = format!("{seed}/{step}");
                    let expected = match (model.fence(&lease, number), stored.get(&which)) {
                        (rules::Fence::Superseded, _) => Committed::Superseded,
                        (rules::Fence::Current, Some(there)) => {
                            Committed::AlreadyThere(result(there))
                        }
                        (rules::Fence::Current, None) => {
                            stored.insert(which, text.clone());
                            Committed::Stored
                        }
                    };
                    let under = fence(&lease, &grant);
                    let seen = leases
                        .commit(action, result(&text), Some(&under), None)
                        .await;
                    assert_eq!(seen.unwrap(), expected, "{context}");
                }
            }
            let seen = leases.held(&lease).await.unwrap().map(|held| held.holder);
            let expected = model.held(&lease, now).map(|held| held.holder);
            assert_eq!(seen, expected, "{context}");
        }
    }
}
