//! The files of an image in a tar.

use std::io::{self, Write};

use super::sink::Sink;
use super::{Destination, ExportError, FilesystemStream};

/// Writes the files of an image as a tar.
pub fn write(
    files: &mut dyn FilesystemStream,
    destination: &Destination,
) -> Result<(), ExportError> {
    let mut output = Output {
        sink: Sink::open(destination)?,
        failure: None,
    };
    let result = files.write_tar(&mut output);
    match (output.failure, result) {
        (Some(failure), _) => Err(failure),
        (None, Err(error)) => Err(ExportError::Filesystem(error)),
        (None, Ok(())) => output.sink.finish(),
    }
}

/// Tells the errors of writing from those of reading.
struct Output {
    sink: Sink,
    failure: Option<ExportError>,
}

impl Output {
    fn remember<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let kind = error.kind();
            self.failure = Some(self.sink.error(error));
            kind.into()
        })
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.sink.write(bytes);
        if matches!(&result, Err(error) if error.kind() == io::ErrorKind::Interrupted) {
            return result;
        }
        self.remember(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.sink.flush();
        self.remember(result)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Fixed(io::Result<&'static [u8]>);

    impl FilesystemStream for Fixed {
        fn write_tar(&mut self, sink: &mut dyn Write) -> io::Result<()> {
            match &self.0 {
                Ok(bytes) => sink.write_all(bytes),
                Err(error) => Err(error.kind().into()),
            }
        }
    }

    #[test]
    fn the_stream_is_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.tar");
        write(&mut Fixed(Ok(b"tar")), &Destination::File(path.clone())).unwrap();
        assert_eq!(fs::read(path).unwrap(), b"tar");
    }

    #[test]
    fn errors_of_reading_and_of_writing_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.tar");
        let broken = Err(io::ErrorKind::InvalidData.into());
        let error = write(&mut Fixed(broken), &Destination::File(path.clone())).unwrap_err();
        assert!(matches!(error, ExportError::Filesystem(_)), "{error}");
        assert!(!path.exists());
        let full = Destination::File("/dev/full".into());
        let error = write(&mut Fixed(Ok(b"x")), &full).unwrap_err();
        assert!(error.to_string().contains("/dev/full"), "{error}");
    }
}
