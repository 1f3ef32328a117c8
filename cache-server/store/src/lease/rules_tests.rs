//! Tests of the state machine: examples, then a model.

use proptest::prelude::*;

use super::*;

const TTL: Duration = Duration::from_secs(10);

fn key(key: &str) -> Key {
    Key {
        instance: String::new(),
        key: key.to_owned(),
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn leases() -> Leases {
    Leases::new(100, Limits::default())
}

fn granted(acquired: Acquired) -> Granted {
    match acquired {
        Acquired::Granted(granted) => granted,
        other => panic!("not granted: {other:?}"),
    }
}

#[test]
fn one_holds_it_and_the_other_learns_who() {
    let mut leases = leases();
    let first = granted(leases.acquire(&key("k"), "anna", "t1", TTL, seconds(0)));
    assert_eq!(first.number, 101);
    assert_eq!(first.ttl, TTL);
    assert_eq!(
        leases.acquire(&key("k"), "ben", "t2", TTL, seconds(4)),
        Acquired::Held(Held {
            holder: "anna".to_owned(),
            number: 101,
            held_for: seconds(4),
            runs_out_in: seconds(6),
        })
    );
    let other = granted(leases.acquire(&key("other"), "ben", "t2", TTL, seconds(4)));
    assert_eq!(other.number, 102);
}

#[test]
fn what_is_not_renewed_ends() {
    let mut leases = leases();
    granted(leases.acquire(&key("k"), "anna", "t1", TTL, seconds(0)));
    assert_eq!(leases.renew(&key("k"), "t1", seconds(9)), Ok(TTL));
    assert!(leases.held(&key("k"), seconds(18)).is_some());
    assert_eq!(leases.held(&key("k"), seconds(19)), None);
    assert_eq!(leases.renew(&key("k"), "t1", seconds(19)), Err(Lost));
    granted(leases.acquire(&key("k"), "ben", "t2", TTL, seconds(19)));
}

#[test]
fn only_the_holder_renews_and_releases() {
    let mut leases = leases();
    granted(leases.acquire(&key("k"), "anna", "t1", TTL, seconds(0)));
    assert_eq!(leases.renew(&key("k"), "t2", seconds(1)), Err(Lost));
    assert!(!leases.release(&key("k"), "t2", seconds(1)));
    assert!(leases.held(&key("k"), seconds(1)).is_some());
    assert!(leases.release(&key("k"), "t1", seconds(1)));
    assert_eq!(leases.held(&key("k"), seconds(1)), None);
    assert!(!leases.release(&key("k"), "t1", seconds(1)));
    assert_eq!(leases.renew(&key("k"), "t1", seconds(1)), Err(Lost));
}

#[test]
fn who_comes_late_is_known_by_its_number() {
    let mut leases = leases();
    let first = granted(leases.acquire(&key("k"), "anna", "t1", TTL, seconds(0)));
    assert_eq!(leases.fence(&key("k"), first.number), Fence::Current);
    // Ran out, but nobody came: what was made is as good as ever.
    assert_eq!(leases.held(&key("k"), seconds(50)), None);
    assert_eq!(leases.fence(&key("k"), first.number), Fence::Current);
    let second = granted(leases.acquire(&key("k"), "ben", "t2", TTL, seconds(50)));
    assert_eq!(leases.fence(&key("k"), first.number), Fence::Superseded);
    assert_eq!(leases.fence(&key("k"), second.number), Fence::Current);
    // Nor does it help that the second has given it back.
    leases.release(&key("k"), "t2", seconds(51));
    assert_eq!(leases.fence(&key("k"), first.number), Fence::Superseded);
}

#[test]
fn numbers_grow_over_a_restart() {
    let mut before = Leases::new(first_number(6), Limits::default());
    for number in 0..1000 {
        let key = key(&number.to_string());
        granted(before.acquire(&key, "anna", "t", TTL, seconds(0)));
    }
    let late = granted(before.acquire(&key("k"), "anna", "t", TTL, seconds(0)));
    let mut after = Leases::new(first_number(7), Limits::default());
    let first = granted(after.acquire(&key("k"), "ben", "t", TTL, seconds(0)));
    assert!(first.number > late.number);
    assert_eq!(after.fence(&key("k"), late.number), Fence::Superseded);
}

#[test]
fn times_are_kept_within_bounds() {
    let mut leases = leases();
    let short = granted(leases.acquire(&key("a"), "", "t", Duration::ZERO, seconds(0)));
    assert_eq!(short.ttl, seconds(1));
    let long = granted(leases.acquire(&key("b"), "", "t", Duration::MAX, Duration::MAX));
    assert_eq!(long.ttl, seconds(300));
}

#[test]
fn there_are_never_more_than_so_many() {
    let limits = Limits {
        keys: 2,
        ..Limits::default()
    };
    let mut leases = Leases::new(0, limits);
    granted(leases.acquire(&key("a"), "", "t", TTL, seconds(0)));
    granted(leases.acquire(&key("b"), "", "t", TTL, seconds(0)));
    assert_eq!(
        leases.acquire(&key("c"), "", "t", TTL, seconds(1)),
        Acquired::TooMany
    );
    granted(leases.acquire(&key("a"), "", "t2", TTL, seconds(20)));
    // Forgotten an hour after nobody held it.
    let late = seconds(11) + limits.remembered;
    granted(leases.acquire(&key("c"), "", "t", TTL, late));
    assert_eq!(leases.count(late), 1);
}

/// What a client may do, and how much time passes before.
#[derive(Debug, Clone)]
enum Act {
    Acquire { key: u8, client: u8 },
    Renew { key: u8, client: u8 },
    Release { key: u8, client: u8 },
    Commit { key: u8, client: u8 },
}

fn act() -> impl Strategy<Value = (u64, Act)> {
    let act = (0..4_u8, 0..2_u8, 0..3_u8).prop_map(|(act, key, client)| match act {
        0 => Act::Acquire { key, client },
        1 => Act::Renew { key, client },
        2 => Act::Release { key, client },
        _ => Act::Commit { key, client },
    });
    (0..8_u64, act)
}

/// A lease as the model has it.
#[derive(Debug, Clone)]
struct Model {
    client: u8,
    number: u64,
    until: Duration,
}

proptest! {
    /// However clients act: never do two hold a key at once, numbers only grow, and who has been
    /// followed by another is always known by its number.
    #[test]
    fn leases_exclude_each_other(acts in proptest::collection::vec(act(), 1..80)) {
        let mut leases = leases();
        let mut now = Duration::ZERO;
        let mut last_number = 0;
        let mut model: HashMap<u8, Model> = HashMap::new();
        // What each client believes that it holds.
        let mut believed: HashMap<(u8, u8), (String, u64)> = HashMap::new();
        for (wait, act) in acts {
            now += seconds(wait);
            match act {
                Act::Acquire { key: k, client } => {
                    let free = model.get(&k).is_none_or(|lease| now >= lease.until);
                    let token = format!("{client}/{last_number}");
                    match leases.acquire(&key(&k.to_string()), "", &token, TTL, now) {
                        Acquired::Granted(granted) => {
                            prop_assert!(free);
                            prop_assert!(granted.number > last_number);
                            last_number = granted.number;
                            let number = granted.number;
                            model.insert(k, Model { client, number, until: now + TTL });
                            believed.insert((k, client), (token, number));
                        }
                        Acquired::Held(_) => prop_assert!(!free),
                        Acquired::TooMany => prop_assert!(false),
                    }
                }
                Act::Renew { key: k, client } => {
                    let token = believed.get(&(k, client)).map_or("none", |(token, _)| token);
                    let renewed = leases.renew(&key(&k.to_string()), token, now).is_ok();
                    let lease = model.get_mut(&k).filter(|lease| {
                        now < lease.until
                            && believed.get(&(k, client)).is_some_and(|(_, n)| *n == lease.number)
                    });
                    prop_assert_eq!(renewed, lease.is_some());
                    if let Some(lease) = lease {
                        lease.until = now + TTL;
                    }
                }
                Act::Release { key: k, client } => {
                    let token = believed.get(&(k, client)).map_or("none", |(token, _)| token);
                    let released = leases.release(&key(&k.to_string()), token, now);
                    let lease = model.get_mut(&k).filter(|lease| {
                        now < lease.until
                            && believed.get(&(k, client)).is_some_and(|(_, n)| *n == lease.number)
                    });
                    prop_assert_eq!(released, lease.is_some());
                    if let Some(lease) = lease {
                        prop_assert_eq!(lease.client, client);
                        lease.until = now;
                    }
                }
                Act::Commit { key: k, client } => {
                    if let (Some((_, number)), Some(lease)) =
                        (believed.get(&(k, client)), model.get(&k))
                    {
                        let fence = leases.fence(&key(&k.to_string()), *number);
                        prop_assert_eq!(fence == Fence::Current, *number == lease.number);
                    }
                }
            }
        }
    }
}
