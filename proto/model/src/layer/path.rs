//! Paths inside a layer.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A path below the root of a filesystem, in bytes: no leading or trailing `/`, no empty, `.` or
/// `..` component, no NUL. The root itself is the empty path.
///
/// The order is that of a depth-first walk with names compared bytewise: a directory, then all
/// below it, then its next sibling (`a`, `a/b`, `a-b`).
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct LayerPath(Vec<u8>);

/// Why bytes are not a [`LayerPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayerPathError {
    /// A component is `..`.
    #[error("path `{0}` climbs above its root")]
    Climbs(String),
    /// The path has a NUL byte.
    #[error("path `{0}` has a NUL byte")]
    Nul(String),
    /// A component is longer than the 255 bytes that Linux allows.
    #[error("path `{0}` has a name of more than 255 bytes")]
    LongName(String),
}

impl LayerPath {
    /// The root of the filesystem.
    pub const ROOT: Self = Self(Vec::new());

    /// Reads a path, taking away leading, doubled and trailing slashes and `.` components.
    pub fn new(bytes: &[u8]) -> Result<Self, LayerPathError> {
        let shown = || {
            String::from_utf8_lossy(bytes)
                .chars()
                .take(300)
                .collect::<String>()
        };
        if bytes.contains(&0) {
            return Err(LayerPathError::Nul(shown()));
        }
        let mut clean = Vec::with_capacity(bytes.len());
        for component in bytes.split(|b| *b == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(LayerPathError::Climbs(shown())),
                name if name.len() > 255 => return Err(LayerPathError::LongName(shown())),
                name => {
                    if !clean.is_empty() {
                        clean.push(b'/');
                    }
                    clean.extend_from_slice(name);
                }
            }
        }
        Ok(Self(clean))
    }

    /// Reads a path as a container's process would name it: `..` goes up and stops at the root.
    pub fn clamped(bytes: &[u8]) -> Result<Self, LayerPathError> {
        let mut components: Vec<&[u8]> = Vec::new();
        for component in bytes.split(|b| *b == b'/') {
            match component {
                b"" | b"." => {}
                b".." => {
                    components.pop();
                }
                name => components.push(name),
            }
        }
        Self::new(&components.join(&b'/'))
    }

    /// The bytes, without leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a relative [`Path`]; empty for the root.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The names on the way from the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|name| !name.is_empty())
    }

    /// The last name; `None` for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.0
            .rsplit(|b| *b == b'/')
            .next()
            .filter(|name| !name.is_empty())
    }

    /// The directory that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(Self(self.0[..end].to_vec()))
    }

    /// This path and one more name below it. `name` may itself be a relative path.
    pub fn join(&self, name: &[u8]) -> Result<Self, LayerPathError> {
        let below = Self::new(name)?;
        Ok(self.join_path(&below))
    }

    /// This path and another below it.
    #[must_use]
    pub fn join_path(&self, below: &Self) -> Self {
        match (self.is_root(), below.is_root()) {
            (true, _) => below.clone(),
            (_, true) => self.clone(),
            _ => {
                let mut joined = Vec::with_capacity(self.0.len() + 1 + below.0.len());
                joined.extend_from_slice(&self.0);
                joined.push(b'/');
                joined.extend_from_slice(&below.0);
                Self(joined)
            }
        }
    }

    /// The rest of this path below `base`; `None` if it is not below it (or `base` itself, which
    /// gives the root).
    pub fn strip_prefix(&self, base: &Self) -> Option<Self> {
        if base.is_root() {
            return Some(self.clone());
        }
        let rest = self.0.strip_prefix(base.0.as_slice())?;
        match rest {
            [] => Some(Self::ROOT),
            [b'/', below @ ..] => Some(Self(below.to_vec())),
            _ => None,
        }
    }

    /// Whether this path is `base` or below it.
    pub fn starts_with(&self, base: &Self) -> bool {
        base.is_root()
            || self
                .0
                .strip_prefix(base.0.as_slice())
                .is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
    }
}

impl Ord for LayerPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // Paths of one directory have much in common, which is passed over in pieces.
        const PIECE: usize = 32;
        let (left, right) = (&self.0, &other.0);
        let pieces = left.chunks_exact(PIECE).zip(right.chunks_exact(PIECE));
        let common = PIECE * pieces.take_while(|(a, b)| a == b).count();
        // A slash sorts before every byte that a name can hold.
        let key = |b: &u8| if *b == b'/' { 0 } else { *b };
        let rest = left[common..].iter().map(key);
        rest.cmp(right[common..].iter().map(key))
    }
}

impl PartialOrd for LayerPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LayerPath(/{})", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> LayerPath {
        LayerPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn order_is_that_of_a_walk() {
        let mut paths = ["a-b", "a/b", "b", "a", "a/b/c", "a/b-"].map(path);
        paths.sort();
        assert_eq!(paths, ["a", "a/b", "a/b/c", "a/b-", "a-b", "b"].map(path));
    }

    #[test]
    fn long_common_beginnings_do_not_change_the_order() {
        for length in [0, 31, 32, 33, 63, 64, 65, 200] {
            let begin = "d/".repeat(length / 2) + &"x".repeat(length % 2);
            let mut paths =
                ["a-b", "a/b", "b", "a", "a/b/c", "a/b-"].map(|end| path(&format!("{begin}{end}")));
            paths.sort();
            let expected =
                ["a", "a/b", "a/b/c", "a/b-", "a-b", "b"].map(|end| path(&format!("{begin}{end}")));
            assert_eq!(paths, expected, "{length}");
        }
    }

    #[test]
    fn cleaning_and_climbing() {
        assert_eq!(path("//a/./b/"), path("a/b"));
        assert_eq!(path("."), LayerPath::ROOT);
        LayerPath::new(b"a/../b").unwrap_err();
        assert_eq!(LayerPath::clamped(b"../../a/../b").unwrap(), path("b"));
        LayerPath::new(&[b'x'; 256]).unwrap_err();
        LayerPath::new(b"a\0b").unwrap_err();
    }

    #[test]
    fn prefixes_end_at_components() {
        assert_eq!(path("a/b").strip_prefix(&path("a")), Some(path("b")));
        assert_eq!(path("ab").strip_prefix(&path("a")), None);
        assert_eq!(path("a").strip_prefix(&path("a")), Some(LayerPath::ROOT));
        assert!(path("a/b").starts_with(&LayerPath::ROOT));
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), Some(LayerPath::ROOT));
        assert_eq!(path("a/b").file_name(), Some(&b"b"[..]));
    }
}
