//! Data on standard output.

use std::io::{self, BufWriter, Write};

use serde::Serialize;

use crate::diagnostics::{CliError, output_error};
use crate::exit_code::ExitCode;

/// Writes to standard output, gathered into few calls. That nobody reads it any more is no error.
pub(super) fn print(
    write: impl FnOnce(&mut BufWriter<io::StdoutLock<'static>>) -> io::Result<()>,
) -> Result<ExitCode, CliError> {
    let mut out = BufWriter::new(io::stdout().lock());
    write(&mut out)
        .and_then(|()| out.flush())
        .map_err(output_error)?;
    Ok(ExitCode::Success)
}

/// One line.
pub(super) fn line(text: &str) -> Result<ExitCode, CliError> {
    print(|out| writeln!(out, "{text}"))
}

/// A line on standard error that is no failure.
pub(super) fn warn(message: &str) {
    // There is nobody else to tell.
    let _ignored = writeln!(io::stderr(), "warning: {message}");
}

/// One JSON object for each record, each on a line.
pub(super) fn json_lines<T: Serialize>(out: &mut impl Write, records: &[T]) -> io::Result<()> {
    for record in records {
        serde_json::to_writer(&mut *out, record)?;
        writeln!(out)?;
    }
    Ok(())
}
