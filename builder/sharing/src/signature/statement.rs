//! What is signed of a result: version 1 of the payload.

use ashlar_model::digest::BlobDigest;
use serde::{Deserialize, Serialize};

use crate::action::StepKey;

/// The version that is written and read.
const VERSION: u32 = 1;
/// The longest name of a builder, in bytes.
pub const LONGEST_NAME: usize = 100;

/// What a signature is about: which step, and where its result is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The step's key under which the result is stored.
    pub key: StepKey,
    /// REAPI's instance name.
    pub instance: &'a str,
    /// SHA-256 of the record's bytes.
    pub record: BlobDigest,
}

/// A statement that a step gave a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The kind of the step's key: `definition` or `content`.
    pub kind: String,
    /// The key, in hexadecimal.
    pub key: String,
    /// REAPI's instance name for which it was made.
    pub instance: String,
    /// SHA-256 of the record's bytes.
    pub record: BlobDigest,
    /// What the builder calls itself.
    pub builder: String,
    /// When it was signed, in seconds since 1970, by the builder's clock.
    pub time: i64,
}

/// Why bytes are no statement.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// They are no JSON, or JSON of another shape.
    #[error("it is not of the format")]
    Shape(#[from] serde_json::Error),
    /// Another version wrote them.
    #[error("it has version {0}, and only version {VERSION} is read")]
    Version(u32),
    /// A value is out of bounds.
    #[error("{0}")]
    Wrong(&'static str),
}

/// What a statement of any version has.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    kind: String,
    key: String,
    instance: String,
    record: BlobDigest,
    builder: String,
    time: i64,
}

/// Whether a builder may be called so: something that needs no quoting anywhere.
pub fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.@:/".contains(c);
    !text.is_empty() && text.len() <= LONGEST_NAME && text.chars().all(allowed)
}

impl Statement {
    /// The statement that a builder makes of a result.
    pub fn new(subject: &Subject<'_>, builder: &str, time: i64) -> Self {
        Self {
            kind: subject.key.kind().to_owned(),
            key: subject.key.hex(),
            instance: subject.instance.to_owned(),
            record: subject.record,
            builder: builder.to_owned(),
            time,
        }
    }

    /// Reads a payload.
    pub fn read(bytes: &[u8]) -> Result<Self, StatementError> {
        // Before anything else: another version may have another shape.
        let Version { version } = serde_json::from_slice(bytes)?;
        if version != VERSION {
            return Err(StatementError::Version(version));
        }
        let written: Written = serde_json::from_slice(bytes)?;
        if !is_name(&written.builder) {
            return Err(StatementError::Wrong("no builder is called so"));
        }
        Ok(Self {
            kind: written.kind,
            key: written.key,
            instance: written.instance,
            record: written.record,
            builder: written.builder,
            time: written.time,
        })
    }

    /// The payload's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let written = Written {
            version: VERSION,
            kind: self.kind.clone(),
            key: self.key.clone(),
            instance: self.instance.clone(),
            record: self.record,
            builder: self.builder.clone(),
            time: self.time,
        };
        // Strings and numbers in a struct with fixed keys: none of them can fail.
        serde_json::to_vec(&written).unwrap_or_default()
    }

    /// Whether it is about this step.
    pub fn is_of(&self, key: &StepKey) -> bool {
        self.kind == key.kind() && self.key == key.hex()
    }
}
