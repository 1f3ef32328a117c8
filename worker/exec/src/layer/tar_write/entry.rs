//! An entry into header and records.

use ashlar_model::layer::{Entry, EntryKind, LayerPath, Metadata, Timestamp};

use super::TarWriteError;
use super::header::{BLOCK, Header, Type};
use super::pax::Records;

/// Prefix of a whiteout's name. Source: OCI image specification, `layer.md`, "Whiteouts".
const WHITEOUT: &[u8] = b".wh.";
/// Name of the file that makes its directory opaque.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Name in the headers of PAX records, which have no name of their own.
const RECORDS_NAME: &[u8] = b"././@PaxHeader";

/// The blocks before an entry's bytes.
pub(super) fn encode(entry: &Entry, subsecond: bool) -> Result<Vec<u8>, TarWriteError> {
    let Entry {
        path,
        kind,
        metadata,
    } = entry;
    let unrepresentable = |what| TarWriteError::Unrepresentable {
        path: path.clone(),
        what,
    };
    let own_name = path.file_name();
    if own_name.is_some_and(|name| name.starts_with(WHITEOUT)) {
        return Err(unrepresentable("a name that begins with `.wh.`"));
    }
    let mut header = Header::new(match kind {
        EntryKind::File { .. } | EntryKind::Whiteout => Type::File,
        EntryKind::Directory { .. } => Type::Directory,
        EntryKind::Symlink(_) => Type::Symlink,
        EntryKind::Hardlink(_) => Type::Hardlink,
        EntryKind::CharDevice(..) => Type::CharDevice,
        EntryKind::BlockDevice(..) => Type::BlockDevice,
        EntryKind::Fifo => Type::Fifo,
    });
    let mut records = Records::default();
    let name = match kind {
        EntryKind::Whiteout => match own_name {
            Some(name) => beside(path, &[WHITEOUT, name].concat()),
            None => return Err(unrepresentable("a whiteout of the root")),
        },
        EntryKind::Directory { .. } if path.is_root() => b"./".to_vec(),
        EntryKind::Directory { .. } => [path.as_bytes(), b"/"].concat(),
        _ => path.as_bytes().to_vec(),
    };
    if !header.set_name(&name) {
        records.add("path", &name);
    }
    let target = match kind {
        EntryKind::Symlink(target) => Some(target.as_slice()),
        EntryKind::Hardlink(target) => Some(target.as_bytes()),
        _ => None,
    };
    if let Some(target) = target {
        if target.is_empty() || target.contains(&0) {
            return Err(unrepresentable(
                "an empty link target or one with a NUL byte",
            ));
        }
        if !header.set_link(target) {
            records.add("linkpath", target);
        }
    }
    let size = match kind {
        EntryKind::File { size, .. } => *size,
        _ => 0,
    };
    if !header.set_size(size) {
        records.add_number("size", size);
    }
    if let EntryKind::CharDevice(major, minor) | EntryKind::BlockDevice(major, minor) = kind
        && !header.set_device(*major, *minor)
    {
        return Err(unrepresentable("a device number above 2097151"));
    }
    set_metadata(&mut header, &mut records, metadata, subsecond);
    // Names of links are names of an inode whose entry carries its attributes.
    if !matches!(kind, EntryKind::Hardlink(_)) {
        check_xattrs(metadata).map_err(unrepresentable)?;
        records.add_xattrs(&metadata.xattrs);
    }
    Ok(with_records(records, header))
}

/// The file that makes the directory at `path` opaque.
pub(super) fn opaque_marker(path: &LayerPath) -> Vec<u8> {
    let name = if path.is_root() {
        OPAQUE.to_vec()
    } else {
        [path.as_bytes(), b"/", OPAQUE].concat()
    };
    let mut header = Header::new(Type::File);
    let mut records = Records::default();
    if !header.set_name(&name) {
        records.add("path", &name);
    }
    header.set_size(0);
    set_metadata(&mut header, &mut records, &Metadata::default(), false);
    with_records(records, header)
}

/// The zeros that fill the last block of a file.
pub(super) fn padding(size: u64) -> &'static [u8] {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    let missing = size.next_multiple_of(BLOCK as u64).wrapping_sub(size);
    &ZEROS[..usize::try_from(missing).unwrap_or(0)]
}

fn set_metadata(header: &mut Header, records: &mut Records, metadata: &Metadata, subsecond: bool) {
    let Metadata {
        mode,
        uid,
        gid,
        mtime,
        xattrs: _,
    } = metadata;
    header.set_mode(*mode);
    if !header.set_uid(*uid) {
        records.add_number("uid", (*uid).into());
    }
    if !header.set_gid(*gid) {
        records.add_number("gid", (*gid).into());
    }
    let time = Timestamp {
        seconds: mtime.seconds,
        nanoseconds: if subsecond { mtime.nanoseconds } else { 0 },
    };
    if !header.set_mtime(time.seconds) || time.nanoseconds != 0 {
        records.add_time(time);
    }
}

/// A record's key ends at the first `=`, so no attribute's name may have one.
fn check_xattrs(metadata: &Metadata) -> Result<(), &'static str> {
    let bad = |name: &[u8]| name.is_empty() || name.contains(&b'=') || name.contains(&0);
    if metadata.xattrs.iter().any(|xattr| bad(&xattr.name)) {
        return Err("an extended attribute whose name is empty or has `=` or a NUL byte");
    }
    Ok(())
}

fn with_records(records: Records, header: Header) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK);
    if !records.is_empty() {
        let records = records.encode();
        let length = records.len() as u64;
        let mut own = Header::new(Type::Extended);
        own.set_name(RECORDS_NAME);
        own.set_size(length);
        set_metadata(
            &mut own,
            &mut Records::default(),
            &Metadata::default(),
            false,
        );
        bytes.reserve(2 * BLOCK + records.len() + BLOCK);
        bytes.extend_from_slice(&own.finish());
        bytes.extend_from_slice(&records);
        bytes.extend_from_slice(padding(length));
    }
    bytes.extend_from_slice(&header.finish());
    bytes
}

/// A path in the directory of `path`.
fn beside(path: &LayerPath, name: &[u8]) -> Vec<u8> {
    match path.as_bytes().iter().rposition(|b| *b == b'/') {
        Some(slash) => [&path.as_bytes()[..=slash], name].concat(),
        None => name.to_vec(),
    }
}
