//! The tables.

use std::fmt::Write as _;
use std::time::Duration;

use crate::measure::Measurement;
use crate::rows::Row;

/// One row of the big table, as a small one: a line for each subject.
pub(crate) fn section(row: &Row, measurements: &[Measurement]) -> String {
    let verdict = match (row.met)(measurements) {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "to be read from the figures",
    };
    let mut out = format!(
        "\n## {}: {}\n\ngoal: {}: {verdict}\n\n\
         | subject | median | least | most | to the first | processor | memory | bytes |\n\
         |---|---|---|---|---|---|---|---|\n",
        row.name, row.work, row.goal
    );
    let first = measurements.first().map(Measurement::median);
    for measurement in measurements {
        let median = measurement.median();
        let ratio = first.map_or(1.0, |first| median.as_secs_f64() / first.as_secs_f64());
        writeln!(
            out,
            "| {} | {} | {} | {} | {ratio:.2} | {} | {} | {} |",
            measurement.subject,
            shown(median),
            measurement
                .times
                .first()
                .copied()
                .map_or_else(String::new, shown),
            measurement
                .times
                .last()
                .copied()
                .map_or_else(String::new, shown),
            unless_zero(measurement.median_busy(), Duration::ZERO, shown),
            unless_zero(measurement.memory, 0, |memory| format!(
                "{:.0} MB",
                megabytes(memory)
            )),
            measurement.bytes.map_or_else(String::new, travelled),
        )
        .expect("a string takes anything");
    }
    out
}

fn shown(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    if milliseconds < 1.0 {
        format!("{:.0} µs", milliseconds * 1000.0)
    } else if milliseconds < 1000.0 {
        format!("{milliseconds:.1} ms")
    } else {
        format!("{:.2} s", milliseconds / 1000.0)
    }
}

/// What was not measured is not shown.
fn unless_zero<T: PartialEq + Copy>(value: T, zero: T, show: impl Fn(T) -> String) -> String {
    if value == zero {
        String::new()
    } else {
        show(value)
    }
}

fn travelled(bytes: u64) -> String {
    if bytes < 1_000_000 {
        format!("{:.1} kB", megabytes(bytes) * 1e3)
    } else {
        format!("{:.1} MB", megabytes(bytes))
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "megabytes for people to read need no 53 bits"
)]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
