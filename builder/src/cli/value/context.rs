//! `--build-context NAME=SOURCE`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use ashlar_image::pull::ImageSource;
use ashlar_model::platform::Platform;
use ashlar_model::remote::RemoteSource;

use super::image_source::image_source;

/// A context with a name, for FROM, `COPY --from` and `RUN --mount=from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedContext {
    /// Its name, as the Dockerfile has it. Where that is an image's name it replaces the image.
    /// With `::os/architecture` behind it, it counts for that platform only.
    pub name: String,
    /// Where it comes from.
    pub source: ContextSource,
}

/// Where a named context comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextSource {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A git repository, or a file of a URL.
    Remote(RemoteSource),
    /// An image.
    Image(ImageSource),
}

impl FromStr for NamedContext {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown = || text.chars().take(120).collect::<String>();
        let (name, source) = text
            .split_once('=')
            .filter(|(name, source)| !name.is_empty() && !source.is_empty())
            .ok_or_else(|| format!("`{}` is no context: write NAME=SOURCE", shown()))?;
        if let Some((_, platform)) = name.rsplit_once("::") {
            platform
                .parse::<Platform>()
                .map_err(|error| format!("`{}`: {error}", shown()))?;
        }
        if source.starts_with("target:") {
            return Err(format!(
                "unsupported context source target for {name}: targets of a bake file are none \
                 for a build of its own"
            ));
        }
        let source = match source.split_once("://") {
            Some(("oci-layout" | "docker-image", _)) => ContextSource::Image(image_source(source)?),
            // What is here is meant by its name, whatever that looks like.
            _ if Path::new(source).is_dir() => ContextSource::Directory(PathBuf::from(source)),
            _ => match RemoteSource::parse_context(source).map_err(|error| error.to_string())? {
                Some(remote) => ContextSource::Remote(remote),
                None => ContextSource::Directory(PathBuf::from(source)),
            },
        };
        Ok(Self {
            name: name.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_a_directory_or_an_image() {
        let context: NamedContext = "src=../a=b".parse().unwrap();
        assert_eq!(context.name, "src");
        assert_eq!(context.source, ContextSource::Directory("../a=b".into()));
        let context: NamedContext = "debian:12=docker-image://debian:13".parse().unwrap();
        assert_eq!(context.name, "debian:12");
        assert!(matches!(
            context.source,
            ContextSource::Image(ImageSource::Registry(_))
        ));
        let context: NamedContext = "a::linux/arm64=dir".parse().unwrap();
        assert_eq!(context.name, "a::linux/arm64");
        let context: NamedContext = "base=oci-layout:///x:1".parse().unwrap();
        assert!(matches!(
            context.source,
            ContextSource::Image(ImageSource::Layout(_))
        ));
        for text in [
            "a=https://x/y.git#v1",
            "a=git@x:y",
            "a=https://x/y.tar",
            "a=github.com/x/y",
        ] {
            let context: NamedContext = text.parse().unwrap();
            assert!(matches!(context.source, ContextSource::Remote(_)), "{text}");
        }
    }

    #[test]
    fn what_is_no_context_is_refused() {
        for text in [
            "",
            "a",
            "a=",
            "=b",
            "a=https://x/y.git?colour=red",
            "a=docker-image://UPPER",
            "a=target:b",
            "a::wat=dir",
        ] {
            text.parse::<NamedContext>().unwrap_err();
        }
    }
}
