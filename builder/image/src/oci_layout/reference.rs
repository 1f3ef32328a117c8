//! `oci-layout://DIRECTORY[:TAG][@DIGEST]`: an image in an OCI layout.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use ashlar_model::digest::{BlobDigest, DigestParseError};

/// Names an image in an OCI layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutReference {
    /// The layout's directory.
    pub directory: PathBuf,
    /// The image's tag.
    pub tag: Option<String>,
    /// The image's digest.
    pub digest: Option<BlobDigest>,
}

/// A text names no image in an OCI layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutReferenceParseError {
    /// It names no directory.
    #[error("`{0}` names no directory: expected oci-layout://DIRECTORY[:TAG][@DIGEST]")]
    NoDirectory(String),
    /// The part after `@` is no digest.
    #[error("`{name}` names no image in an OCI layout")]
    Digest {
        /// The text that was given.
        name: String,
        /// What is wrong with the digest.
        source: DigestParseError,
    },
}

/// How such a name begins.
pub const SCHEME: &str = "oci-layout://";

impl FromStr for LayoutReference {
    type Err = LayoutReferenceParseError;

    /// Reads a name with or without its scheme. A colon after the last slash starts the tag.
    fn from_str(text: &str) -> Result<Self, LayoutReferenceParseError> {
        let rest = text.strip_prefix(SCHEME).unwrap_or(text);
        // A path may have an `@`: only one with a digest's algorithm behind it counts.
        let (rest, digest) = match rest.rsplit_once('@') {
            Some((rest, digest)) if digest.contains(':') && !digest.contains('/') => {
                let digest =
                    digest
                        .parse()
                        .map_err(|source| LayoutReferenceParseError::Digest {
                            name: text.chars().take(300).collect(),
                            source,
                        })?;
                (rest, Some(digest))
            }
            _ => (rest, None),
        };
        let (directory, tag) = match rest.rsplit_once(':') {
            Some((directory, tag)) if !tag.contains('/') && !tag.is_empty() => {
                (directory, Some(tag.to_owned()))
            }
            _ => (rest, None),
        };
        if directory.is_empty() {
            return Err(LayoutReferenceParseError::NoDirectory(
                text.chars().take(300).collect(),
            ));
        }
        Ok(Self {
            directory: PathBuf::from(directory),
            tag,
            digest,
        })
    }
}

impl fmt::Display for LayoutReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.directory.display())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_parts_are_told_apart() {
        let digest = BlobDigest::of(b"x");
        for (text, directory, tag, with_digest) in [
            ("oci-layout:///a/b".to_owned(), "/a/b", None, false),
            ("/a/b:1.0".to_owned(), "/a/b", Some("1.0"), false),
            ("oci-layout://./a:b/c".to_owned(), "./a:b/c", None, false),
            ("a@b/c".to_owned(), "a@b/c", None, false),
            (format!("/a@{digest}"), "/a", None, true),
            (format!("oci-layout://a:t@{digest}"), "a", Some("t"), true),
        ] {
            let reference: LayoutReference = text.parse().unwrap();
            assert_eq!(reference.directory, PathBuf::from(directory), "{text}");
            assert_eq!(reference.tag.as_deref(), tag, "{text}");
            assert_eq!(reference.digest, with_digest.then_some(digest), "{text}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in ["", "oci-layout://", ":tag", "a@sha256:12"] {
            assert!(text.parse::<LayoutReference>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_agree(text in "[a-c/.:@]{0,20}") {
            if let Ok(reference) = text.parse::<LayoutReference>() {
                prop_assert_eq!(reference.to_string().parse::<LayoutReference>(), Ok(reference));
            }
        }
    }
}
