//! The record of a step's result, version 1: what `result.json` of a shared result says.
//!
//! The format is that of `docs/formats.md`. What a server sends is read as anybody's input: its
//! length and its numbers are bounded, a field that is not known is refused, and so is a record that
//! contradicts itself.

use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::{BlobDigest, ContentDigest, DiffId};
use ashlar_model::layer::{StoredBlob, Timestamp};
use ashlar_model::media_type::Compression;
use ashlar_model::reference::Reference;
use serde::{Deserialize, Serialize};

/// The version that is written and read.
const VERSION: u32 = 1;
/// The longest record that is read, in bytes.
pub const LONGEST_RECORD: usize = 3 << 20;
/// The most layers of a filesystem.
const MOST_LAYERS: usize = 4096;
/// The most compressed forms of a layer that are told.
const MOST_BLOBS: usize = 16;
/// The most repositories that are named for a layer.
const MOST_REPOSITORIES: usize = 16;
/// The most trees of a layer.
pub const MOST_TREES: u32 = 256;
/// The longest layer, in bytes.
const LARGEST_LAYER: u64 = 1 << 50;
/// The longest media type.
const LONGEST_MEDIA_TYPE: usize = 255;

/// The filesystem that a step gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepResult {
    /// Its layers, bottom first. A result by content has the step's own layer alone.
    pub layers: Vec<ResultLayer>,
}

/// A layer of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultLayer {
    /// Digest of its tar.
    pub diff_id: DiffId,
    /// Its compressed forms that are known.
    pub blobs: Vec<StoredBlob>,
    /// What only its origin has.
    pub origin: ResultOrigin,
}

/// Where a layer of a result came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultOrigin {
    /// It came with an image. Its bytes are not in the cache.
    Image {
        /// Repositories that have its first compressed form.
        repositories: Vec<Reference>,
    },
    /// A step made it.
    Step {
        /// Length of its tar.
        tar_size: u64,
        /// What it contains.
        content: ContentDigest,
        /// When its step ended.
        created: Option<Timestamp>,
        /// How many trees list its chunks.
        trees: u32,
    },
}

/// Why bytes are no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// They are longer than any record.
    #[error("a record of {0} bytes is longer than the {LONGEST_RECORD} that are read")]
    TooLong(usize),
    /// They are no JSON, or JSON of another shape.
    #[error("it is not of the format")]
    Shape(#[from] serde_json::Error),
    /// Another version wrote them.
    #[error("it has version {0}, and only version {VERSION} is read")]
    Version(u32),
    /// A value is out of bounds, or contradicts another.
    #[error("{0}")]
    Wrong(&'static str),
}

impl StepResult {
    /// Reads a record.
    pub fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > LONGEST_RECORD {
            return Err(RecordError::TooLong(bytes.len()));
        }
        // Before anything else: another version may have another shape.
        let Version { version } = serde_json::from_slice(bytes)?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let written: Written = serde_json::from_slice(bytes)?;
        if written.layers.is_empty() || written.layers.len() > MOST_LAYERS {
            return Err(RecordError::Wrong("it has no layers, or too many"));
        }
        let layers = written.layers.into_iter().map(WrittenLayer::read);
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
        })
    }

    /// The record's bytes: the same for the same result.
    pub fn to_bytes(&self) -> Vec<u8> {
        let written = Written {
            version: VERSION,
            layers: self.layers.iter().map(WrittenLayer::of).collect(),
        };
        // Strings, numbers, arrays and structs with fixed keys: none of them can fail.
        serde_json::to_vec(&written).unwrap_or_default()
    }

    /// How many trees the layers have in all.
    pub fn trees(&self) -> usize {
        self.layers.iter().map(ResultLayer::trees).sum()
    }
}

impl ResultLayer {
    /// How many trees list the layer's chunks.
    pub const fn trees(&self) -> usize {
        match self.origin {
            ResultOrigin::Image { .. } => 0,
            ResultOrigin::Step { trees, .. } => trees as usize,
        }
    }
}

/// What a record of any version has.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    layers: Vec<WrittenLayer>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLayer {
    diff_id: DiffId,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    blobs: Vec<WrittenBlob>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<WrittenImage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<WrittenStep>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBlob {
    media_type: String,
    digest: BlobDigest,
    size: u64,
    compression: Compression,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    level: Option<i32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenImage {
    repositories: Vec<Reference>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStep {
    tar_size: u64,
    content: ContentDigest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<WrittenTime>,
    trees: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTime {
    seconds: i64,
    nanoseconds: u32,
}

impl WrittenLayer {
    fn of(layer: &ResultLayer) -> Self {
        let (image, step) = match &layer.origin {
            ResultOrigin::Image { repositories } => {
                let named = repositories.iter().take(MOST_REPOSITORIES);
                let repositories = named.cloned().collect();
                (Some(WrittenImage { repositories }), None)
            }
            ResultOrigin::Step {
                tar_size,
                content,
                created,
                trees,
            } => {
                let step = WrittenStep {
                    tar_size: *tar_size,
                    content: *content,
                    created: created.map(|time| WrittenTime {
                        seconds: time.seconds,
                        nanoseconds: time.nanoseconds,
                    }),
                    trees: *trees,
                };
                (None, Some(step))
            }
        };
        let blobs = layer.blobs.iter().take(MOST_BLOBS).map(WrittenBlob::of);
        Self {
            diff_id: layer.diff_id,
            blobs: blobs.collect(),
            image,
            step,
        }
    }

    fn read(self) -> Result<ResultLayer, RecordError> {
        if self.blobs.len() > MOST_BLOBS {
            return Err(RecordError::Wrong("a layer has too many blobs"));
        }
        let origin = match (self.image, self.step) {
            (Some(image), None) => image.read(&self.blobs)?,
            (None, Some(step)) => step.read()?,
            _ => {
                let why = "a layer comes from neither a step nor an image, or from both";
                return Err(RecordError::Wrong(why));
            }
        };
        let blobs = self.blobs.into_iter().map(WrittenBlob::read);
        Ok(ResultLayer {
            diff_id: self.diff_id,
            blobs: blobs.collect::<Result<_, _>>()?,
            origin,
        })
    }
}

impl WrittenImage {
    fn read(self, blobs: &[WrittenBlob]) -> Result<ResultOrigin, RecordError> {
        if blobs.is_empty() {
            return Err(RecordError::Wrong("a layer of an image has no blob"));
        }
        if self.repositories.len() > MOST_REPOSITORIES {
            return Err(RecordError::Wrong("a layer has too many repositories"));
        }
        Ok(ResultOrigin::Image {
            repositories: self.repositories,
        })
    }
}

impl WrittenStep {
    fn read(self) -> Result<ResultOrigin, RecordError> {
        if self.tar_size > LARGEST_LAYER {
            return Err(RecordError::Wrong("a layer is too large"));
        }
        if self.trees == 0 || self.trees > MOST_TREES {
            return Err(RecordError::Wrong("a layer has no trees, or too many"));
        }
        let created = self.created.map(WrittenTime::read).transpose()?;
        Ok(ResultOrigin::Step {
            tar_size: self.tar_size,
            content: self.content,
            created,
            trees: self.trees,
        })
    }
}

impl WrittenTime {
    fn read(self) -> Result<Timestamp, RecordError> {
        if self.nanoseconds >= 1_000_000_000 {
            return Err(RecordError::Wrong("a time has too many nanoseconds"));
        }
        Ok(Timestamp {
            seconds: self.seconds,
            nanoseconds: self.nanoseconds,
        })
    }
}

impl WrittenBlob {
    fn of(blob: &StoredBlob) -> Self {
        Self {
            media_type: blob.descriptor.media_type.clone(),
            digest: blob.descriptor.digest,
            size: blob.descriptor.size,
            compression: blob.compression,
            level: blob.level,
        }
    }

    fn read(self) -> Result<StoredBlob, RecordError> {
        if self.size > LARGEST_LAYER {
            return Err(RecordError::Wrong("a blob is too large"));
        }
        let matches = Compression::of_layer_media_type(&self.media_type) == Some(self.compression);
        if !matches || self.media_type.len() > LONGEST_MEDIA_TYPE {
            let why = "the media type of a blob is not that of its compression";
            return Err(RecordError::Wrong(why));
        }
        Ok(StoredBlob {
            descriptor: Descriptor::new(self.media_type, self.digest, self.size),
            compression: self.compression,
            level: self.level,
        })
    }
}

#[cfg(test)]
mod tests {
    use ashlar_model::media_type::{OCI_LAYER_GZIP, OCI_LAYER_ZSTD};
    use proptest::prelude::*;

    use super::*;

    fn sample() -> StepResult {
        let blob = |media_type: &str, compression, level| StoredBlob {
            descriptor: Descriptor::new(media_type, BlobDigest::of(media_type.as_bytes()), 10),
            compression,
            level,
        };
        StepResult {
            layers: vec![
                ResultLayer {
                    diff_id: DiffId::of(b"base"),
                    blobs: vec![blob(OCI_LAYER_GZIP, Compression::Gzip, None)],
                    origin: ResultOrigin::Image {
                        repositories: vec!["registry.example.com/base".parse().unwrap()],
                    },
                },
                ResultLayer {
                    diff_id: DiffId::of(b"step"),
                    blobs: vec![blob(OCI_LAYER_ZSTD, Compression::Zstd, Some(3))],
                    origin: ResultOrigin::Step {
                        tar_size: 1536,
                        content: ContentDigest::from_bytes([7; 32]),
                        created: Some(Timestamp {
                            seconds: 1_796_000_000,
                            nanoseconds: 5,
                        }),
                        trees: 1,
                    },
                },
            ],
        }
    }

    /// The golden vector of `docs/formats.md`.
    const GOLDEN: &str = concat!(
        r#"{"version":1,"layers":["#,
        r#"{"diff_id":"sha256:cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2","#,
        r#""blobs":[{"media_type":"application/vnd.oci.image.layer.v1.tar+gzip","#,
        r#""digest":"sha256:eed1033d9489566cbc1f6d99953c086c10a3ae3b1c73effdaddb0972f0940cd1","#,
        r#""size":10,"compression":"gzip"}],"#,
        r#""image":{"repositories":["registry.example.com/base:latest"]}},"#,
        r#"{"diff_id":"sha256:3e64cc41cf8e07b43936d7bc4eaf8bdb8e2abcec1f44c7b915ac0a0c27ebc41a","#,
        r#""blobs":[{"media_type":"application/vnd.oci.image.layer.v1.tar+zstd","#,
        r#""digest":"sha256:abf9c064d7fb9cfda15874059bb7361b7b48c6ec08cdee63a5eb3e6c6509b68c","#,
        r#""size":10,"compression":"zstd","level":3}],"#,
        r#""step":{"tar_size":1536,"#,
        r#""content":"0707070707070707070707070707070707070707070707070707070707070707","#,
        r#""created":{"seconds":1796000000,"nanoseconds":5},"trees":1}}]}"#,
    );

    #[test]
    fn records_are_as_the_format_says() {
        let text = String::from_utf8(sample().to_bytes()).unwrap();
        assert_eq!(text, GOLDEN);
    }

    #[test]
    fn records_are_read_back() {
        let sample = sample();
        assert_eq!(StepResult::read(&sample.to_bytes()).unwrap(), sample);
        assert_eq!(sample.trees(), 1);
    }

    fn changed(from: &str, to: &str) -> Result<StepResult, RecordError> {
        let text = String::from_utf8(sample().to_bytes()).unwrap();
        let changed = text.replacen(from, to, 1);
        assert_ne!(text, changed, "{from}");
        StepResult::read(changed.as_bytes())
    }

    #[test]
    fn other_versions_are_told_apart_from_damage() {
        let error = changed(r#""version":1"#, r#""version":2,"more":[]"#).unwrap_err();
        assert!(matches!(error, RecordError::Version(2)), "{error}");
    }

    #[test]
    fn records_that_no_builder_writes_are_refused() {
        for (from, to) in [
            (r#""version":1"#, r#""version":1,"more":1"#),
            (r#""trees":1"#, r#""trees":0"#),
            (r#""trees":1"#, r#""trees":4000000000"#),
            (r#""tar_size":1536"#, r#""tar_size":-1"#),
            (r#""tar_size":1536"#, r#""tar_size":18446744073709551615"#),
            (r#""nanoseconds":5"#, r#""nanoseconds":1000000000"#),
            ("tar+gzip", "tar+zstd"),
            (r#""image":{"#, r#""step":{"#),
            ("registry.example.com/base", "no reference at all"),
            ("sha256:", "sha512:"),
        ] {
            changed(from, to).unwrap_err();
        }
        StepResult::read(br#"{"version":1,"layers":[]}"#).unwrap_err();
        let long = vec![b' '; LONGEST_RECORD + 1];
        let error = StepResult::read(&long).unwrap_err();
        assert!(matches!(error, RecordError::TooLong(_)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            drop(StepResult::read(&bytes));
        }

        #[test]
        fn damaged_records_are_read_without_panic(at in 0usize..900, byte in any::<u8>()) {
            let mut bytes = sample().to_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(read) = StepResult::read(&bytes) {
                prop_assert_eq!(StepResult::read(&read.to_bytes()).unwrap(), read);
            }
        }
    }
}
