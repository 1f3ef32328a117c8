//! Orders without a queue.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::{BuildKey, OperationId};

struct Bench {
    accounts: Accounts,
    ready: Vec<Ready>,
    platform: Arc<str>,
    waiting: HashMap<OperationId, (Place, Owner, usize)>,
    next: u128,
}

impl Bench {
    fn new(weights: &[(&str, u32)]) -> Self {
        let weights = weights
            .iter()
            .map(|&(name, weight)| (Arc::from(name), weight))
            .collect();
        Self {
            accounts: Accounts::new(weights, HashMap::new()),
            ready: vec![Ready::default(), Ready::default()],
            platform: "linux/amd64".into(),
            waiting: HashMap::new(),
            next: 0,
        }
    }

    fn add(&mut self, class: usize, path: [&str; 3], priority: i32) -> OperationId {
        self.next += 1;
        let operation = OperationId(self.next);
        let build = BuildKey {
            namespace: path[0].into(),
            user: path[1].into(),
            build: path[2].into(),
        };
        let owner = self.accounts.open(&self.platform, build, priority);
        let sequence = u64::try_from(self.next).unwrap();
        let due = i128::from(priority) * 1_000_000 + i128::from(sequence);
        let place = Place::new(&owner, Urgency { due, sequence }, Duration::ZERO);
        self.ready[class].insert(operation, &place, &mut self.accounts);
        self.waiting.insert(operation, (place, owner, class));
        operation
    }

    /// Takes the next one, which then runs for `time`.
    fn take(&mut self, time: Duration) -> Option<BuildKey> {
        let all = |_: &str| true;
        let next = Ready::next(&mut self.ready, &self.accounts, &all, 1)
            .first()
            .copied()?;
        let (place, owner, class) = self.waiting.remove(&next)?;
        self.ready[class].remove(next, &place);
        self.accounts.chosen(&owner);
        self.accounts.charge(&owner, time);
        self.accounts.close(&owner);
        Some(owner.build)
    }

    fn shares(&mut self, takes: usize, time: Duration) -> HashMap<String, usize> {
        let mut shares = HashMap::new();
        for _ in 0..takes {
            let build = self.take(time).unwrap();
            *shares
                .entry(format!(
                    "{}/{}/{}",
                    build.namespace, build.user, build.build
                ))
                .or_default() += 1;
        }
        shares
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn each_level_shares_evenly() {
    let mut bench = Bench::new(&[]);
    for _ in 0..400 {
        bench.add(0, ["flood", "u", "b"], 0);
    }
    for _ in 0..100 {
        bench.add(0, ["calm", "u", "b1"], 0);
        bench.add(0, ["calm", "u", "b2"], 0);
        bench.add(1, ["calm", "v", "b1"], 0);
    }
    let shares = bench.shares(200, SECOND);
    assert_eq!(shares["flood/u/b"], 100);
    assert_eq!(shares["calm/v/b1"], 50);
    assert_eq!(shares["calm/u/b1"], 25);
    assert_eq!(shares["calm/u/b2"], 25);
}

#[test]
fn weights_and_priorities_change_shares_and_starve_nobody() {
    let mut bench = Bench::new(&[("big", 300)]);
    for _ in 0..400 {
        bench.add(0, ["big", "u", "b"], 0);
        bench.add(0, ["small", "u", "urgent"], -10);
        bench.add(0, ["small", "u", "usual"], 0);
        bench.add(0, ["small", "u", "late"], 1000);
    }
    let shares = bench.shares(400, SECOND);
    assert_eq!(shares["big/u/b"], 300);
    assert!(
        shares["small/u/urgent"] > shares["small/u/usual"],
        "{shares:?}"
    );
    assert!(shares["small/u/late"] >= 2, "{shares:?}");
}

#[test]
fn idleness_is_not_saved_up() {
    let mut bench = Bench::new(&[]);
    for _ in 0..300 {
        bench.add(0, ["busy", "u", "b"], 0);
    }
    for _ in 0..100 {
        bench.take(SECOND).unwrap();
    }
    for _ in 0..100 {
        bench.add(0, ["late", "u", "b"], 0);
    }
    let shares = bench.shares(100, SECOND);
    assert!(shares["busy/u/b"] >= 49, "{shares:?}");
}

#[test]
fn within_a_build_the_most_urgent_is_first_and_waiting_counts() {
    let mut bench = Bench::new(&[]);
    let usual = bench.add(0, ["n", "u", "b"], 0);
    let urgent = bench.add(0, ["n", "u", "b"], -1);
    let all = |_: &str| true;
    let order = Ready::next(&mut bench.ready, &bench.accounts, &all, 9);
    assert_eq!(order, [urgent, usual]);
}

#[test]
fn who_is_not_served_is_passed_over() {
    let mut bench = Bench::new(&[]);
    for at in 0..50 {
        bench.add(0, [&format!("other{at}"), "u", "b"], 0);
    }
    let mine = bench.add(1, ["mine", "u", "b"], 0);
    let serves = |name: &str| name == "mine";
    assert_eq!(
        Ready::next(&mut bench.ready, &bench.accounts, &serves, 4),
        [mine]
    );
    assert_eq!(
        bench.ready[1]
            .hungriest(&bench.accounts, &serves)
            .map(|(_, operation)| operation),
        Some(mine)
    );
    assert_eq!(bench.ready[0].hungriest(&bench.accounts, &serves), None);
}

#[test]
fn how_many_are_before() {
    let mut bench = Bench::new(&[]);
    for _ in 0..10 {
        bench.add(0, ["n", "u", "b"], 0);
    }
    for _ in 0..100 {
        bench.add(0, ["m", "u", "b"], 0);
    }
    bench.add(0, ["m", "v", "b"], 0);
    let last = bench.add(0, ["n", "u", "b"], 0);
    let (place, ..) = bench.waiting[&last].clone();
    // Ten of its own, and eleven of the other namespace.
    assert_eq!(bench.ready[0].before(last, &place), 21);
}

#[test]
fn accounts_of_the_idle_are_forgotten() {
    let mut bench = Bench::new(&[]);
    for at in 0..20 {
        bench.add(0, ["n", &format!("user{at}"), "b"], 0);
    }
    while bench.take(SECOND).is_some() {}
    for _ in 0..20 {
        bench.accounts.forget_idle();
    }
    assert_eq!(bench.accounts.count(), 0);
}
