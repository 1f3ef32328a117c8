//! `make bench`: Ashlar beside Debian's buildah and beside what the machine can do at best.
//!
//! Every row is measured in rounds in which the subjects take turns, each round after a `sync`,
//! and what is told is the median. Memory is measured in a run of its own, which is not timed: it
//! is the highest sum of the proportional set sizes of all processes below the command.
//!
//! On ext4 the creation of many files just after the deletion of many is several times slower for
//! minutes. So nothing is deleted between the runs: each works in directories that are new.
//!
//! ```text
//! ashlar-bench [--rounds N] [--subjects ashlar,buildah,floor] [ROW...]
//! ```
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program whose result is a table, and which takes minutes"
)]

mod arguments;
mod floor;
mod generate;
mod last_step;
mod load;
mod measure;
mod queue;
mod remote;
mod report;
mod rows;
mod shared;
mod subject;

use std::process::ExitCode;

use arguments::Arguments;
use measure::Measurement;
use subject::Site;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("error: {problem}");
            return ExitCode::from(2);
        }
    };
    let site = Site::new();
    let mut measured = false;
    for row in rows::all() {
        if !arguments.wants_row(row.name) {
            continue;
        }
        eprintln!("{}: {}", row.name, row.work);
        let cases: Vec<_> = (row.cases)(&site)
            .into_iter()
            .filter(|case| arguments.wants_subject(case.subject))
            .collect();
        let rounds = row
            .rounds
            .map_or(arguments.rounds, |few| few.min(arguments.rounds));
        let measurements = Measurement::take_turns(&site, cases, rounds);
        println!("{}", report::section(&row, &measurements));
        measured = true;
    }
    for row in load::ROWS {
        if !arguments.wants_row(row.name) {
            continue;
        }
        eprintln!("{}: {}", row.name, row.work);
        if let Some(section) = row.measure(arguments.rounds) {
            println!("{section}");
            measured = true;
        }
    }
    eprintln!(
        "The files of this run are in {}; `make clean-scratch` removes them, some minutes before \
         the next one.",
        site.root().display()
    );
    if !measured {
        eprintln!("error: no row has one of these names: {:?}", arguments.rows);
        return ExitCode::from(2);
    }
    ExitCode::SUCCESS
}
