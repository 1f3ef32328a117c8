//! Keys as REAPI actions, and results as REAPI action results.
//!
//! A key is looked up under the digest of an `Action`, which says nothing but the key: its command
//! has the arguments `ashlar.step/1`, which kind of key it is, and the key in hexadecimal; its input
//! root is the empty directory. A result has the record as `result.json`, and each tree of each
//! layer as an output directory, so that every server that checks results for completeness checks
//! every chunk. `docs/formats.md` says it exactly.

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_model::digest::{ContentKey, DefinitionKey, InstructionKey};
use ashlar_proto::convert::{ConvertError, digest_to_wire, required_digest};
use ashlar_proto::wire::reapi;
use bytes::Bytes;
use prost::Message as _;

use crate::record::{MOST_TREES, StepResult};
use crate::signature::SIGNATURE_PATH;

/// The first argument of every command: what the key means, and in which version.
const PROGRAM: &str = "ashlar.step/1";
/// Where the record is.
pub const RECORD_PATH: &str = "result.json";
/// Where the trees are.
const LAYERS_PATH: &str = "layers";

/// A key of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepKey {
    /// What it is defined as, down to the base.
    Definition(DefinitionKey),
    /// What its inputs contain.
    Content(ContentKey),
    /// What it does, whatever to.
    Instruction(InstructionKey),
}

impl StepKey {
    /// Which kind it is.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Definition(_) => "definition",
            Self::Content(_) => "content",
            Self::Instruction(_) => "instruction",
        }
    }

    /// The key in hexadecimal.
    pub fn hex(&self) -> String {
        match self {
            Self::Definition(key) => key.to_hex(),
            Self::Content(key) => key.to_hex(),
            Self::Instruction(key) => key.to_hex(),
        }
    }
}

/// A key as an action.
#[derive(Debug, Clone)]
pub struct StepAction {
    /// Digest of the action: what a result is stored under.
    pub digest: CasDigest,
    /// The blobs that it is made of, the action itself among them.
    pub blobs: Vec<(CasDigest, Bytes)>,
}

impl StepAction {
    /// The action of a key.
    pub fn of(key: &StepKey, function: DigestFunction) -> Self {
        let output_paths = match key {
            StepKey::Instruction(_) => Vec::new(),
            _ => vec![LAYERS_PATH.to_owned(), RECORD_PATH.to_owned()],
        };
        let command = reapi::Command {
            arguments: vec![PROGRAM.to_owned(), key.kind().to_owned(), key.hex()],
            output_paths,
            ..reapi::Command::default()
        };
        let command = blob(function, command.encode_to_vec());
        let root = blob(function, reapi::Directory::default().encode_to_vec());
        let action = reapi::Action {
            command_digest: Some(digest_to_wire(&command.0)),
            input_root_digest: Some(digest_to_wire(&root.0)),
            ..reapi::Action::default()
        };
        let action = blob(function, action.encode_to_vec());
        Self {
            digest: action.0,
            blobs: vec![root, command, action],
        }
    }
}

/// Some bytes with their digest.
pub fn blob(function: DigestFunction, bytes: Vec<u8>) -> (CasDigest, Bytes) {
    (CasDigest::of(function, &bytes), bytes.into())
}

/// The step that an action stands for, as its command has it; `None` for what is no action of
/// Ashlar's.
pub fn step_of_command(command: &[u8]) -> Option<(String, String)> {
    let command = reapi::Command::decode(command).ok()?;
    match command.arguments.as_slice() {
        [program, kind, key] if program == PROGRAM => Some((kind.clone(), key.clone())),
        _ => None,
    }
}

/// A result as it is stored.
#[derive(Debug, Clone)]
pub struct EncodedResult {
    /// The encoded `ActionResult`.
    pub result: Bytes,
    /// The record, which is a blob of its own.
    pub record: (CasDigest, Bytes),
    /// The envelope with its signatures, one too.
    pub signature: Option<(CasDigest, Bytes)>,
}

/// Encodes a result. `trees` has the digests of each layer's trees, as many as the record says;
/// `signature` is about the record's bytes.
pub fn encode_result(
    record: Vec<u8>,
    trees: &[Vec<CasDigest>],
    signature: Option<Vec<u8>>,
    function: DigestFunction,
) -> EncodedResult {
    let record = blob(function, record);
    let signature = signature.map(|envelope| blob(function, envelope));
    // Without its contents: many results are looked up at once, and few of their records are read.
    let file = |path: &str, digest: &CasDigest| reapi::OutputFile {
        path: path.to_owned(),
        digest: Some(digest_to_wire(digest)),
        ..reapi::OutputFile::default()
    };
    let mut files = vec![file(RECORD_PATH, &record.0)];
    files.extend(
        signature
            .iter()
            .map(|(digest, _)| file(SIGNATURE_PATH, digest)),
    );
    let directories = trees.iter().enumerate().flat_map(|(layer, trees)| {
        let of_layer = trees.iter().enumerate();
        of_layer.map(move |(part, tree)| reapi::OutputDirectory {
            path: tree_path(layer, part),
            tree_digest: Some(digest_to_wire(tree)),
            ..reapi::OutputDirectory::default()
        })
    });
    let result = reapi::ActionResult {
        output_files: files,
        output_directories: directories.collect(),
        ..reapi::ActionResult::default()
    };
    EncodedResult {
        result: result.encode_to_vec().into(),
        record,
        signature,
    }
}

/// The result of an instruction: that it ever ran. It says who says so, for some servers take a
/// result without any field for none.
pub fn encode_instruction_result() -> Bytes {
    let metadata = reapi::ExecutedActionMetadata {
        worker: "ashlar".to_owned(),
        ..reapi::ExecutedActionMetadata::default()
    };
    let result = reapi::ActionResult {
        execution_metadata: Some(metadata),
        ..reapi::ActionResult::default()
    };
    result.encode_to_vec().into()
}

fn tree_path(layer: usize, part: usize) -> String {
    format!("{LAYERS_PATH}/{layer:03}/{part}")
}

/// What a stored result names. Nothing of it is to be believed but by its digests.
#[derive(Debug, Clone)]
pub struct ResultOutputs {
    /// The record.
    pub record: CasDigest,
    /// Its bytes, where the server sent them along. They are those of the digest.
    pub inline: Option<Bytes>,
    /// The envelope with its signatures, if it has any.
    pub signature: Option<CasDigest>,
    /// Its bytes, where the server sent them along.
    pub inline_signature: Option<Bytes>,
    trees: Vec<(String, CasDigest)>,
}

/// Why a stored result is none of a step.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// It is no `ActionResult`.
    #[error("it is no result")]
    Encoding(#[from] prost::DecodeError),
    /// A digest in it is none.
    #[error(transparent)]
    Digest(#[from] ConvertError),
    /// It is one, but not of a step that went well.
    #[error("{0}")]
    Wrong(&'static str),
}

/// An output file's digest and its bytes, where the server sent them along.
fn output_file(
    file: &reapi::OutputFile,
    function: DigestFunction,
) -> Result<(CasDigest, Option<Bytes>), ResultError> {
    let digest = required_digest(file.digest.as_ref(), function, "OutputFile.digest")?;
    let inline = Some(file.contents.clone()).filter(|bytes| !bytes.is_empty());
    if inline
        .as_ref()
        .is_some_and(|bytes| CasDigest::of(function, bytes) != digest)
    {
        return Err(ResultError::Wrong("a file of it is not that of its digest"));
    }
    Ok((digest, inline))
}

impl ResultOutputs {
    /// Reads a stored result.
    pub fn read(result: &Bytes, function: DigestFunction) -> Result<Self, ResultError> {
        let result = reapi::ActionResult::decode(result.clone())?;
        if result.exit_code != 0 {
            return Err(ResultError::Wrong("it is that of a step that failed"));
        }
        let file = |path: &str| {
            let mut files = result.output_files.iter();
            let file = files.find(|file| file.path == path);
            file.map(|file| output_file(file, function)).transpose()
        };
        let (record, inline) = file(RECORD_PATH)?.ok_or(ResultError::Wrong("it has no record"))?;
        let (signature, inline_signature) = file(SIGNATURE_PATH)?.unzip();
        let trees = result.output_directories.into_iter().map(|directory| {
            let tree = directory.tree_digest.as_ref();
            let digest = required_digest(tree, function, "OutputDirectory.tree_digest")?;
            Ok((directory.path, digest))
        });
        Ok(Self {
            record,
            inline,
            signature,
            inline_signature: inline_signature.flatten(),
            trees: trees.collect::<Result<_, ResultError>>()?,
        })
    }

    /// The trees of each layer of the record, in order.
    pub fn trees_of(&self, record: &StepResult) -> Result<Vec<Vec<CasDigest>>, ResultError> {
        let mut trees = Vec::with_capacity(record.layers.len());
        for (number, layer) in record.layers.iter().enumerate() {
            let parts = (0..layer.trees().min(MOST_TREES as usize)).map(|part| {
                let path = tree_path(number, part);
                let found = self.trees.iter().find(|(known, _)| *known == path);
                found
                    .map(|(_, digest)| *digest)
                    .ok_or(ResultError::Wrong("it lacks a tree that its record has"))
            });
            trees.push(parts.collect::<Result<_, _>>()?);
        }
        Ok(trees)
    }
}

#[cfg(test)]
mod tests {
    use ashlar_model::digest::DiffId;
    use proptest::prelude::*;

    use super::*;
    use crate::record::{ResultLayer, ResultOrigin};

    fn digest(text: &str) -> CasDigest {
        CasDigest::of(DigestFunction::Sha256, text.as_bytes())
    }

    fn record(trees: &[u32]) -> StepResult {
        let layers = trees.iter().map(|trees| ResultLayer {
            diff_id: DiffId::of(b"tar"),
            blobs: Vec::new(),
            origin: ResultOrigin::Step {
                tar_size: 1024,
                content: ashlar_model::digest::ContentDigest::from_bytes([1; 32]),
                created: None,
                trees: *trees,
            },
        });
        StepResult {
            layers: layers.collect(),
        }
    }

    /// The golden vectors of `docs/formats.md`.
    #[test]
    fn actions_are_as_the_format_says() {
        let definition = StepKey::Definition(DefinitionKey::from_bytes([1; 32]));
        let content = StepKey::Content(ContentKey::from_bytes([1; 32]));
        let instruction = StepKey::Instruction(InstructionKey::from_bytes([1; 32]));
        let digest = |key, function| StepAction::of(&key, function).digest.to_string();
        let vectors = [
            digest(definition, DigestFunction::Sha256),
            digest(content, DigestFunction::Sha256),
            digest(instruction, DigestFunction::Sha256),
            digest(definition, DigestFunction::Blake3),
        ];
        assert_eq!(
            vectors,
            [
                "sha256:124576db79caed55bdab187b925fff57b4b021ce39e6a1a67b89650fc8a019c4/138",
                "sha256:aa19e2c2d02af2a7719dde682a87f88c786560cbf9f815b84781143e515eb42e/138",
                "sha256:372ebe104690aefc47ac5f0b80b88207498dc595ad5195924e4ea669e9ec628e/138",
                "blake3:a3ce2767596ad8574c24310111d1ff479f095e531ac783994555f591108b6c79/138",
            ]
        );
    }

    #[test]
    fn an_action_says_what_it_is_for() {
        let key = StepKey::Content(ContentKey::from_bytes([9; 32]));
        let action = StepAction::of(&key, DigestFunction::Blake3);
        for (digest, bytes) in &action.blobs {
            assert_eq!(CasDigest::of(DigestFunction::Blake3, bytes), *digest);
        }
        let command = &action.blobs[1].1;
        let (kind, hex) = step_of_command(command).unwrap();
        assert_eq!((kind.as_str(), hex), ("content", key.hex()));
        assert_eq!(step_of_command(b"\xff"), None);
    }

    /// The golden vector of `docs/formats.md`.
    #[test]
    fn results_are_as_the_format_says() {
        let trees = [vec![digest("a"), digest("b")]];
        let encoded = encode_result(
            record(&[2]).to_bytes(),
            &trees,
            None,
            DigestFunction::Sha256,
        );
        let result = CasDigest::of(DigestFunction::Sha256, &encoded.result);
        let instruction = CasDigest::of(DigestFunction::Sha256, &encode_instruction_result());
        assert_eq!(
            [result.to_string(), instruction.to_string()],
            [
                "sha256:659aaba84cd7de85c3b90e5087ad2946af7e1976d175093d43296e147652ce1b/258",
                "sha256:db6f80b2541d130efd809c53074bef5393c557259f0eaed74bd7c9df3428cfb3/10",
            ]
        );
    }

    #[test]
    fn results_are_read_back() {
        let record = record(&[2, 0, 1]);
        let trees = vec![vec![digest("a"), digest("b")], vec![], vec![digest("c")]];
        let encoded = encode_result(record.to_bytes(), &trees, None, DigestFunction::Sha256);
        let read = ResultOutputs::read(&encoded.result, DigestFunction::Sha256).unwrap();
        assert_eq!(read.record, encoded.record.0);
        assert_eq!(read.inline, None);
        assert_eq!(read.signature, None);
        assert_eq!(read.trees_of(&record).unwrap(), trees);
    }

    #[test]
    fn signatures_are_files_of_their_own() {
        let record = record(&[1]);
        let trees = vec![vec![digest("a")]];
        let envelope = b"envelope".to_vec();
        let function = DigestFunction::Sha256;
        let encoded = encode_result(record.to_bytes(), &trees, Some(envelope.clone()), function);
        let read = ResultOutputs::read(&encoded.result, function).unwrap();
        assert_eq!(read.signature, Some(encoded.signature.unwrap().0));
        assert_eq!((read.inline, read.inline_signature), (None, None));

        let mut result = reapi::ActionResult::decode(encoded.result).unwrap();
        result.output_files[1].contents = envelope.clone().into();
        let read = ResultOutputs::read(&result.encode_to_vec().into(), function).unwrap();
        assert_eq!(read.inline_signature, Some(envelope.into()));
        result.output_files[1].contents = Bytes::from_static(b"other");
        ResultOutputs::read(&result.encode_to_vec().into(), function).unwrap_err();
    }

    #[test]
    fn results_that_no_builder_writes_are_refused() {
        let record = record(&[2]);
        let trees = vec![vec![digest("a")]];
        let encoded = encode_result(record.to_bytes(), &trees, None, DigestFunction::Sha256);
        let read = ResultOutputs::read(&encoded.result, DigestFunction::Sha256).unwrap();
        read.trees_of(&record).unwrap_err();

        let good = reapi::ActionResult::decode(encoded.result).unwrap();
        let changes: [fn(&mut reapi::ActionResult); 6] = [
            |result| result.exit_code = 1,
            |result| result.output_files.clear(),
            |result| result.output_files[0].digest = None,
            |result| result.output_files[0].contents = Bytes::from_static(b"other"),
            |result| result.output_directories[0].tree_digest = None,
            |result| {
                if let Some(digest) = &mut result.output_directories[0].tree_digest {
                    digest.size_bytes = -1;
                }
            },
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut result = good.clone();
            change(&mut result);
            let bytes = result.encode_to_vec().into();
            let read = ResultOutputs::read(&bytes, DigestFunction::Sha256);
            assert!(read.is_err(), "change {number}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            drop(ResultOutputs::read(&bytes.into(), DigestFunction::Blake3));
        }
    }
}
