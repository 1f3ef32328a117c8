//! The rows of builds on a farm: what a step costs more than here, and what travels of a context.

use std::cell::{Cell, OnceCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::command::TestCommand;
use ashlar_test_support::wire::Wire;
use ashlar_test_support::worker::Worker;

use crate::generate;
use crate::measure::{Case, Sample};
use crate::rows::Row;
use crate::subject::{Ashlar, Site, write};

/// Steps in the longer of two builds.
const STEPS: u32 = 21;

/// Stages in the broader of two builds.
const STAGES: u32 = 21;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "remote-step",
            work: "a build of one step that does nothing, and of 21, in a row and side by side: here, \
                   and on a worker beside its server",
            goal: "none: it says what the farm adds",
            met: |_| None,
            cases: steps,
            rounds: None,
        },
        Row {
            name: "remote-context",
            work: "50,000 small files to a farm, and once more with one changed",
            goal: "none: it says what travels",
            met: |_| None,
            cases: context,
            rounds: Some(3),
        },
    ]
}

/// A server and a worker, started when they are needed.
struct Farm {
    _worker: Worker,
    server: CacheServer,
    wire: Wire,
}

impl Farm {
    fn start() -> Self {
        let server = CacheServer::prepare().for_workers().started();
        let worker = Worker::prepare(&server.workers_url());
        Self {
            _worker: worker.with(["--slots", "4"]).started(),
            wire: Wire::before(server.port()),
            server,
        }
    }
}

/// Dockerfiles of which no two are the same.
pub(crate) struct Fresh {
    context: PathBuf,
    made: Cell<u32>,
}

impl Fresh {
    pub(crate) fn new(site: &Site) -> Rc<Self> {
        Rc::new(Self {
            context: site.context("FROM scratch\n"),
            made: Cell::new(0),
        })
    }

    /// The directory that they are in, with nothing else.
    pub(crate) fn context(&self) -> &Path {
        &self.context
    }

    fn dockerfile(&self, text: impl Fn(u32) -> String) -> PathBuf {
        self.made.set(self.made.get() + 1);
        let path = self.context.join(format!("Dockerfile{}", self.made.get()));
        write(&path, text(self.made.get()));
        path
    }

    /// So many steps, one after the other.
    fn chain(&self, steps: u32) -> PathBuf {
        self.dockerfile(|number| {
            let mut text = format!("FROM {}\n", Ashlar::base());
            for step in 0..steps {
                text.push_str(&format!("RUN : {number} {step}\n"));
            }
            text
        })
    }

    /// So many steps side by side, and one that looks at all.
    pub(crate) fn fan(&self, stages: u32) -> PathBuf {
        self.dockerfile(|number| {
            let base = Ashlar::base();
            let mut text = String::new();
            let mut mounts = String::new();
            for stage in 0..stages {
                text.push_str(&format!(
                    "FROM {base} AS s{stage}\nRUN : {number} {stage}\n"
                ));
                mounts.push_str(&format!("--mount=type=bind,from=s{stage},target=/{stage} "));
            }
            text + &format!("FROM {base}\nRUN {mounts} : {number}\n")
        })
    }
}

/// What is built here, and what remotely, and its Dockerfile.
type Work = (&'static str, &'static str, fn(&Fresh) -> PathBuf);

fn steps(site: &Site) -> Vec<Case<'_>> {
    let fresh = Fresh::new(site);
    let farm: Rc<OnceCell<Farm>> = Rc::default();
    let here = site.ashlar();
    let away = site.ashlar();
    let mut cases = Vec::new();
    let works: [Work; 3] = [
        ("here, 1 step", "remote, 1 step", |fresh| fresh.chain(1)),
        ("here, 21 steps", "remote, 21 steps", |fresh| {
            fresh.chain(STEPS)
        }),
        ("here, 21 stages", "remote, 21 stages", |fresh| {
            fresh.fan(STAGES)
        }),
    ];
    for (local, remote, dockerfile) in works {
        let (same, store) = (Rc::clone(&fresh), here.clone());
        cases.push(Case::new(local, move || {
            store.build(&same.context, &dockerfile(&same))
        }));
        let (same, store, farm) = (Rc::clone(&fresh), away.clone(), Rc::clone(&farm));
        cases.push(Case::new(remote, move || {
            let farm = farm.get_or_init(Farm::start);
            let build = store.build(&same.context, &dockerfile(&same));
            build.args(["--remote", &farm.server.url()])
        }));
    }
    cases
}

/// Builds through the wire, and counts what passes.
fn counted(site: &Site, wire: &Wire, build: TestCommand) -> Sample {
    site.settle();
    let before = wire.passed();
    let output = build.run();
    output.success();
    let after = wire.passed();
    Sample {
        time: output.elapsed(),
        memory: 0,
        bytes: Some(after.up - before.up),
    }
}

fn context(site: &Site) -> Vec<Case<'_>> {
    let files = site.directory("files");
    generate::small_files(&files.join("tree"));
    let files: Rc<Path> = files.into();
    write(
        &files.join("Dockerfile"),
        "FROM scratch\nCOPY tree /data/\n",
    );
    let farm: Rc<OnceCell<Farm>> = Rc::default();
    let changes = Rc::new(Cell::new(0));
    let kept = site.ashlar();
    let same = (Rc::clone(&files), Rc::clone(&farm));
    let build = |ashlar: &Ashlar<'_>, files: &Path, farm: &Farm| {
        let build = ashlar.build(files, &files.join("Dockerfile"));
        build.args(["--remote", &farm.wire.url()])
    };
    vec![
        // A farm of its own each time: it has nothing of them.
        Case::sampled("all of them", move |_| {
            let farm = Farm::start();
            counted(site, &farm.wire, build(&site.ashlar(), &files, &farm))
        }),
        Case::sampled("one changed", move |_| {
            let (files, farm) = &same;
            let farm = farm.get_or_init(|| {
                let farm = Farm::start();
                build(&kept, files, &farm).run().success();
                farm
            });
            changes.set(changes.get() + 1);
            let changed = files.join("tree/package-000/src/file_0.rs");
            write(&changed, format!("change number {}\n", changes.get()));
            counted(site, &farm.wire, build(&kept, files, farm))
        }),
    ]
}
