//! The names that blobs have in ByteStream:
//!
//! ```text
//! read    [INSTANCE/]               blobs                 /[FUNCTION/]HASH/SIZE
//!         [INSTANCE/]               compressed-blobs/zstd /[FUNCTION/]HASH/SIZE
//! write   [INSTANCE/] uploads/UUID/ blobs                 /[FUNCTION/]HASH/SIZE[/METADATA]
//!         [INSTANCE/] uploads/UUID/ compressed-blobs/zstd /[FUNCTION/]HASH/SIZE[/METADATA]
//! ```
//!
//! An instance name may have several segments, none of which is a keyword. SHA-256 is told by the
//! length of its hash, and its name left out; BLAKE3 is always said. Hash and size are those of
//! the blob as it is without compression. What a client writes behind the size is passed over.

use std::fmt;
use std::str::FromStr;

use ashlar_model::cas::{CasDigest, DigestFunction};

use crate::convert::{ConvertError, hash_from_hex};

/// How a blob's bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compressor {
    /// As they are.
    Identity,
    /// Compressed by Zstandard.
    Zstd,
}

/// A blob that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobName {
    /// The instance name; may be empty.
    pub instance: String,
    /// How the bytes travel.
    pub compressor: Compressor,
    /// The blob.
    pub blob: CasDigest,
}

/// A blob that is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadName {
    /// Tells uploads of one blob apart. Clients should take a UUID; any segment does.
    pub uuid: String,
    /// What is written.
    pub blob: BlobName,
}

/// A name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The segments are not those of a blob's name.
    #[error(
        "the resource name is not of the form \
         [INSTANCE/][uploads/UUID/]blobs/[FUNCTION/]HASH/SIZE \
         or [INSTANCE/][uploads/UUID/]compressed-blobs/COMPRESSOR/[FUNCTION/]HASH/SIZE"
    )]
    Form,
    /// The compressor is not known here.
    #[error("the compressor `{0}` is not known here; zstd is")]
    Compressor(String),
    /// The digest is none, or of a function that is not known here.
    #[error(transparent)]
    Digest(#[from] ConvertError),
    /// The size is no number, or larger than any blob.
    #[error("`{0}` is no size of a blob")]
    Size(String),
}

/// Words that no segment of an instance name is.
const KEYWORDS: [&str; 7] = [
    "blobs",
    "uploads",
    "actions",
    "actionResults",
    "operations",
    "capabilities",
    "compressed-blobs",
];

/// Whether a request may have this instance name.
pub fn is_instance_name(name: &str) -> bool {
    name.is_empty() || name.split('/').all(is_instance_segment)
}

fn is_instance_segment(segment: &str) -> bool {
    !segment.is_empty() && !KEYWORDS.contains(&segment)
}

/// The instance name, and the segments from the first keyword on.
fn split_instance(name: &str) -> Result<(String, Vec<&str>), NameError> {
    let segments: Vec<&str> = name.split('/').collect();
    let keyword = segments
        .iter()
        .position(|segment| KEYWORDS.contains(segment))
        .ok_or(NameError::Form)?;
    let (instance, rest) = segments.split_at(keyword);
    if !instance.iter().all(|segment| is_instance_segment(segment)) {
        return Err(NameError::Form);
    }
    Ok((instance.join("/"), rest.to_vec()))
}

/// Reads `blobs/..` or `compressed-blobs/..`; gives the segments behind the size, too.
fn parse_blob<'a>(
    instance: String,
    segments: &'a [&'a str],
) -> Result<(BlobName, &'a [&'a str]), NameError> {
    let (compressor, rest) = match segments {
        ["blobs", rest @ ..] => (Compressor::Identity, rest),
        ["compressed-blobs", "zstd", rest @ ..] => (Compressor::Zstd, rest),
        ["compressed-blobs", other, ..] => {
            return Err(NameError::Compressor(shown(other)));
        }
        _ => return Err(NameError::Form),
    };
    let (function, rest) = match rest {
        ["blake3", rest @ ..] => (DigestFunction::Blake3, rest),
        [hash, _, ..] if is_hexadecimal(hash) => (DigestFunction::Sha256, rest),
        [other, _, _, ..] if is_word(other) => {
            return Err(ConvertError::Function(shown(other)).into());
        }
        _ => (DigestFunction::Sha256, rest),
    };
    let [hash, size, rest @ ..] = rest else {
        return Err(NameError::Form);
    };
    let blob = CasDigest {
        function,
        hash: hash_from_hex(hash)?,
        size: parse_size(size)?,
    };
    let name = BlobName {
        instance,
        compressor,
        blob,
    };
    Ok((name, rest))
}

fn is_hexadecimal(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() < 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Sizes are what REAPI's `int64` can be.
fn parse_size(text: &str) -> Result<u64, NameError> {
    let wrong = || NameError::Size(shown(text));
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let size: i64 = text.parse().map_err(|_| wrong())?;
    u64::try_from(size).map_err(|_| wrong())
}

/// A piece of a name as errors show it.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

impl FromStr for BlobName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let (instance, segments) = split_instance(name)?;
        match parse_blob(instance, &segments)? {
            (name, []) => Ok(name),
            _ => Err(NameError::Form),
        }
    }
}

impl FromStr for UploadName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let (instance, segments) = split_instance(name)?;
        let ["uploads", uuid, rest @ ..] = segments.as_slice() else {
            return Err(NameError::Form);
        };
        if uuid.is_empty() {
            return Err(NameError::Form);
        }
        let (blob, _metadata) = parse_blob(instance, rest)?;
        Ok(Self {
            uuid: (*uuid).to_owned(),
            blob,
        })
    }
}

impl BlobName {
    fn write_instance(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.instance.is_empty() {
            return Ok(());
        }
        write!(f, "{}/", self.instance)
    }

    fn write_blob(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.compressor {
            Compressor::Identity => "blobs/",
            Compressor::Zstd => "compressed-blobs/zstd/",
        })?;
        if self.blob.function == DigestFunction::Blake3 {
            f.write_str("blake3/")?;
        }
        write!(f, "{}/{}", self.blob.hash_hex(), self.blob.size)
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_instance(f)?;
        self.write_blob(f)
    }
}

impl fmt::Display for UploadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.blob.write_instance(f)?;
        write!(f, "uploads/{}/", self.uuid)?;
        self.blob.write_blob(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const UUID: &str = "c1f0c5d3-6f2c-4a1e-9d2e-8f5b7a3c0e11";

    fn blob(name: &str) -> Result<BlobName, NameError> {
        name.parse()
    }

    fn upload(name: &str) -> Result<UploadName, NameError> {
        name.parse()
    }

    #[test]
    fn names_say_what_is_read() {
        let name = blob(&format!("blobs/{HASH}/7")).expect("a name");
        assert_eq!(name.instance, "");
        assert_eq!(name.compressor, Compressor::Identity);
        assert_eq!(name.blob.function, DigestFunction::Sha256);
        assert_eq!(name.blob.hash_hex(), HASH);
        assert_eq!(name.blob.size, 7);

        let name = blob(&format!(
            "org/repo/main/compressed-blobs/zstd/blake3/{HASH}/0"
        ));
        let name = name.expect("a name");
        assert_eq!(name.instance, "org/repo/main");
        assert_eq!(name.compressor, Compressor::Zstd);
        assert_eq!(name.blob.function, DigestFunction::Blake3);
    }

    #[test]
    fn names_say_what_is_written() {
        let name = upload(&format!(
            "main/uploads/{UUID}/blobs/{HASH}/12/some/file.txt"
        ));
        let name = name.expect("a name");
        assert_eq!(name.uuid, UUID);
        assert_eq!(name.blob.instance, "main");
        assert_eq!(name.blob.blob.size, 12);
        assert_eq!(
            name.to_string(),
            format!("main/uploads/{UUID}/blobs/{HASH}/12"),
            "what stands behind the size is not kept"
        );
    }

    #[test]
    fn other_names_are_refused() {
        for name in [
            String::new(),
            "blobs".to_owned(),
            format!("blobs/{HASH}"),
            format!("blobs/{HASH}/7/more"),
            format!("/blobs/{HASH}/7"),
            format!("a//blobs/{HASH}/7"),
            format!("actions/blobs/{HASH}/7"),
            format!("uploads/{UUID}/blobs/{HASH}/7"),
            format!("compressed-blobs/{HASH}"),
        ] {
            let refused = blob(&name);
            assert!(
                matches!(refused, Err(NameError::Form | NameError::Compressor(_))),
                "{name}: {refused:?}"
            );
        }
        for name in [
            format!("blobs/{HASH}/7"),
            format!("uploads/blobs/{HASH}/7"),
            format!("uploads//blobs/{HASH}/7"),
            format!("uploads/{UUID}/{HASH}/7"),
        ] {
            assert_eq!(upload(&name), Err(NameError::Form), "{name}");
        }
        for size in ["", "-1", "+1", "x", "9223372036854775808"] {
            let name = format!("blobs/{HASH}/{size}");
            assert_eq!(blob(&name), Err(NameError::Size(size.to_owned())));
        }
        let name = format!("compressed-blobs/brotli/{HASH}/7");
        assert_eq!(blob(&name), Err(NameError::Compressor("brotli".to_owned())));
    }

    #[test]
    fn functions_that_are_not_known_are_named() {
        let name = format!("blobs/sha256tree/{HASH}/7");
        assert_eq!(
            blob(&name),
            Err(ConvertError::Function("sha256tree".to_owned()).into())
        );
        let md5 = "d41d8cd98f00b204e9800998ecf8427e";
        assert_eq!(
            blob(&format!("blobs/{md5}/0")),
            Err(ConvertError::Hash(md5.to_owned()).into())
        );
    }

    fn any_name() -> impl Strategy<Value = BlobName> {
        let instance = proptest::collection::vec("[a-z0-9._-]{1,9}", 0..4)
            .prop_map(|segments| segments.join("/"))
            .prop_filter("keywords", |name| is_instance_name(name));
        let function = prop_oneof![Just(DigestFunction::Sha256), Just(DigestFunction::Blake3)];
        let compressor = prop_oneof![Just(Compressor::Identity), Just(Compressor::Zstd)];
        let size = 0..i64::MAX.cast_unsigned();
        (instance, function, compressor, any::<[u8; 32]>(), size).prop_map(
            |(instance, function, compressor, hash, size)| BlobName {
                instance,
                compressor,
                blob: CasDigest {
                    function,
                    hash,
                    size,
                },
            },
        )
    }

    proptest! {
        #[test]
        fn names_are_read_as_they_were_written(name in any_name(), uuid in "[0-9a-f-]{1,36}") {
            prop_assert_eq!(name.to_string().parse(), Ok(name.clone()));
            let upload = UploadName { uuid, blob: name };
            prop_assert_eq!(upload.to_string().parse(), Ok(upload));
        }

        #[test]
        fn no_name_panics(name in "(uploads|blobs|compressed-blobs|zstd|blake3|/|[0-9a-f]{64}|.){0,12}") {
            if let Ok(read) = name.parse::<BlobName>() {
                prop_assert_eq!(read.to_string().parse(), Ok(read));
            }
            if let Ok(read) = name.parse::<UploadName>() {
                prop_assert_eq!(read.to_string().parse(), Ok(read));
            }
        }
    }
}
