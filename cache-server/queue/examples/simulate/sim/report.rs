//! What came of it.

use std::fmt;

use super::check::Checks;
use super::time::{MINUTE, Time, seconds};

/// Times, counted by their size.
#[derive(Debug, Default, Clone)]
pub(crate) struct Times {
    all: Vec<u32>,
}

impl Times {
    pub(crate) fn add(&mut self, time: Time) {
        // Milliseconds are exact enough, and 49 days are enough.
        self.all
            .push(u32::try_from(time / 1000).unwrap_or(u32::MAX));
    }

    fn sort(&mut self) {
        self.all.sort_unstable();
    }

    /// In seconds; `sort` first.
    fn quantile(&self, thousandths: usize) -> f64 {
        let at = self.all.len().saturating_sub(1) * thousandths / 1000;
        self.all.get(at).map_or(0.0, |&ms| f64::from(ms) / 1000.0)
    }
}

/// Counts and times.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Until all had ended.
    pub(crate) time: Time,
    pub(crate) slots: u64,
    /// Events that the queue was told of.
    pub(crate) events: u64,
    pub(crate) builds: u64,
    pub(crate) segments: u64,
    pub(crate) steps: u64,
    /// From the submission of a segment to its first grant.
    pub(crate) waits: Times,
    /// How long builds took, in thousandths of their longest path.
    pub(crate) stretches: Times,
    pub(crate) builds_failed: u64,
    pub(crate) builds_cancelled: u64,
    pub(crate) builds_poisoned: u64,
    pub(crate) merged: u64,
    pub(crate) refused: u64,
    /// Bytes of layers that segments stand on, and what of them had to be moved.
    pub(crate) bytes_needed: u64,
    pub(crate) bytes_moved: u64,
    /// Segments that found all their layers.
    pub(crate) local: u64,
    pub(crate) executions: u64,
    /// Those of which nothing came, and how long they ran.
    pub(crate) wasted: u64,
    pub(crate) wasted_time: Time,
    pub(crate) busy_time: Time,
    pub(crate) crashes: u64,
    pub(crate) hangs: u64,
    pub(crate) cuts: u64,
    pub(crate) drains: u64,
    pub(crate) errors: u64,
    pub(crate) late: u64,
    pub(crate) assignments: u64,
    pub(crate) longest_wait: Time,
    pub(crate) fairness: Vec<f64>,
    pub(crate) wrong: Vec<String>,
}

impl Report {
    pub(crate) fn finish(&mut self, checks: Checks) {
        self.waits.sort();
        self.stretches.sort();
        self.assignments = checks.assignments;
        self.longest_wait = checks.longest_wait;
        self.fairness = checks.fairness;
        self.fairness.sort_by(f64::total_cmp);
        self.wrong.extend(checks.wrong);
    }

    /// The least fair window.
    pub(crate) fn least_fair(&self) -> Option<f64> {
        self.fairness.first().copied()
    }

    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub(crate) fn moved_part(&self) -> f64 {
        self.bytes_moved as f64 / (self.bytes_needed as f64).max(1.0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn percent(part: u64, of: u64) -> f64 {
    100.0 * part as f64 / (of as f64).max(1.0)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn tera(bytes: u64) -> f64 {
    bytes as f64 / 1e12
}

impl fmt::Display for Report {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = seconds(self.time);
        writeln!(
            f,
            "| virtual time until all had ended | {:.1} min |",
            self.time as f64 / MINUTE as f64
        )?;
        writeln!(
            f,
            "| builds; segments; steps done | {}; {}; {} |",
            self.builds, self.segments, self.steps
        )?;
        writeln!(
            f,
            "| steps a second, over all of it; slots in use | {:.0}; {:.0} % |",
            self.steps as f64 / time.max(0.001),
            100.0 * seconds(self.busy_time) / (time * self.slots as f64).max(0.001)
        )?;
        writeln!(
            f,
            "| a segment waits: p50, p90, p99, p99.9, longest | {:.3}, {:.3}, {:.1}, {:.1}, {:.1} s |",
            self.waits.quantile(500),
            self.waits.quantile(900),
            self.waits.quantile(990),
            self.waits.quantile(999),
            seconds(self.longest_wait)
        )?;
        writeln!(
            f,
            "| a build's time to that of its longest path: p50, p90, p99 | {:.2}, {:.2}, {:.2} |",
            self.stretches.quantile(500),
            self.stretches.quantile(900),
            self.stretches.quantile(990)
        )?;
        writeln!(
            f,
            "| bytes of layers that segments stand on; moved; segments that moved none | {:.1} TB; {:.1} TB ({:.1} %); {:.0} % |",
            tera(self.bytes_needed),
            tera(self.bytes_moved),
            100.0 * self.moved_part(),
            percent(self.local, self.executions)
        )?;
        let mean = match self.fairness.len() {
            0 => 1.0,
            minutes => self.fairness.iter().sum::<f64>() / minutes as f64,
        };
        writeln!(
            f,
            "| fairness between namespaces that wait (Jain, minutes): mean, least, minutes | {mean:.3}, {:.3}, {} |",
            self.least_fair().unwrap_or(1.0),
            self.fairness.len()
        )?;
        writeln!(
            f,
            "| executions; wasted; their part of the time | {}; {} ({:.2} %); {:.2} % |",
            self.executions,
            self.wasted,
            percent(self.wasted, self.executions),
            percent(self.wasted_time, self.busy_time)
        )?;
        writeln!(
            f,
            "| crashes, hangs, cuts, drains, infrastructure errors; late outcomes | {}, {}, {}, {}, {}; {} |",
            self.crashes, self.hangs, self.cuts, self.drains, self.errors, self.late
        )?;
        writeln!(
            f,
            "| joined another; refused; builds failed, cancelled, poisoned | {}; {}; {}, {}, {} |",
            self.merged,
            self.refused,
            self.builds_failed,
            self.builds_cancelled,
            self.builds_poisoned
        )?;
        write!(
            f,
            "| events of the queue; broken invariants | {}; {} |",
            self.events,
            self.wrong.len()
        )
    }
}
