//! A file that asks for admission as it grows.

use std::io::{self, Write};

use super::{Growth, Meter};

/// A writer to a new file on the store's filesystem.
#[derive(Debug)]
pub struct Metered<W> {
    writer: W,
    meter: Meter,
    growth: Growth,
}

impl<W> Metered<W> {
    /// Meters what is written to a file that is empty.
    pub fn new(writer: W, meter: Meter) -> Self {
        Self {
            writer,
            meter,
            growth: Growth::default(),
        }
    }

    /// The writer, to begin anew with an empty file.
    pub fn restart(&mut self) -> &mut W {
        self.growth = Growth::default();
        &mut self.writer
    }

    /// The writer.
    pub fn into_inner(self) -> W {
        self.writer
    }
}

impl<W: Write> Write for Metered<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.meter.is_limited() {
            return self.writer.write(bytes);
        }
        // Not much at once, so that little is admitted and not written.
        let bytes = bytes.get(..1 << 18).unwrap_or(bytes);
        let permit = self
            .meter
            .admit_io(self.growth.grown_by(bytes.len() as u64))?;
        let written = self.writer.write_all(bytes);
        drop(permit);
        written.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
