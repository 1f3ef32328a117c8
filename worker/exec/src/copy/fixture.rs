//! Small layers for tests, written down as text.

use std::sync::Arc;

use ashlar_model::layer::{Entry, EntryKind, LayerIndex, LayerPath, Metadata, Timestamp};

use super::recipe::{ByteSource, Recipe, RecipeEntry};
use super::view::{LayeredView, ViewLayer};

pub(super) fn path(text: &str) -> LayerPath {
    LayerPath::new(text.as_bytes()).unwrap()
}

/// One entry from a line:
///
/// ```text
/// d /path MODE UID:GID [opaque]    - directory
/// f /path MODE UID:GID CONTENT     - file
/// l /path TARGET                   - symbolic link
/// h /path /TARGET                  - hard link
/// w /path                          - whiteout
/// p /path MODE UID:GID             - named pipe
/// ```
///
/// The modification time is the length of the line, so that times differ.
pub(super) fn entry(line: &str) -> RecipeEntry {
    let words: Vec<&str> = line.split_whitespace().collect();
    let metadata = |words: &[&str]| {
        let (uid, gid) = words[1].split_once(':').unwrap();
        Metadata {
            mode: u16::from_str_radix(words[0], 8).unwrap(),
            uid: uid.parse().unwrap(),
            gid: gid.parse().unwrap(),
            mtime: seconds(i64::try_from(line.len()).unwrap()),
            xattrs: Vec::new(),
        }
    };
    let link = Metadata {
        mode: 0o777,
        mtime: seconds(i64::try_from(line.len()).unwrap()),
        ..Metadata::default()
    };
    let mut source = ByteSource::Nothing;
    let (kind, metadata) = match words[0] {
        "d" => {
            let opaque = words.get(4) == Some(&"opaque");
            (EntryKind::Directory { opaque }, metadata(&words[2..]))
        }
        "f" => {
            let content = words.get(4).unwrap_or(&"").replace(';', "\n").into_bytes();
            let kind = EntryKind::File {
                size: content.len() as u64,
                digest: Some(blake3::hash(&content).into()),
            };
            source = ByteSource::Inline(content);
            (kind, metadata(&words[2..]))
        }
        "l" => (EntryKind::Symlink(words[2].into()), link),
        "h" => (EntryKind::Hardlink(path(words[2])), link),
        "w" => (EntryKind::Whiteout, Metadata::default()),
        "p" => (EntryKind::Fifo, metadata(&words[2..])),
        other => panic!("unknown kind {other}"),
    };
    let entry = Entry {
        path: path(words[1]),
        kind,
        metadata,
    };
    RecipeEntry { entry, source }
}

pub(super) const fn seconds(seconds: i64) -> Timestamp {
    Timestamp {
        seconds,
        nanoseconds: 0,
    }
}

/// A layer from lines, which may come in any order.
pub(super) fn recipe(lines: &[&str]) -> Recipe {
    let mut entries: Vec<RecipeEntry> = lines.iter().map(|line| entry(line)).collect();
    entries.sort_by(|a, b| a.entry.canonical_cmp(&b.entry));
    let copies = entries.clone();
    for item in &mut entries {
        // A link has its target's metadata.
        if let EntryKind::Hardlink(target) = &item.entry.kind {
            let mut others = copies.iter();
            let target = others.find(|other| other.entry.path == *target).unwrap();
            item.entry.metadata = target.entry.metadata.clone();
        }
    }
    Recipe {
        roots: Vec::new(),
        root: Metadata {
            mode: 0o755,
            ..Metadata::default()
        },
        entries,
    }
}

/// A stack of one layer.
pub(super) fn view(lines: &[&str]) -> LayeredView {
    LayeredView::open([ViewLayer::Recipe(Arc::new(recipe(lines)))]).unwrap()
}

/// The same layer, known only by its entries.
pub(super) fn index_only(recipe: &Recipe) -> ViewLayer {
    let entries = recipe.entries.iter().map(|item| item.entry.clone());
    ViewLayer::Index(Arc::new(LayerIndex {
        entries: entries.collect(),
    }))
}

/// An entry as a line: kind, path, mode, owner, time, and content or target.
pub(super) fn line(item: &RecipeEntry) -> String {
    let RecipeEntry { entry, source } = item;
    let Metadata {
        mode,
        uid,
        gid,
        mtime,
        xattrs: _,
    } = &entry.metadata;
    let path = &entry.path;
    let about = format!("{mode:o} {uid}:{gid} @{}", mtime.seconds);
    match &entry.kind {
        EntryKind::Directory { opaque: false } => format!("d {path} {about}"),
        EntryKind::Directory { opaque: true } => format!("d {path} {about} opaque"),
        EntryKind::File { .. } => {
            let content = match source {
                ByteSource::Inline(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                ByteSource::Changeable { path, .. } => format!("from {path}"),
                ByteSource::Immutable {
                    path, same_inode, ..
                } => format!("of {path}{}", if *same_inode { " same" } else { "" }),
                ByteSource::Nothing => "nothing".into(),
            };
            format!("f {path} {about} {content}")
        }
        EntryKind::Symlink(target) => {
            let target = String::from_utf8_lossy(target);
            format!("l {path} {uid}:{gid} {target}")
        }
        EntryKind::Hardlink(target) => format!("h {path} {target}"),
        EntryKind::Fifo => format!("p {path} {about}"),
        EntryKind::Whiteout => format!("w {path}"),
        EntryKind::CharDevice(..) | EntryKind::BlockDevice(..) => format!("device {path}"),
    }
}
