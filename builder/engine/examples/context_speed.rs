//! Measures how fast a context is read, beside a walk that only looks.
//!
//! ```text
//! cargo run --release -p ashlar-engine --example context_speed -- DIRECTORY [ROUNDS]
//! ```
//!
//! If DIRECTORY is absent it is made: 50,000 files of 1 to 8 KiB in 500 directories.
#![expect(clippy::print_stdout, reason = "it is a measurement for people")]

use ashlar_store::home::quota::Meter;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ashlar_engine::context::Context;
use ashlar_model::select::PathRules;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("give a directory")?);
    let rounds = match arguments.next() {
        Some(rounds) => rounds.to_string_lossy().parse()?,
        None => 5,
    };
    if !directory.exists() {
        make_tree(&directory)?;
        // What is younger than this is not remembered.
        thread::sleep(Duration::from_secs(4));
    }
    let cache = directory.with_extension("stat-cache");
    drop(fs::remove_file(&cache));

    let first = Instant::now();
    let files = select(&directory, &cache)?;
    println!("{files} entries; not remembered: {:?}", first.elapsed());
    for _ in 0..rounds {
        let start = Instant::now();
        let looked = look(&directory)?;
        let bare = start.elapsed();
        let start = Instant::now();
        let files = select(&directory, &cache)?;
        let remembered = start.elapsed();
        println!(
            "bare walk of {looked}: {bare:?}; remembered, {files}: {remembered:?} ({:.2} x)",
            remembered.as_secs_f64() / bare.as_secs_f64()
        );
    }
    Ok(())
}

fn select(directory: &Path, cache: &Path) -> Result<usize, Box<dyn std::error::Error>> {
    let context = Context::open(directory, PathRules::default(), Some(cache.to_owned()))?;
    let selections = context.select(&["."])?;
    context.save_stat_cache(&Meter::default())?;
    let items = selections.iter().flat_map(|selection| &selection.items);
    Ok(items.map(|item| item.entries.len()).sum())
}

/// The least that any walk must do: list, and look at each file.
fn look(directory: &Path) -> io::Result<usize> {
    let entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    entries
        .into_par_iter()
        .map(|entry| {
            let metadata = entry.metadata()?;
            let below = if metadata.is_dir() {
                look(&entry.path())?
            } else {
                0
            };
            Ok(below + 1)
        })
        .sum()
}

fn make_tree(directory: &Path) -> io::Result<()> {
    let mut state = 1_u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state >> 33
    };
    for number in 0..50_000 {
        let inside = directory.join(format!("d{:03}", number % 500));
        if number < 500 {
            fs::create_dir_all(&inside)?;
        }
        let length = 1024 + random() % 7168;
        let content: Vec<u8> = (0..length / 8)
            .flat_map(|_| random().to_le_bytes())
            .collect();
        fs::write(inside.join(format!("f{number:05}")), content)?;
    }
    Ok(())
}
