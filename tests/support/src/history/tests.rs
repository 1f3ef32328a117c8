//! Histories made by hand: for each rule some that keep it, and some that break it.

use super::*;

const PATIENCE: Duration = Duration::from_millis(1000);
const TTL: Duration = Duration::from_millis(100);

/// A history of one key, whose times are milliseconds.
#[derive(Default)]
struct Story(History);

impl Story {
    fn call(mut self, begin: u64, end: u64, what: What) -> Self {
        self.0.operations.push(Operation {
            client: 1,
            key: 7,
            begin: Duration::from_millis(begin),
            end: Some(Duration::from_millis(end)),
            what,
        });
        self
    }

    fn lost(mut self, begin: u64, end: u64, what: Lost) -> Self {
        self.0.losses.push(Loss {
            begin: Duration::from_millis(begin),
            end: Duration::from_millis(end),
            what,
        });
        self
    }

    /// The names of what is violated.
    fn verdict(&self) -> Vec<&'static str> {
        check(&self.0, PATIENCE)
            .iter()
            .map(|violation| match violation {
                Violation::Results { .. } => "results",
                Violation::Missing(_) => "missing",
                Violation::WrongBytes(_) => "wrong",
                Violation::StaleWon { .. } => "stale",
                Violation::NumberShrank { .. } => "number",
                Violation::TwoHolders { .. } => "holders",
                Violation::Hung(_) => "hung",
            })
            .collect()
    }

    #[track_caller]
    fn is_right(&self) {
        assert_eq!(self.verdict(), [""; 0]);
    }

    #[track_caller]
    fn breaks(&self, rule: &str) {
        assert_eq!(self.verdict(), [rule]);
    }
}

fn story() -> Story {
    Story::default()
}

fn commit(value: Value, outcome: Option<Committed>) -> What {
    What::Commit {
        value,
        under: None,
        outcome,
    }
}

fn stored(value: Value) -> What {
    commit(value, Some(Committed::Stored))
}

fn commit_under(number: u64, value: Value, outcome: Option<Committed>) -> What {
    What::Commit {
        value,
        under: Some(number),
        outcome,
    }
}

fn probe(found: Found) -> What {
    What::Probe { found: Some(found) }
}

fn hit(value: Value) -> What {
    probe(Found::Hit(value))
}

fn granted(number: u64) -> What {
    What::Acquire {
        ttl: TTL,
        outcome: Some(Acquired::Granted(number)),
    }
}

fn read(value: Value, blobs: Blobs) -> What {
    What::Read {
        value,
        blobs: Some(blobs),
    }
}

const INVALIDATED: What = What::Invalidate { done: Some(()) };
const MISS: What = What::Probe {
    found: Some(Found::Miss),
};

#[test]
fn what_is_stored_once_and_found_is_right() {
    story()
        .call(0, 5, MISS)
        .call(10, 20, stored(1))
        .call(30, 40, hit(1))
        .call(41, 50, commit(2, Some(Committed::There(1))))
        .call(51, 60, read(1, Blobs::Right))
        .is_right();
}

#[test]
fn a_key_with_two_results_is_found() {
    story()
        .call(10, 20, stored(1))
        .call(30, 40, stored(2))
        .breaks("results");
    let two_readers = story()
        .call(0, 90, commit(1, None))
        .call(0, 90, commit(2, None))
        .call(100, 110, hit(1))
        .call(120, 130, hit(2));
    two_readers.breaks("results");
}

#[test]
fn an_invalidation_between_makes_two_results_right() {
    story()
        .call(10, 20, stored(1))
        .call(21, 25, INVALIDATED)
        .call(26, 28, MISS)
        .call(30, 40, stored(2))
        .is_right();
    // One that was sent and not answered may be done any time later.
    story()
        .call(10, 20, stored(1))
        .call(21, 25, What::Invalidate { done: None })
        .call(26, 28, hit(1))
        .call(30, 40, stored(2))
        .call(50, 60, hit(2))
        .is_right();
    // And not before.
    story()
        .call(10, 20, stored(1))
        .call(30, 40, stored(2))
        .call(50, 60, INVALIDATED)
        .breaks("results");
}

#[test]
fn what_was_invalidated_does_not_come_back() {
    story()
        .call(10, 20, stored(1))
        .call(21, 25, INVALIDATED)
        .call(30, 40, stored(2))
        .call(50, 60, hit(1))
        .breaks("results");
}

#[test]
fn an_accepted_result_that_is_lost_is_found() {
    story()
        .call(10, 20, stored(1))
        .call(30, 40, MISS)
        .breaks("results");
    // While it is being stored, either is right.
    story()
        .call(10, 20, stored(1))
        .call(15, 40, MISS)
        .is_right();
}

#[test]
fn what_the_harness_took_may_be_lost() {
    for what in [Lost::Records, Lost::Blobs] {
        story()
            .call(10, 20, stored(1))
            .lost(25, 26, what)
            .call(30, 40, MISS)
            .call(50, 60, stored(2))
            .call(70, 80, hit(2))
            .is_right();
        // But not before, nor again after.
        story()
            .call(10, 20, stored(1))
            .call(30, 40, MISS)
            .lost(45, 46, what)
            .breaks("results");
        story()
            .lost(1, 2, what)
            .call(10, 20, stored(1))
            .call(30, 40, MISS)
            .breaks("results");
    }
}

#[test]
fn a_failover_loses_only_what_nobody_was_told_is_safe() {
    story()
        .call(10, 20, stored(1))
        .lost(25, 26, Lost::Unconfirmed)
        .call(30, 40, MISS)
        .breaks("results");
    story()
        .call(10, 20, commit(1, None))
        .call(21, 22, hit(1))
        .lost(25, 26, Lost::Unconfirmed)
        .call(30, 40, MISS)
        .is_right();
    // What was to be removed is back, unless that was confirmed.
    let removed = |done| {
        story()
            .call(1, 2, stored(1))
            .call(10, 20, What::Invalidate { done })
            .call(21, 22, MISS)
            .lost(25, 26, Lost::Unconfirmed)
            .call(30, 40, hit(1))
    };
    removed(None).is_right();
    removed(Some(())).breaks("results");
    // While there are two masters, one shows what the other has changed, and neither confirms.
    story()
        .call(1, 2, stored(1))
        .call(10, 20, What::Invalidate { done: None })
        .lost(15, 60, Lost::Unconfirmed)
        .call(21, 22, MISS)
        .call(23, 24, hit(1))
        .call(25, 26, MISS)
        .is_right();
    story()
        .call(1, 2, stored(1))
        .lost(0, 60, Lost::Unconfirmed)
        .call(10, 20, INVALIDATED)
        .call(23, 24, hit(1))
        .breaks("results");
}

#[test]
fn a_commit_without_an_answer_may_be_done_or_not() {
    story()
        .call(10, 20, commit(1, None))
        .call(30, 40, MISS)
        .call(50, 60, hit(1))
        .is_right();
    story()
        .call(10, 20, commit(1, None))
        .call(30, 40, stored(2))
        .call(50, 60, hit(2))
        .is_right();
}

#[test]
fn a_result_from_nowhere_is_found() {
    story().call(10, 20, hit(1)).breaks("results");
    // Refused is refused.
    for refused in [Committed::Refused, Committed::Superseded] {
        story()
            .call(10, 20, commit(1, Some(refused)))
            .call(30, 40, hit(1))
            .breaks("results");
    }
}

#[test]
fn a_missing_blob_is_the_harness_s_doing_or_a_violation() {
    let found = || story().call(10, 20, stored(1)).call(30, 40, hit(1));
    found()
        .call(41, 50, read(1, Blobs::Missing))
        .breaks("missing");
    found()
        .lost(42, 43, Lost::Blobs)
        .call(41, 50, read(1, Blobs::Missing))
        .is_right();
    // What was taken long before anybody stored it excuses nothing.
    found()
        .lost(1, 2, Lost::Blobs)
        .call(41, 50, read(1, Blobs::Missing))
        .breaks("missing");
}

#[test]
fn wrong_bytes_are_never_right() {
    story()
        .call(10, 20, stored(1))
        .lost(0, 100, Lost::Blobs)
        .call(41, 50, read(1, Blobs::Wrong))
        .breaks("wrong");
}

#[test]
fn a_stale_number_that_wins_is_found() {
    let grants = || story().call(0, 5, granted(3)).call(200, 205, granted(4));
    grants()
        .call(210, 220, commit_under(3, 1, Some(Committed::Stored)))
        .breaks("stale");
    grants()
        .call(210, 220, commit_under(3, 1, Some(Committed::Superseded)))
        .call(221, 230, commit_under(4, 2, Some(Committed::Stored)))
        .is_right();
    // One whose answer was lost won if its result is there.
    grants().call(210, 220, commit_under(3, 1, None)).is_right();
    grants()
        .call(210, 220, commit_under(3, 1, None))
        .call(230, 240, hit(1))
        .breaks("stale");
    // It may win while the newer one is still being granted.
    story()
        .call(0, 5, granted(3))
        .call(200, 230, granted(4))
        .call(210, 220, commit_under(3, 1, Some(Committed::Stored)))
        .is_right();
    // Losing all records is no excuse: numbers go on above those that were lost.
    grants()
        .lost(206, 208, Lost::Records)
        .call(210, 220, commit_under(3, 1, Some(Committed::Stored)))
        .breaks("stale");
}

#[test]
fn numbers_that_do_not_grow_are_found() {
    story()
        .call(0, 5, granted(4))
        .call(200, 205, granted(3))
        .breaks("number");
    // Two grants at the same time have no order, and still not the same number.
    story()
        .call(0, 205, granted(4))
        .call(200, 305, granted(3))
        .is_right();
    story()
        .lost(0, 300, Lost::Records)
        .call(0, 205, granted(4))
        .call(200, 305, granted(4))
        .breaks("number");
}

#[test]
fn two_holders_at_once_are_found() {
    let first = || story().call(0, 5, granted(3));
    first().call(50, 60, granted(4)).breaks("holders");
    first().call(106, 110, granted(4)).is_right();
    first()
        .call(10, 20, What::Release { number: 3 })
        .call(50, 60, granted(4))
        .is_right();
    first()
        .lost(30, 40, Lost::Records)
        .call(50, 60, granted(4))
        .is_right();
    let renewed = What::Renew {
        number: 3,
        ttl: TTL,
        ours: Some(true),
    };
    first()
        .call(80, 90, renewed)
        .call(150, 160, granted(4))
        .breaks("holders");
}

#[test]
fn a_call_that_takes_too_long_is_found() {
    story().call(0, 1001, MISS).breaks("hung");
    let mut endless = story().call(0, 1, MISS);
    endless.0.operations[0].end = None;
    endless.breaks("hung");
}

/// The search has to stay fast where many calls were not answered and all overlap.
#[test]
fn many_unanswered_calls_are_judged_in_time() {
    let mut many = story();
    for value in 1..=14 {
        many = many.call(value, 900, commit(value, None));
    }
    for value in 1..=14 {
        let begin = 900 + value * 10;
        many = many
            .call(begin, begin + 2, hit(value))
            .call(begin + 3, begin + 5, INVALIDATED);
    }
    many.is_right();
    many.call(2000, 2010, hit(1)).breaks("results");
}
