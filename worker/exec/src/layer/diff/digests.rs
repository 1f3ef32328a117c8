//! BLAKE3 of the listed files.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use ashlar_model::digest::FileDigest;
use ashlar_model::layer::{Entry, EntryKind, LayerIndex};
use rayon::iter::{IntoParallelRefMutIterator as _, ParallelIterator as _};

use super::DiffError;
use crate::layer::tree::Root;

/// Bytes read at a time. Pieces above 128 KiB are worth hashing on several cores (blake3's
/// `update_rayon`).
const PIECE: usize = 1024 * 1024;

/// Reads every file of the index that has no digest yet.
pub(super) fn fill_in(index: &mut LayerIndex, root: &Root, tree: &Path) -> Result<(), DiffError> {
    index
        .entries
        .par_iter_mut()
        .filter(|entry| matches!(entry.kind, EntryKind::File { digest: None, .. }))
        .try_for_each_init(Vec::new, |buffer, entry| {
            let Entry { path, kind, .. } = entry;
            let EntryKind::File { size, digest } = kind else {
                return Ok(());
            };
            let error = |source| DiffError::Read {
                action: "read",
                path: path.clone(),
                layer: tree.to_owned(),
                source,
            };
            let file = root.open_file(path).map_err(|e| error(e.into()))?;
            match hash(File::from(file), *size, buffer).map_err(error)? {
                Some(hash) => *digest = Some(hash),
                None => return Err(DiffError::Changed { path: path.clone() }),
            }
            Ok(())
        })
}

/// The digest of a file of `size` bytes; `None` if it has more or fewer.
fn hash(mut file: File, size: u64, buffer: &mut Vec<u8>) -> io::Result<Option<FileDigest>> {
    let mut hasher = blake3::Hasher::new();
    let mut left = size;
    // One byte more than there should be shows a file that grew.
    let wanted = usize::try_from(size.saturating_add(1)).map_or(PIECE, |size| size.min(PIECE));
    if buffer.len() < wanted {
        buffer.resize(wanted, 0);
    }
    loop {
        let count = match file.read(&mut buffer[..]) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        match left.checked_sub(count as u64) {
            Some(rest) => left = rest,
            None => return Ok(None),
        }
        hasher.update_rayon(&buffer[..count]);
    }
    Ok((left == 0).then(|| hasher.finalize().into()))
}
