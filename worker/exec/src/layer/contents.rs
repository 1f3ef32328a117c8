//! Where the bytes of a layer's files come from when its tar is made.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use ashlar_model::layer::Entry;

/// Gives the bytes of a layer's regular files. Called from several threads at once, each file
/// once, roughly in the order of the index.
pub trait FileContents: Sync {
    /// Opens the file that the index has at `position`.
    ///
    /// What is read may turn out not to be what the entry says; the reader checks.
    fn open(&self, position: usize, entry: &Entry) -> io::Result<FileBytes<'_>>;
}

/// The bytes of one file.
pub enum FileBytes<'a> {
    /// In an open file, from its start.
    File(File),
    /// In memory.
    Memory(&'a [u8]),
    /// From anywhere else.
    Stream(Box<dyn Read + Send + 'a>),
}

impl Read for FileBytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Memory(bytes) => bytes.read(buffer),
            Self::Stream(stream) => stream.read(buffer),
        }
    }
}

impl fmt::Debug for FileBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => f.debug_tuple("File").field(file).finish(),
            Self::Memory(bytes) => write!(f, "Memory({} bytes)", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}
