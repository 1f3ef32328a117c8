//! Reading a tree from a directory, as root.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::{lgetxattr, llistxattr, major, minor};
use sha2::{Digest as _, Sha256};

use super::{Kind, Tree, TreeEntry};

/// Longer lists and values of extended attributes than the kernel allows do not exist.
const XATTR_MAX: usize = 1 << 16;

impl Tree {
    /// Reads the tree below a directory. Bytes of names that are no text are replaced.
    pub fn read(root: &Path) -> Self {
        let mut tree = Self::default();
        let mut links = HashMap::new();
        let mut directories = vec![(root.to_owned(), String::new())];
        let problem =
            |path: &Path, error: io::Error| -> ! { panic!("{}: {error}", path.display()) };
        let entry = entry(root).unwrap_or_else(|error| problem(root, error));
        tree.entries.insert(String::new(), entry.0);
        while let Some((directory, prefix)) = directories.pop() {
            let listing =
                fs::read_dir(&directory).unwrap_or_else(|error| problem(&directory, error));
            for item in listing {
                let item = item.unwrap_or_else(|error| problem(&directory, error));
                let path = item.path();
                let name = printable(item.file_name().as_bytes());
                let name = format!("{prefix}{name}");
                let (entry, metadata) =
                    self::entry(&path).unwrap_or_else(|error| problem(&path, error));
                if metadata.is_dir() {
                    directories.push((path, format!("{name}/")));
                } else if metadata.nlink() > 1 {
                    links
                        .entry((metadata.dev(), metadata.ino()))
                        .or_insert_with(Vec::new)
                        .push(name.clone());
                }
                tree.entries.insert(name, entry);
            }
        }
        tree.link(links.into_values());
        tree
    }

    /// Notes which paths are names of one file.
    fn link(&mut self, groups: impl Iterator<Item = Vec<String>>) {
        for mut names in groups.filter(|names| names.len() > 1) {
            names.sort();
            for name in &names {
                if let Some(entry) = self.entries.get_mut(name) {
                    entry.linked_to = Some(names[0].clone());
                }
            }
        }
    }
}

fn entry(path: &Path) -> io::Result<(TreeEntry, Metadata)> {
    let metadata = fs::symlink_metadata(path)?;
    let kind = metadata.file_type();
    let device = (major(metadata.rdev()), minor(metadata.rdev()));
    let kind = if kind.is_dir() {
        Kind::Directory
    } else if kind.is_symlink() {
        Kind::Symlink(printable(fs::read_link(path)?.as_os_str().as_bytes()))
    } else if kind.is_fifo() {
        Kind::Fifo
    } else if kind.is_socket() {
        Kind::Socket
    } else if kind.is_char_device() {
        Kind::CharDevice(device.0, device.1)
    } else if kind.is_block_device() {
        Kind::BlockDevice(device.0, device.1)
    } else {
        Kind::File(metadata.len(), sha256_of_file(path)?)
    };
    let entry = TreeEntry {
        kind,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        xattrs: xattrs(path)?,
        linked_to: None,
    };
    Ok((entry, metadata))
}

fn xattrs(path: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut names = vec![0; XATTR_MAX];
    let length = match llistxattr(path, &mut names) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty() && *name != b"security.selinux")
        .map(|name| {
            let mut value = vec![0; XATTR_MAX];
            let length = lgetxattr(path, name, &mut value)?;
            value.truncate(length);
            Ok((printable(name), value))
        })
        .collect()
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn sha256_of_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hexadecimal(&hasher.finalize()));
        }
        hasher.update(&buffer[..count]);
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that are no text as `\xNN`, so that different names stay different.
fn printable(bytes: &[u8]) -> String {
    bytes
        .utf8_chunks()
        .flat_map(|chunk| {
            let invalid: String = chunk
                .invalid()
                .iter()
                .map(|byte| format!("\\x{byte:02x}"))
                .collect();
            [chunk.valid().to_owned(), invalid]
        })
        .collect()
}
