//! Paths with symbolic links, as a process inside the root would follow them.

use super::FileView;
use crate::layer::{Entry, EntryKind, LayerPath, LayerPathError};

/// How many symbolic links one path may lead through: the kernel's own limit (`path_resolution(7)`).
pub const LINK_LIMIT: usize = 40;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The real path: no component of it is a symbolic link. What is missing is as written.
    pub path: LayerPath,
    /// What is there; `None` if nothing is, or if the way leads through something that is no
    /// directory.
    pub entry: Option<Entry>,
}

/// Why a path leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError<E: std::error::Error + 'static> {
    /// The links run in a circle, or nearly so.
    #[error("{path}: more than {LINK_LIMIT} symbolic links on the way")]
    TooManyLinks {
        /// Where the limit was reached.
        path: LayerPath,
    },
    /// A link's target, or the path itself, cannot be a path.
    #[error("{path}: a symbolic link has an impossible target")]
    BadTarget {
        /// The link.
        path: LayerPath,
        /// What is wrong with it.
        source: LayerPathError,
    },
    /// The view could not be looked into.
    #[error("cannot look up {path}")]
    View {
        /// Where.
        path: LayerPath,
        /// Why.
        source: E,
    },
}

/// Follows `path` from the root, symbolic links included, also in its last component. `..` goes
/// up from where links have led, and stops at the root.
pub fn resolve<V: FileView + ?Sized>(
    view: &V,
    path: &[u8],
) -> Result<Resolved, ResolveError<V::Error>> {
    let look = |path: &LayerPath| {
        view.lookup(path).map_err(|source| ResolveError::View {
            path: path.clone(),
            source,
        })
    };
    let mut pending: Vec<Vec<u8>> = reversed_components(path);
    let mut current = LayerPath::ROOT;
    let mut entry = None;
    let mut links = 0;
    while let Some(name) = pending.pop() {
        if name == b".." {
            current = current.parent().unwrap_or_default();
            entry = None;
            continue;
        }
        let next = current
            .join(&name)
            .map_err(|source| ResolveError::BadTarget {
                path: current.clone(),
                source,
            })?;
        let found = look(&next)?;
        if let Some(EntryKind::Symlink(target)) = found.as_ref().map(|entry| &entry.kind) {
            links += 1;
            if links > LINK_LIMIT {
                return Err(ResolveError::TooManyLinks { path: next });
            }
            if target.starts_with(b"/") {
                current = LayerPath::ROOT;
            }
            pending.append(&mut reversed_components(target));
            entry = None;
        } else {
            current = next;
            entry = Some(found);
        }
    }
    let entry = match entry {
        Some(entry) => entry,
        None => look(&current)?,
    };
    Ok(Resolved {
        path: current,
        entry,
    })
}

fn reversed_components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !matches!(*name, b"" | b"."))
        .rev()
        .map(<[u8]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryView;
    use super::*;

    fn view() -> MemoryView {
        MemoryView::new()
            .directory("a/b")
            .file("a/b/f")
            .file("top")
            .link("up", "../../../a")
            .link("absolute", "/a/b")
            .link("a/sideways", "b/../../top")
            .link("through", "absolute/../b")
            .link("circle", "circle")
            .link("dangling", "no/where")
    }

    fn real(path: &str) -> (String, bool) {
        let resolved = resolve(&view(), path.as_bytes()).unwrap();
        (resolved.path.to_string(), resolved.entry.is_some())
    }

    #[test]
    fn links_stay_inside_the_root() {
        assert_eq!(real("up/b/f"), ("/a/b/f".into(), true));
        assert_eq!(real("absolute/f"), ("/a/b/f".into(), true));
        assert_eq!(real("a/sideways"), ("/top".into(), true));
        assert_eq!(real("../../top"), ("/top".into(), true));
        assert_eq!(real("/"), ("/".into(), true));
        assert_eq!(real("up/.."), ("/".into(), true));
    }

    #[test]
    fn dot_dot_goes_up_from_where_a_link_led() {
        assert_eq!(real("through/f"), ("/a/b/f".into(), true));
    }

    #[test]
    fn what_is_missing_stays_as_written() {
        assert_eq!(real("dangling"), ("/no/where".into(), false));
        assert_eq!(real("a/x/y"), ("/a/x/y".into(), false));
        assert_eq!(real("a/x/../b/f"), ("/a/b/f".into(), true));
        assert_eq!(real("top/x"), ("/top/x".into(), false));
    }

    #[test]
    fn circles_end_with_an_error_that_names_the_link() {
        let error = resolve(&view(), b"circle").unwrap_err();
        assert_eq!(
            error.to_string(),
            "/circle: more than 40 symbolic links on the way"
        );
    }

    #[test]
    fn forty_links_are_followed_and_no_more() {
        let mut view = MemoryView::new().file("end");
        for number in 0..41 {
            let target = match number {
                0 => "end".to_owned(),
                _ => format!("l{}", number - 1),
            };
            view = view.link(&format!("l{number}"), &target);
        }
        assert!(resolve(&view, b"l39").unwrap().entry.is_some());
        assert!(matches!(
            resolve(&view, b"l40"),
            Err(ResolveError::TooManyLinks { .. })
        ));
    }
}
