//! `# syntax=`: which frontend a file is for.
//!
//! With BuildKit the image of that name builds the file. Here the frontends of the Dockerfile
//! language, in any version, mean the built-in one, and others are refused: what they would read
//! is not known to be a Dockerfile.

use ashlar_model::reference::Reference;

use super::detect_syntax;
use super::error::{Failure, ParseError, ParseErrorKind, SyntaxPlace};
use super::source::{Position, Source, SourceRange};

/// The name by which BuildKit calls its own.
const BUILT_IN: &str = "dockerfile.v0";
/// Repositories of frontends for the Dockerfile language: its releases, and what is to come. The
/// experimental one (`labs`) is a tag of both.
const KNOWN: [&str; 2] = [
    "docker.io/docker/dockerfile",
    "docker.io/docker/dockerfile-upstream",
];

/// Refuses a file that is for a frontend that Ashlar does not have. `argument` is the build
/// argument `BUILDKIT_SYNTAX`, which goes before what the file says; `name` is what errors call
/// the file.
pub fn check_syntax(name: &str, text: &[u8], argument: Option<&str>) -> Result<(), ParseError> {
    let text = String::from_utf8_lossy(text);
    let (value, range, place) = match argument.map(str::trim).filter(|value| !value.is_empty()) {
        Some(value) => {
            let nowhere = SourceRange::at(Position::new(0, 0));
            (value.to_owned(), nowhere, SyntaxPlace::Argument)
        }
        None => match detect_syntax(&text) {
            Some(directive) => (directive.value, directive.range, SyntaxPlace::File),
            None => return Ok(()),
        },
    };
    // Arguments for the frontend follow its name.
    let image = value.split(' ').next().unwrap_or_default();
    if is_dockerfile(image) {
        return Ok(());
    }
    let image = image.to_owned();
    let kind = ParseErrorKind::ForeignSyntax { image, place };
    Err(Failure::at(range, kind).in_text(Source::new(name, &text)))
}

/// Whether an image is a frontend for Dockerfiles.
fn is_dockerfile(image: &str) -> bool {
    image == BUILT_IN
        || image
            .parse::<Reference>()
            .is_ok_and(|reference| KNOWN.contains(&reference.name().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str, argument: Option<&str>) -> Option<(String, u32)> {
        let error = check_syntax("Dockerfile", text.as_bytes(), argument).err()?;
        Some((error.kind().to_string(), error.range().start.line))
    }

    #[test]
    fn the_dockerfile_language_is_built_in_whatever_its_version() {
        for image in [
            "docker/dockerfile",
            "docker/dockerfile:1",
            "docker/dockerfile:1.7-labs",
            "docker/dockerfile:labs",
            "docker/dockerfile:experimental",
            "docker.io/docker/dockerfile:1.4@sha256:\
             9ba7531bd80fb0a858632727cf7a112fbfd19b17e94c4e84ced81e24ef1a0dbc",
            "index.docker.io/docker/dockerfile:1",
            "docker/dockerfile-upstream:master",
            "docker.io/docker/dockerfile-upstream:master-labs",
            "dockerfile.v0",
        ] {
            let text = format!("# syntax={image}\nFROM a\n");
            assert_eq!(refused(&text, None), None, "{image}");
            assert_eq!(refused("# syntax=other\n", Some(image)), None, "{image}");
        }
        assert_eq!(refused("FROM a\n# syntax=other", None), None);
        assert_eq!(
            refused("# syntax = docker/dockerfile:1 --x=y\n", None),
            None
        );
    }

    #[test]
    fn other_frontends_are_refused_where_they_are_named() {
        let message = |image| {
            format!("the frontend {image} is not supported: Ashlar reads Dockerfiles itself")
        };
        for (text, image, line) in [
            ("# check=a\n#SYNTAX=hub/front:2 x\nFROM a", "hub/front:2", 2),
            ("#!/usr/bin/x\n# syntax=earthly/x\n", "earthly/x", 2),
            ("// syntax=a/b\nx", "a/b", 1),
            ("{\"syntax\": \"a/b\"}", "a/b", 1),
            (
                "# syntax=docker/dockerfile-copy\n",
                "docker/dockerfile-copy",
                1,
            ),
            (
                "# syntax=quay.io/docker/dockerfile\n",
                "quay.io/docker/dockerfile",
                1,
            ),
            ("# syntax=UPPER\n", "UPPER", 1),
        ] {
            assert_eq!(refused(text, None), Some((message(image), line)), "{text}");
        }
        assert_eq!(refused("FROM a", Some("a/b c")), Some((message("a/b"), 0)));
        assert_eq!(refused("FROM a", Some(" ")), None);
    }
}
