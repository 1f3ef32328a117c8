//! Why a word cannot be expanded.

/// A word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {word:?}: {kind}")]
pub struct ExpandError {
    /// The word as written.
    pub word: String,
    /// The byte of the word where the offending part begins.
    pub offset: usize,
    /// What is wrong with it.
    pub kind: ExpandErrorKind,
}

/// What is wrong with a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandErrorKind {
    /// `'` without its partner.
    #[error("unexpected end of statement while looking for matching single-quote")]
    SingleQuote,
    /// `"` without its partner.
    #[error("unexpected end of statement while looking for matching double-quote")]
    DoubleQuote,
    /// `${` without `}`.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${v/p` without the second `/`.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}`, `${:...}`, `${{` and the like.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// A modifier that the language does not have.
    #[error("unsupported modifier ({0}) in substitution")]
    UnsupportedModifier(String),
    /// `${v?m}` with `v` unset.
    #[error("{name}: {message}")]
    Unset {
        /// The variable.
        name: String,
        /// `m`, or a standard text.
        message: String,
    },
    /// An escape in a pattern that escapes nothing special.
    #[error("invalid pattern in substitution: invalid escape '\\{0}'")]
    PatternEscape(String),
    /// Substitutions within substitutions, too many of them.
    #[error("substitutions are nested more than {0} deep")]
    TooDeep(usize),
}

impl ExpandError {
    /// What to do about it, where that is not plain from the message.
    pub fn hint(&self) -> Option<String> {
        match &self.kind {
            ExpandErrorKind::SingleQuote => {
                Some("escape it, or put it in double quotes, if it is an apostrophe".to_owned())
            }
            ExpandErrorKind::UnsupportedModifier(_) => {
                Some("supported: `:-` `-` `:+` `+` `:?` `?` `#` `##` `%` `%%` `/` `//`".to_owned())
            }
            ExpandErrorKind::MissingBrace => Some("close it with `}`".to_owned()),
            ExpandErrorKind::MissingSlash => {
                Some("write it as `${name/pattern/replacement}`".to_owned())
            }
            ExpandErrorKind::PatternEscape(_) => {
                Some("only `*`, `?`, `\\`, `/` and `}` need an escape in a pattern".to_owned())
            }
            ExpandErrorKind::BadSubstitution => {
                Some("escape the `$` if it is meant literally".to_owned())
            }
            ExpandErrorKind::Unset { name, .. } => Some(format!(
                "set it with ARG or ENV before this line, or --build-arg {name}=..."
            )),
            _ => None,
        }
    }
}
