//! Simulates the queue of a large farm, and says what came of it:
//!
//!     cargo run --release -p ashlar-queue --example simulate -- --seed 1
//!
//! The same seed gives the same run. Ends with 1 if something did not hold that must.

mod sim;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use sim::report::Report;
use sim::time::{MINUTE, MS};
use sim::{Config, Simulation};

const USAGE: &str = "usage: simulate [--seed N] [--workers N] [--minutes N] [--rate STEPS_A_SECOND] \
[--step-ms N] [--faults PART] [--leaders N] [--burst TIMES] [--linger-ms N] [--no-placement] [--both]";

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its report is for people"
)]
fn main() -> ExitCode {
    let (config, both) = match parse(std::env::args().skip(1)) {
        Ok(parsed) => parsed,
        Err(message) => {
            eprintln!("{message}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut without = config.clone();
    without.settings.placement = false;
    let other = both.then(|| std::thread::spawn(move || timed(without)));
    let (report, took) = timed(config.clone());
    println!(
        "{} workers, {} slots, {} steps/s of {} s for {} min, seed {}: took {took}\n",
        config.workers,
        report.slots,
        config.rate,
        config.step / 1_000_000,
        config.load_time / MINUTE,
        config.seed,
    );
    println!("{report}");
    let mut wrong = report.wrong;
    if let Some(other) = other {
        let Ok((other, took)) = other.join() else {
            return ExitCode::FAILURE;
        };
        println!("\nThe same without placement by layers: took {took}\n");
        println!("{other}");
        wrong.extend(other.wrong);
    }
    for line in &wrong {
        eprintln!("does not hold: {line}");
    }
    if wrong.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn timed(config: Config) -> (Report, String) {
    let start = Instant::now();
    let before = processor_time();
    let report = Simulation::run(config);
    let took = start.elapsed().as_secs_f64();
    let processor = processor_time()
        .zip(before)
        .map(|(after, before)| after - before);
    let text = match processor {
        Some(time) => format!("{took:.1} s ({:.1} s of a processor)", time.as_secs_f64()),
        None => format!("{took:.1} s"),
    };
    (report, text)
}

/// What this thread has had of a processor, as Linux has it: a busy machine makes the time longer,
/// and this only a little.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace()
        .next()?
        .parse()
        .ok()
        .map(Duration::from_nanos)
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<(Config, bool), String> {
    let mut config = Config::paper(1);
    let mut both = false;
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--no-placement" => config.settings.placement = false,
            "--both" => both = true,
            _ => {
                let value = arguments
                    .next()
                    .ok_or_else(|| format!("{name} needs a value"))?;
                set(&mut config, &name, &value)?;
            }
        }
    }
    Ok((config, both))
}

fn set(config: &mut Config, name: &str, value: &str) -> Result<(), String> {
    let whole = || {
        value
            .parse::<u64>()
            .map_err(|error| format!("{name} {value}: {error}"))
    };
    let part = || {
        value
            .parse::<f64>()
            .map_err(|error| format!("{name} {value}: {error}"))
    };
    let small = || {
        value
            .parse::<u32>()
            .map_err(|error| format!("{name} {value}: {error}"))
    };
    match name {
        "--seed" => config.seed = whole()?,
        "--workers" => config.workers = usize::try_from(small()?).unwrap_or(usize::MAX),
        "--minutes" => config.load_time = whole()? * MINUTE,
        "--rate" => config.rate = part()?,
        "--step-ms" => config.step = whole()? * MS,
        "--faults" => config.faults = part()?,
        "--leaders" => config.leaders = small()?,
        "--burst" => config.burst = part()?,
        "--linger-ms" => config.settings.linger = Duration::from_millis(whole()?),
        _ => return Err(format!("{name} is no option")),
    }
    Ok(())
}
