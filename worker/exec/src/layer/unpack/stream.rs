//! The uncompressed stream: read and hashed on threads of their own.
//!
//! ```text
//!  input ─▶ reader thread ─┬─▶ hash thread ─▶ diff ID, length
//!           (decompresses) └─▶ whoever reads the tar
//! ```

use std::fmt;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use ashlar_model::digest::DiffId;
use bytes::{Buf as _, Bytes};
use sha2::{Digest as _, Sha256};

/// Bytes handed on at a time.
const CHUNK: u64 = 256 * 1024;
/// Chunks that may wait for each of the two readers.
const WAITING: usize = 4;

/// Gives the stream's bytes.
pub(super) struct Stream {
    chunks: Receiver<io::Result<Bytes>>,
    current: Bytes,
}

/// Runs `work` on the bytes of `input`. What it succeeds with is returned with the digest and
/// length of all bytes that it was given, so it must read to the end.
pub(super) fn read_hashed<R, T, E>(
    input: R,
    work: impl FnOnce(Stream) -> Result<T, E>,
) -> Result<(T, DiffId, u64), E>
where
    R: Read + Send,
{
    thread::scope(|scope| {
        let (to_hash, hashed) = sync_channel::<Bytes>(WAITING);
        let (to_work, chunks) = sync_channel(WAITING);
        scope.spawn(move || read(input, &to_hash, &to_work));
        let hash = scope.spawn(move || {
            let mut hasher = Sha256::new();
            let mut length = 0;
            for chunk in hashed {
                hasher.update(&chunk);
                length += chunk.len() as u64;
            }
            (DiffId::from_bytes(hasher.finalize().into()), length)
        });
        let done = work(Stream {
            chunks,
            current: Bytes::new(),
        })?;
        let (diff_id, length) = hash.join().unwrap_or_else(|p| std::panic::resume_unwind(p));
        Ok((done, diff_id, length))
    })
}

fn read(
    mut input: impl Read,
    to_hash: &SyncSender<Bytes>,
    to_work: &SyncSender<io::Result<Bytes>>,
) {
    loop {
        let mut chunk = Vec::with_capacity(usize::try_from(CHUNK).unwrap_or(0));
        let result = input.by_ref().take(CHUNK).read_to_end(&mut chunk);
        let failed = result.is_err();
        if let Err(error) = result {
            // What came before the error is still given: the tar may say more about where.
            drop(to_work.send(Ok(Bytes::from(chunk))));
            drop(to_work.send(Err(error)));
            return;
        }
        if chunk.is_empty() || failed {
            return;
        }
        let chunk = Bytes::from(chunk);
        // Nobody listens any more once the work has failed.
        if to_hash.send(chunk.clone()).is_err() || to_work.send(Ok(chunk)).is_err() {
            return;
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.recv() {
                Ok(chunk) => self.current = chunk?,
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}
