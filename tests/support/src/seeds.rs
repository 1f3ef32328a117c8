//! Which seeds a test runs: a few, unless it is asked for more or for one.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::environment;

/// The seeds of one run of a test.
#[derive(Debug, Clone)]
pub struct Seeds {
    first: u64,
    count: u64,
}

impl Seeds {
    /// As many as are asked for in `ASHLAR_TEST_RUNS`, else some number of them; with
    /// `ASHLAR_TEST_SEED` that one alone.
    pub fn asked_or(count: u64) -> Self {
        match environment::number("ASHLAR_TEST_SEED") {
            Some(seed) => Self {
                first: seed,
                count: 1,
            },
            None => Self {
                first: 1,
                count: environment::number("ASHLAR_TEST_RUNS").unwrap_or(count),
            },
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Runs something with each seed, on some threads. The first seed that it panics with is
    /// named, with how to run it again, and ends it all.
    pub fn run(&self, threads: u64, test: &str, action: impl Fn(u64) + Sync) {
        let next = AtomicU64::new(self.first);
        let end = self.first + self.count;
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return;
                }
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| action(seed))) {
                    // The others take no further seed.
                    next.store(end, Ordering::Relaxed);
                    complain(seed, test);
                    resume_unwind(panic);
                }
            }
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads.min(self.count))
                .map(|_| scope.spawn(work))
                .collect();
            for worker in workers {
                if let Err(panic) = worker.join() {
                    resume_unwind(panic);
                }
            }
        });
    }
}

#[expect(
    clippy::print_stderr,
    reason = "what a failed test wrote to standard error is shown with it"
)]
fn complain(seed: u64, test: &str) {
    eprintln!(
        "{test} failed with the seed {seed}; again: \
         ASHLAR_TEST_SEED={seed} cargo test -p ashlar-e2e --test e2e {test} -- --nocapture"
    );
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn each_seed_is_run_once() {
        let seeds = Seeds {
            first: 5,
            count: 20,
        };
        let seen = Mutex::new(Vec::new());
        seeds.run(3, "seeds", |seed| seen.lock().unwrap().push(seed));
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, (5..25).collect::<Vec<_>>());
    }

    #[test]
    #[should_panic(expected = "as it is to")]
    fn a_seed_that_fails_fails_the_test() {
        let seeds = Seeds { first: 1, count: 9 };
        seeds.run(2, "seeds", |seed| assert_ne!(seed, 4, "as it is to"));
    }
}
