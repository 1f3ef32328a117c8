//! Platforms: `os/architecture[/variant]`, normalised as containerd does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::content_hash::{ContentHash, KeyEncoder};

/// An operating system and processor, in GOOS and GOARCH words.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`, `windows`...
    pub os: String,
    /// `amd64`, `arm64`, `arm`...
    #[serde(rename = "architecture")]
    pub arch: String,
    /// `v7` and the like; `None` where the architecture has one usual variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// The text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform: expected os/architecture[/variant], such as linux/amd64")]
pub struct PlatformParseError(String);

impl Platform {
    /// A normalised platform.
    pub fn new(os: &str, arch: &str, variant: Option<&str>) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let arch = arch.to_ascii_lowercase();
        let variant = variant
            .map(str::to_ascii_lowercase)
            .filter(|v| !v.is_empty());
        let (arch, variant) = match (arch.as_str(), variant.as_deref()) {
            ("i386", _) => ("386".to_owned(), None),
            ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64".to_owned(), None),
            ("x86_64" | "x86-64" | "amd64", _) => ("amd64".to_owned(), variant),
            ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64".to_owned(), None),
            ("aarch64" | "arm64", _) => ("arm64".to_owned(), variant),
            ("armhf", _) | ("arm", None | Some("7")) => ("arm".to_owned(), Some("v7".to_owned())),
            ("armel", _) => ("arm".to_owned(), Some("v6".to_owned())),
            ("arm", Some(v @ ("5" | "6" | "8"))) => ("arm".to_owned(), Some(format!("v{v}"))),
            _ => (arch, variant),
        };
        Self { os, arch, variant }
    }

    /// The platform that this program runs on.
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, std::env::consts::ARCH, None)
    }

    /// Whether an image made for `image` runs where `self` is wanted: same system, same
    /// architecture, and the same variant if both name one.
    pub fn accepts(&self, image: &Self) -> bool {
        self.os == image.os
            && self.arch == image.arch
            && (self.variant == image.variant || self.variant.is_none() || image.variant.is_none())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.arch)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = PlatformParseError;

    fn from_str(text: &str) -> Result<Self, PlatformParseError> {
        let bad = || PlatformParseError(text.chars().take(120).collect());
        let part_ok = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| part_ok(part)) {
            return Err(bad());
        }
        match parts[..] {
            ["local"] => Ok(Self::host()),
            [arch] if is_known_arch(arch) => Ok(Self::new(std::env::consts::OS, arch, None)),
            [os] if matches!(
                os.to_ascii_lowercase().as_str(),
                "linux" | "windows" | "darwin"
            ) =>
            {
                let host = Self::host();
                Ok(Self::new(os, &host.arch, host.variant.as_deref()))
            }
            [os, arch] => Ok(Self::new(os, arch, None)),
            [os, arch, variant] => Ok(Self::new(os, arch, Some(variant))),
            _ => Err(bad()),
        }
    }
}

fn is_known_arch(arch: &str) -> bool {
    matches!(
        arch.to_ascii_lowercase().as_str(),
        "386"
            | "amd64"
            | "x86_64"
            | "arm"
            | "arm64"
            | "aarch64"
            | "armhf"
            | "armel"
            | "ppc64le"
            | "s390x"
            | "riscv64"
            | "mips64le"
            | "loong64"
    )
}

impl ContentHash for Platform {
    fn encode(&self, encoder: &mut KeyEncoder) {
        encoder
            .value(&self.os)
            .value(&self.arch)
            .value(&self.variant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_normalised() {
        for (text, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("Linux/AMD64", "linux/amd64"),
            ("linux/arm/v6", "linux/arm/v6"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), normal);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "linux/", "/amd64", "a/b/c/d", "linux/a b", "wat"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
