//! The rows: what is built, by whom, and how good is good enough.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::floor;
use crate::generate;
use crate::last_step;
use crate::measure::{Case, Measurement};
use crate::queue;
use crate::remote;
use crate::shared;
use crate::subject::{Ashlar, Buildah, Site, write};

/// Commands in the longer of the two builds whose difference is the cost of a RUN.
const COMMANDS: u32 = 21;

/// One row of the table.
pub(crate) struct Row {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What is done.
    pub(crate) work: &'static str,
    /// What is good enough, in words.
    pub(crate) goal: &'static str,
    /// Whether it is.
    pub(crate) met: fn(&[Measurement]) -> Option<bool>,
    /// Who takes part.
    pub(crate) cases: for<'a> fn(&'a Site) -> Vec<Case<'a>>,
    /// How many rounds are enough, where fewer than usual are.
    pub(crate) rounds: Option<usize>,
}

/// All rows.
pub(crate) fn all() -> Vec<Row> {
    let mut rows = of_one_machine();
    rows.extend(shared::rows());
    rows.push(last_step::row());
    rows.extend(remote::rows());
    rows.push(queue::row());
    rows
}

fn of_one_machine() -> Vec<Row> {
    vec![
        Row {
            name: "cached",
            work: "nothing changed, 20 steps",
            goal: "<= 10 ms, whole process",
            met: |all| Some(of(all, "ashlar")? <= Duration::from_millis(10)),
            cases: cached,
            rounds: None,
        },
        Row {
            name: "run",
            work: "20 more RUN steps that do nothing (the fixed cost is a twentieth of the difference)",
            goal: "<= 6 ms a step",
            met: |all| {
                let twenty =
                    of(all, "ashlar, 21 steps")?.checked_sub(of(all, "ashlar, 1 step")?)?;
                Some(twenty / (COMMANDS - 1) <= Duration::from_millis(6))
            },
            cases: run,
            rounds: None,
        },
        Row {
            name: "copy",
            work: "COPY 50,000 small files into the store",
            goal: "<= 1.2 x cp -r, far less where no step mounts it",
            met: |all| Some(of(all, "ashlar, mounted")? <= of(all, "cp -r")?.mul_f64(1.2)),
            cases: copy,
            rounds: None,
        },
        Row {
            name: "unchanged",
            work: "the same, unchanged",
            goal: "<= 2 x a stat walk",
            met: |all| Some(of(all, "ashlar")? <= of(all, "stat walk (find)")? * 2),
            cases: unchanged,
            rounds: None,
        },
        Row {
            name: "one-file",
            work: "the same, one file changed",
            goal: "<= unchanged + the one file + the output's own work",
            met: |_| None,
            cases: one_file,
            rounds: None,
        },
        Row {
            name: "layout",
            work: "the same, to an OCI layout, gzip",
            goal: "<= 1.3 x tar through the compressor",
            met: |all| Some(of(all, "ashlar")? <= of(all, "tar | pigz")?.mul_f64(1.3)),
            cases: layout,
            rounds: None,
        },
        Row {
            name: "text",
            work: "1 GiB of text to an OCI layout",
            goal: "the compressor alone, on all cores",
            met: |all| Some(of(all, "ashlar, gzip")? <= of(all, "tar | pigz")?),
            cases: text,
            rounds: None,
        },
    ]
}

/// A subject's median.
pub(crate) fn of(measurements: &[Measurement], subject: &str) -> Option<Duration> {
    measurements
        .iter()
        .find(|known| known.subject == subject)
        .map(Measurement::median)
}

/// A build that was made once, and is timed when it is made again.
fn cached(site: &Site) -> Vec<Case<'_>> {
    let context = |base: &str| {
        let context = site.directory("twenty-steps");
        let text = generate::twenty_steps(base, &context);
        write(&context.join("Dockerfile"), text);
        context
    };
    let (own, theirs) = (context(&Ashlar::base()), context(&Buildah::base()));
    let (ashlar, buildah) = (site.ashlar(), site.buildah());
    let mut made = (false, false);
    vec![
        Case::new("ashlar", move || {
            once(&mut made.0, || {
                ashlar
                    .build(&own, &own.join("Dockerfile"))
                    .run()
                    .success()
                    .code()
            });
            ashlar.build(&own, &own.join("Dockerfile"))
        }),
        Case::new("buildah", move || {
            once(&mut made.1, || {
                buildah
                    .build(&theirs, &theirs.join("Dockerfile"))
                    .run()
                    .success()
                    .code()
            });
            buildah.build(&theirs, &theirs.join("Dockerfile"))
        }),
        floor::nothing(site),
    ]
}

/// Does something the first time, so that a subject that is left out is never run.
fn once<T>(done: &mut bool, action: impl FnOnce() -> T) {
    if !*done {
        action();
        *done = true;
    }
}

/// Builds of one and of 21 commands that do nothing, none of which was ever run before.
fn run(site: &Site) -> Vec<Case<'_>> {
    let round = Cell::new(0_u32);
    let dockerfile = move |base: &str, count: u32| {
        round.set(round.get() + 1);
        let commands: String = (0..count).map(|n| format!("RUN : {n}\n")).collect();
        // Its value enters the keys of all that follow.
        format!("FROM {base}\nENV ROUND={}-{count}\n{commands}", round.get())
    };
    let dockerfile = std::rc::Rc::new(dockerfile);
    let (ashlar, buildah) = (site.ashlar(), site.buildah());
    let mut cases = Vec::new();
    for (subject, count) in [("ashlar, 1 step", 1), ("ashlar, 21 steps", COMMANDS)] {
        let (ashlar, dockerfile) = (ashlar.clone(), dockerfile.clone());
        cases.push(Case::new(subject, move || {
            let context = site.context(&dockerfile(&Ashlar::base(), count));
            ashlar.build(&context, &context.join("Dockerfile"))
        }));
    }
    for (subject, count) in [("buildah, 1 step", 1), ("buildah, 21 steps", COMMANDS)] {
        let (buildah, dockerfile) = (buildah.clone(), dockerfile.clone());
        cases.push(Case::new(subject, move || {
            let context = site.context(&dockerfile(&Buildah::base(), count));
            buildah.build(&context, &context.join("Dockerfile"))
        }));
    }
    cases
}

/// The tree of small files, made once for all rows, with a Dockerfile beside it.
fn small_files(site: &Site) -> &Path {
    site.once("small-files", |root| {
        eprintln!("  making {} files", generate::SMALL_FILES);
        generate::small_files(&root.join("tree"));
    })
}

/// A context that is the tree of small files, with a Dockerfile outside of it.
fn with_dockerfile(site: &Site, text: &str) -> PathBuf {
    site.context(text).join("Dockerfile")
}

fn copy(site: &Site) -> Vec<Case<'_>> {
    let context = small_files(site);
    let own = with_dockerfile(site, "FROM scratch\nCOPY tree /data/\n");
    let mounted = with_dockerfile(
        site,
        &format!("FROM {}\nCOPY tree /data/\nRUN true\n", Ashlar::base()),
    );
    let theirs = with_dockerfile(
        site,
        &format!("FROM {}\nCOPY tree /data/\n", Buildah::base()),
    );
    vec![
        Case::new("ashlar", move || site.ashlar().build(context, &own)),
        Case::new("ashlar, mounted", move || {
            site.ashlar().build(context, &mounted)
        }),
        Case::new("buildah", move || site.buildah().build(context, &theirs)),
        floor::copy(site, context),
    ]
}

fn unchanged(site: &Site) -> Vec<Case<'_>> {
    let context = small_files(site);
    let dockerfile = with_dockerfile(site, "FROM scratch\nCOPY tree /data/\n");
    let theirs = dockerfile.clone();
    let (ashlar, buildah) = (site.ashlar(), site.buildah());
    let mut made = (false, false);
    vec![
        Case::new("ashlar", move || {
            let build = || ashlar.build(context, &dockerfile);
            once(&mut made.0, || build().run().success().code());
            build()
        }),
        Case::new("buildah", move || {
            let build = || buildah.build(context, &theirs);
            once(&mut made.1, || build().run().success().code());
            build()
        }),
        floor::stat_walk(site, context),
    ]
}

fn one_file(site: &Site) -> Vec<Case<'_>> {
    let context = small_files(site);
    let dockerfile = with_dockerfile(site, "FROM scratch\nCOPY tree /data/\n");
    let theirs = dockerfile.clone();
    let (ashlar, buildah) = (site.ashlar(), site.buildah());
    let mut made = (false, false);
    let changes = std::rc::Rc::new(Cell::new(0));
    let change = move || {
        changes.set(changes.get() + 1);
        let changed = context.join("tree/package-000/src/file_0.rs");
        write(&changed, format!("change number {}\n", changes.get()));
    };
    let same_change = change.clone();
    vec![
        Case::new("ashlar", move || {
            let build = || ashlar.build(context, &dockerfile);
            once(&mut made.0, || build().run().success().code());
            change();
            build()
        }),
        Case::new("buildah", move || {
            let build = || buildah.build(context, &theirs);
            once(&mut made.1, || build().run().success().code());
            same_change();
            build()
        }),
    ]
}

fn layout(site: &Site) -> Vec<Case<'_>> {
    let context = small_files(site);
    let dockerfile = with_dockerfile(site, "FROM scratch\nCOPY tree /data/\n");
    let theirs = dockerfile.clone();
    vec![
        Case::new("ashlar", move || {
            site.ashlar().build_to_layout(context, &dockerfile, "gzip")
        }),
        Case::new("buildah", move || {
            site.buildah().build_to_layout(context, &theirs)
        }),
        floor::tar_through(site, context, "pigz"),
    ]
}

fn text(site: &Site) -> Vec<Case<'_>> {
    let context = site.once("text", |root| {
        eprintln!("  making 1 GiB of text");
        generate::big_text(&root.join("text"), 1 << 30);
    });
    let dockerfile = with_dockerfile(site, "FROM scratch\nCOPY text /\n");
    let (zstd, theirs) = (dockerfile.clone(), dockerfile.clone());
    vec![
        Case::new("ashlar, gzip", move || {
            site.ashlar().build_to_layout(context, &dockerfile, "gzip")
        }),
        Case::new("ashlar, zstd", move || {
            site.ashlar().build_to_layout(context, &zstd, "zstd")
        }),
        Case::new("buildah", move || {
            site.buildah().build_to_layout(context, &theirs)
        }),
        floor::tar_through(site, context, "pigz"),
        floor::tar_through(site, context, "zstd -T0"),
    ]
}
