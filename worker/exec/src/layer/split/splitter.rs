//! A tar into chunks.
//!
//! ```text
//!  tar ─▶ reading, taking apart, cutting ─▶ hashing on all cores ─▶ sink
//!         (a thread of its own)             (the caller's thread, and rayon's)
//! ```

use std::fmt;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use ashlar_model::cas::{CasDigest, DigestFunction};
use bytes::Bytes;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use super::cut::Cutter;
use super::walk::{Streams, walk};
use super::{Chunk, Part};

/// Batches of chunks that may wait for being hashed. A batch has about two mebibytes.
const WAITING: usize = 2;

/// Why a tar was not split.
#[derive(Debug, thiserror::Error)]
pub enum SplitError<E> {
    /// It cannot be read.
    #[error("the layer's tar cannot be read")]
    Read(#[source] io::Error),
    /// The chunks' receiver failed.
    #[error("the layer's chunks cannot be taken")]
    Sink(#[source] E),
}

/// A tar that was split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SplitLayer {
    /// Length of the tar.
    pub tar_size: u64,
    /// Bytes of headers.
    pub headers: u64,
    /// Bytes of contents.
    pub contents: u64,
    /// Chunks of both.
    pub chunks: u64,
}

/// Splits a tar. `sink` takes its chunks, those of each part in order; both parts come mixed. No
/// more than a few mebibytes are in memory, besides those that `sink` keeps.
///
/// Blocks; to be called beside a runtime.
pub fn split<E>(
    tar: impl Read + Send,
    function: DigestFunction,
    mut sink: impl FnMut(Chunk) -> Result<(), E>,
) -> Result<SplitLayer, SplitError<E>> {
    thread::scope(|scope| {
        let (batches, cut): (_, Receiver<Batch>) = sync_channel(WAITING);
        let cutting = scope.spawn(move || cut_all(tar, batches));
        let mut split = SplitLayer::default();
        for Batch { part, chunks } in cut {
            let named: Vec<Chunk> = chunks
                .into_par_iter()
                .map(|bytes| Chunk {
                    part,
                    digest: CasDigest::of(function, &bytes),
                    bytes,
                })
                .collect();
            for chunk in named {
                match part {
                    Part::Headers => split.headers += chunk.digest.size,
                    Part::Contents => split.contents += chunk.digest.size,
                }
                split.chunks += 1;
                sink(chunk).map_err(SplitError::Sink)?;
            }
        }
        let walked = cutting
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        split.tar_size = walked.map_err(SplitError::Read)?;
        Ok(split)
    })
}

/// Chunks of one part, in order.
struct Batch {
    part: Part,
    chunks: Vec<Bytes>,
}

fn cut_all(tar: impl Read, batches: SyncSender<Batch>) -> io::Result<u64> {
    let mut cutting = Cutting {
        headers: Cutter::new(Part::Headers),
        contents: Cutter::new(Part::Contents),
        batches,
    };
    let length = walk(tar, &mut cutting)?;
    let (headers, contents) = (cutting.headers.cut_rest(), cutting.contents.cut_rest());
    cutting.send(Part::Headers, headers)?;
    cutting.send(Part::Contents, contents)?;
    Ok(length)
}

struct Cutting {
    headers: Cutter,
    contents: Cutter,
    batches: SyncSender<Batch>,
}

impl Cutting {
    fn send(&self, part: Part, chunks: Vec<Bytes>) -> io::Result<()> {
        if chunks.is_empty() {
            return Ok(());
        }
        // Nobody listens any more once the sink has failed.
        let sent = self.batches.send(Batch { part, chunks });
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Streams for Cutting {
    fn headers(&mut self) -> &mut Vec<u8> {
        self.headers.collect().0
    }

    fn contents(&mut self) -> (&mut Vec<u8>, u64) {
        let (contents, room) = self.contents.collect();
        (contents, room as u64)
    }

    fn appended(&mut self) -> io::Result<()> {
        let headers = self.headers.cut_full();
        self.send(Part::Headers, headers)?;
        let contents = self.contents.cut_full();
        self.send(Part::Contents, contents)
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("part", &self.part)
            .field("chunks", &self.chunks.len())
            .finish()
    }
}
