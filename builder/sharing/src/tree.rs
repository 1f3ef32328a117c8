//! A split layer's chunks as REAPI trees.
//!
//! Chunks of contents are named `c00000000`, `c00000001`..., chunks of headers `h00000000`...; in
//! this order, which is that of their names, they are the files of one tree, or of several where
//! there are more of them than a message holds. The format is that of `docs/formats.md`.

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::convert::{digest_to_wire, required_digest};
use ashlar_proto::wire::reapi;
use bytes::Bytes;
use prost::Message as _;

use crate::action::blob;

/// The most files of a tree: some 2.5 MB, below the 4 MiB that every server takes.
const MOST_FILES: usize = 30_000;
/// The longest tree that is read, in bytes.
pub const LONGEST_TREE: u64 = 4 << 20;
/// The longest chunk that is read, in bytes.
const LARGEST_CHUNK: u64 = 4 << 20;

/// The chunks of a split layer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChunkList {
    /// The chunks of the files' contents, in order.
    pub contents: Vec<CasDigest>,
    /// The chunks of the headers, in order.
    pub headers: Vec<CasDigest>,
}

/// Why a tree does not list the chunks of a layer.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// It is no tree.
    #[error("it is no tree")]
    Encoding(#[from] prost::DecodeError),
    /// It is one, but of something else.
    #[error("{0}")]
    Wrong(&'static str),
}

impl ChunkList {
    /// The trees that list the chunks: at least one.
    pub fn trees(&self, function: DigestFunction) -> Vec<(CasDigest, Bytes)> {
        self.trees_of(function, MOST_FILES)
    }

    fn trees_of(&self, function: DigestFunction, most: usize) -> Vec<(CasDigest, Bytes)> {
        let files: Vec<reapi::FileNode> = named('c', &self.contents)
            .chain(named('h', &self.headers))
            .collect();
        let parts = files.chunks(most).map(<[_]>::to_vec);
        let tree = |files: Vec<reapi::FileNode>| {
            let root = reapi::Directory {
                files,
                ..reapi::Directory::default()
            };
            let tree = reapi::Tree {
                root: Some(root),
                children: Vec::new(),
            };
            blob(function, tree.encode_to_vec())
        };
        if files.is_empty() {
            return vec![tree(Vec::new())];
        }
        parts.map(tree).collect()
    }

    /// Reads trees, which must be all of a layer's, in order.
    pub fn read(trees: &[Bytes], function: DigestFunction) -> Result<Self, TreeError> {
        let mut list = Self::default();
        for tree in trees {
            let tree = reapi::Tree::decode(tree.clone())?;
            let root = tree.root.unwrap_or_default();
            let other = !tree.children.is_empty()
                || !root.directories.is_empty()
                || !root.symlinks.is_empty();
            if other {
                return Err(TreeError::Wrong("a tree has other entries than chunks"));
            }
            for file in &root.files {
                let digest = required_digest(file.digest.as_ref(), function, "FileNode.digest")
                    .map_err(|_| TreeError::Wrong("a tree has a digest that is none"))?;
                if digest.size == 0 || digest.size > LARGEST_CHUNK {
                    return Err(TreeError::Wrong("a chunk is empty, or too large"));
                }
                list.take(&file.name, digest)?;
            }
        }
        Ok(list)
    }

    fn take(&mut self, name: &str, digest: CasDigest) -> Result<(), TreeError> {
        if self.headers.is_empty() && name == chunk_name('c', self.contents.len()) {
            self.contents.push(digest);
        } else if name == chunk_name('h', self.headers.len()) {
            self.headers.push(digest);
        } else {
            return Err(TreeError::Wrong("chunks are not in order, or some lack"));
        }
        Ok(())
    }

    /// How many bytes the chunks have in all.
    pub fn bytes(&self) -> u64 {
        let chunks = self.contents.iter().chain(&self.headers);
        chunks.map(|chunk| chunk.size).sum()
    }
}

fn named(kind: char, chunks: &[CasDigest]) -> impl Iterator<Item = reapi::FileNode> {
    chunks
        .iter()
        .enumerate()
        .map(move |(number, digest)| reapi::FileNode {
            name: chunk_name(kind, number),
            digest: Some(digest_to_wire(digest)),
            ..reapi::FileNode::default()
        })
}

fn chunk_name(kind: char, number: usize) -> String {
    format!("{kind}{number:08}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUNCTION: DigestFunction = DigestFunction::Sha256;

    fn chunks(count: usize, first: usize) -> Vec<CasDigest> {
        let digest = |number: usize| CasDigest::of(FUNCTION, &number.to_le_bytes());
        (first..first + count).map(digest).collect()
    }

    fn list() -> ChunkList {
        ChunkList {
            contents: chunks(5, 0),
            headers: chunks(2, 100),
        }
    }

    #[test]
    fn trees_are_read_back_however_they_are_cut() {
        for list in [list(), ChunkList::default()] {
            for most in 1..10 {
                let trees = list.trees_of(FUNCTION, most);
                let count = list.contents.len() + list.headers.len();
                assert_eq!(trees.len(), count.div_ceil(most).max(1));
                let bytes: Vec<Bytes> = trees.into_iter().map(|(_, bytes)| bytes).collect();
                assert_eq!(ChunkList::read(&bytes, FUNCTION).unwrap(), list);
            }
        }
        assert_eq!(list().bytes(), 7 * 8);
    }

    /// The golden vector of `docs/formats.md`.
    #[test]
    fn trees_are_as_the_format_says() {
        let tree = &list().trees(FUNCTION)[0];
        assert_eq!(
            tree.0.to_string(),
            "sha256:bda1039dafe522e46c7bf2a7aa60afeb6b5cd7b1e85bb006fd6e6b2dd7ab0286/584"
        );
    }

    #[test]
    fn trees_in_another_order_are_refused() {
        let trees = list().trees_of(FUNCTION, 2);
        let mut bytes: Vec<Bytes> = trees.into_iter().map(|(_, bytes)| bytes).collect();
        bytes.swap(0, 1);
        ChunkList::read(&bytes, FUNCTION).unwrap_err();
        bytes.swap(0, 1);
        ChunkList::read(&bytes[1..], FUNCTION).unwrap_err();
    }

    #[test]
    fn trees_of_something_else_are_refused() {
        let good = reapi::Tree::decode(list().trees(FUNCTION)[0].1.clone()).unwrap();
        let changes: [fn(&mut reapi::Directory); 4] = [
            |root| root.directories.push(reapi::DirectoryNode::default()),
            |root| root.symlinks.push(reapi::SymlinkNode::default()),
            |root| root.files[0].digest = None,
            |root| {
                if let Some(digest) = &mut root.files[0].digest {
                    digest.size_bytes = i64::MAX;
                }
            },
        ];
        for change in changes {
            let mut tree = good.clone();
            change(tree.root.get_or_insert_default());
            ChunkList::read(&[tree.encode_to_vec().into()], FUNCTION).unwrap_err();
        }
        ChunkList::read(&[Bytes::from_static(b"\xff")], FUNCTION).unwrap_err();
    }

    #[test]
    fn the_largest_tree_fits_into_a_message() {
        let list = ChunkList {
            contents: chunks(MOST_FILES, 0),
            headers: Vec::new(),
        };
        let trees = list.trees(FUNCTION);
        assert_eq!(trees.len(), 1);
        assert!(
            trees[0].0.size < LONGEST_TREE * 9 / 10,
            "{}",
            trees[0].0.size
        );
    }
}
