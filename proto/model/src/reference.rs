//! Image references: `[registry/]repository[:tag][@digest]`, normalised as Docker does it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::BlobDigest;

/// The registry that a name without one means.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag that a name without tag and digest means.
pub const DEFAULT_TAG: &str = "latest";

/// A normalised image reference. `busybox` becomes `docker.io/library/busybox:latest`.
///
/// Grammar and normalisation: `distribution/reference`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<BlobDigest>,
}

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceParseError {
    /// Nothing was given.
    #[error("an image name must not be empty")]
    Empty,
    /// The name breaks the grammar.
    #[error("invalid reference format: `{name}`: {reason}")]
    Format {
        /// The text that was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The part after `@` is no digest.
    #[error("invalid reference format: `{name}`")]
    Digest {
        /// The text that was given.
        name: String,
        /// What is wrong with the digest.
        source: crate::digest::DigestParseError,
    },
}

impl Reference {
    /// The registry's host and port, `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository's path inside the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if the text had one or had neither tag nor digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the text had one.
    pub const fn digest(&self) -> Option<BlobDigest> {
        self.digest
    }

    /// What a manifest request names: the digest if there is one, else the tag.
    pub fn manifest_selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    /// The same repository at a digest, without tag.
    #[must_use]
    pub fn with_digest(&self, digest: BlobDigest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// `registry/repository` without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The short form that Docker shows: no `docker.io/library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full
            .strip_prefix("docker.io/library/")
            .or_else(|| full.strip_prefix("docker.io/"))
            .unwrap_or(&full);
        short.to_owned()
    }
}

fn is_registry(first: &str) -> bool {
    first.contains('.')
        || first.contains(':')
        || first == "localhost"
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn registry_ok(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((v6, port)) => {
                if v6.is_empty() || !v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                    return false;
                }
                return port.is_empty() || port.strip_prefix(':').is_some_and(port_ok);
            }
            None => return false,
        },
        None => host
            .split_once(':')
            .map_or((host, None), |(name, port)| (name, Some(port))),
    };
    name.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    }) && port.is_none_or(port_ok)
}

fn port_ok(port: &str) -> bool {
    port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit())
}

/// One path component: lower-case letters and digits, separated by `.`, `_`, `__` or hyphens.
fn component_ok(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    if !bytes.first().is_some_and(|b| alphanumeric(*b))
        || !bytes.last().is_some_and(|b| alphanumeric(*b))
    {
        return false;
    }
    component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

fn tag_ok(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

impl FromStr for Reference {
    type Err = ReferenceParseError;

    fn from_str(text: &str) -> Result<Self, ReferenceParseError> {
        if text.is_empty() {
            return Err(ReferenceParseError::Empty);
        }
        let name = || text.chars().take(300).collect::<String>();
        let format = |reason| ReferenceParseError::Format {
            name: name(),
            reason,
        };

        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|source| ReferenceParseError::Digest {
                        name: name(),
                        source,
                    })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        // A colon after the last slash starts the tag; one before belongs to a port.
        let last_slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (path, tag) = match rest[last_slash..].find(':') {
            Some(colon) => {
                let at = last_slash + colon;
                (&rest[..at], Some(&rest[at + 1..]))
            }
            None => (rest, None),
        };
        if let Some(tag) = tag
            && !tag_ok(tag)
        {
            return Err(format(
                "a tag has up to 128 letters, digits, `_`, `.` and `-`",
            ));
        }

        let (registry, repository) = match path.split_once('/') {
            Some((first, rest)) if is_registry(first) => (first, rest.to_owned()),
            _ => (DEFAULT_REGISTRY, path.to_owned()),
        };
        let registry = if registry == "index.docker.io" {
            DEFAULT_REGISTRY
        } else {
            registry
        };
        if !registry_ok(registry) {
            return Err(format("the part before the first `/` is no host name"));
        }
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(format("repository name must be lowercase"));
        }
        if repository.is_empty() || !repository.split('/').all(component_ok) {
            return Err(format(
                "a repository has lower-case letters and digits, separated by `/`, `.`, `_`, `__` or `-`",
            ));
        }
        if repository.len() > 255 {
            return Err(format("a repository name has at most 255 characters"));
        }
        let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_as_docker_does() {
        let digest = BlobDigest::of(b"x");
        for (text, normal) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("a/b:1.2", "docker.io/a/b:1.2"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x/y:t", "localhost:5000/x/y:t"),
            ("[::1]:5000/x", "[::1]:5000/x:latest"),
            (
                "index.docker.io/library/debian",
                "docker.io/library/debian:latest",
            ),
            ("example.com/a__b--c.d", "example.com/a__b--c.d:latest"),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), normal);
        }
        assert_eq!(
            format!("a@{digest}")
                .parse::<Reference>()
                .unwrap()
                .to_string(),
            format!("docker.io/library/a@{digest}")
        );
        assert_eq!(
            format!("a:t@{digest}")
                .parse::<Reference>()
                .unwrap()
                .manifest_selector(),
            digest.to_string()
        );
    }

    #[test]
    fn bad_names_are_refused() {
        for text in [
            "",
            "A",
            "a:",
            "a:b c",
            "a//b",
            "-a",
            "a-",
            "a..b",
            "a@sha256:12",
            "ex ample.com/a",
            ":t",
            "/a",
            "a/",
            "h:99999/x",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    #[test]
    fn familiar_drops_what_everybody_knows() {
        assert_eq!(
            "debian:12".parse::<Reference>().unwrap().familiar(),
            "debian:12"
        );
        assert_eq!(
            "docker.io/a/b".parse::<Reference>().unwrap().familiar(),
            "a/b:latest"
        );
        assert_eq!(
            "q.io/a".parse::<Reference>().unwrap().familiar(),
            "q.io/a:latest"
        );
    }

    proptest::proptest! {
        #[test]
        fn printing_and_parsing_agree(text in "[a-z0-9./:@_-]{0,60}") {
            if let Ok(reference) = text.parse::<Reference>() {
                proptest::prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference));
            }
        }
    }
}
