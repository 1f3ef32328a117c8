//! Small farms, simulated with many seeds, with everything happening far more often than it does.
//! `examples/simulate` runs the same with ten thousand workers.

#[path = "../examples/simulate/sim/mod.rs"]
mod sim;

use sim::report::Report;
use sim::time::{MINUTE, MS, SECOND};
use sim::{Config, Simulation};

/// A farm of this size, as loaded as the large one.
fn farm(seed: u64, workers: u32) -> Config {
    let mut config = Config::paper(seed);
    config.workers = workers as usize;
    config.load_time = 10 * MINUTE;
    config.rate = f64::from(workers) / 21.0;
    config.leaders = 1;
    config
}

fn run(config: Config) -> Report {
    let seed = config.seed;
    let report = Simulation::run(config);
    assert!(
        report.wrong.is_empty(),
        "seed {seed}: {:#?}\n{report}",
        report.wrong
    );
    assert!(
        report.segments > 0 && report.builds > 0,
        "seed {seed}: {report}"
    );
    report
}

#[test]
fn a_farm_of_two_hundred_workers() {
    let report = run(farm(1, 200));
    assert!(
        report.least_fair().is_none_or(|index| index > 0.8),
        "{report}"
    );
    assert!(report.moved_part() < 0.7, "{report}");
}

#[test]
fn everything_goes_wrong_all_the_time() {
    for seed in 1..=8 {
        let mut config = farm(seed, 50);
        config.faults = 60.0;
        config.leaders = 4;
        let report = run(config);
        assert!(report.crashes > 0 && report.hangs > 0 && report.cuts > 0 && report.drains > 0);
    }
}

#[test]
fn short_steps() {
    for seed in 1..=3 {
        let mut config = farm(seed, 20);
        config.load_time = MINUTE;
        config.step = 100 * MS;
        config.rate = 20.0;
        config.faults = 30.0;
        run(config);
    }
}

#[test]
fn more_than_a_farm_can_do_is_shared_fairly() {
    let mut config = farm(5, 60);
    config.rate *= 2.0;
    config.faults = 0.0;
    config.step = 5 * SECOND;
    config.rate *= 4.0;
    let report = run(config);
    assert!(!report.fairness.is_empty());
    assert!(
        report.least_fair().is_some_and(|index| index > 0.9),
        "{report}"
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let text = || run(farm(7, 30)).to_string();
    assert_eq!(text(), text());
}
