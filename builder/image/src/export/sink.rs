//! Where an archive's bytes go: a file that appears when it is whole, or standard output.

use std::fs::File;
use std::io::{self, StdoutLock, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::{Destination, ExportError};
use crate::blob_source::BlobReader;

/// A destination, open for writing.
pub(super) enum Sink {
    /// A new file, under a temporary name until it is whole.
    New { file: NamedTempFile, path: PathBuf },
    /// Something that exists and is no regular file (a device, a fifo, a link): written in place,
    /// as replacing it would not be what was asked for.
    InPlace { file: File, path: PathBuf },
    /// Standard output.
    Stdout(StdoutLock<'static>),
}

impl Sink {
    pub(super) fn open(destination: &Destination) -> Result<Self, ExportError> {
        let path = match destination {
            Destination::File(path) => path.clone(),
            Destination::Stdout => return Ok(Self::Stdout(io::stdout().lock())),
        };
        if path.is_dir() {
            return Err(ExportError::IsDirectory(path));
        }
        let create = |source| ExportError::write("create", &path, source);
        if path.symlink_metadata().is_ok_and(|there| !there.is_file()) {
            let file = File::options().write(true).truncate(true).open(&path);
            let file = file.map_err(create)?;
            return Ok(Self::InPlace { file, path });
        }
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // Opened here, as `tempfile` puts the temporary name into its errors, which tells nobody
        // anything. The umask takes its part, as with any new file.
        let file = tempfile::Builder::new()
            .prefix(".ashlar-")
            .make_in(parent, |path| File::create_new(path))
            .map_err(create)?;
        Ok(Self::New { file, path })
    }

    /// Puts the file into its place.
    pub(super) fn finish(mut self) -> Result<(), ExportError> {
        self.flush().map_err(|error| self.error(error))?;
        if let Self::New { file, path } = self {
            file.persist(&path)
                .map_err(|error| ExportError::write("create", &path, error.error))?;
        }
        Ok(())
    }

    /// An error of writing, as one of ours.
    pub(super) fn error(&self, source: io::Error) -> ExportError {
        match self {
            Self::New { path, .. } | Self::InPlace { path, .. } => {
                ExportError::write("write", path, source)
            }
            Self::Stdout(_) => ExportError::Stdout(source),
        }
    }

    /// Copies a reader's bytes to the end; the kernel does it from file to file.
    pub(super) fn copy(&mut self, reader: BlobReader, limit: u64) -> io::Result<u64> {
        use io::Read as _;
        match (self, reader) {
            (Self::New { file, .. }, BlobReader::File(source)) => {
                io::copy(&mut source.take(limit), file.as_file_mut())
            }
            (Self::InPlace { file, .. }, BlobReader::File(source)) => {
                io::copy(&mut source.take(limit), file)
            }
            (sink, reader) => io::copy(&mut reader.take(limit), sink),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::New { file, .. } => file.write(bytes),
            Self::InPlace { file, .. } => file.write(bytes),
            Self::Stdout(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::New { file, .. } => file.flush(),
            Self::InPlace { file, .. } => file.flush(),
            Self::Stdout(stdout) => stdout.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_appears_when_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        fs::write(&path, "old").unwrap();
        let mut sink = Sink::open(&Destination::File(path.clone())).unwrap();
        sink.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        sink.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o600, 0o600);
        assert_ne!(mode & 0o777, 0o600, "as the umask has it, not private");
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let mut sink = Sink::open(&Destination::File(path)).unwrap();
        sink.write_all(b"half").unwrap();
        drop(sink);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_and_devices_are_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (
            directory.path().join("target"),
            directory.path().join("link"),
        );
        fs::write(&target, "a longer text").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mut sink = Sink::open(&Destination::File(link.clone())).unwrap();
        sink.write_all(b"new").unwrap();
        sink.finish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert!(link.is_symlink());
        let sink = Sink::open(&Destination::File("/dev/null".into())).unwrap();
        sink.finish().unwrap();
    }

    #[test]
    fn impossible_places_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let open = |path: PathBuf| match Sink::open(&Destination::File(path)) {
            Ok(_) => panic!("opened"),
            Err(error) => error.to_string(),
        };
        assert!(open(directory.path().to_owned()).contains("is a directory"));
        assert!(open(directory.path().join("no/such")).contains("no/such"));
        let Err(ExportError::Write { source, .. }) =
            Sink::open(&Destination::File(directory.path().join("no/such")))
        else {
            panic!("opened");
        };
        assert!(!source.to_string().contains(".ashlar-"), "{source}");
    }
}
