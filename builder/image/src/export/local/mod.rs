//! The files of an image in a directory.
//!
//! Files are added to what the directory holds: an existing file is replaced, an existing
//! directory stays with what is in it. Types, modes, times, links and (for root) owners and
//! devices are kept; what an ordinary user cannot make is reported in [`LocalExport::skipped`].
//!
//! # Safety of paths
//!
//! Every component of a path is opened from its parent's descriptor without following symbolic
//! links ([`tree`]), so that neither the image nor what was in the directory can lead a write out
//! of it.

mod tree;

use std::io::{self, Read, Write as _};
use std::path::Path;

use tar::{Archive, Entry, EntryType};

use super::filesystem::{PipeReader, pipe};
use super::{ExportError, FilesystemStream};
use tree::{Attributes, Device, Tree};

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalExport {
    /// Entries of the image, whether they could be made or not.
    pub entries: u64,
    /// Entries that could not be made here, or not wholly: devices, attributes that need root.
    pub incomplete: u64,
    /// The first of them, one line for each.
    pub skipped: Vec<String>,
}

/// Lines that are kept of what was skipped; an image with all its owners wrong would have one for
/// each file.
const MAX_SKIPPED: usize = 20;

/// Writes the files of an image into a directory, making it if there is none.
pub fn write(
    files: &mut dyn FilesystemStream,
    directory: &Path,
) -> Result<LocalExport, ExportError> {
    let mut tree = Tree::open(directory)?;
    let (mut writer, reader) = pipe();
    std::thread::scope(|scope| {
        let producer = scope.spawn(move || {
            files.write_tar(&mut writer)?;
            writer.flush()
        });
        let unpacked = unpack(reader, &mut tree);
        // The reader is gone, so that the producer ends, however the unpacking ended.
        let produced = producer
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the reading thread panicked")));
        match (produced, unpacked) {
            // A stream that broke off is why the unpacking failed, unless it broke off because
            // the unpacking had failed.
            (Err(error), _) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(ExportError::Filesystem(error))
            }
            (_, Err(error)) => Err(error),
            (Err(error), Ok(_)) => Err(ExportError::Filesystem(error)),
            (Ok(()), Ok(export)) => {
                tree.finish()?;
                Ok(export)
            }
        }
    })
}

fn unpack(reader: PipeReader, tree: &mut Tree) -> Result<LocalExport, ExportError> {
    let mut archive = Archive::new(reader);
    let mut export = LocalExport::default();
    {
        let entries = archive.entries().map_err(ExportError::Filesystem)?;
        for entry in entries {
            let mut entry = entry.map_err(ExportError::Filesystem)?;
            export.entries += 1;
            if let Some(skipped) = unpack_entry(&mut entry, tree)? {
                export.incomplete += 1;
                if export.skipped.len() < MAX_SKIPPED {
                    export.skipped.push(skipped);
                }
            }
        }
    }
    // The padding behind the end: a writer that is still at it must not find the pipe closed.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(ExportError::Filesystem)?;
    Ok(export)
}

/// Unpacks one entry. Returns what could not be made, if that is no error.
fn unpack_entry<R: Read>(
    entry: &mut Entry<'_, R>,
    tree: &mut Tree,
) -> Result<Option<String>, ExportError> {
    let path = entry.path_bytes().into_owned();
    let shown = String::from_utf8_lossy(&path).into_owned();
    let wrong = |reason: &str| ExportError::Entry {
        entry: shown.clone(),
        reason: reason.to_owned(),
    };
    let components = components(&path).ok_or_else(|| wrong("the path leads out of the image"))?;
    let attributes = attributes(entry).map_err(ExportError::Filesystem)?;
    let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
    let kind = entry.header().entry_type();
    let Some((name, parents)) = components.split_last() else {
        // The root itself. Its mode is the user's affair: it was there before, or mkdir made it.
        return Ok(None);
    };
    let place = tree.enter(parents, &shown)?;
    match kind {
        EntryType::Directory => tree.directory(place, name, attributes, &shown),
        EntryType::Regular | EntryType::Continuous => {
            tree.file(place, name, entry, &attributes, &shown)
        }
        EntryType::Symlink => {
            let target = link.ok_or_else(|| wrong("the link has no target"))?;
            tree.symlink(place, name, &target, &attributes, &shown)
        }
        EntryType::Link => {
            let target = link.ok_or_else(|| wrong("the hard link has no target"))?;
            let target = self::components(&target)
                .ok_or_else(|| wrong("the hard link leads out of the image"))?;
            tree.hard_link(place, name, &target, &shown)
        }
        EntryType::Fifo => tree.device(place, name, Device::Fifo, &attributes, &shown),
        EntryType::Char | EntryType::Block => {
            let number = |part: io::Result<Option<u32>>| part.ok().flatten().unwrap_or(0);
            let major = number(entry.header().device_major());
            let minor = number(entry.header().device_minor());
            let device = if kind == EntryType::Char {
                Device::Character(major, minor)
            } else {
                Device::Block(major, minor)
            };
            tree.device(place, name, device, &attributes, &shown)
        }
        other => Err(wrong(&format!(
            "entries of the type {other:?} are not known"
        ))),
    }
}

/// The names of a path inside the image; `None` if it would leave it.
fn components(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return None,
            name if name.contains(&0) => return None,
            name => names.push(name.to_vec()),
        }
    }
    Some(names)
}

fn attributes<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Attributes> {
    let header = entry.header();
    let mut attributes = Attributes {
        mode: header.mode()? & 0o7777,
        uid: header.uid()?,
        gid: header.gid()?,
        seconds: i64::try_from(header.mtime()?).unwrap_or(i64::MAX),
        nanoseconds: 0,
        xattrs: Vec::new(),
    };
    let Some(extensions) = entry.pax_extensions()? else {
        return Ok(attributes);
    };
    for extension in extensions {
        let extension = extension?;
        let text = || extension.value().ok();
        match extension.key_bytes() {
            b"mtime" => {
                if let Some((seconds, nanoseconds)) = text().and_then(pax_time) {
                    (attributes.seconds, attributes.nanoseconds) = (seconds, nanoseconds);
                }
            }
            b"uid" => {
                attributes.uid = text()
                    .and_then(|t| t.parse().ok())
                    .unwrap_or(attributes.uid);
            }
            b"gid" => {
                attributes.gid = text()
                    .and_then(|t| t.parse().ok())
                    .unwrap_or(attributes.gid);
            }
            key => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    let value = extension.value_bytes().to_vec();
                    attributes.xattrs.push((name.to_vec(), value));
                }
            }
        }
    }
    Ok(attributes)
}

/// `SECONDS[.FRACTION]`, the seconds possibly negative; nanoseconds counted forward.
fn pax_time(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: u32 = format!("{fraction:0<9.9}").parse().ok()?;
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}

#[cfg(test)]
mod tests;
