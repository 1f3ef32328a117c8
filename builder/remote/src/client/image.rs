//! What came of a delivery, or of a whole build: the outcome of that work, as JSON.

use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::BlobDigest;
use ashlar_model::reference::Reference;
use serde::{Deserialize, Serialize};

use super::FarmError;

/// What came of making an image and sending it to registries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageOutcome {
    /// It is done.
    Made(DeliveredImage),
    /// It is not.
    Failed(ImageFailure),
}

/// An image that is where it was to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveredImage {
    /// Digest of the configuration.
    pub id: BlobDigest,
    /// The manifest, if one was made: that of the first registry.
    pub manifest: Option<Descriptor>,
    /// Names that the image has in registries.
    pub names: Vec<Reference>,
}

/// Why there is no image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageFailure {
    /// What failed, in one line.
    pub message: String,
    /// Lines that go before it: what a command wrote last.
    #[serde(default)]
    pub details: Vec<String>,
    /// Why, down to the root.
    #[serde(default)]
    pub causes: Vec<String>,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
    /// Whether what was asked for is at fault (the builder's exit code is 1) or the machine or a
    /// service (3).
    pub is_input: bool,
}

impl ImageOutcome {
    /// As it travels.
    pub fn encode(&self) -> Vec<u8> {
        // There is nothing in it that JSON does not have.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what a worker has written.
    pub fn decode(bytes: &[u8]) -> Result<Self, FarmError> {
        serde_json::from_slice(bytes).map_err(|_| FarmError::Malformed("an outcome of an image"))
    }

    /// Whether it failed, and the line for people: what goes beside it.
    pub fn failure(&self) -> Option<&str> {
        match self {
            Self::Made(_) => None,
            Self::Failed(failure) => Some(&failure.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_read_as_they_are_written() {
        for outcome in [
            ImageOutcome::Made(DeliveredImage {
                id: BlobDigest::of(b"config"),
                manifest: Some(Descriptor::new("a/b", BlobDigest::of(b"manifest"), 8)),
                names: vec!["registry.example/x:1".parse().unwrap()],
            }),
            ImageOutcome::Failed(ImageFailure {
                message: "RUN false".to_owned(),
                is_input: true,
                ..ImageFailure::default()
            }),
        ] {
            assert_eq!(ImageOutcome::decode(&outcome.encode()).unwrap(), outcome);
        }
        ImageOutcome::decode(b"{}").unwrap_err();
    }
}
