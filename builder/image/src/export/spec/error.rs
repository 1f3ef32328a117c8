//! What can be wrong with an `--output`.

use ashlar_model::reference::ReferenceParseError;

/// A text is no output. The user's affair: a mistake on the command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutputSpecError {
    /// Nothing was given.
    #[error("an output must not be empty")]
    Empty,
    /// It is no list of `key=value`.
    #[error("cannot read the output `{spec}`: {reason}")]
    Syntax {
        /// The text.
        spec: String,
        /// What is wrong.
        reason: String,
    },
    /// The type is missing.
    #[error("an output needs a type, such as type=oci or type=local")]
    NoType,
    /// There is no such type.
    #[error("there is no output type `{kind}`; {}", match suggestion {
        Some(suggestion) => format!("did you mean `{suggestion}`?"),
        None => "there are oci, docker, local, tar, image and registry".to_owned(),
    })]
    UnknownType {
        /// What was given.
        kind: String,
        /// What may have been meant.
        suggestion: Option<&'static str>,
    },
    /// There is no such option.
    #[error("type={kind} has no option `{key}`{}", suggestion.map_or_else(
        String::new,
        |suggestion| format!("; did you mean `{suggestion}`?"),
    ))]
    UnknownKey {
        /// The type.
        kind: String,
        /// What was given.
        key: String,
        /// What may have been meant.
        suggestion: Option<&'static str>,
    },
    /// BuildKit has this option.
    #[error("type={kind}: the option `{key}` is not supported yet")]
    NotSupported {
        /// The type.
        kind: String,
        /// The option.
        key: String,
    },
    /// The option is one of other types.
    #[error("the option `{key}` means nothing for type={kind}")]
    NotForType {
        /// The type.
        kind: String,
        /// The option.
        key: String,
    },
    /// An option is there twice.
    #[error("an output has the option `{0}` twice")]
    Twice(String),
    /// An option has a value that it cannot have.
    #[error("`{value}` is no value for `{key}`: expected {expected}")]
    Value {
        /// The option.
        key: &'static str,
        /// What was given.
        value: String,
        /// What it can have.
        expected: String,
    },
    /// It does not say where the result goes.
    #[error("type={0} needs dest=")]
    NoDestination(&'static str),
    /// A name is no image name.
    #[error("`{name}` is no name for an image")]
    Name {
        /// What was given.
        name: String,
        /// Why not.
        source: ReferenceParseError,
    },
    /// A name has a digest, which only the finished image can have.
    #[error("`{0}` has a digest; an output's name has a tag only")]
    NameWithDigest(String),
}
