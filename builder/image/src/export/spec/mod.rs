//! `--output`: what is made of a finished build, and where it goes.
//!
//! | spec | result |
//! |---|---|
//! | `type=oci,dest=F` | OCI layout in a tar; `tar=false`: in a directory; no `dest` or `-`: standard output |
//! | `type=docker,dest=F` | the same with what `docker load` reads |
//! | `type=local,dest=D`, or just `D` | the files of the image |
//! | `type=tar,dest=F`, or just `-` | the files of the image in a tar |
//! | `type=image,name=N,push=true`, or `type=registry,name=N` | an image in a registry |
//!
//! The line is read as BuildKit reads it ([`ashlar_model::csv`]). Keys that BuildKit has and Ashlar does not yet
//! have are errors that say so: an option that is silently ignored makes a wrong image.

mod attributes;
mod error;
mod suggest;

use std::path::PathBuf;
use std::str::FromStr;

use ashlar_model::media_type::Compression;
use ashlar_model::reference::Reference;

use crate::manifest::ManifestFormat;
use attributes::Attributes;
pub use error::OutputSpecError;

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputSpec {
    /// An OCI layout in a tar.
    Oci(Destination, ImageOptions),
    /// An OCI layout in a directory.
    OciDirectory(PathBuf, ImageOptions),
    /// A tar that `docker load` reads.
    Docker(Destination, ImageOptions),
    /// The image's files in a directory.
    Local(PathBuf),
    /// The image's files in a tar.
    Tar(Destination),
    /// An image in the local store, and in a registry if it is pushed.
    Image {
        /// Whether it is pushed.
        push: bool,
        /// Whether the registry's certificate is not checked.
        insecure: bool,
        /// How it is made.
        options: ImageOptions,
    },
}

/// Where a stream of bytes goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Into a file, replacing one that is there.
    File(PathBuf),
    /// To standard output.
    Stdout,
}

/// How an image is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageOptions {
    /// Its names.
    pub names: Vec<Reference>,
    /// Whose media types it has.
    pub format: ManifestFormat,
    /// How its layers are compressed.
    pub layers: LayerOptions,
    /// What times it has.
    pub times: TimeOptions,
}

/// What times an image has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeOptions {
    /// `rewrite-timestamp`: no file of a layer that the build made is later than the epoch.
    pub rewrite: bool,
    /// `source-date-epoch`
    pub epoch: EpochChoice,
}

/// The time after which nothing of an image was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EpochChoice {
    /// That of the build (`SOURCE_DATE_EPOCH`), if it has one.
    #[default]
    OfBuild,
    /// None, whatever the build says.
    None,
    /// This one, in seconds since 1970.
    At(i64),
}

impl TimeOptions {
    /// The epoch of the image of a build with this one.
    pub const fn epoch(&self, of_build: Option<i64>) -> Option<i64> {
        match self.epoch {
            EpochChoice::OfBuild => of_build,
            EpochChoice::None => None,
            EpochChoice::At(seconds) => Some(seconds),
        }
    }
}

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerOptions {
    /// The compression of layers that have no blob yet.
    pub compression: Compression,
    /// Its level; `None` for the usual one.
    pub level: Option<i32>,
    /// Whether layers that have a blob already, such as those of the base image, are compressed
    /// anew if it is in another compression.
    pub force: bool,
}

impl Default for LayerOptions {
    fn default() -> Self {
        Self {
            compression: Compression::Gzip,
            level: None,
            force: false,
        }
    }
}

const TYPES: [&str; 6] = ["oci", "docker", "local", "tar", "image", "registry"];
impl FromStr for OutputSpec {
    type Err = OutputSpecError;

    fn from_str(text: &str) -> Result<Self, OutputSpecError> {
        let fields = ashlar_model::csv::fields(text).map_err(|error| OutputSpecError::Syntax {
            spec: text.to_owned(),
            reason: error.to_string(),
        })?;
        if let [only] = fields.as_slice()
            && !only.contains('=')
            && only == text
        {
            return match text {
                "" => Err(OutputSpecError::Empty),
                "-" => Ok(Self::Tar(Destination::Stdout)),
                directory => Ok(Self::Local(PathBuf::from(directory))),
            };
        }
        let mut attributes = Attributes::read(text, &fields)?;
        let kind = attributes.take("type").ok_or(OutputSpecError::NoType)?;
        let spec = match kind.as_str() {
            "oci" => attributes.oci()?,
            "docker" => attributes.docker()?,
            "local" => Self::Local(attributes.directory("local")?),
            "tar" => Self::Tar(attributes.destination()),
            "image" | "registry" => attributes.image(kind == "registry")?,
            _ => {
                return Err(OutputSpecError::UnknownType {
                    suggestion: suggest::nearest(&kind, &TYPES),
                    kind,
                });
            }
        };
        attributes.finish(&kind)?;
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> OutputSpec {
        text.parse().unwrap()
    }

    fn error(text: &str) -> String {
        text.parse::<OutputSpec>().unwrap_err().to_string()
    }

    fn options(names: &[&str], format: ManifestFormat) -> ImageOptions {
        ImageOptions {
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            format,
            layers: LayerOptions::default(),
            times: TimeOptions::default(),
        }
    }

    #[test]
    fn times_are_those_of_the_build_or_others() {
        let times = |text: &str| match parse(text) {
            OutputSpec::Oci(_, options) => options.times,
            other => panic!("{other:?}"),
        };
        assert_eq!(times("type=oci"), TimeOptions::default());
        assert_eq!(times("type=oci").epoch(Some(7)), Some(7));
        assert_eq!(times("type=oci,source-date-epoch=").epoch(Some(7)), None);
        let other = times("type=oci,source-date-epoch=9,rewrite-timestamp=true");
        assert_eq!((other.epoch(None), other.rewrite), (Some(9), true));
        assert!(error("type=oci,source-date-epoch=x").contains("a number of seconds"));
        assert!(error("type=local,dest=x,rewrite-timestamp=1").contains("means nothing"));
    }

    #[test]
    fn paths_alone_are_directories_and_a_dash_is_a_tar() {
        assert_eq!(parse("out"), OutputSpec::Local("out".into()));
        assert_eq!(parse("./a b"), OutputSpec::Local("./a b".into()));
        assert_eq!(parse("-"), OutputSpec::Tar(Destination::Stdout));
    }

    #[test]
    fn every_type_is_read() {
        let oci = options(&[], ManifestFormat::Oci);
        for (text, spec) in [
            (
                "type=oci,dest=a.tar",
                OutputSpec::Oci(Destination::File("a.tar".into()), oci.clone()),
            ),
            (
                "type=oci",
                OutputSpec::Oci(Destination::Stdout, oci.clone()),
            ),
            (
                "type=oci,dest=-",
                OutputSpec::Oci(Destination::Stdout, oci.clone()),
            ),
            (
                "dest=d,tar=false,type=oci",
                OutputSpec::OciDirectory("d".into(), oci.clone()),
            ),
            (
                "type=docker,dest=-,name=app",
                OutputSpec::Docker(
                    Destination::Stdout,
                    options(&["app"], ManifestFormat::Docker),
                ),
            ),
            ("type=local,dest=d", OutputSpec::Local("d".into())),
            (
                "type=tar,dest=a=b.tar",
                OutputSpec::Tar(Destination::File("a=b.tar".into())),
            ),
            (
                r#"type=image,"name=q.io/a:1,b",push=1,registry.insecure=true"#,
                OutputSpec::Image {
                    push: true,
                    insecure: true,
                    options: options(&["q.io/a:1", "b"], ManifestFormat::Oci),
                },
            ),
            (
                "type=registry,name=a,oci-mediatypes=false",
                OutputSpec::Image {
                    push: true,
                    insecure: false,
                    options: options(&["a"], ManifestFormat::Docker),
                },
            ),
        ] {
            assert_eq!(parse(text), spec, "{text}");
        }
    }

    #[test]
    fn compression_is_read_with_its_own_range_of_levels() {
        let layers = |text: &str| match parse(text) {
            OutputSpec::Oci(_, options) => options.layers,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            layers("type=oci,compression=zstd,compression-level=19,force-compression=true"),
            LayerOptions {
                compression: Compression::Zstd,
                level: Some(19),
                force: true
            }
        );
        assert_eq!(layers("type=oci"), LayerOptions::default());
        assert!(error("type=oci,compression-level=10").contains("0 to 9"));
        assert!(error("type=oci,compression=brotli").contains("gzip, zstd or uncompressed"));
    }

    #[test]
    fn mistakes_are_named_with_what_was_meant() {
        for (text, message) in [
            ("", "an output must not be empty"),
            (
                "type=oci,dst=x",
                "type=oci has no option `dst`; did you mean `dest`?",
            ),
            (
                "type=ocl",
                "there is no output type `ocl`; did you mean `oci`?",
            ),
            (
                "type=frob",
                "there is no output type `frob`; there are oci, docker, local, tar, image and registry",
            ),
            (
                "dest=x",
                "an output needs a type, such as type=oci or type=local",
            ),
            ("type=local", "type=local needs dest="),
            ("type=docker", "type=docker needs dest="),
            (
                "type=oci,tar=maybe",
                "`maybe` is no value for `tar`: expected true or false",
            ),
            (
                "type=oci,dest=x,dest=y",
                "an output has the option `dest` twice",
            ),
            (
                "type=oci,push-by-digest=true",
                "type=oci: the option `push-by-digest` is not supported yet",
            ),
            (
                "type=image,annotation.a.b=c",
                "type=image: the option `annotation.a.b` is not supported yet",
            ),
            (
                "type=local,dest=x,compression=gzip",
                "the option `compression` means nothing for type=local",
            ),
        ] {
            assert_eq!(error(text), message, "{text}");
        }
        assert!(error("type=image,name=A b").contains("A b"));
        assert!(error("type=oci,x").contains("`x` is not of the form key=value"));
        assert!(error("type=oci,name=\"a,b\"").contains("quote the whole field"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[a-z=,\"-]{0,40}") {
            let _either_way = text.parse::<OutputSpec>();
        }
    }
}
