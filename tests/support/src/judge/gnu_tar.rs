//! GNU tar: extracts layers one onto the other. The whiteouts, which are none of its business,
//! are carried out here before each layer, as the image specification says.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::{read_json, scratch};
use crate::command::TestCommand;
use crate::tree::Tree;

/// What marks a path that a layer takes away.
const WHITEOUT: &str = ".wh.";
/// What marks a directory that hides what was in it before.
const OPAQUE: &str = ".wh..wh..opq";

/// The tree in a tar that is a whole root filesystem.
pub fn read(tar: &Path) -> Tree {
    let scratch = scratch();
    let root = scratch.path().join("root");
    make_root(&root);
    extract(tar, &root);
    Tree::read(&root)
}

/// The names in a tar, in its order, as they are written there; those of directories end in `/`.
pub fn names(tar: &Path) -> Vec<String> {
    let listing = TestCommand::root("tar")
        .args(["--list", "--quoting-style=literal", "--file"])
        .arg(tar)
        .text();
    listing.lines().map(str::to_owned).collect()
}

/// The modification times of a tar's files by name, as `2026-11-02 12:00:00`, in UTC.
pub fn times(tar: &Path) -> BTreeMap<String, String> {
    let listing = TestCommand::root("tar")
        .args(["--list", "--verbose", "--full-time", "--utc"])
        .args(["--quoting-style=literal", "--file"])
        .arg(tar)
        .text();
    // Mode, owner, size, day, time, name.
    let time = |line: &str| {
        let mut words = line.split_whitespace().skip(3);
        let (day, time) = (words.next()?, words.next()?);
        let name = words.next()?.trim_end_matches('/').to_owned();
        Some((name, format!("{day} {time}")))
    };
    listing.lines().filter_map(time).collect()
}

/// The tree of an image that skopeo copied to a directory with `dir:`.
pub(super) fn apply_layers(image: &Path, root: &Path) -> Tree {
    make_root(root);
    let manifest = read_json(&image.join("manifest.json"));
    for layer in manifest["layers"]
        .as_array()
        .expect("a manifest has layers")
    {
        let digest = crate::layout::text(&layer["digest"]);
        let blob = image.join(digest.trim_start_matches("sha256:"));
        make_way(&names(&blob), root).unwrap_or_else(|error| panic!("{}: {error}", blob.display()));
        extract(&blob, root);
    }
    Tree::read(root)
}

/// An image that does not say otherwise has a root directory 0755 root:root.
fn make_root(root: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::create_dir(root)
        .and_then(|()| fs::set_permissions(root, fs::Permissions::from_mode(0o755)))
        .unwrap_or_else(|error| panic!("{}: {error}", root.display()));
}

fn extract(tar: &Path, root: &Path) {
    TestCommand::root("tar")
        .args([
            "--extract",
            "--preserve-permissions",
            "--same-owner",
            "--numeric-owner",
        ])
        .args([
            "--xattrs",
            "--xattrs-include=*",
            "--exclude=.wh.*",
            "--directory",
        ])
        .arg(root)
        .arg("--file")
        .arg(tar)
        .run()
        .success();
}

/// Removes what a layer takes away, and directories that it has something else in the place of,
/// which GNU tar would not replace.
fn make_way(names: &[String], root: &Path) -> io::Result<()> {
    for name in names {
        let path = root.join(name);
        let (Some(parent), Some(last)) = (path.parent(), path.file_name()) else {
            continue;
        };
        let last = last.to_string_lossy();
        if last == OPAQUE && fs::symlink_metadata(parent).is_ok_and(|at| at.is_dir()) {
            for child in fs::read_dir(parent)? {
                remove(&child?.path())?;
            }
        } else if let Some(target) = last.strip_prefix(WHITEOUT)
            && last != OPAQUE
        {
            remove(&parent.join(target))?;
        } else if !name.ends_with('/') && fs::symlink_metadata(&path).is_ok_and(|at| at.is_dir()) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes whatever is there, which may be nothing.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        // Nothing there, or not even a directory where it would be: the layer makes that.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    }
}
