//! How fast layers are split and put together, and what two of them share.
//!
//! ```text
//! split_speed speed DIRECTORY TAR      splitting, assembling and receiving, beside plain copies
//! split_speed shared TAR TAR           what of the second the first has already
//! split_speed list TAR                 the chunks: part, SHA-256, length
//! ```
//!
//! DIRECTORY is made and must not exist. Build with `--release`.
#![expect(clippy::print_stdout, reason = "a program for people")]
#![expect(clippy::unwrap_used, reason = "not part of the product")]

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Instant;

use ashlar_exec::layer::split::{Chunk, ChunkSource, Part, assemble, receive, split};
use ashlar_exec::layer::{Decompressor, index_only};
use ashlar_model::cas::DigestFunction;
use ashlar_model::layer::LayerRecord;
use ashlar_store::home::Home;
use bytes::Bytes;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["speed", directory, tar] => speed(Path::new(directory), Path::new(tar)),
        ["shared", one, other] => shared(Path::new(one), Path::new(other)),
        ["list", tar] => {
            for chunk in chunks(Path::new(tar), DigestFunction::Sha256) {
                let digest = chunk.digest;
                println!("{:?} {} {}", chunk.part, digest.hash_hex(), digest.size);
            }
        }
        _ => println!("usage: split_speed speed DIRECTORY TAR | shared TAR TAR | list TAR"),
    }
}

fn open(tar: &Path) -> Decompressor<File> {
    Decompressor::new(File::open(tar).unwrap()).unwrap()
}

fn chunks(tar: &Path, function: DigestFunction) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let split = split(open(tar), function, |chunk| {
        chunks.push(chunk);
        Ok::<_, io::Error>(())
    });
    split.unwrap();
    chunks
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn timed<T>(what: &str, bytes: u64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let elapsed = start.elapsed().as_secs_f64();
    println!(
        "{what:<44} {elapsed:8.3} s {:8.0} MB/s",
        bytes as f64 / 1e6 / elapsed
    );
    result
}

/// Chunks in memory.
struct Memory {
    headers: VecDeque<Bytes>,
    contents: VecDeque<Bytes>,
}

impl Memory {
    fn of(chunks: &[Chunk]) -> Self {
        let of = |part| {
            let chunks = chunks.iter().filter(|chunk| chunk.part == part);
            chunks.map(|chunk| chunk.bytes.clone()).collect()
        };
        Self {
            headers: of(Part::Headers),
            contents: of(Part::Contents),
        }
    }
}

impl ChunkSource for Memory {
    fn next(&mut self, part: Part) -> io::Result<Option<Bytes>> {
        Ok(match part {
            Part::Headers => self.headers.pop_front(),
            Part::Contents => self.contents.pop_front(),
        })
    }
}

fn speed(directory: &Path, tar: &Path) {
    let home = Home::open(directory).unwrap();
    let read = index_only(open(tar)).unwrap();
    let size = read.tar_size;
    println!("{:.1} MB, {} entries", mb(size), read.index.entries.len());
    let content = read.index.content_digest();
    let layer = LayerRecord::of_shared(read.diff_id, size, content, Vec::new());
    home.put_layer(&layer).unwrap();
    for round in 0..3 {
        println!("round {round}");
        let path = |name: &str| directory.join(format!("{name}{round}"));
        timed("copy to a file", size, || {
            io::copy(&mut open(tar), &mut File::create(path("copy")).unwrap()).unwrap()
        });
        timed("SHA-256", size, || {
            ashlar_store::home::blobs::sha256(tar).unwrap()
        });
        timed("index_only", size, || index_only(open(tar)).unwrap());
        for function in [DigestFunction::Blake3, DigestFunction::Sha256] {
            timed(&format!("split, {function}"), size, || {
                split(open(tar), function, |_| Ok::<_, io::Error>(())).unwrap()
            });
        }
        let chunks = chunks(tar, DigestFunction::Blake3);
        timed("assemble to a file", size, || {
            let mut file = io::BufWriter::new(File::create(path("assembled")).unwrap());
            assemble(&mut Memory::of(&chunks), Some(size), &mut file).unwrap();
            file.flush().unwrap();
        });
        let _ignored = fs::rename(home.tar_path(&layer.id), path("received"));
        let index = home.tar_path(&layer.id).with_file_name("index");
        let _ignored = fs::rename(index, path("index"));
        timed("receive (checked, with its index)", size, || {
            receive(&home, &layer, &mut Memory::of(&chunks), None).unwrap();
        });
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn shared(one: &Path, other: &Path) {
    let known: HashSet<_> = chunks(one, DigestFunction::Blake3)
        .into_iter()
        .map(|chunk| chunk.digest)
        .collect();
    let chunks = chunks(other, DigestFunction::Blake3);
    for part in [Part::Headers, Part::Contents] {
        let all: Vec<_> = chunks.iter().filter(|chunk| chunk.part == part).collect();
        let new = all.iter().filter(|chunk| !known.contains(&chunk.digest));
        let new: Vec<&Chunk> = new.copied().collect();
        let size = |chunks: &[&Chunk]| chunks.iter().map(|chunk| chunk.digest.size).sum::<u64>();
        let sent = new;
        let wire: usize = sent
            .iter()
            .map(|chunk| zstd::bulk::compress(&chunk.bytes, 3).unwrap().len())
            .sum();
        println!(
            "{part:?}: {} chunks, {:.2} MB; new: {} chunks, {:.2} MB, each as zstd {:.2} MB",
            all.len(),
            mb(size(&all)),
            sent.len(),
            mb(size(&sent)),
            mb(wire as u64),
        );
    }
}
