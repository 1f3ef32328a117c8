//! Static tokens: files with one on each line.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

/// A file of tokens that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("cannot read the token file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no token in it.
    #[error("the token file {} has no token: write one on a line of its own", .0.display())]
    Empty(PathBuf),
    /// A token is too short to keep anyone out.
    #[error(
        "line {line} of the token file {} is shorter than 16 characters, which can be guessed",
        path.display()
    )]
    Short {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A token has characters that no header can carry.
    #[error(
        "line {line} of the token file {} has characters that a token cannot have",
        path.display()
    )]
    Characters {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

/// Known tokens. Only their hashes are kept.
#[derive(Clone)]
pub struct Tokens {
    /// The file's name, for the audit log.
    name: String,
    /// Hashes, and the lines that they stand on.
    known: Vec<(blake3::Hash, usize)>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({} of {})", self.known.len(), self.name)
    }
}

impl Tokens {
    /// The tokens of a file: one on each line; empty lines and those that start with `#` are
    /// passed over.
    pub fn read(path: &Path) -> Result<Self, TokenFileError> {
        let text = fs::read_to_string(path).map_err(|source| TokenFileError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut known = Vec::new();
        for (index, text) in text.lines().enumerate() {
            let line = index + 1;
            let token = text.trim();
            if token.is_empty() || token.starts_with('#') {
                continue;
            }
            let path = || path.to_owned();
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(TokenFileError::Characters { path: path(), line });
            }
            if token.len() < 16 {
                return Err(TokenFileError::Short { path: path(), line });
            }
            known.push((blake3::hash(token.as_bytes()), line));
        }
        if known.is_empty() {
            return Err(TokenFileError::Empty(path.to_owned()));
        }
        let name = path.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        Ok(Self { name, known })
    }

    /// The name of a token: its file and line. `None` if it is none of these. Takes as long
    /// whichever it is, and however wrong.
    pub fn name_of(&self, token: &str) -> Option<String> {
        let hash = blake3::hash(token.as_bytes());
        let line = self.known.iter().fold(0, |found, (known, line)| {
            // Hashes are compared in constant time.
            if hash == *known { *line } else { found }
        });
        (line > 0).then(|| format!("token {}:{line}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn tokens(text: &str) -> Result<Tokens, TokenFileError> {
        let mut file = tempfile::Builder::new()
            .prefix("admins")
            .tempfile()
            .expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        Tokens::read(file.path())
    }

    #[test]
    fn a_token_has_its_file_and_line_for_a_name() {
        let tokens = tokens("# CI\n0123456789abcdef\n\n0123456789ABCDEF\n").expect("tokens");
        let name = tokens.name_of("0123456789ABCDEF").expect("known");
        assert!(
            name.starts_with("token admins") && name.ends_with(":4"),
            "{name}"
        );
        assert_eq!(tokens.name_of("0123456789abcdeF"), None);
        assert_eq!(tokens.name_of(""), None);
    }

    #[test]
    fn files_without_good_tokens_are_refused() {
        let message = |text: &str| tokens(text).expect_err("refused").to_string();
        assert!(message("# nothing\n\n").ends_with("has no token: write one on a line of its own"));
        assert!(message("\nshort\n").starts_with("line 2 of the token file"));
        assert!(message("0123456789 abcdefgh").contains("characters that a token cannot have"));
        let error = Tokens::read(Path::new("/nowhere/token")).expect_err("no file");
        assert_eq!(
            error.to_string(),
            "cannot read the token file /nowhere/token"
        );
    }

    #[test]
    fn tokens_are_not_shown() {
        let shown = format!("{:?}", tokens("0123456789abcdef").expect("tokens"));
        assert!(!shown.contains("0123456789"), "{shown}");
    }
}
