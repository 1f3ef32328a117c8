//! Whether a tree still is what its index says, as far as `stat` can tell.
//!
//! Bytes are not read: this is for finding what a crash, a full disk, a careless hand or a copy by
//! a tool that knows no whiteouts has done, at a microsecond or two for each file.

use std::os::fd::{AsFd as _, OwnedFd};

use ashlar_model::layer::{Entry, EntryKind, LayerIndex, LayerPath, Timestamp};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::inode::Inode;
use super::{Root, whiteout, xattrs};

/// What can be expected of a tree besides types, lengths and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Whether files have their owners, set-id bits and attributes: not so where only one id is
    /// mapped.
    pub owners: bool,
}

/// Times that every filesystem can keep: later ones need more than 32 bits.
const COMMON_TIMES: std::ops::Range<i64> = 0..1 << 31;

/// The first path at which a tree differs from its index; `None` if none does. Files that the index
/// does not have are not looked for.
pub fn first_difference(
    tree: &Root,
    index: &LayerIndex,
    expected: Expected,
) -> rustix::io::Result<Option<LayerPath>> {
    let mut at = At { tree, parent: None };
    for entry in &index.entries {
        match at.is_as(entry, expected) {
            Ok(true) => {}
            Ok(false) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                return Ok(Some(entry.path.clone()));
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
}

/// Looks at paths one after the other; the directory of the last one stays open.
struct At<'a> {
    tree: &'a Root,
    parent: Option<(LayerPath, OwnedFd)>,
}

impl At<'_> {
    fn is_as(&mut self, entry: &Entry, expected: Expected) -> rustix::io::Result<bool> {
        let (Some(parent), Some(name)) = (entry.path.parent(), entry.path.file_name()) else {
            let root = Inode::of(self.tree.as_fd())?;
            return Ok(rights_are_as(&root, entry, expected));
        };
        if self.parent.as_ref().is_none_or(|(open, _)| *open != parent) {
            let opened = self
                .tree
                .open_path(&parent, OFlags::PATH | OFlags::DIRECTORY)?;
            self.parent = Some((parent, opened));
        }
        let Some((_, directory)) = &self.parent else {
            return Ok(false);
        };
        let inode = match Inode::at(directory.as_fd(), name) {
            Err(Errno::NOENT) if entry.kind == EntryKind::Whiteout => {
                return self.is_hidden(&entry.path);
            }
            inode => inode?,
        };
        let is = |file_type| inode.file_type == file_type;
        let kind = match &entry.kind {
            EntryKind::File { size, .. } => {
                is(FileType::RegularFile)
                    && inode.size == *size
                    && times_agree(inode.mtime, entry.metadata.mtime)
            }
            EntryKind::Directory { opaque } => {
                is(FileType::Directory)
                    && (!opaque
                        || whiteout::is_opaque(self.tree.open_directory(&entry.path)?.as_fd())?)
            }
            EntryKind::Symlink(target) => {
                // Links have no rights of their own.
                return Ok(is(FileType::Symlink) && inode.size == target.len() as u64);
            }
            // What it shares with its target is looked at there.
            EntryKind::Hardlink(_) => return Ok(!is(FileType::Directory)),
            EntryKind::Fifo => is(FileType::Fifo),
            // Most processes may not make them, and the index stands for them.
            EntryKind::CharDevice(..) | EntryKind::BlockDevice(..) => return Ok(true),
            // A diff takes what is there in place of something below, and no part of layers, for
            // its whiteout.
            EntryKind::Whiteout => return Ok(inode.is_whiteout() || is(FileType::Socket)),
        };
        if !kind || !rights_are_as(&inode, entry, expected) {
            return Ok(false);
        }
        let attributes = &entry.metadata.xattrs;
        Ok(attributes.is_empty()
            || !expected.owners
            || xattrs::read(directory.as_fd(), name)? == *attributes)
    }

    /// Whether a directory above hides what is below it: then the tree needs no whiteout.
    fn is_hidden(&self, path: &LayerPath) -> rustix::io::Result<bool> {
        let mut above = path.parent();
        while let Some(directory) = above {
            if whiteout::is_opaque(self.tree.open_directory(&directory)?.as_fd())? {
                return Ok(true);
            }
            above = directory.parent();
        }
        Ok(false)
    }
}

fn rights_are_as(inode: &Inode, entry: &Entry, expected: Expected) -> bool {
    let metadata = &entry.metadata;
    if expected.owners {
        inode.mode == metadata.mode && inode.uid == metadata.uid && inode.gid == metadata.gid
    } else {
        inode.mode & 0o777 == metadata.mode & 0o777
    }
}

/// Whether two times are the same to the second, as far as every filesystem can keep them.
fn times_agree(one: Timestamp, other: Timestamp) -> bool {
    !COMMON_TIMES.contains(&other.seconds) || one.seconds == other.seconds
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, FileTimes, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::layer::{DiffOptions, index_tree};

    /// A tree, and what of it differs from its index after something was done to it.
    fn difference(harm: impl FnOnce(&Path)) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/file"), "content").unwrap();
        fs::hard_link(tree.join("a/file"), tree.join("a/other-name")).unwrap();
        symlink("file", tree.join("a/link")).unwrap();
        let root = Root::open(&tree).unwrap();
        let open = root.open_directory(&LayerPath::new(b"a").unwrap()).unwrap();
        whiteout::make_whiteout(open.as_fd(), b"gone").unwrap();
        let inner = root
            .open_directory(&LayerPath::new(b"a/b").unwrap())
            .unwrap();
        whiteout::mark_opaque(inner.as_fd()).unwrap();
        let (index, _) = index_tree(&tree, &[], &DiffOptions::for_this_process()).unwrap();
        // Nothing is below, so a diff would leave the marks out: they are put in by hand.
        let mut index = index;
        index
            .entries
            .retain(|entry| entry.path.as_bytes() != b"a/b");
        let marked = |path: &str, kind| Entry {
            path: LayerPath::new(path.as_bytes()).unwrap(),
            kind,
            metadata: Inode::of(inner.as_fd()).unwrap().metadata(Vec::new()),
        };
        index
            .entries
            .push(marked("a/b", EntryKind::Directory { opaque: true }));
        index.entries.push(marked("a/gone", EntryKind::Whiteout));
        // So are those of what the mark hides.
        index
            .entries
            .push(marked("a/b/hidden", EntryKind::Whiteout));
        let index = LayerIndex::new(index.entries);
        harm(&tree);
        let found = first_difference(&root, &index, Expected { owners: true }).unwrap();
        found.map(|path| String::from_utf8_lossy(path.as_bytes()).into_owned())
    }

    #[test]
    fn a_whole_tree_has_no_difference() {
        assert_eq!(difference(|_| {}), None);
        // What is only below, and of no layer, is not looked for.
        assert_eq!(
            difference(|tree| fs::write(tree.join("a/b/new"), "").unwrap()),
            None
        );
    }

    #[test]
    fn all_that_stat_can_tell_is_told() {
        let file = Some("a/file".to_owned());
        assert_eq!(
            difference(|tree| fs::write(tree.join("a/file"), "short").unwrap()),
            file
        );
        assert_eq!(
            difference(|tree| fs::remove_file(tree.join("a/file")).unwrap()),
            file
        );
        let replaced = difference(|tree| {
            fs::remove_file(tree.join("a/file")).unwrap();
            fs::create_dir(tree.join("a/file")).unwrap();
        });
        assert_eq!(replaced, file);
        let changed_mode = difference(|tree| {
            fs::set_permissions(tree.join("a/file"), Permissions::from_mode(0o600)).unwrap();
        });
        assert_eq!(changed_mode, file);
        let same_size_other_time = difference(|tree| {
            let other = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
            let file = File::options()
                .write(true)
                .open(tree.join("a/file"))
                .unwrap();
            file.set_times(FileTimes::new().set_modified(other))
                .unwrap();
        });
        assert_eq!(same_size_other_time, file);
        let other = |harm: fn(&Path)| difference(harm).unwrap();
        assert_eq!(
            other(|tree| fs::remove_file(tree.join("a/other-name")).unwrap()),
            "a/other-name"
        );
        assert_eq!(
            other(|tree| fs::remove_file(tree.join("a/gone")).unwrap()),
            "a/gone"
        );
        assert_eq!(
            other(|tree| fs::remove_dir_all(tree.join("a")).unwrap()),
            "a"
        );
        let relinked = other(|tree| {
            fs::remove_file(tree.join("a/link")).unwrap();
            symlink("other", tree.join("a/link")).unwrap();
        });
        assert_eq!(relinked, "a/link");
        let no_mark = other(|tree| {
            fs::remove_dir(tree.join("a/b")).unwrap();
            fs::create_dir(tree.join("a/b")).unwrap();
        });
        assert_eq!(no_mark, "a/b");
    }
}
