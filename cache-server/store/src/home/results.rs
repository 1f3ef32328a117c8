//! Which layer a step gave: the local action cache.
//!
//! A result is stored under both keys of its step. `instructions/` notes which instructions ever
//! ran, whatever their parent: where an instruction never ran, no content key can hit, and nobody
//! need hash a parent's content to ask.
//!
//! A result says whose [word](Word) it is: what was made here, and what is believed because somebody
//! else says so.

use std::path::PathBuf;

use ashlar_model::digest::{ContentKey, DefinitionKey, InstructionKey, LayerId};
use serde::{Deserialize, Serialize};

use super::layers::SMALL_RECORD;
use super::{Home, StoreError, record};

/// The filesystem that a step, and all before it, gave: its layers, bottom first, the step's own on
/// top. Whoever finds it need look at nothing below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefinitionResult {
    /// The layers.
    pub stack: Vec<LayerId>,
    /// Whose word it is.
    #[serde(default, skip_serializing_if = "Word::is_own")]
    pub word: Word,
}

/// The layer that an instruction gave on a parent with some content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentResult {
    /// The layer.
    pub layer: LayerId,
    /// Whose word it is.
    #[serde(default, skip_serializing_if = "Word::is_own")]
    pub word: Word,
}

impl DefinitionResult {
    /// One that was made here.
    pub const fn own(stack: Vec<LayerId>) -> Self {
        Self {
            stack,
            word: Word::Own,
        }
    }
}

impl ContentResult {
    /// One that was made here.
    pub const fn own(layer: LayerId) -> Self {
        Self {
            layer,
            word: Word::Own,
        }
    }
}

/// Whose word a result is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// This machine's: it ran the step, on nothing that somebody else's bare word had to be taken
    /// for.
    #[default]
    Own,
    /// A cache's, or the result stands on something that is.
    Bare(Option<CacheName>),
    /// A builder's that has signed it.
    Signed(Box<SignedWord>),
}

/// A cache, as the results that came from there remember it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheName {
    /// Where it is.
    pub address: String,
    /// REAPI's instance name.
    pub instance: String,
}

/// A result that was signed, as it came: so it can be handed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedWord {
    /// Where it came from.
    pub cache: CacheName,
    /// The record that the signature is about.
    pub record: String,
    /// The envelope with the signature.
    pub envelope: String,
}

impl Word {
    /// Whether it is this machine's.
    pub const fn is_own(&self) -> bool {
        matches!(self, Self::Own)
    }

    /// How long it is on disk, about.
    fn bytes(&self) -> u64 {
        match self {
            Self::Own => 0,
            Self::Bare(_) => 256,
            // Quotation marks have a backslash before them.
            Self::Signed(signed) => 2 * (signed.record.len() + signed.envelope.len()) as u64 + 256,
        }
    }
}

/// A file that holds a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResult {
    /// The file.
    pub path: PathBuf,
    /// The layers that it names; none if it is damaged.
    pub layers: Vec<LayerId>,
}

impl Home {
    fn definition_path(&self, key: &DefinitionKey) -> PathBuf {
        self.root().join("results/definition").join(key.to_hex())
    }

    fn content_path(&self, key: &ContentKey) -> PathBuf {
        self.root().join("results/content").join(key.to_hex())
    }

    fn instruction_path(&self, key: &InstructionKey) -> PathBuf {
        self.root().join("instructions").join(key.to_hex())
    }

    /// The result of the step with this definition, if it ever ran and all its layers are still
    /// known and here.
    pub fn result_by_definition(
        &self,
        key: &DefinitionKey,
    ) -> Result<Option<DefinitionResult>, StoreError> {
        let Some(result) = record::read_used::<DefinitionResult>(&self.definition_path(key))?
        else {
            return Ok(None);
        };
        self.claim_layers(&result.stack)?;
        for layer in &result.stack {
            if !self.is_usable(layer)? {
                return Ok(None);
            }
        }
        Ok(Some(result))
    }

    /// The result of this instruction on a parent with this content, if its layer is still known
    /// and here.
    pub fn result_by_content(&self, key: &ContentKey) -> Result<Option<ContentResult>, StoreError> {
        let Some(result) = record::read_used::<ContentResult>(&self.content_path(key))? else {
            return Ok(None);
        };
        self.claim_layers(&[result.layer])?;
        Ok(self.is_usable(&result.layer)?.then_some(result))
    }

    /// Whether a layer can be worked with. One whose files are lost must be made again.
    fn is_usable(&self, id: &LayerId) -> Result<bool, StoreError> {
        match self.layer(id)? {
            Some(layer) => self.holds_files_of(&layer),
            None => Ok(false),
        }
    }

    /// Whether the instruction ever ran, on whatever parent.
    pub fn instruction_ever_ran(&self, key: &InstructionKey) -> bool {
        self.instruction_path(key).exists()
    }

    /// Stores a result under its definition key. The layers' records must be stored before.
    pub fn put_definition_result(
        &self,
        key: &DefinitionKey,
        result: &DefinitionResult,
    ) -> Result<(), StoreError> {
        let _permit = self.admit(SMALL_RECORD + result.word.bytes())?;
        record::write(&self.definition_path(key), result)
    }

    /// Stores a result under its content key.
    pub fn put_content_result(
        &self,
        instruction: &InstructionKey,
        key: &ContentKey,
        result: &ContentResult,
    ) -> Result<(), StoreError> {
        let _permit = self.admit(SMALL_RECORD + result.word.bytes())?;
        record::write(&self.content_path(key), result)?;
        let path = self.instruction_path(instruction);
        if path.exists() {
            Ok(())
        } else {
            record::write_atomically(&path, b"")
        }
    }

    /// All results with the layers that they name, as the files that hold them.
    pub fn results(&self) -> Result<Vec<StoredResult>, StoreError> {
        let mut found = Vec::new();
        let directory = self.root().join("results/definition");
        for path in list_paths(&directory)? {
            let stack = record::read::<DefinitionResult>(&path)?.map(|result| result.stack);
            found.push(StoredResult {
                path,
                layers: stack.unwrap_or_default(),
            });
        }
        let directory = self.root().join("results/content");
        for path in list_paths(&directory)? {
            let layer = record::read::<ContentResult>(&path)?.map(|result| result.layer);
            found.push(StoredResult {
                path,
                layers: layer.into_iter().collect(),
            });
        }
        Ok(found)
    }
}

fn list_paths(directory: &std::path::Path) -> Result<Vec<PathBuf>, StoreError> {
    super::layers::list_names(directory, |name| Some(directory.join(name)))
}

#[cfg(test)]
mod tests {
    use ashlar_model::layer::LayerRecord;

    use super::*;

    #[test]
    fn a_result_lives_as_long_as_its_layer() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let key = DefinitionKey::from(blake3::hash(b"key"));
        let layer = home.new_layer_id().unwrap();
        let result = DefinitionResult::own(vec![layer]);
        assert_eq!(home.result_by_definition(&key).unwrap(), None);
        home.put_definition_result(&key, &result).unwrap();
        assert_eq!(home.result_by_definition(&key).unwrap(), None);
        home.put_layer(&LayerRecord::made_by_step(layer)).unwrap();
        assert_eq!(home.result_by_definition(&key).unwrap(), None);
        let tree = home.tree_path("map", &layer);
        std::fs::create_dir_all(&tree).unwrap();
        assert_eq!(
            home.result_by_definition(&key).unwrap(),
            Some(result.clone())
        );
        std::fs::remove_dir(&tree).unwrap();
        assert_eq!(home.result_by_definition(&key).unwrap(), None);
        std::fs::write(home.tar_path(&layer), "tar").unwrap();
        assert_eq!(
            home.result_by_definition(&key).unwrap(),
            Some(result.clone())
        );
        home.forget_layer(&layer).unwrap();
        assert_eq!(home.result_by_definition(&key).unwrap(), None);
    }

    #[test]
    fn instructions_are_noted_with_their_content_results() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let instruction = InstructionKey::from(blake3::hash(b"instruction"));
        let key = ContentKey::from(blake3::hash(b"content"));
        let result = ContentResult::own(home.new_layer_id().unwrap());
        home.put_layer(&LayerRecord::made_by_step(result.layer))
            .unwrap();
        std::fs::create_dir_all(home.tree_path("map", &result.layer)).unwrap();
        assert!(!home.instruction_ever_ran(&instruction));
        home.put_content_result(&instruction, &key, &result)
            .unwrap();
        assert!(home.instruction_ever_ran(&instruction));
        assert_eq!(home.result_by_content(&key).unwrap(), Some(result));
    }

    #[test]
    fn whose_word_a_result_is_is_remembered() {
        let own = r#"{"stack":[]}"#;
        let read: DefinitionResult = serde_json::from_str(own).unwrap();
        assert_eq!(read.word, Word::Own);
        assert_eq!(serde_json::to_string(&read).unwrap(), own);
        let cache = CacheName {
            address: "grpc://c:1".into(),
            instance: "main".into(),
        };
        let signed = SignedWord {
            cache: cache.clone(),
            record: r#"{"version":1}"#.into(),
            envelope: "{}".into(),
        };
        for word in [
            Word::Bare(None),
            Word::Bare(Some(cache)),
            Word::Signed(Box::new(signed)),
        ] {
            let result = DefinitionResult {
                stack: Vec::new(),
                word,
            };
            let text = serde_json::to_string(&result).unwrap();
            let read: DefinitionResult = serde_json::from_str(&text).unwrap();
            assert_eq!(read, result);
        }
    }
}
