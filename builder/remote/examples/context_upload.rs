//! Measures what a context costs on its way to a farm: all of it, unchanged, with one file changed.
//!
//! ```text
//! cargo run --release -p ashlar-remote --example context_upload -- DIRECTORY
//! ```
//!
//! If DIRECTORY is absent it is made: 50,000 files of 1 to 8 KiB in 500 directories. The store is one
//! in memory: what is measured is the client's and the worker's own work, without network.
#![expect(clippy::print_stdout, reason = "it is a measurement for people")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ashlar_engine::context::Context;
use ashlar_model::cas::DigestFunction;
use ashlar_model::select::PathRules;
use ashlar_model::step::Selection;
use ashlar_remote::context::{Fetched, Hints, Limits, fetch, list, send};
use ashlar_store::BlobStore;
use ashlar_store::home::Home;
use ashlar_store::memory::MemoryStore;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("give a directory")?;
    let directory = PathBuf::from(directory);
    if !directory.exists() {
        make_tree(&directory)?;
        // What is younger than this is not remembered.
        std::thread::sleep(Duration::from_secs(4));
    }
    let beside = directory.with_extension("upload");
    drop(fs::remove_dir_all(&beside));
    let home = Home::open(&beside.join("home"))?;
    let store: Arc<dyn BlobStore> = Arc::new(MemoryStore::new(8 << 30));
    for what in ["all of it", "unchanged", "one file changed"] {
        if what == "one file changed" {
            fs::write(directory.join("250/50"), what)?;
        }
        let begin = Instant::now();
        let selection = select(&directory, &beside.join("stat"), &home)?;
        let selected = begin.elapsed();
        let begin = Instant::now();
        let hints = Hints::load(Some(beside.join("bundles")));
        let from = (&*directory, &selection);
        let sent = send(&store, DigestFunction::Blake3, from, &hints, &|_| {}).await?;
        hints.save(&home.meter())?;
        let (reference, sent) = sent;
        println!(
            "{what}: selected in {selected:?}, sent in {:?}: {sent:?}",
            begin.elapsed()
        );
        let begin = Instant::now();
        let listing = list(&store, &reference, &Limits::default()).await?;
        let listed = begin.elapsed();
        let into = beside.join("fetched");
        fs::create_dir(&into)?;
        let begin = Instant::now();
        fetch(&store, &listing, &into, &home.meter(), &[]).await?;
        println!("    listed in {listed:?}, fetched in {:?}", begin.elapsed());
        let near = [Fetched {
            directory: into.clone(),
            listing: listing.clone(),
        }];
        let again = beside.join("fetched-again");
        fs::create_dir(&again)?;
        let begin = Instant::now();
        fetch(&store, &listing, &again, &home.meter(), &near).await?;
        println!("    beside itself in {:?}", begin.elapsed());
        fs::remove_dir_all(&again)?;
        fs::remove_dir_all(&into)?;
    }
    Ok(())
}

fn select(directory: &Path, cache: &Path, home: &Home) -> Result<Arc<Selection>, Box<dyn Error>> {
    let context = Context::open(directory, PathRules::default(), Some(cache.to_owned()))?;
    let selection = context.select(&["."])?.pop().ok_or("nothing")?;
    context.save_stat_cache(&home.meter())?;
    Ok(Arc::new(selection))
}

fn make_tree(root: &Path) -> std::io::Result<()> {
    for directory in 0..500_u64 {
        let path = root.join(directory.to_string());
        fs::create_dir_all(&path)?;
        for file in 0..100_u64 {
            let number = directory * 100 + file;
            let mut bytes = vec![0; usize::try_from(1024 + number * 7919 % 7168).unwrap_or(1024)];
            blake3::Hasher::new()
                .update(&number.to_le_bytes())
                .finalize_xof()
                .fill(&mut bytes);
            fs::write(path.join(file.to_string()), bytes)?;
        }
    }
    Ok(())
}
