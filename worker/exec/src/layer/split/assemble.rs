//! Chunks into a tar.

use std::io::{self, Write};

use bytes::{Buf as _, Bytes};

use super::frames::{Contents, MAGIC, Number};
use super::{ChunkSource, Part};

/// Why a tar was not put together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssembleError {
    /// A chunk cannot be had.
    #[error("a chunk of the layer cannot be had")]
    Source(#[source] io::Error),
    /// The chunks are not those of a split layer, or of a layer of another length.
    #[error("the layer's chunks are damaged: {0}")]
    Malformed(&'static str),
    /// The tar cannot be written.
    #[error("the layer's tar cannot be written")]
    Write(#[source] io::Error),
}

/// Puts a tar together and writes it. No more than `size` bytes are written, if that is known; any
/// other number is an error then. Whether it is the right tar is for the caller to see.
///
/// Blocks; to be called beside a runtime.
pub fn assemble(
    source: &mut (impl ChunkSource + ?Sized),
    size: Option<u64>,
    out: &mut impl Write,
) -> Result<(), AssembleError> {
    let mut assembly = Assembly {
        headers: Stream::new(Part::Headers),
        contents: Stream::new(Part::Contents),
        source,
        left: size.unwrap_or(u64::MAX),
        out,
    };
    assembly.magic()?;
    while let Some(literal) = assembly.number(true)? {
        assembly.copy(Part::Headers, literal)?;
        let contents = Contents::of_number(assembly.number(false)?.unwrap_or_default());
        assembly.copy(Part::Contents, contents.length)?;
        assembly.zeros(contents.padding())?;
    }
    if assembly.fill(Part::Contents)? {
        return Err(AssembleError::Malformed("more contents than headers"));
    }
    if size.is_some() && assembly.left > 0 {
        return Err(AssembleError::Malformed("the tar is too short"));
    }
    Ok(())
}

struct Assembly<'a, S: ?Sized, W> {
    headers: Stream,
    contents: Stream,
    source: &'a mut S,
    /// Bytes that the tar still lacks.
    left: u64,
    out: &'a mut W,
}

/// One part, as far as it has come.
struct Stream {
    part: Part,
    chunk: Bytes,
    ended: bool,
}

impl Stream {
    const fn new(part: Part) -> Self {
        Self {
            part,
            chunk: Bytes::new(),
            ended: false,
        }
    }

    /// Sees to it that there are bytes; `false` at the end.
    fn fill(&mut self, source: &mut (impl ChunkSource + ?Sized)) -> Result<bool, AssembleError> {
        while self.chunk.is_empty() && !self.ended {
            match source.next(self.part).map_err(AssembleError::Source)? {
                Some(chunk) => self.chunk = chunk,
                None => self.ended = true,
            }
        }
        Ok(!self.chunk.is_empty())
    }
}

impl<S: ChunkSource + ?Sized, W: Write> Assembly<'_, S, W> {
    fn fill(&mut self, part: Part) -> Result<bool, AssembleError> {
        match part {
            Part::Headers => self.headers.fill(self.source),
            Part::Contents => self.contents.fill(self.source),
        }
    }

    fn byte(&mut self) -> Result<Option<u8>, AssembleError> {
        let filled = self.fill(Part::Headers)?;
        Ok(filled.then(|| self.headers.chunk.get_u8()))
    }

    fn magic(&mut self) -> Result<(), AssembleError> {
        for expected in MAGIC {
            if self.byte()? != Some(*expected) {
                return Err(AssembleError::Malformed("they are of another format"));
            }
        }
        Ok(())
    }

    /// A number of a frame; `None` if there is no frame any more, where there `may_end` be none.
    fn number(&mut self, may_end: bool) -> Result<Option<u64>, AssembleError> {
        let mut number = Number::default();
        let mut is_first = true;
        loop {
            let Some(byte) = self.byte()? else {
                if is_first && may_end {
                    return Ok(None);
                }
                return Err(AssembleError::Malformed("the headers end too early"));
            };
            is_first = false;
            let pushed = number.push(byte);
            if let Some(number) =
                pushed.map_err(|()| AssembleError::Malformed("a number is too large"))?
            {
                return Ok(Some(number));
            }
        }
    }

    fn copy(&mut self, part: Part, mut count: u64) -> Result<(), AssembleError> {
        self.left = self
            .left
            .checked_sub(count)
            .ok_or(AssembleError::Malformed("the tar is too long"))?;
        while count > 0 {
            if !self.fill(part)? {
                return Err(AssembleError::Malformed("they end too early"));
            }
            let stream = match part {
                Part::Headers => &mut self.headers,
                Part::Contents => &mut self.contents,
            };
            let piece = usize::try_from(count)
                .map_or(stream.chunk.len(), |count| count.min(stream.chunk.len()));
            let bytes = stream.chunk.split_to(piece);
            self.out.write_all(&bytes).map_err(AssembleError::Write)?;
            count -= piece as u64;
        }
        Ok(())
    }

    fn zeros(&mut self, count: usize) -> Result<(), AssembleError> {
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or(AssembleError::Malformed("the tar is too long"))?;
        let zeros = [0; 512];
        let zeros = zeros.get(..count).unwrap_or_default();
        self.out.write_all(zeros).map_err(AssembleError::Write)
    }
}
