//! The files of an image as one tar.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Gives the root filesystem of an image, all layers merged.
pub trait FilesystemStream: Send {
    /// Writes it as a tar: PAX where needed, every directory before what is in it, each path
    /// once, no whiteouts, two blocks of zeros at the end.
    ///
    /// An error of `sink` ends the writing and is returned as it is.
    fn write_tar(&mut self, sink: &mut dyn Write) -> io::Result<()>;
}

/// Bytes that go from one thread to the other at once.
const CHUNK: usize = 128 * 1024;
/// Chunks on their way.
const QUEUE: usize = 8;

/// A pipe between two threads. Not the kernel's: whoever has SIGPIPE at its default would be
/// killed by the end of the reading side.
pub(super) fn pipe() -> (PipeWriter, PipeReader) {
    let (sender, receiver) = sync_channel(QUEUE);
    (
        PipeWriter {
            sender,
            buffer: Vec::with_capacity(CHUNK),
        },
        PipeReader {
            receiver,
            chunk: Vec::new(),
            at: 0,
        },
    )
}

/// The writing side. What is buffered is sent by `flush`, not by dropping.
pub(super) struct PipeWriter {
    sender: SyncSender<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.sender
            .send(full)
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// The reading side. The end comes when the writer is dropped.
pub(super) struct PipeReader {
    receiver: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            let Ok(chunk) = self.receiver.recv() else {
                return Ok(0);
            };
            self.chunk = chunk;
            self.at = 0;
        }
        let count = buffer.len().min(self.chunk.len() - self.at);
        buffer[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let (mut writer, mut reader) = pipe();
        let bytes: Vec<u8> = (0..3 * CHUNK + 17)
            .map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[2])
            .collect();
        let read = std::thread::scope(|scope| {
            let sent = &bytes;
            scope.spawn(move || {
                for piece in sent.chunks(1000) {
                    writer.write_all(piece).unwrap();
                }
                writer.flush().unwrap();
            });
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            read
        });
        assert!(read == bytes);
    }

    #[test]
    fn writing_to_nobody_fails() {
        let (mut writer, reader) = pipe();
        drop(reader);
        let error = writer.write_all(&vec![0; CHUNK]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
