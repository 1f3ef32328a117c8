//! What encoded results, trees and directories name: all that has to be in a store for a result to
//! be of any use.

use ashlar_model::cas::{CasDigest, DigestFunction};
use prost::Message as _;

use crate::convert::{ConvertError, digest_from_wire, required_digest};
use crate::wire::reapi;

/// A message that is none, or that names what cannot be.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The bytes are no such message.
    #[error("the bytes are no {message}")]
    Encoding {
        /// Which message they should be.
        message: &'static str,
        /// What is wrong.
        #[source]
        source: prost::DecodeError,
    },
    /// A digest in it is none.
    #[error("the {message} names a blob that cannot be")]
    Digest {
        /// Which message it is.
        message: &'static str,
        /// What is wrong.
        source: ConvertError,
    },
}

/// What a result names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// Output files, standard output and standard error.
    pub blobs: Vec<CasDigest>,
    /// Encoded `Tree`s of output directories; what [`tree_files`] finds in them belongs to the
    /// result.
    pub trees: Vec<CasDigest>,
    /// Encoded `Directory`s at the top of output directories; what [`directory_children`] finds in
    /// them and in those below them belongs to the result.
    pub directories: Vec<CasDigest>,
}

/// What an encoded `ActionResult` names. All digests are of the function of the action.
pub fn references(result: &[u8], function: DigestFunction) -> Result<References, MessageError> {
    const MESSAGE: &str = "ActionResult";
    let result = reapi::ActionResult::decode(result).map_err(encoding(MESSAGE))?;
    let read = |digest: &reapi::Digest| digest_from_wire(digest, function);
    let collect = || {
        let mut found = References::default();
        for file in &result.output_files {
            let digest = required_digest(file.digest.as_ref(), function, "OutputFile.digest")?;
            found.blobs.push(digest);
        }
        for digest in [&result.stdout_digest, &result.stderr_digest] {
            found.blobs.extend(digest.as_ref().map(read).transpose()?);
        }
        for directory in &result.output_directories {
            if directory.tree_digest.is_none() && directory.root_directory_digest.is_none() {
                return Err(ConvertError::Unset("OutputDirectory.tree_digest"));
            }
            let tree = directory.tree_digest.as_ref().map(read).transpose()?;
            found.trees.extend(tree);
            let root = directory.root_directory_digest.as_ref();
            found.directories.extend(root.map(read).transpose()?);
        }
        Ok(found)
    };
    collect().map_err(digest(MESSAGE))
}

/// The files that an encoded `Tree` names. Its directories are within itself, and no blobs of
/// their own.
pub fn tree_files(tree: &[u8], function: DigestFunction) -> Result<Vec<CasDigest>, MessageError> {
    const MESSAGE: &str = "Tree";
    let tree = reapi::Tree::decode(tree).map_err(encoding(MESSAGE))?;
    let directories = tree.root.iter().chain(&tree.children);
    directories
        .flat_map(|directory| &directory.files)
        .map(|file| required_digest(file.digest.as_ref(), function, "FileNode.digest"))
        .collect::<Result<_, _>>()
        .map_err(digest(MESSAGE))
}

/// What a directory holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Children {
    /// Its files.
    pub files: Vec<CasDigest>,
    /// The encoded `Directory`s of its directories.
    pub directories: Vec<CasDigest>,
}

/// What an encoded `Directory` names.
pub fn directory_children(
    directory: &[u8],
    function: DigestFunction,
) -> Result<Children, MessageError> {
    const MESSAGE: &str = "Directory";
    let directory = reapi::Directory::decode(directory).map_err(encoding(MESSAGE))?;
    let files = directory
        .files
        .iter()
        .map(|file| required_digest(file.digest.as_ref(), function, "FileNode.digest"));
    let directories = directory.directories.iter();
    let directories = directories
        .map(|below| required_digest(below.digest.as_ref(), function, "DirectoryNode.digest"));
    Ok(Children {
        files: files.collect::<Result<_, _>>().map_err(digest(MESSAGE))?,
        directories: directories
            .collect::<Result<_, _>>()
            .map_err(digest(MESSAGE))?,
    })
}

fn encoding(message: &'static str) -> impl FnOnce(prost::DecodeError) -> MessageError {
    move |source| MessageError::Encoding { message, source }
}

fn digest(message: &'static str) -> impl FnOnce(ConvertError) -> MessageError {
    move |source| MessageError::Digest { message, source }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::convert::digest_to_wire;

    const FUNCTION: DigestFunction = DigestFunction::Blake3;

    fn of(text: &str) -> CasDigest {
        CasDigest::of(FUNCTION, text.as_bytes())
    }

    fn wire(text: &str) -> Option<reapi::Digest> {
        Some(digest_to_wire(&of(text)))
    }

    fn file(text: &str) -> reapi::FileNode {
        reapi::FileNode {
            name: text.to_owned(),
            digest: wire(text),
            ..Default::default()
        }
    }

    #[test]
    fn a_result_names_files_streams_and_trees() {
        let result = reapi::ActionResult {
            output_files: vec![reapi::OutputFile {
                digest: wire("file"),
                ..Default::default()
            }],
            output_directories: vec![
                reapi::OutputDirectory {
                    tree_digest: wire("tree"),
                    ..Default::default()
                },
                reapi::OutputDirectory {
                    root_directory_digest: wire("directory"),
                    ..Default::default()
                },
            ],
            stdout_digest: wire("stdout"),
            stderr_digest: wire("stderr"),
            ..Default::default()
        };
        assert_eq!(
            references(&result.encode_to_vec(), FUNCTION).expect("references"),
            References {
                blobs: vec![of("file"), of("stdout"), of("stderr")],
                trees: vec![of("tree")],
                directories: vec![of("directory")],
            }
        );
        let nothing = references(&[], FUNCTION).expect("the empty message is a result");
        assert_eq!(nothing, References::default());
    }

    #[test]
    fn a_tree_names_the_files_of_all_its_directories() {
        let tree = reapi::Tree {
            root: Some(reapi::Directory {
                files: vec![file("a")],
                directories: vec![reapi::DirectoryNode {
                    name: "below".to_owned(),
                    digest: wire("directory"),
                }],
                ..Default::default()
            }),
            children: vec![reapi::Directory {
                files: vec![file("b"), file("c")],
                ..Default::default()
            }],
        };
        let files = tree_files(&tree.encode_to_vec(), FUNCTION).expect("files");
        assert_eq!(files, [of("a"), of("b"), of("c")]);

        let root = tree.root.unwrap_or_default().encode_to_vec();
        let children = directory_children(&root, FUNCTION).expect("children");
        assert_eq!(children.files, [of("a")]);
        assert_eq!(children.directories, [of("directory")]);
    }

    #[test]
    fn what_names_no_blob_is_an_error() {
        let result = reapi::ActionResult {
            output_files: vec![reapi::OutputFile::default()],
            ..Default::default()
        };
        let error = references(&result.encode_to_vec(), FUNCTION).expect_err("no digest");
        assert_eq!(
            error.to_string(),
            "the ActionResult names a blob that cannot be"
        );
        let result = reapi::ActionResult {
            output_directories: vec![reapi::OutputDirectory::default()],
            ..Default::default()
        };
        references(&result.encode_to_vec(), FUNCTION).expect_err("no digest");
        let error = tree_files(b"no tree", FUNCTION).expect_err("no message");
        assert_eq!(error.to_string(), "the bytes are no Tree");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(references(&bytes, FUNCTION));
            drop(tree_files(&bytes, FUNCTION));
            drop(directory_children(&bytes, FUNCTION));
        }
    }
}
