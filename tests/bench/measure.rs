//! Timing commands in turns, and weighing them.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use ashlar_test_support::command::TestCommand;
use ashlar_test_support::processes;

use crate::subject::Site;

/// How often memory is looked at. Shorter, and the looking takes the processor from the looked at.
const SAMPLE: Duration = Duration::from_millis(4);

/// What is measured each time.
enum Work<'a> {
    /// A command, prepared untimed.
    Command(Box<dyn FnMut() -> TestCommand + 'a>),
    /// Something that measures itself.
    Sample(Box<dyn FnMut(Run) -> Sample + 'a>),
}

/// Why something is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    /// To weigh what it takes: memory, bytes. Its time does not count.
    Weigh,
    /// To time it.
    Time,
}

/// What something measured of itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    /// How long it took.
    pub(crate) time: Duration,
    /// Memory that it took, or that what it is about takes.
    pub(crate) memory: u64,
    /// Bytes that travelled, if that is what it is about.
    pub(crate) bytes: Option<u64>,
}

/// One subject of a row.
pub(crate) struct Case<'a> {
    /// Its name in the table.
    pub(crate) subject: &'static str,
    work: Work<'a>,
}

impl<'a> Case<'a> {
    /// A command, for which a closure prepares everything.
    pub(crate) fn new(subject: &'static str, prepare: impl FnMut() -> TestCommand + 'a) -> Self {
        let work = Work::Command(Box::new(prepare));
        Self { subject, work }
    }

    /// Something that measures itself.
    pub(crate) fn sampled(subject: &'static str, sample: impl FnMut(Run) -> Sample + 'a) -> Self {
        let work = Work::Sample(Box::new(sample));
        Self { subject, work }
    }

    fn weigh(&mut self) -> Sample {
        match &mut self.work {
            Work::Command(prepare) => Sample {
                memory: weigh(prepare()),
                ..Sample::default()
            },
            Work::Sample(sample) => sample(Run::Weigh),
        }
    }

    /// How long it took, and how long processes that it started were busy.
    fn time(&mut self, site: &Site) -> (Duration, Duration) {
        match &mut self.work {
            Work::Command(prepare) => {
                let command = prepare();
                site.settle();
                let before = children_busy();
                let output = command.run();
                output.success();
                (output.elapsed(), children_busy().saturating_sub(before))
            }
            Work::Sample(sample) => {
                site.settle();
                let before = children_busy();
                let time = sample(Run::Time).time;
                (time, children_busy().saturating_sub(before))
            }
        }
    }
}

/// What was measured of one subject.
#[derive(Debug, Clone)]
pub(crate) struct Measurement {
    pub(crate) subject: &'static str,
    /// Wall-clock times, in order of length.
    pub(crate) times: Vec<Duration>,
    /// Time on a processor, of the whole process tree, in order of length.
    pub(crate) busy: Vec<Duration>,
    /// Highest memory of the whole process tree, in bytes.
    pub(crate) memory: u64,
    /// Bytes that travelled, if that was counted.
    pub(crate) bytes: Option<u64>,
}

impl Measurement {
    /// Times all cases in turns.
    pub(crate) fn take_turns(site: &Site, cases: Vec<Case<'_>>, rounds: usize) -> Vec<Self> {
        let mut cases = cases;
        let mut measurements: Vec<Self> = cases
            .iter_mut()
            .map(|case| {
                // The first run also warms what is to be warm: caches of pages and of programs.
                let weighed = case.weigh();
                Self {
                    subject: case.subject,
                    times: Vec::new(),
                    busy: Vec::new(),
                    memory: weighed.memory,
                    bytes: weighed.bytes,
                }
            })
            .collect();
        for round in 0..rounds {
            for (case, measurement) in cases.iter_mut().zip(&mut measurements) {
                let (time, busy) = case.time(site);
                measurement.busy.push(busy);
                measurement.times.push(time);
                eprintln!("  round {}: {} {time:?}", round + 1, case.subject);
            }
        }
        for measurement in &mut measurements {
            measurement.times.sort();
            measurement.busy.sort();
        }
        measurements
    }

    pub(crate) fn median(&self) -> Duration {
        self.times[self.times.len() / 2]
    }

    pub(crate) fn median_busy(&self) -> Duration {
        self.busy[self.busy.len() / 2]
    }
}

impl Site {
    /// Lets the disk finish what earlier runs gave it to write.
    pub(crate) fn settle(&self) {
        rustix::fs::sync();
    }
}

/// Runs a command and gives the highest memory of its process tree.
pub(crate) fn weigh(command: TestCommand) -> u64 {
    let mut running = command.start();
    let mut highest = 0;
    while running.is_running() {
        let started = Instant::now();
        let mut ids = vec![running.id()];
        ids.extend(
            processes::descendants(running.id())
                .iter()
                .map(|process| process.id),
        );
        let sum = ids.into_iter().filter_map(proportional_set_size).sum();
        highest = highest.max(sum);
        thread::sleep(SAMPLE.saturating_sub(started.elapsed()));
    }
    running.wait().success();
    highest
}

/// A process's share of the memory it uses, in bytes; `None` if it is gone.
pub(crate) fn proportional_set_size(id: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).ok()?;
    let fields: BTreeMap<&str, &str> = rollup
        .lines()
        .filter_map(|line| line.split_once(':'))
        .collect();
    let kilobytes = fields.get("Pss")?.trim().strip_suffix(" kB")?;
    Some(kilobytes.parse::<u64>().ok()? * 1024)
}

/// Processor time of all descendants that have ended and were waited for.
fn children_busy() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("/proc/self/stat cannot be read");
    let after_name = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let fields: Vec<u64> = after_name
        .split_whitespace()
        .skip(13)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    // Clock ticks, of which Linux shows a hundred a second on every machine.
    Duration::from_millis(fields.iter().sum::<u64>() * 10)
}
