//! Which bytes of a tar are contents.
//!
//! Nothing depends on it that this is understood as a tar reader would understand it: the frames say
//! what was taken for what. Where a tar is odd, or none, more counts as headers, and less of it is
//! shared with other layers.

use std::io::{self, BufReader, Read};

use super::frames::{self, Contents, padding};
use crate::layer::tar_read::header::{BLOCK, Header};
use crate::layer::tar_read::{MAX_SPECIAL, pax};

/// The most that stands in one frame besides contents.
const LONGEST_LITERAL: usize = 64 * 1024;

/// Bytes of the tar that are read at a time.
const READ: usize = 256 * 1024;

/// Takes both streams as they come.
pub(super) trait Streams {
    /// Where more headers are appended.
    fn headers(&mut self) -> &mut Vec<u8>;
    /// Where more contents are appended, and how many bytes at most.
    fn contents(&mut self) -> (&mut Vec<u8>, u64);
    /// Something was appended.
    fn appended(&mut self) -> io::Result<()>;
}

/// Takes a tar apart. Gives its length.
pub(super) fn walk(tar: impl Read, streams: &mut impl Streams) -> io::Result<u64> {
    let mut walk = Walk {
        tar: BufReader::with_capacity(READ, tar),
        streams,
        literal: Vec::new(),
        length: 0,
    };
    walk.streams.headers().extend_from_slice(frames::MAGIC);
    walk.entries()?;
    walk.rest()?;
    Ok(walk.length)
}

struct Walk<'a, R, S> {
    tar: BufReader<R>,
    streams: &'a mut S,
    /// Headers of the frame that is written next.
    literal: Vec<u8>,
    /// Bytes read so far.
    length: u64,
}

impl<R: Read, S: Streams> Walk<'_, R, S> {
    /// Takes entries apart as long as they can be understood.
    fn entries(&mut self) -> io::Result<()> {
        let mut records_size = None;
        while let Some(header) = self.header()? {
            let flag = header.type_flag();
            if matches!(flag, b'1'..=b'6') {
                records_size = None;
                self.end_frame(Contents::NONE)?;
                continue;
            }
            // Where the size is no number, the rest are headers.
            let Ok(size) = header.size() else {
                return Ok(());
            };
            match flag {
                b'x' => match self.records(size)? {
                    Some(found) => records_size = found,
                    None => return Ok(()),
                },
                b'g' | b'L' | b'K' => self.special(size)?,
                _ => {
                    let mut more = flag == b'S' && header.sparse_continues();
                    while more {
                        let Some(block) = self.block()? else {
                            return Ok(());
                        };
                        more = block[504] != 0;
                    }
                    let size = records_size.take().unwrap_or(size);
                    self.file(size)?;
                }
            }
        }
        Ok(())
    }

    /// All that is left.
    fn rest(&mut self) -> io::Result<()> {
        self.special(u64::MAX)?;
        if !self.literal.is_empty() {
            self.end_frame(Contents::NONE)?;
        }
        Ok(())
    }

    /// The next header; `None` at the end of the entries, of the tar, or of what is understood.
    fn header(&mut self) -> io::Result<Option<Header>> {
        Ok(self.block()?.and_then(|block| Header::new(block).ok()))
    }

    /// A block of the headers; `None` if not all of it is there.
    fn block(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let start = self.literal.len();
        self.read_literal(BLOCK as u64)?;
        let block = self.literal.get(start..).and_then(<[u8]>::first_chunk);
        let block = block.copied();
        self.shorten()?;
        Ok(block)
    }

    /// Appends up to so many bytes to the headers; fewer at the tar's end.
    fn read_literal(&mut self, count: u64) -> io::Result<u64> {
        let read = self
            .tar
            .by_ref()
            .take(count)
            .read_to_end(&mut self.literal)? as u64;
        self.length += read;
        Ok(read)
    }

    /// Bytes after a header that describes another entry, and what fills up their last block.
    fn special(&mut self, size: u64) -> io::Result<()> {
        let mut left = size.saturating_add(padding(size) as u64);
        while left > 0 {
            let room = LONGEST_LITERAL.saturating_sub(self.literal.len()) as u64;
            let read = self.read_literal(left.min(room))?;
            if read == 0 {
                return Ok(());
            }
            left -= read;
            self.shorten()?;
        }
        Ok(())
    }

    /// PAX records: what they say of the size of the next entry. `None` if they are malformed.
    fn records(&mut self, size: u64) -> io::Result<Option<Option<u64>>> {
        if size > MAX_SPECIAL {
            return Ok(None);
        }
        // Not in pieces: a record may be anywhere.
        let start = self.literal.len();
        let padded = size + padding(size) as u64;
        if self.read_literal(padded)? < padded {
            return Ok(None);
        }
        let records = self.literal.get(start..).unwrap_or_default();
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        let said = said_size(records.get(..length).unwrap_or_default());
        self.shorten()?;
        Ok(said)
    }

    /// Ends frames as long as the headers of the next one are too long for one.
    fn shorten(&mut self) -> io::Result<()> {
        while self.literal.len() >= LONGEST_LITERAL {
            let rest = self.literal.split_off(LONGEST_LITERAL);
            self.end_frame(Contents::NONE)?;
            self.literal = rest;
        }
        Ok(())
    }

    /// Contents of a file and what fills up their last block.
    fn file(&mut self, size: u64) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let (contents, room) = self.streams.contents();
            let read = self
                .tar
                .by_ref()
                .take(left.min(room))
                .read_to_end(contents)? as u64;
            self.streams.appended()?;
            self.length += read;
            left -= read;
            if read == 0 {
                return self.end_frame(Contents {
                    length: size - left,
                    padded: false,
                });
            }
        }
        let mut fill = [0; BLOCK];
        let fill = &mut fill[..padding(size)];
        let read = read_full(&mut self.tar, fill)?;
        self.length += read as u64;
        let padded = size > 0 && read == fill.len() && fill.iter().all(|byte| *byte == 0);
        self.end_frame(Contents {
            length: size,
            padded,
        })?;
        if !padded {
            self.literal
                .extend_from_slice(fill.get(..read).unwrap_or_default());
        }
        Ok(())
    }

    fn end_frame(&mut self, contents: Contents) -> io::Result<()> {
        frames::write(&self.literal, contents, self.streams.headers());
        self.literal.clear();
        self.streams.appended()
    }
}

/// The size that records give; `None` if they are malformed. The last one counts, and an empty one
/// takes those before it away.
fn said_size(mut records: &[u8]) -> Option<Option<u64>> {
    let mut size = None;
    while !records.is_empty() {
        let ((key, value), rest) = pax::split_record(records)?;
        records = rest;
        if key == b"size" {
            size = if value.is_empty() {
                None
            } else {
                Some(pax::decimal(value)?)
            };
        }
    }
    Some(size)
}

/// Fills a buffer; fewer bytes are there only at the end.
fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
