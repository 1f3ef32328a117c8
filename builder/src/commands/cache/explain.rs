//! `ashlar cache explain`.
//!
//! With `--format json`, one object for each step that was not found at once: `Step`, `Vertex`,
//! `Fate` (`ran`, `missed`, `found-by-content`), `Refused` if a cache had a result that was passed
//! over, and why, `Cause` (`no-cache`, `new`, `gone`, `differs`);
//! for the last two `Earlier`, the number of remembered builds to go back, and `EarlierTime`; for
//! the last `EarlierStep` and `Differences`, a list of objects with `Input`, `Kind` and, by kind:
//! `values`: `Removed`, `Added`; `files`: `Files` with `Path` and `Change` (`added`, `removed`,
//! `content`, `metadata`); `filesystem`: `Of`, `Was`, `Missed`, `Base`; `unknown`: nothing.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use ashlar_engine::explain::{
    BuildRecord, Cause, Change, Difference, EarlierBuild, Explanation, FileChangeKind, StoredBuild,
    builds, explain,
};
use ashlar_engine::schedule::Fate;
use ashlar_model::config::DateTime;
use ashlar_model::layer::Timestamp;
use serde::Serialize;

use crate::cli::Format;
use crate::cli::cache::explain::ExplainArgs;
use crate::commands::output::{json_lines, line, print};
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::human::age::age;
use crate::settings::Settings;

/// How many lines are printed of one difference.
const MOST_LINES: usize = 20;

/// Runs the command.
pub(super) fn run(args: &ExplainArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let home = settings.open_home()?;
    let builds = builds(&home)?;
    // A build that another machine did all the work for is remembered, but explains nothing.
    let missed = |build: &StoredBuild| {
        let mut nodes = build.record.nodes.iter();
        nodes.any(|node| node.fate != Fate::Found)
    };
    let begin = builds.iter().position(missed).unwrap_or(builds.len());
    let Some((last, earlier)) = builds[begin..].split_first() else {
        return match args.format {
            Format::Table => line("No build that missed anything is remembered."),
            Format::Json => Ok(ExitCode::Success),
        };
    };
    let mut explained = explain(&last.record, earlier);
    if let Some(step) = &args.step {
        explained = named(step, explained, &last.record)?;
    }
    let page = Page {
        last,
        earlier,
        now: settings.clock().now(),
    };
    match args.format {
        Format::Table => print(|out| page.print(out, &explained, args.step.is_none())),
        Format::Json => print(|out| json_lines(out, &page.rows(&explained))),
    }
}

/// The explanations of the steps that a user means.
fn named(
    step: &str,
    mut explained: Vec<Explanation>,
    build: &BuildRecord,
) -> Result<Vec<Explanation>, CliError> {
    let number: Option<u32> = step.trim_start_matches('#').parse().ok();
    let text = step.to_lowercase();
    let is_meant = |vertex: u32, name: &str| match number {
        Some(number) => vertex == number,
        None => name.to_lowercase().contains(&text),
    };
    explained.retain(|one| is_meant(one.vertex, &one.step));
    if !explained.is_empty() {
        return Ok(explained);
    }
    let mut steps = build.nodes.iter().filter(|node| node.vertex > 0);
    match steps.find(|node| is_meant(node.vertex, &node.name)) {
        Some(found) => Err(CliError::failed(format!(
            "{} was found at once: there is nothing to explain",
            found.name
        ))),
        None => Err(
            CliError::failed(format!("no step of the last build is called `{step}`"))
                .hint("`ashlar cache explain` lists the steps that were not found"),
        ),
    }
}

/// What is printed.
struct Page<'a> {
    last: &'a StoredBuild,
    earlier: &'a [StoredBuild],
    now: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row<'a> {
    #[serde(flatten)]
    explanation: &'a Explanation,
    #[serde(skip_serializing_if = "Option::is_none")]
    earlier_time: Option<String>,
}

impl Page<'_> {
    fn rows<'a>(&self, explained: &'a [Explanation]) -> Vec<Row<'a>> {
        let row = |explanation: &'a Explanation| Row {
            explanation,
            earlier_time: match &explanation.cause {
                Cause::Gone { earlier } | Cause::Differs { earlier, .. } => self
                    .build(*earlier)
                    .map(|build| DateTime::from(timestamp(build.time)).to_string()),
                Cause::NoCache | Cause::New => None,
            },
        };
        explained.iter().map(row).collect()
    }

    fn build(&self, earlier: EarlierBuild) -> Option<&StoredBuild> {
        self.earlier.get(earlier.0.checked_sub(1)?)
    }

    fn print(
        &self,
        out: &mut impl Write,
        explained: &[Explanation],
        with_heading: bool,
    ) -> io::Result<()> {
        if with_heading {
            let steps = self.last.record.nodes.iter();
            let steps = steps.filter(|node| node.vertex > 0).count();
            let ago = age(timestamp(self.last.time), self.now);
            let missed = explained.len();
            writeln!(
                out,
                "{missed} of {steps} steps were not found by the build of {}",
                lower(&ago)
            )?;
        }
        for (number, one) in explained.iter().enumerate() {
            if with_heading || number > 0 {
                writeln!(out)?;
            }
            self.print_one(out, one)?;
        }
        Ok(())
    }

    fn print_one(&self, out: &mut impl Write, one: &Explanation) -> io::Result<()> {
        let fate = match one.fate {
            Fate::FoundByContent => " (found by the content of what it is made from)",
            Fate::Missed => " (did not end here)",
            Fate::Found | Fate::Ran => "",
        };
        writeln!(out, "{}{fate}", plain(&one.step))?;
        if let Some(refused) = &one.refused {
            writeln!(
                out,
                "  {}, which --cache-trust does not let in",
                plain(refused)
            )?;
        }
        match &one.cause {
            Cause::NoCache => writeln!(out, "  the build was to use nothing old"),
            Cause::New => writeln!(out, "  nothing like it is remembered"),
            Cause::Gone { earlier } => writeln!(
                out,
                "  the same was there {}: its result is not in the store any more",
                self.ago(*earlier)
            ),
            Cause::Differs {
                earlier,
                step,
                differences,
            } => {
                let whose = if *step == one.step {
                    String::new()
                } else {
                    format!("{} of ", plain(step))
                };
                let ago = self.ago(*earlier);
                writeln!(out, "  compared with {whose}the build of {ago}:")?;
                for difference in differences {
                    print_difference(out, difference)?;
                }
                Ok(())
            }
        }
    }

    fn ago(&self, earlier: EarlierBuild) -> String {
        let build = self.build(earlier);
        build.map_or_else(
            || "an earlier time".to_owned(),
            |build| lower(&age(timestamp(build.time), self.now)),
        )
    }
}

fn print_difference(out: &mut impl Write, difference: &Difference) -> io::Result<()> {
    let input = &difference.input;
    match &difference.change {
        Change::Unknown => writeln!(out, "  {input}: not the same"),
        Change::Filesystem {
            of,
            was,
            missed,
            base,
        } => {
            let of = plain(of);
            match (missed, base, was) {
                (true, _, _) => writeln!(out, "  {input}: {of} was not found either"),
                (false, true, None) => writeln!(out, "  {input}: {of} is another image"),
                (false, _, Some(was)) => {
                    writeln!(out, "  {input}: {of} instead of {}", plain(was))
                }
                (false, false, None) => writeln!(out, "  {input}: another {of}"),
            }
        }
        Change::Values { removed, added } => {
            writeln!(out, "  {input}:")?;
            let removed = removed.iter().map(|value| format!("- {}", plain(value)));
            let added = added.iter().map(|value| format!("+ {}", plain(value)));
            print_lines(out, &removed.chain(added).collect::<Vec<_>>())
        }
        Change::Files { files } => {
            writeln!(out, "  {input}:")?;
            let files = files.iter().map(|file| {
                let change = match file.change {
                    FileChangeKind::Added => "added   ",
                    FileChangeKind::Removed => "removed ",
                    FileChangeKind::Content => "changed ",
                    FileChangeKind::Metadata => "mode    ",
                };
                format!("{change} {}", plain(&file.path))
            });
            print_lines(out, &files.collect::<Vec<_>>())
        }
    }
}

fn print_lines(out: &mut impl Write, lines: &[String]) -> io::Result<()> {
    for line in lines.iter().take(MOST_LINES) {
        writeln!(out, "    {line}")?;
    }
    match lines.len().saturating_sub(MOST_LINES) {
        0 => Ok(()),
        more => writeln!(out, "    … and {more} more: --format json tells all"),
    }
}

/// Text that cannot touch the terminal.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
    }
    plain
}

fn lower(text: &str) -> String {
    text.to_lowercase()
}

fn timestamp(time: SystemTime) -> Timestamp {
    // Nobody built anything before 1970.
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanoseconds: since.subsec_nanos(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ashlar_engine::explain::{FileChange, NodeRecord};

    use super::*;

    fn node(name: &str, vertex: u32) -> NodeRecord {
        NodeRecord {
            name: name.to_owned(),
            vertex,
            definition: String::new(),
            fate: Fate::Found,
            needs: Vec::new(),
            inputs: Vec::new(),
            refused: None,
        }
    }

    fn build(minutes: u64) -> StoredBuild {
        StoredBuild {
            time: UNIX_EPOCH + Duration::from_secs(60 * minutes),
            record: BuildRecord {
                no_cache: false,
                nodes: vec![
                    node("[1/3] FROM base", 0),
                    node("[2/3] COPY src /src/", 1),
                    node("[3/3] RUN make", 2),
                ],
            },
        }
    }

    fn explanations() -> Vec<Explanation> {
        let explanation = |step: &str, vertex, cause| Explanation {
            step: step.to_owned(),
            vertex,
            fate: Fate::Ran,
            cause,
            refused: (vertex == 2).then(|| "grpc://c:1 has a result not signed".to_owned()),
        };
        let file = |path: &str, change| FileChange {
            path: path.to_owned(),
            change,
        };
        vec![
            explanation(
                "[2/3] COPY src /src/",
                1,
                Cause::Differs {
                    earlier: EarlierBuild(1),
                    step: "[2/3] COPY src /src/".into(),
                    differences: vec![Difference {
                        input: "files of the context".into(),
                        change: Change::Files {
                            files: vec![
                                file("/src/a\x1b[2J", FileChangeKind::Content),
                                file("/src/b", FileChangeKind::Added),
                            ],
                        },
                    }],
                },
            ),
            explanation(
                "[3/3] RUN make",
                2,
                Cause::Differs {
                    earlier: EarlierBuild(2),
                    step: "[3/4] RUN make".into(),
                    differences: vec![
                        Difference {
                            input: "environment".into(),
                            change: Change::Values {
                                removed: vec!["A=1".into()],
                                added: (0..30).map(|n| format!("B{n}=2")).collect(),
                            },
                        },
                        Difference {
                            input: "filesystem".into(),
                            change: Change::Filesystem {
                                of: "[2/3] COPY src /src/".into(),
                                was: None,
                                missed: true,
                                base: false,
                            },
                        },
                    ],
                },
            ),
        ]
    }

    fn with_page<T>(use_it: impl FnOnce(&Page<'_>) -> T) -> T {
        let (last, earlier) = (build(10), [build(8), build(5)]);
        use_it(&Page {
            last: &last,
            earlier: &earlier,
            now: Timestamp {
                seconds: 660,
                nanoseconds: 0,
            },
        })
    }

    #[test]
    fn people_read_what_differs() {
        let mut out = Vec::new();
        with_page(|page| page.print(&mut out, &explanations(), true)).unwrap();
        let text = String::from_utf8(out).unwrap();
        let variables: String = (0..19).map(|n| format!("    + B{n}=2\n")).collect();
        assert_eq!(
            text,
            format!(
                "2 of 2 steps were not found by the build of about a minute ago\n\
                 \n\
                 [2/3] COPY src /src/\n\
                 \x20 compared with the build of 3 minutes ago:\n\
                 \x20 files of the context:\n\
                 \x20   changed  /src/a\\u{{1b}}[2J\n\
                 \x20   added    /src/b\n\
                 \n\
                 [3/3] RUN make\n\
                 \x20 grpc://c:1 has a result not signed, which --cache-trust does not let in\n\
                 \x20 compared with [3/4] RUN make of the build of 6 minutes ago:\n\
                 \x20 environment:\n\
                 \x20   - A=1\n\
                 {variables}\
                 \x20   … and 11 more: --format json tells all\n\
                 \x20 filesystem: [2/3] COPY src /src/ was not found either\n"
            )
        );
    }

    #[test]
    fn programs_read_all_of_it() {
        let explained = explanations();
        let rows = with_page(|page| serde_json::to_value(page.rows(&explained)).unwrap());
        let make = &rows[1];
        assert_eq!(make["Step"], "[3/3] RUN make");
        assert_eq!(make["Vertex"], 2);
        assert_eq!(make["Fate"], "ran");
        assert_eq!(make["Cause"], "differs");
        assert_eq!(make["Refused"], "grpc://c:1 has a result not signed");
        assert_eq!(make["Earlier"], 2);
        assert_eq!(make["EarlierTime"], "1970-01-01T00:05:00Z");
        assert_eq!(make["EarlierStep"], "[3/4] RUN make");
        let added = make["Differences"][0]["Added"].as_array().unwrap();
        assert_eq!(added.len(), 30);
        assert_eq!(make["Differences"][1]["Kind"], "filesystem");
        let file = &rows[0]["Differences"][0]["Files"][1];
        assert_eq!(
            *file,
            serde_json::json!({ "Path": "/src/b", "Change": "added" })
        );
    }

    #[test]
    fn steps_are_named_by_number_or_text() {
        let build = build(0).record;
        let found = |step: &str| {
            let found = named(step, explanations(), &build)?;
            Ok::<_, CliError>(found.iter().map(|one| one.vertex).collect::<Vec<_>>())
        };
        assert_eq!(found("2").unwrap(), [2]);
        assert_eq!(found("#1").unwrap(), [1]);
        assert_eq!(found("run MAKE").unwrap(), [2]);
        assert_eq!(found("/3]").unwrap(), [1, 2]);
        let error = found("RUN test").unwrap_err();
        assert!(error.message().contains("no step"), "{}", error.message());
        let one = explanations().remove(0);
        let error = named("RUN make", vec![one], &build).unwrap_err();
        assert!(error.message().contains("at once"), "{}", error.message());
    }
}
