//! gzip, every mebibyte a member, on threads.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytes::Bytes;
use libdeflater::{CompressionLvl, Compressor};

use super::bad_level;

/// More threads than this outrun the SHA-256 of what they compress, and each holds 2 MiB.
const MAX_THREADS: usize = 16;

/// A block and where its member is waited for.
type Job = (Bytes, Sender<io::Result<Vec<u8>>>);

/// Compresses what is written to it as a sequence of gzip members.
///
/// Its threads start with the second block and end when it is dropped.
pub struct GzipWriter<W> {
    out: W,
    level: i32,
    threads: usize,
    block: Vec<u8>,
    /// Members in the order of their blocks.
    pending: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    workers: Option<Sender<Job>>,
    /// Whether no member has been started yet.
    empty: bool,
}

impl<W: Write> GzipWriter<W> {
    /// Bytes that a member holds; the last one may hold fewer. Larger blocks make the result a
    /// little smaller and take more memory; any change changes every gzip blob.
    pub const BLOCK: usize = 1024 * 1024;

    /// In front of `out`. See [`CompressedWriter::new`](super::CompressedWriter::new).
    pub fn new(out: W, level: i32, threads: usize) -> io::Result<Self> {
        compression_level(level)?;
        Ok(Self {
            out,
            level,
            threads: threads.clamp(1, MAX_THREADS),
            block: Vec::new(),
            pending: VecDeque::new(),
            workers: None,
            empty: true,
        })
    }

    /// Writes bytes that are shared with others; a whole block is not copied.
    pub fn write_shared(&mut self, bytes: &Bytes) -> io::Result<()> {
        if self.block.is_empty() && bytes.len() == Self::BLOCK {
            return self.start_member(bytes.clone());
        }
        self.write_all(bytes)
    }

    /// Writes the last member.
    pub fn finish(mut self) -> io::Result<W> {
        let block = std::mem::take(&mut self.block);
        if !block.is_empty() || self.empty {
            if self.workers.is_some() {
                self.start_member(Bytes::from(block))?;
            } else {
                // A small layer: starting threads would cost more.
                let member = compress(&mut new_compressor(self.level)?, &block)?;
                self.out.write_all(&member)?;
            }
        }
        while let Some(member) = self.pending.pop_front() {
            self.write_member(&member)?;
        }
        Ok(self.out)
    }

    fn start_member(&mut self, block: Bytes) -> io::Result<()> {
        self.empty = false;
        // One member for each thread to work on, and one for each to go on with.
        if self.pending.len() >= 2 * self.threads
            && let Some(member) = self.pending.pop_front()
        {
            self.write_member(&member)?;
        }
        let (sender, receiver) = channel();
        let workers = match &self.workers {
            Some(workers) => workers,
            None => self
                .workers
                .insert(start_workers(self.level, self.threads)?),
        };
        workers
            .send((block, sender))
            .map_err(|_| io::Error::other("the compressing threads are gone"))?;
        self.pending.push_back(receiver);
        Ok(())
    }

    fn write_member(&mut self, member: &Receiver<io::Result<Vec<u8>>>) -> io::Result<()> {
        let member = member
            .recv()
            .map_err(|_| io::Error::other("a compressing thread is gone"))??;
        self.out.write_all(&member)
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(Self::BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == Self::BLOCK {
            let block = std::mem::replace(&mut self.block, Vec::with_capacity(Self::BLOCK));
            self.start_member(Bytes::from(block))?;
        }
        Ok(count)
    }

    /// Does nothing: where members end must not depend on who writes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W> fmt::Debug for GzipWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GzipWriter")
            .field("level", &self.level)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

/// Starts threads that end when the sender is dropped.
fn start_workers(level: i32, threads: usize) -> io::Result<Sender<Job>> {
    let (sender, receiver) = channel::<Job>();
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..threads {
        let receiver = Arc::clone(&receiver);
        let mut compressor = new_compressor(level)?;
        thread::Builder::new()
            .name("gzip".to_owned())
            .spawn(move || {
                loop {
                    let job = {
                        let receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
                        receiver.recv()
                    };
                    let Ok((block, reply)) = job else { return };
                    let member = compress(&mut compressor, &block);
                    drop(block);
                    // Nobody waits for it any more if the writer has been dropped.
                    drop(reply.send(member));
                }
            })?;
    }
    Ok(sender)
}

fn compress(compressor: &mut Compressor, block: &[u8]) -> io::Result<Vec<u8>> {
    let mut member = vec![0; compressor.gzip_compress_bound(block.len())];
    let length = compressor
        .gzip_compress(block, &mut member)
        .map_err(io::Error::other)?;
    member.truncate(length);
    Ok(member)
}

fn new_compressor(level: i32) -> io::Result<Compressor> {
    compression_level(level).map(Compressor::new)
}

fn compression_level(level: i32) -> io::Result<CompressionLvl> {
    CompressionLvl::new(level).map_err(|_| bad_level("gzip", level))
}
