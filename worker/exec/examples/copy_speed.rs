//! Measures how fast a directory becomes a layer's tree, beside `cp -r`.
//!
//! ```text
//! cargo run --release -p ashlar-exec --example copy_speed -- SOURCE SCRATCH [ROUNDS]
//! ```
//!
//! SCRATCH must be on the same filesystem, and what it is made of stays: on ext4, making files in
//! the minutes after removing many is several times slower, for `cp` too.
#![expect(clippy::print_stdout, reason = "it is a measurement for people")]

use ashlar_store::home::quota::Meter;
use std::error::Error;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use ashlar_exec::copy::{
    Digests, LayeredView, SourceFiles, ViewLayer, materialise, plan_copy, select,
};
use ashlar_model::layer::Timestamp;
use ashlar_model::step::CopySpec;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let source = arguments.next().ok_or("give a source directory")?;
    let scratch = arguments.next().ok_or("give a scratch directory")?;
    let rounds = match arguments.next() {
        Some(rounds) => rounds.to_string_lossy().parse()?,
        None => 3,
    };
    fs::create_dir_all(&scratch)?;
    let view = LayeredView::open([ViewLayer::Tree(source.clone())])?;
    let start = Instant::now();
    let selected = select(&view, ".", Digests::Compute)?;
    println!("selected and hashed: {:?}", start.elapsed());

    let from_context = SourceFiles::Directory {
        root: &source,
        selection: &selected.selection,
    };
    let from_layer = SourceFiles::Layers {
        view: &view,
        selection: &selected,
    };
    for round in 0..rounds {
        let at = |what: &str| scratch.join(format!("{what}-{round}"));
        let cp = Spent::by(|| {
            let status = Command::new("cp")
                .arg("-r")
                .arg(&source)
                .arg(at("cp"))
                .status()?;
            assert!(status.success(), "cp failed");
            Ok(())
        })?;
        let context = Spent::by(|| copy(&from_context, &at("context")))?;
        let layer = Spent::by(|| copy(&from_layer, &at("layer")))?;
        println!("cp -r {cp}; from a context {context}; from a layer {layer}");
        println!(
            "    ratios: {:.2}, {:.2}",
            context.seconds / cp.seconds,
            layer.seconds / cp.seconds
        );
    }
    Ok(())
}

/// What something took. Beside other work on the machine, the processor's seconds say more than
/// those of the clock.
struct Spent {
    seconds: f64,
    processor: f64,
}

impl Spent {
    fn by(work: impl FnOnce() -> Result<(), Failure>) -> Result<Self, Failure> {
        let (start, before) = (Instant::now(), processor_seconds()?);
        work()?;
        Ok(Self {
            seconds: start.elapsed().as_secs_f64(),
            processor: processor_seconds()? - before,
        })
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} s ({:.2} s of processor)",
            self.seconds, self.processor
        )
    }
}

/// Time of this process and its ended children, user and system (`proc_pid_stat(5)`).
fn processor_seconds() -> Result<f64, Failure> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(4);
    let ticks: u32 = ticks.map(str::parse::<u32>).sum::<Result<_, _>>()?;
    Ok(f64::from(ticks) / 100.0)
}

fn copy(source: &SourceFiles<'_>, tree: &Path) -> Result<(), Failure> {
    let spec = CopySpec {
        sources: Vec::new(),
        destination: "/app/".into(),
        owner: None,
        mode: None,
        unpack: false,
        created: None,
    };
    let start = Instant::now();
    let below = LayeredView::open([])?;
    let sources = std::slice::from_ref(source);
    let plan = plan_copy(&spec, sources, &below, Timestamp::default())?;
    let planned = start.elapsed();
    materialise(&plan.recipe, tree, &Meter::default())?;
    println!("planned in {planned:?}");
    Ok(())
}
