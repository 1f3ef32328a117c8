//! What a store knows about a layer.

use serde::{Deserialize, Serialize};

use super::{Entry, Timestamp};
use crate::cas::SharedLayer;
use crate::content_hash::KeyEncoder;
use crate::descriptor::Descriptor;
use crate::digest::{ContentDigest, DiffId, LayerId};
use crate::executor::{BlobForm, PackRequest};
use crate::media_type::Compression;
use crate::reference::Reference;

/// The entries of a layer in canonical order ([`Entry::canonical_cmp`]), each path once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LayerIndex {
    /// The entries.
    pub entries: Vec<Entry>,
}

impl LayerIndex {
    /// Puts entries into canonical order.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(Entry::canonical_cmp);
        Self { entries }
    }

    /// What the layer contains, modification times left out. All files must have their digest.
    pub fn content_digest(&self) -> ContentDigest {
        KeyEncoder::hash_of("ashlar 2026-11 layer content v1", self.entries.as_slice()).into()
    }
}

/// A layer of a local store: what is known of it. Grows as more is learnt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Its name in this store.
    pub id: LayerId,
    /// Where it came from.
    pub origin: LayerOrigin,
    /// When its step ended; `None` for a layer that came with an image, whose history says it.
    #[serde(default)]
    pub created: Option<Timestamp>,
    /// Digest of its canonical tar, once that was made.
    pub diff_id: Option<DiffId>,
    /// What it contains, once that was read.
    pub content: Option<ContentDigest>,
    /// Length of its tar in bytes, once that was made.
    pub tar_size: Option<u64>,
    /// Its compressed forms that are known.
    pub blobs: Vec<StoredBlob>,
}

/// Where a layer came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerOrigin {
    /// A step made it here.
    Step,
    /// It came with an image. Its blob may be fetched again from there.
    Image {
        /// Repositories that are known to hold the blob.
        repositories: Vec<Reference>,
    },
    /// A step made it on another machine. Its split form may be fetched from a shared cache.
    Shared {
        /// Where, the nearest cache first.
        copies: Vec<SharedLayer>,
    },
}

impl LayerOrigin {
    /// Whether its files may be had from elsewhere when they are not in this store.
    pub const fn is_elsewhere(&self) -> bool {
        match self {
            Self::Step => false,
            Self::Image { .. } | Self::Shared { .. } => true,
        }
    }

    /// Whether a step made it, here or on another machine.
    pub const fn is_of_step(&self) -> bool {
        match self {
            Self::Image { .. } => false,
            Self::Step | Self::Shared { .. } => true,
        }
    }
}

/// One compressed form of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBlob {
    /// Digest, size, media type.
    pub descriptor: Descriptor,
    /// How it is compressed.
    pub compression: Compression,
    /// Compression level if we made it; `None` if it came from elsewhere.
    pub level: Option<i32>,
}

impl LayerRecord {
    /// The blob in this form, if it was ever made.
    pub fn blob(&self, form: BlobForm) -> Option<&StoredBlob> {
        self.blobs
            .iter()
            .find(|blob| blob.compression == form.compression && blob.level == Some(form.level))
    }

    /// What a request asks for that is not known yet.
    pub fn missing(&self, wanted: &PackRequest) -> PackRequest {
        PackRequest {
            diff_id: wanted.diff_id && self.diff_id.is_none(),
            blobs: wanted
                .blobs
                .iter()
                .copied()
                .filter(|form| self.blob(*form).is_none())
                .collect(),
        }
    }

    /// A layer that came with an image: its content is identified by its diff ID.
    pub fn of_image(diff_id: DiffId, blob: StoredBlob, repository: Option<Reference>) -> Self {
        let content = KeyEncoder::hash_of("ashlar 2026-11 content of an image layer v1", &diff_id);
        Self {
            id: LayerId::of_diff_id(&diff_id),
            origin: LayerOrigin::Image {
                repositories: repository.into_iter().collect(),
            },
            created: None,
            diff_id: Some(diff_id),
            content: Some(content.into()),
            tar_size: None,
            blobs: vec![blob],
        }
    }

    /// A layer that a step made on another machine, which told what it contains. None of its
    /// files are here.
    pub fn of_shared(
        diff_id: DiffId,
        tar_size: u64,
        content: ContentDigest,
        copies: Vec<SharedLayer>,
    ) -> Self {
        Self {
            id: LayerId::of_diff_id(&diff_id),
            origin: LayerOrigin::Shared { copies },
            created: None,
            diff_id: Some(diff_id),
            content: Some(content),
            tar_size: Some(tar_size),
            blobs: Vec::new(),
        }
    }

    /// A layer that a step has just made.
    pub const fn made_by_step(id: LayerId) -> Self {
        Self {
            id,
            origin: LayerOrigin::Step,
            created: None,
            diff_id: None,
            content: None,
            tar_size: None,
            blobs: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cas::{CasDigest, DigestFunction};

    #[test]
    fn records_from_before_layers_were_shared_are_read() {
        let id = "00112233445566778899aabbccddeeff";
        for (origin, expected) in [
            (r#""Step""#, LayerOrigin::Step),
            (
                r#"{"Image":{"repositories":[]}}"#,
                LayerOrigin::Image {
                    repositories: Vec::new(),
                },
            ),
        ] {
            let text = format!(
                r#"{{"id":"{id}","origin":{origin},"diff_id":null,"content":null,"tar_size":null,"blobs":[]}}"#
            );
            let record: LayerRecord = serde_json::from_str(&text).unwrap();
            assert_eq!(record.origin, expected);
        }
    }

    #[test]
    fn shared_layers_are_read_back() {
        let tree = CasDigest::of(DigestFunction::Blake3, b"tree");
        let record = LayerRecord::of_shared(
            DiffId::of(b"tar"),
            3,
            LayerIndex::default().content_digest(),
            vec![SharedLayer {
                cache: "grpc://cache:1,instance=main".to_owned(),
                trees: vec![tree],
            }],
        );
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<LayerRecord>(&text).unwrap(), record);
        // Whoever has the same tar names the layer alike.
        assert_eq!(record.id, LayerId::of_diff_id(&DiffId::of(b"tar")));
    }
}
