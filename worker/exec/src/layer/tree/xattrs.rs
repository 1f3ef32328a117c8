//! Extended attributes, as a container sees them and as they lie on disk.
//!
//! Layers carry `user.*`, `security.capability` and POSIX access control lists. What a security
//! module of this machine puts on files (`security.selinux`...) and `trusted.*` are no part of an
//! image.
//!
//! `security.capability` is always in its version 2 form: version 3 names the user id that is
//! root in the file's user namespace, which is this machine's affair (`capabilities(7)`).

use std::borrow::Cow;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use ashlar_model::layer::Xattr;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

const OVERLAY: &[u8] = b"user.overlay.";
const ESCAPED: &[u8] = b"user.overlay.overlay.";
const CAPABILITY: &[u8] = b"security.capability";
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
const DEFAULT_LIST: &[u8] = b"system.posix_acl_default";

/// Bookkeeping that moves content elsewhere; without following it the content would be wrong.
const ELSEWHERE: [&[u8]; 2] = [b"user.overlay.redirect", b"user.overlay.metacopy"];

/// Bits of `vfs_cap_data.magic_etc`: the revision and the one flag that there is.
const REVISION_MASK: u32 = 0xFF00_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;

/// What an attribute's name on disk means.
#[derive(Debug, PartialEq, Eq)]
enum OnDisk<'a> {
    /// The container has it, under this name.
    Container(Cow<'a, [u8]>),
    /// It is no part of the layer.
    Foreign,
    /// The overlay keeps the file's content elsewhere.
    Elsewhere,
}

fn meaning(name: &[u8]) -> OnDisk<'_> {
    if let Some(rest) = name.strip_prefix(ESCAPED) {
        return OnDisk::Container(Cow::Owned([OVERLAY, rest].concat()));
    }
    if ELSEWHERE.contains(&name) {
        return OnDisk::Elsewhere;
    }
    if !name.starts_with(OVERLAY) && is_carried(name) {
        return OnDisk::Container(Cow::Borrowed(name));
    }
    OnDisk::Foreign
}

/// Whether layers carry the container's attribute `name`.
pub fn is_carried(name: &[u8]) -> bool {
    name.starts_with(b"user.") || [CAPABILITY, ACCESS_LIST, DEFAULT_LIST].contains(&name)
}

/// Whether only directories can have the attribute `name`.
pub fn is_for_directories(name: &[u8]) -> bool {
    name == DEFAULT_LIST
}

/// The name under which the container's attribute lies on disk.
pub fn name_on_disk(name: &[u8]) -> Cow<'_, [u8]> {
    match name.strip_prefix(OVERLAY) {
        Some(rest) => Cow::Owned([ESCAPED, rest].concat()),
        None => Cow::Borrowed(name),
    }
}

/// A value as layers carry it: file capabilities without the id of a machine's user.
pub fn normalised(name: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    if name == CAPABILITY
        && let Some((magic, _)) = value.split_first_chunk::<4>()
        && let magic = u32::from_le_bytes(*magic)
        && magic & REVISION_MASK == REVISION_3
        && value.len() == 24
    {
        value.truncate(20);
        let magic = REVISION_2 | magic & !REVISION_MASK;
        value[..4].copy_from_slice(&magic.to_le_bytes());
    }
    value
}

/// The attributes that a layer carries of `name` in an open directory, sorted by name; those of
/// the directory itself if `name` is empty. Links are not followed.
///
/// Goes through `/proc/self/fd`, for that works for every type of file, and needs no `open` that
/// a mode of 000 or a named pipe would stand against.
pub fn read(directory: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Vec<Xattr>> {
    let path = path_through_proc(directory, name);
    let mut found = Vec::new();
    for on_disk in list(&path)?.split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let name = match meaning(on_disk) {
            OnDisk::Container(name) => name,
            OnDisk::Foreign => continue,
            OnDisk::Elsewhere => return Err(Errno::XDEV),
        };
        // Gone since it was listed: the same as never there.
        if let Some(value) = value(&path, on_disk)? {
            let value = normalised(&name, value);
            let name = name.into_owned();
            found.push(Xattr { name, value });
        }
    }
    found.sort();
    Ok(found)
}

/// Sets attributes on `name` in an open directory, or on the directory itself if `name` is empty.
pub fn write(directory: BorrowedFd<'_>, name: &[u8], xattrs: &[Xattr]) -> rustix::io::Result<()> {
    if xattrs.is_empty() {
        return Ok(());
    }
    let path = path_through_proc(directory, name);
    for Xattr { name, value } in xattrs {
        let flags = XattrFlags::empty();
        rustix::fs::lsetxattr(&path, name_on_disk(name).as_ref(), value, flags)?;
    }
    Ok(())
}

/// Sets attributes on an open file.
pub fn write_to_file(file: BorrowedFd<'_>, xattrs: &[Xattr]) -> rustix::io::Result<()> {
    for Xattr { name, value } in xattrs {
        let flags = XattrFlags::empty();
        rustix::fs::fsetxattr(file, name_on_disk(name).as_ref(), value, flags)?;
    }
    Ok(())
}

fn path_through_proc(directory: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(32 + name.len());
    // The trailing slash makes a lookup of the directory itself go through the magic link.
    let written = write!(path, "/proc/self/fd/{}/", directory.as_raw_fd());
    debug_assert!(written.is_ok(), "a Vec takes all bytes");
    path.extend_from_slice(if name.is_empty() { b"." } else { name });
    path
}

/// The names of all attributes, each with a NUL byte after it.
fn list(path: &[u8]) -> rustix::io::Result<Vec<u8>> {
    // Nearly every file has none: one call, no allocation.
    let mut names = [0; 512];
    match rustix::fs::llistxattr(path, &mut names) {
        Ok(length) => return Ok(names[..length].to_vec()),
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(Errno::RANGE) => {}
        Err(errno) => return Err(errno),
    }
    // XATTR_LIST_MAX of limits.h.
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut names)?;
    names.truncate(length);
    Ok(names)
}

fn value(path: &[u8], name: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
    let mut small = [0; 256];
    match rustix::fs::lgetxattr(path, name, &mut small) {
        Ok(length) => return Ok(Some(small[..length].to_vec())),
        Err(Errno::NODATA) => return Ok(None),
        Err(Errno::RANGE) => {}
        Err(errno) => return Err(errno),
    }
    // XATTR_SIZE_MAX of limits.h.
    let mut large = vec![0; 65536];
    match rustix::fs::lgetxattr(path, name, &mut large) {
        Ok(length) => {
            large.truncate(length);
            Ok(Some(large))
        }
        Err(Errno::NODATA) => Ok(None),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::layer::tree::Root;

    #[test]
    fn overlay_bookkeeping_is_dropped_and_escapes_are_undone() {
        for dropped in [
            "user.overlay.opaque",
            "user.overlay.origin",
            "user.overlay.impure",
            "user.overlay.uuid",
            "user.overlay.nlink",
            "user.overlay.upper",
            "user.overlay.protattr",
            "trusted.overlay.opaque",
            "trusted.other",
            "security.selinux",
        ] {
            assert_eq!(meaning(dropped.as_bytes()), OnDisk::Foreign, "{dropped}");
        }
        assert_eq!(meaning(b"user.overlay.redirect"), OnDisk::Elsewhere);
        let own: &[u8] = b"user.overlay.opaque";
        let on_disk = name_on_disk(own);
        assert_eq!(*on_disk, *b"user.overlay.overlay.opaque");
        assert_eq!(meaning(&on_disk), OnDisk::Container(Cow::Borrowed(own)));
        let twice = name_on_disk(&on_disk);
        assert_eq!(meaning(&twice), OnDisk::Container(on_disk.clone()));
    }

    #[test]
    fn version_3_capabilities_become_version_2() {
        let body = [7_u8; 16];
        let version_3 = [&[1, 0, 0, 3][..], &body, &[0xE8, 3, 0, 0]].concat();
        let version_2 = [&[1, 0, 0, 2][..], &body].concat();
        assert_eq!(normalised(CAPABILITY, version_3.clone()), version_2);
        assert_eq!(normalised(CAPABILITY, version_2.clone()), version_2);
        assert_eq!(normalised(b"user.x", version_3.clone()), version_3);
        assert_eq!(normalised(CAPABILITY, vec![3]), [3]);
    }

    #[test]
    fn attributes_are_read_back_sorted() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        let root = Root::open(directory.path()).unwrap();
        let attribute = |name: &str, value: &[u8]| Xattr {
            name: name.into(),
            value: value.into(),
        };
        let long = vec![b'v'; 2000];
        let xattrs = [
            attribute("user.a", b""),
            attribute("user.b", &long),
            attribute("user.overlay.opaque", b"y"),
        ];
        for name in [&b"file"[..], b""] {
            let mut shuffled = xattrs.to_vec();
            shuffled.reverse();
            write(root.as_fd(), name, &shuffled).unwrap();
            assert_eq!(read(root.as_fd(), name).unwrap(), xattrs);
        }
        assert!(!crate::layer::tree::whiteout::is_opaque(root.as_fd()).unwrap());
        let file = root.open_file(&ashlar_model::layer::LayerPath::new(b"file").unwrap());
        write_to_file(file.unwrap().as_fd(), &[attribute("user.c", b"1")]).unwrap();
        assert_eq!(read(root.as_fd(), b"file").unwrap().len(), 4);
    }

    #[test]
    fn attributes_of_links_and_pipes_are_not_those_of_others() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        std::os::unix::fs::symlink("nowhere", directory.path().join("link")).unwrap();
        rustix::fs::mkfifoat(root.as_fd(), "pipe", rustix::fs::Mode::RWXU).unwrap();
        assert_eq!(read(root.as_fd(), b"link").unwrap(), []);
        assert_eq!(read(root.as_fd(), b"pipe").unwrap(), []);
        read(root.as_fd(), b"missing").unwrap_err();
    }
}
