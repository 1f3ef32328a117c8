//! The value of `--chown`, and the owner of what WORKDIR makes: `user[:group]`.
//!
//! | text | owner |
//! |---|---|
//! | number | user and group of that number |
//! | `root` | 0:0, whatever the passwd file says |
//! | name | user and group of its passwd line |
//! | `...:group` | the user as above, the group by number or of its group line |
//! | nothing | 0, or, as group, that of the user |
//!
//! A name without a line is 0, with a warning (BuildKit gives none). On an empty filesystem,
//! where nothing could have a line, a name is an error (reference: section 0 point 2).

use std::fmt;

use ashlar_model::layer::LayerPath;
use ashlar_model::select::{ResolveError, resolve};

use super::view::{LayeredView, ViewError};
use crate::sandbox::user::ACCOUNT_FILE_LIMIT;

/// User and group id inside the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Why a text names no owner.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OwnerError {
    /// A name was given, and there is no filesystem to look it up in. (The words are BuildKit's.)
    #[error("invalid user index: -1")]
    EmptyFilesystem {
        /// The name.
        name: String,
    },
    /// A number is too large, or negative.
    #[error("`{id}` is no user or group id: ids go from 0 to {}", MAX_ID)]
    OutOfRange {
        /// What was given.
        id: String,
    },
    /// An account file cannot be reached.
    #[error("cannot find the account files of the destination")]
    Resolve(#[from] ResolveError<ViewError>),
    /// An account file cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// What a copy did otherwise than its author may think.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CopyWarning {
    /// A user or group has no line in its file, and is taken for 0.
    UnknownName {
        /// The name.
        name: String,
        /// `/etc/passwd` or `/etc/group`.
        file: &'static str,
    },
}

/// The largest id: the next one means "none" to the kernel.
const MAX_ID: u32 = u32::MAX - 1;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

impl fmt::Display for CopyWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownName { name, file } => {
                write!(
                    f,
                    "`{name}` is not in {file} of the image: 0 is used instead"
                )
            }
        }
    }
}

impl OwnerError {
    /// What to do about it, if there is anything to say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::EmptyFilesystem { name } => Some(format!(
                "the image has no /etc/passwd to look `{name}` up in; give a number"
            )),
            _ => None,
        }
    }
}

/// The owner that `text` names in the filesystem `view`.
pub(super) fn find_owner(
    text: &str,
    view: &LayeredView,
    warnings: &mut Vec<CopyWarning>,
) -> Result<Owner, OwnerError> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let mut owner = match parse_id(user)? {
        Some(id) => Owner { uid: id, gid: id },
        None if user.is_empty() => Owner::default(),
        None => match find_line(PASSWD, user, view)? {
            Some(line) => passwd_owner(&line).unwrap_or_default(),
            None => {
                warn(warnings, user, PASSWD);
                Owner::default()
            }
        },
    };
    if let Some(group) = group.filter(|group| !group.is_empty()) {
        // A group that has no line leaves the user's in place.
        match parse_id(group)? {
            Some(id) => owner.gid = id,
            None => match find_line(GROUP, group, view)? {
                Some(line) => owner.gid = nth_id(&line, 2).unwrap_or_default(),
                None => warn(warnings, group, GROUP),
            },
        }
    }
    Ok(owner)
}

fn warn(warnings: &mut Vec<CopyWarning>, name: &str, file: &'static str) {
    let name = name.to_owned();
    warnings.push(CopyWarning::UnknownName { name, file });
}

/// A number, or `root`; `None` for any other name.
fn parse_id(text: &str) -> Result<Option<u32>, OwnerError> {
    if text == "root" {
        return Ok(Some(0));
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(OwnerError::OutOfRange {
            id: text.to_owned(),
        }),
    }
}

/// The line of an account file whose first field is `name`.
fn find_line(
    file: &'static str,
    name: &str,
    view: &LayeredView,
) -> Result<Option<String>, OwnerError> {
    if view.is_empty() {
        return Err(OwnerError::EmptyFilesystem {
            name: name.to_owned(),
        });
    }
    let path: LayerPath = resolve(view, file.as_bytes())?.path;
    let Some(bytes) = view.read_file(&path, ACCOUNT_FILE_LIMIT)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines().map(str::trim);
    let line = lines.find(|line| {
        let field = line.split(':').next().unwrap_or_default();
        !name.is_empty() && field == name
    });
    Ok(line.map(str::to_owned))
}

fn passwd_owner(line: &str) -> Option<Owner> {
    Some(Owner {
        uid: nth_id(line, 2)?,
        gid: nth_id(line, 3)?,
    })
}

fn nth_id(line: &str, field: usize) -> Option<u32> {
    line.split(':').nth(field)?.trim().parse().ok()
}
