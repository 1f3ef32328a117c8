//! Digests of files that were selected from layers.

use std::io::{self, Read};

use ashlar_model::digest::FileDigest;

/// Bytes read at a time. Pieces of more than 128 KiB are worth hashing on several cores.
const PIECE: u64 = 1 << 20;

/// The digest of what `bytes` gives, and its length. `expected` only sizes the buffer, which may
/// be used for one file after another.
pub(super) fn digest_of(
    mut bytes: impl Read,
    expected: u64,
    buffer: &mut Vec<u8>,
) -> io::Result<(FileDigest, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut length = 0;
    // One byte more than there should be, so that one read sees the end of a small file.
    let wanted = usize::try_from(expected.saturating_add(1).min(PIECE)).unwrap_or(1);
    if buffer.len() < wanted {
        buffer.resize(wanted, 0);
    }
    loop {
        match bytes.read(buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update_rayon(&buffer[..count]);
                length += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((hasher.finalize().into(), length))
}
