//! From what the walk found to the index.

use std::collections::HashMap;

use ashlar_model::layer::{Entry, LayerIndex};
use rayon::slice::ParallelSliceMut as _;

use super::walk::{Candidate, Standing};
use crate::layer::links;
use crate::layer::tree::inode::InodeId;

/// Drops what is the same as below, ties hard links together, and puts the rest in order.
pub(super) fn settle(mut found: Vec<Candidate>) -> LayerIndex {
    list_whole_inodes(&mut found);
    found.par_sort_unstable_by(|a, b| a.entry.canonical_cmp(&b.entry));
    let mut kept = keep_needed(found);
    let inodes: Vec<Option<InodeId>> = kept.iter().map(|candidate| candidate.inode).collect();
    let mut entries: Vec<Entry> = kept.drain(..).map(|candidate| candidate.entry).collect();
    links::tie(&mut entries, &inodes);
    LayerIndex { entries }
}

/// If one name of an inode is listed, the others are too: a layer cannot link to a file of
/// another layer. Names that are all the same as below are listed as well, if below they are not
/// names of one inode.
fn list_whole_inodes(found: &mut [Candidate]) {
    let mut groups: HashMap<InodeId, Vec<usize>> = HashMap::new();
    for (position, candidate) in found.iter().enumerate() {
        if let Some(inode) = candidate.inode {
            groups.entry(inode).or_default().push(position);
        }
    }
    for positions in groups.values() {
        let first = found[positions[0]].standing;
        let as_below = matches!(first, Standing::Same(_))
            && positions.iter().all(|at| found[*at].standing == first);
        if !as_below {
            for at in positions {
                found[*at].standing = Standing::Changed;
            }
        }
    }
}

/// Keeps what changed, and the directories that hold it. `found` is in canonical order, so what
/// follows a directory directly is below it, or nothing is.
fn keep_needed(found: Vec<Candidate>) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = Vec::with_capacity(found.len());
    for candidate in found.into_iter().rev() {
        let needed = candidate.standing == Standing::Changed
            || candidate.entry.is_directory()
                && kept
                    .last()
                    .is_some_and(|next| next.entry.path.starts_with(&candidate.entry.path));
        if needed {
            kept.push(candidate);
        }
    }
    kept.reverse();
    kept
}
