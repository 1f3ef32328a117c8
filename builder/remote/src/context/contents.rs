//! What the files of a selection contain, each content once.

use std::collections::HashMap;

use ashlar_model::digest::FileDigest;
use ashlar_model::layer::{EntryKind, LayerPath};
use ashlar_model::step::Selection;

use super::ContextError;

/// The bytes of one file, or of several that are alike. Never empty: no bytes need not travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) digest: FileDigest,
    pub(super) size: u64,
    /// Where it is, below the context's root: the first place, in the order of entries.
    pub(super) path: LayerPath,
}

/// A file of a selection, and which of the contents it has; `None` for an empty one.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) path: LayerPath,
    pub(super) content: Option<usize>,
}

/// All files of a selection.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Each content once, in the order in which entries first have it.
    pub(super) contents: Vec<Content>,
    /// In the order of entries. Hard links are no files of their own.
    pub(super) files: Vec<Placed>,
    /// How many bytes the contents have.
    pub(super) bytes: u64,
}

impl Files {
    /// Looks through a selection.
    pub(super) fn of(selection: &Selection) -> Result<Self, ContextError> {
        let mut files = Self::default();
        let mut known: HashMap<FileDigest, usize> = HashMap::new();
        for item in &selection.items {
            for entry in &item.entries {
                let EntryKind::File { size, digest } = entry.kind else {
                    continue;
                };
                let digest = digest.ok_or(ContextError::Malformed("a file has no digest"))?;
                let path = item.path.join_path(&entry.path);
                let content = (size > 0).then(|| {
                    *known.entry(digest).or_insert_with(|| {
                        files.contents.push(Content {
                            digest,
                            size,
                            path: path.clone(),
                        });
                        files.contents.len() - 1
                    })
                });
                if let Some(content) = content {
                    if files.contents[content].size != size {
                        return Err(ContextError::Malformed("one digest has two sizes"));
                    }
                } else if blake3::hash(b"").as_bytes() != digest.as_bytes() {
                    return Err(ContextError::Malformed("an empty file has contents"));
                }
                files.files.push(Placed { path, content });
            }
        }
        let bytes = files
            .contents
            .iter()
            .try_fold(0_u64, |sum, content| sum.checked_add(content.size));
        files.bytes = bytes.ok_or(ContextError::TooLarge("its files have too many bytes"))?;
        Ok(files)
    }
}
