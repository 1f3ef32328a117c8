//! A second machine on which the last of twenty steps is another one: it fetches the layers that the
//! step needs, and runs it.

use std::cell::{Cell, OnceCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::numbers::Numbers;

use crate::generate;
use crate::measure::{Case, Measurement};
use crate::rows::{Row, of};
use crate::shared::shared_build;
use crate::subject::{Ashlar, Site, write};

/// What the first of the steps copies: most of what has to be fetched.
const DATA: usize = 64 << 20;

/// Bytes a second on the link that the goal speaks of.
const LINK: u64 = 1_000_000_000 / 8;

pub(crate) fn row() -> Row {
    Row {
        name: "last-step",
        work: "20 steps and 64 MB on a second machine, the last step differs",
        goal: "<= the bytes that came at 1 Gbit/s, and the step alone",
        met,
        cases,
        rounds: None,
    }
}

fn met(all: &[Measurement]) -> Option<bool> {
    let fetching = all.iter().find(|one| one.subject == "ashlar, fetching")?;
    let micros = fetching.bytes? * 1_000_000 / LINK;
    let alone = of(all, "ashlar, the step alone")?;
    Some(fetching.median() <= Duration::from_micros(micros) + alone)
}

/// The steps' files, and Dockerfiles that differ in the last step.
struct Steps {
    context: PathBuf,
    text: String,
    made: Cell<u32>,
}

impl Steps {
    fn new(site: &Site) -> Self {
        let context = site.directory("last-step");
        let text = generate::twenty_steps(&Ashlar::base(), &context);
        write(&context.join("file0"), Numbers::new(7).bytes(DATA));
        Self {
            context,
            text,
            made: Cell::new(0),
        }
    }

    /// The next of them.
    fn dockerfile(&self) -> PathBuf {
        self.made.set(self.made.get() + 1);
        let number = self.made.get();
        let path = self.context.join(format!("Dockerfile{number}"));
        let kept = self.text.trim_end().rsplit_once('\n');
        let kept = kept.map_or(self.text.as_str(), |(kept, _)| kept);
        write(&path, format!("{kept}\nRUN echo {number} > /last\n"));
        path
    }
}

fn cases(site: &Site) -> Vec<Case<'_>> {
    let steps = Rc::new(Steps::new(site));
    let (alone, whole) = (Rc::clone(&steps), Rc::clone(&steps));
    let server = OnceCell::new();
    let built = OnceCell::new();
    vec![
        Case::sampled("ashlar, fetching", move |run| {
            let server = server.get_or_init(|| {
                let server = CacheServer::start();
                let first = steps.dockerfile();
                let build = site.ashlar().build(&steps.context, &first);
                build.args(["--cache", &server.url()]).run().success();
                server
            });
            let dockerfile = steps.dockerfile();
            shared_build(run, server, |url| {
                let build = site.ashlar().build(&steps.context, &dockerfile);
                build.args(["--cache", url])
            })
        }),
        Case::new("ashlar, the step alone", move || {
            let machine = built.get_or_init(|| {
                let machine = site.ashlar();
                let first = alone.dockerfile();
                machine.build(&alone.context, &first).run().success();
                machine
            });
            machine.build(&alone.context, &alone.dockerfile())
        }),
        Case::new("ashlar, without a cache", move || {
            site.ashlar().build(&whole.context, &whole.dockerfile())
        }),
    ]
}
