//! What was measured under load, and its tables.

use std::fmt::Write as _;
use std::time::Duration;

use super::arrangement::Busy;
use super::client::Kind;

/// One round of one kind.
#[derive(Debug)]
pub(super) struct Round {
    /// How long was counted.
    pub(super) time: Duration,
    /// How long each request took, in order of length.
    pub(super) latencies: Vec<Duration>,
    /// Time on a processor meanwhile.
    pub(super) busy: Busy,
}

impl Round {
    fn rate(&self) -> f64 {
        count(self.latencies.len()) / self.time.as_secs_f64()
    }

    /// The time that so many thousandths of the requests did not exceed.
    fn at(&self, thousandth: usize) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let place = last * thousandth / 1000;
        self.latencies.get(place).copied().unwrap_or_default()
    }

    fn each(&self, busy: Duration) -> f64 {
        busy.as_secs_f64() * 1e6 / count(self.latencies.len()).max(1.0)
    }

    /// For who watches.
    pub(super) fn line(&self, kind: Kind) -> String {
        format!(
            "{}: {:.0}/s, p99 {}",
            kind.name(),
            self.rate(),
            shown(self.at(990))
        )
    }
}

/// All rounds of one kind.
#[derive(Debug)]
pub(super) struct Figures {
    kind: Kind,
    rounds: Vec<Round>,
}

impl Figures {
    pub(super) const fn new(kind: Kind) -> Self {
        Self {
            kind,
            rounds: Vec::new(),
        }
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn push(&mut self, round: Round) {
        self.rounds.push(round);
        self.rounds.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
    }
}

/// The table of a row. Each line is the round with the median rate.
pub(super) fn section(name: &str, work: &str, figures: &[Figures]) -> String {
    let mut out = format!(
        "\n## {name}: {work}\n\n\
         | request | a second | least | most | p50 | p99 | servers, each | Redis and S3, each | \
         clients, each |\n|---|---|---|---|---|---|---|---|---|\n"
    );
    for Figures { kind, rounds } in figures {
        let (Some(least), Some(most)) = (rounds.first(), rounds.last()) else {
            continue;
        };
        let median = &rounds[rounds.len() / 2];
        let below = median.each(median.busy.below);
        writeln!(
            out,
            "| {} | {:.0} | {:.0} | {:.0} | {} | {} | {:.0} µs | {} | {:.0} µs |",
            kind.name(),
            median.rate(),
            least.rate(),
            most.rate(),
            shown(median.at(500)),
            shown(median.at(990)),
            median.each(median.busy.servers),
            if below > 0.0 {
                format!("{below:.0} µs")
            } else {
                String::new()
            },
            median.each(median.busy.clients),
        )
        .expect("a string takes anything");
    }
    out
}

/// What the servers hold in memory, and Redis for what was stored before the load.
pub(super) fn memory(
    servers: &[u64],
    redis: Option<(u64, u64)>,
    (blobs, results): (usize, usize),
) -> String {
    let each: Vec<String> = servers
        .iter()
        .map(|bytes| format!("{} MB", bytes / 1_000_000))
        .collect();
    let mut out = format!("\nresident memory at the end: {}\n", each.join(", "));
    if let Some((before, after)) = redis {
        let grown = after.saturating_sub(before);
        writeln!(
            out,
            "Redis: {} kB more for {blobs} blobs and {results} results",
            grown / 1000
        )
        .expect("a string takes anything");
    }
    out
}

fn shown(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "requests of some seconds need no 53 bits"
)]
fn count(requests: usize) -> f64 {
    requests as f64
}
