//! The inputs of a key, one by one: encoded into the key, or written down for who asks later why
//! a key is another one.
//!
//! What enters a key goes through [`Inputs`] and nothing else, so that what is written down is all
//! of it. A value is shown as lines; of what is long, and of files, only digests are kept.

use std::collections::BTreeMap;

use ashlar_model::content_hash::{ContentHash, KeyEncoder};
use ashlar_model::layer::{Entry, EntryKind, LayerPath, Metadata};
use ashlar_model::step::Selection;
use serde::{Deserialize, Serialize};

/// Takes inputs.
pub(super) trait Inputs {
    /// Takes one input: how people call it, what enters the key, and how it is shown.
    fn input(&mut self, label: &'static str, value: &dyn ContentHash, shown: &dyn Fn() -> Shown);
}

/// An enum's tag or a struct's marker.
pub(super) struct Tag(pub(super) &'static str);

impl ContentHash for Tag {
    fn encode(&self, encoder: &mut KeyEncoder) {
        encoder.tag(self.0);
    }
}

/// What is encoded piece by piece.
pub(super) struct With<F>(pub(super) F);

impl<F: Fn(&mut KeyEncoder)> ContentHash for With<F> {
    fn encode(&self, encoder: &mut KeyEncoder) {
        (self.0)(encoder);
    }
}

/// The key itself.
impl Inputs for KeyEncoder {
    fn input(&mut self, _label: &'static str, value: &dyn ContentHash, _shown: &dyn Fn() -> Shown) {
        value.encode(self);
    }
}

/// One input of a key, as it is written down. It is for the user of this machine only: it has
/// values of variables, though never of secrets, which enter no key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInput {
    /// How people call it.
    pub label: String,
    /// The beginning of a digest of its encoding.
    pub digest: String,
    /// What it is.
    pub shown: Shown,
}

/// What an input is, as far as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    /// Values, each on a line.
    Values(Vec<String>),
    /// Files.
    Files(Vec<ShownFile>),
}

/// A file, or all files below a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownFile {
    /// Where it is below the root of the context; with `/` at the end where it stands for all
    /// below it.
    pub path: String,
    /// The beginning of a digest of what it contains.
    pub content: String,
    /// The same of all else: type, mode, owner, attributes.
    pub rest: String,
}

/// Inputs that are written down.
impl Inputs for Vec<KeyInput> {
    fn input(&mut self, label: &'static str, value: &dyn ContentHash, shown: &dyn Fn() -> Shown) {
        let mut encoder = KeyEncoder::new("ashlar 2026-11 shown key input v1");
        value.encode(&mut encoder);
        self.push(KeyInput {
            label: label.to_owned(),
            digest: short(&encoder.finish()),
            shown: shown(),
        });
    }
}

const FILES_CONTEXT: &str = "ashlar 2026-11 shown file v1";

/// The most characters that are kept of a value.
const LONGEST_VALUE: usize = 300;
/// The most values that are kept of an input.
const MOST_VALUES: usize = 500;
/// The most files that are kept of an input.
const MOST_FILES: usize = 2000;

impl Shown {
    /// A single value.
    pub(super) fn value(value: &impl ToString) -> Self {
        Self::values([value.to_string()])
    }

    /// Several values. Lines of a value are values of their own.
    pub(super) fn values(values: impl IntoIterator<Item = String>) -> Self {
        let mut kept = Vec::new();
        for value in values {
            kept.extend(value.lines().map(cut));
        }
        kept.truncate(MOST_VALUES);
        Self::Values(kept)
    }

    /// Nothing that people could read: it is known by its digest.
    pub(super) const fn nothing() -> Self {
        Self::Values(Vec::new())
    }

    /// The files of a context that a copy selects. Of very many, directories stand for what is
    /// below them, as deep down as the number allows.
    pub(super) fn files(selection: &Selection) -> Self {
        let mut files: Vec<(LayerPath, &Entry)> = Vec::new();
        for item in &selection.items {
            let entries = item.entries.iter().enumerate();
            // A directory that is only the way to others says nothing, nor does the one that a
            // copy takes the contents of.
            let entries = entries.filter(|(index, entry)| {
                let is_directory = matches!(entry.kind, EntryKind::Directory { .. });
                !(is_directory && entry.path.is_root() || item.ways.contains(index))
            });
            files.extend(entries.map(|(_, entry)| (item.path.join_path(&entry.path), entry)));
        }
        let levels = levels_that_fit(&files);
        Self::Files(folded(&files, levels))
    }
}

/// How deep down files can be listed, if each directory at that depth stands for what is below it.
fn levels_that_fit(files: &[(LayerPath, &Entry)]) -> usize {
    // By depth: how many files, and how many different beginnings of paths of that length.
    let mut counts: Vec<(usize, usize)> = vec![(0, 1)];
    let mut last: Vec<&[u8]> = Vec::new();
    for (path, _) in files {
        let components: Vec<&[u8]> = path.components().collect();
        let common = last
            .iter()
            .zip(&components)
            .take_while(|(one, other)| one == other)
            .count();
        let depth = components.len();
        counts.resize(counts.len().max(depth + 1), (0, 0));
        for (_, beginnings) in &mut counts[common.min(depth) + 1..=depth] {
            *beginnings += 1;
        }
        counts[depth].0 += 1;
        last = components;
    }
    let mut listed = 0;
    let mut levels = 0;
    for (depth, (files, beginnings)) in counts.iter().enumerate() {
        listed += files;
        if listed + beginnings <= MOST_FILES || depth + 1 == counts.len() && listed <= MOST_FILES {
            levels = depth;
        }
    }
    levels
}

fn folded(files: &[(LayerPath, &Entry)], levels: usize) -> Vec<ShownFile> {
    let mut shown: Vec<ShownFile> = Vec::new();
    let mut below: BTreeMap<Vec<u8>, KeyEncoder> = BTreeMap::new();
    for (path, entry) in files {
        let components: Vec<&[u8]> = path.components().collect();
        if components.len() <= levels {
            shown.push(ShownFile {
                path: path.to_string(),
                content: short(&content_of(entry)),
                rest: short(&rest_of(entry)),
            });
        } else {
            below
                .entry(components[..levels].join(&b'/'))
                .or_insert_with(|| KeyEncoder::new(FILES_CONTEXT))
                .bytes(path.as_bytes())
                .fixed(content_of(entry).as_bytes())
                .fixed(rest_of(entry).as_bytes());
        }
    }
    shown.extend(below.into_iter().map(|(path, all)| ShownFile {
        path: format!("/{}/", String::from_utf8_lossy(&path)).replace("//", "/"),
        content: short(&all.finish()),
        rest: String::new(),
    }));
    shown
}

fn content_of(entry: &Entry) -> blake3::Hash {
    let mut encoder = KeyEncoder::new(FILES_CONTEXT);
    match &entry.kind {
        EntryKind::File { digest, .. } => encoder.value(digest),
        EntryKind::Symlink(target) => encoder.bytes(target),
        EntryKind::Hardlink(target) => encoder.bytes(target.as_bytes()),
        EntryKind::CharDevice(major, minor) | EntryKind::BlockDevice(major, minor) => {
            encoder.value(major).value(minor)
        }
        EntryKind::Directory { .. } | EntryKind::Fifo | EntryKind::Whiteout => &mut encoder,
    };
    encoder.finish()
}

fn rest_of(entry: &Entry) -> blake3::Hash {
    let Metadata {
        mode,
        uid,
        gid,
        mtime: _,
        xattrs,
    } = &entry.metadata;
    let mut encoder = KeyEncoder::new(FILES_CONTEXT);
    encoder
        .tag(match &entry.kind {
            EntryKind::File { .. } => "file",
            EntryKind::Directory { .. } => "directory",
            EntryKind::Symlink(_) => "symlink",
            EntryKind::Hardlink(_) => "hardlink",
            EntryKind::CharDevice(..) => "char",
            EntryKind::BlockDevice(..) => "block",
            EntryKind::Fifo => "fifo",
            EntryKind::Whiteout => "whiteout",
        })
        .value(mode)
        .value(uid)
        .value(gid);
    for xattr in xattrs {
        encoder.bytes(&xattr.name).bytes(&xattr.value);
    }
    encoder.finish()
}

fn cut(value: &str) -> String {
    if value.chars().nth(LONGEST_VALUE).is_none() {
        return value.to_owned();
    }
    // Two long values with the same beginning are told apart by what is not shown.
    let begin: String = value.chars().take(LONGEST_VALUE).collect();
    let digest = short(&blake3::hash(value.as_bytes()));
    format!("{begin}… ({} bytes, {digest})", value.len())
}

fn short(digest: &blake3::Hash) -> String {
    digest.to_hex().chars().take(16).collect()
}
