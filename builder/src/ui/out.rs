//! Text on its way out: gathered, then written at once.

use std::io::{self, Write};

/// A buffer before a writer. Nobody can be told if the writer fails, so that is ignored.
pub(super) struct Out {
    buffer: Vec<u8>,
    writer: Box<dyn Write + Send>,
}

impl Out {
    pub(super) fn new(writer: Box<dyn Write + Send>) -> Self {
        Self {
            buffer: Vec::new(),
            writer,
        }
    }

    /// Adds bytes as they are.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Writes what was gathered, in one call.
    pub(super) fn send(&mut self) {
        if !self.buffer.is_empty() {
            // Progress is talk: a build goes on although nobody listens.
            let _ignored = self.writer.write_all(&self.buffer);
            let _ignored = self.writer.flush();
            self.buffer.clear();
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Formats into an [`Out`] or any other writer to memory, which cannot fail.
macro_rules! put {
    ($out:expr, $($format:tt)*) => {{
        let _ok = std::io::Write::write_fmt(&mut $out, format_args!($($format)*));
    }};
}
pub(super) use put;
