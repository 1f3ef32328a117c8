//! Who may read and who may write.
//!
//! Requests carry `authorization: Bearer TOKEN`. Tokens come from files, one on each line. Without
//! a file of tokens for reading, everyone who reaches the server reads; without one for writing,
//! everyone writes, which only servers on this machine allow. A token that is not known is always
//! refused: its user should learn of the mistake.

pub mod caller;

use std::fs;
use std::path::{Path, PathBuf};
use std::{fmt, io};

pub use caller::{Caller, Grant, Right, Rights};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::audit::{Audit, Event, What};

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
pub struct Tokens(Vec<blake3::Hash>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
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
        let mut tokens = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let token = line.trim();
            if token.is_empty() || token.starts_with('#') {
                continue;
            }
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(TokenFileError::Characters {
                    path: path.to_owned(),
                    line: index + 1,
                });
            }
            if token.len() < 16 {
                return Err(TokenFileError::Short {
                    path: path.to_owned(),
                    line: index + 1,
                });
            }
            tokens.push(blake3::hash(token.as_bytes()));
        }
        if tokens.is_empty() {
            return Err(TokenFileError::Empty(path.to_owned()));
        }
        Ok(Self(tokens))
    }

    /// Whether a token is one of these. Takes as long whichever it is, and however wrong.
    fn know(&self, token: &str) -> bool {
        let hash = blake3::hash(token.as_bytes());
        self.0
            .iter()
            .fold(false, |known, other| known | (hash == *other))
    }
}

/// Who may write.
#[derive(Debug, Clone)]
pub enum Writers {
    /// Nobody.
    Nobody,
    /// Everyone.
    Everyone,
    /// Those who have one of these tokens.
    With(Tokens),
}

/// What a server lets its clients do.
#[derive(Debug, Clone)]
pub struct Access {
    /// Who may write. They may read, too.
    pub writers: Writers,
    /// Who may read; `None`: everyone.
    pub readers: Option<Tokens>,
}

impl Access {
    /// Everyone may do everything: for servers that only this machine reaches.
    pub const OPEN: Self = Self {
        writers: Writers::Everyone,
        readers: None,
    };

    /// Who the bearer of this `authorization` header is.
    pub fn caller(&self, authorization: Option<&str>) -> Result<Caller, Status> {
        let Some(header) = authorization else {
            if self.readers.is_some() {
                return Err(Status::unauthenticated(
                    "this cache wants a token, and none was sent",
                ));
            }
            let may_write = matches!(self.writers, Writers::Everyone);
            return Ok(everywhere("anonymous", may_write));
        };
        let token = match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => {
                return Err(Status::unauthenticated(
                    "the authorization header is not of the form `Bearer TOKEN`",
                ));
            }
        };
        let may_write = match &self.writers {
            Writers::With(tokens) => tokens.know(token),
            Writers::Everyone => true,
            Writers::Nobody => false,
        };
        let may_read = match &self.readers {
            Some(tokens) => tokens.know(token),
            // Nobody has to know any token here, so none is wrong.
            None => !matches!(self.writers, Writers::With(_)),
        };
        if may_write || may_read {
            Ok(everywhere("token", may_write))
        } else {
            Err(Status::unauthenticated(
                "the token that was sent is not one that this cache knows",
            ))
        }
    }
}

/// Somebody who reads everywhere, or does everything everywhere.
fn everywhere(name: &str, may_write: bool) -> Caller {
    let rights = if may_write {
        Rights::ALL
    } else {
        [Right::Read].into_iter().collect()
    };
    let namespace = String::new();
    Caller::new(name, [Grant { namespace, rights }])
}

/// Lets requests in, or not.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Who may do what.
    pub access: std::sync::Arc<Access>,
    /// Where it is noted who was refused.
    pub audit: Audit,
}

impl Interceptor for Gate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let header = request.metadata().get("authorization");
        let header = header.map(|value| value.to_str().unwrap_or_default());
        let caller = self.access.caller(header).inspect_err(|status| {
            let event = Event::new(What::Request).from(request.extensions().get());
            self.audit.note(event.ended(status));
        })?;
        request.extensions_mut().insert(caller);
        Ok(request)
    }
}

/// Whether the sender of a request may write.
pub fn may_write<T>(request: &Request<T>) -> bool {
    Caller::of(request).may(Right::Write, "")
}

/// Fails if the sender of a request may not write.
pub fn require_write<T>(request: &Request<T>) -> Result<(), Status> {
    caller::require(request, Right::Write, "")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tonic::Code;

    use super::*;

    const WRITER: &str = "w-0123456789abcdef";
    const READER: &str = "r-0123456789abcdef";

    fn tokens(text: &str) -> Result<Tokens, TokenFileError> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        Tokens::read(file.path())
    }

    fn access(readers: bool) -> Access {
        Access {
            writers: Writers::With(tokens(&format!("# CI\n{WRITER}\n")).expect("tokens")),
            readers: readers.then(|| tokens(READER).expect("tokens")),
        }
    }

    fn bearer(token: &str) -> String {
        format!("Bearer {token}")
    }

    #[test]
    fn a_token_makes_a_writer() {
        let access = access(false);
        let rights = |header: Option<&str>| {
            access
                .caller(header)
                .map(|caller| caller.may(Right::Write, "a/b"))
                .map_err(|status| status.code())
        };
        assert_eq!(rights(Some(&bearer(WRITER))), Ok(true));
        assert_eq!(rights(Some(&format!("bearer {WRITER}"))), Ok(true));
        assert_eq!(rights(None), Ok(false));
        for wrong in [
            &bearer(READER),
            "Basic eDp5",
            WRITER,
            "",
            "Bearer",
            "Bearer ",
        ] {
            assert_eq!(rights(Some(wrong)), Err(Code::Unauthenticated), "{wrong}");
        }
    }

    #[test]
    fn readers_can_be_asked_for_a_token_too() {
        let access = access(true);
        let rights = |header: Option<&str>| {
            access
                .caller(header)
                .map(|caller| caller.may(Right::Write, "a/b"))
                .map_err(|status| status.code())
        };
        assert_eq!(rights(None), Err(Code::Unauthenticated));
        assert_eq!(rights(Some(&bearer(READER))), Ok(false));
        assert_eq!(rights(Some(&bearer(WRITER))), Ok(true));
    }

    #[test]
    fn a_server_of_this_machine_takes_everyone() {
        let rights = Access::OPEN.caller(None).expect("let in");
        assert!(rights.may(Right::Write, ""));
        let rights = Access::OPEN.caller(Some("Bearer whatever"));
        assert!(rights.expect("let in").may(Right::Write, ""));
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
        let shown = format!("{:?}", access(true));
        assert!(!shown.contains("0123456789"), "{shown}");
    }
}
