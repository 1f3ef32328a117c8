//! Archives that ADD unpacks.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ashlar_model::digest::FileDigest;
use ashlar_model::layer::{Entry, EntryKind};
use ashlar_model::step::SelectedItem;
use ashlar_store::home::quota::Meter;

use super::super::request::WorkError;
use super::failed;
use crate::copy::{
    Digests, LayerSelection, LayeredView, MaterialiseError, Recipe, ViewLayer, select,
};
use crate::layer::tree::Root;
use crate::layer::{
    Decompressor, NameRules, OwnerPolicy, UnpackError, UnpackOptions, Unpacked, is_tar_header,
    unpack,
};

/// An archive, unpacked into a filesystem of its own.
pub(super) struct Archive {
    pub(super) view: LayeredView,
    /// All of it. Directories that the archive does not name are the way to others.
    pub(super) selected: LayerSelection,
    pub(super) warnings: Vec<String>,
}

/// How archives are unpacked.
#[derive(Debug, Clone, Copy)]
pub(super) struct ArchiveOptions<'a> {
    /// What is asked before anything is written.
    pub(super) meter: &'a Meter,
    /// Whether files must have their digests.
    pub(super) digests: Digests,
    /// Whether only one user id exists: then the tree lacks owners, and what an index says of
    /// them holds.
    pub(super) single_owner: bool,
}

/// Bytes of the header that a tar begins with.
const HEADER: u64 = 512;

/// Whether ADD unpacks a selected item: whether it is a file that is a tar, plain or compressed,
/// whatever its name.
pub(in super::super) fn is_archive(root: &Path, item: &SelectedItem) -> bool {
    let own = item.entries.first().map(|own| &own.kind);
    if !matches!(own, Some(EntryKind::File { .. })) {
        return false;
    }
    let Ok(mut plain) = open(root, item).and_then(Decompressor::of_archive) else {
        return false;
    };
    match plain.start(HEADER) {
        Ok(start) => is_tar_header(&start),
        // What is cut off is no file to be copied: unpacking it will say so.
        Err(error) => plain.is_xz() && error.kind() == io::ErrorKind::UnexpectedEof,
    }
}

/// Unpacks an archive of the context into the directory `tree`, which is made. The archive must
/// still be the file that was selected.
pub(super) fn unpack_archive(
    root: &Path,
    item: &SelectedItem,
    tree: &Path,
    options: ArchiveOptions<'_>,
) -> Result<Archive, WorkError> {
    let shown = root.join(item.path.as_path());
    fs::create_dir(tree)
        .map_err(|e| failed(format_args!("cannot create {}", tree.display()), &e))?;
    let unreadable = |e: io::Error| failed(format_args!("cannot read {}", shown.display()), &e);
    let mut file = HashedFile::new(open(root, item).map_err(unreadable)?);
    let plain = Decompressor::of_archive(file.clone()).map_err(unreadable)?;
    let unpacked = unpack(
        plain,
        tree,
        UnpackOptions {
            owners: if options.single_owner {
                OwnerPolicy::IndexOnly
            } else {
                OwnerPolicy::Apply
            },
            names: NameRules::Archive,
            meter: options.meter.clone(),
        },
    );
    // An archive that was written to is told from one that is damaged.
    let found = file.digest().map_err(unreadable)?;
    let expected = item.entries.first().and_then(Entry::file_digest);
    if expected.is_some_and(|expected| expected != found) {
        let error = MaterialiseError::Changed { path: shown };
        return Err(WorkError::input(error.to_string(), error.hint()));
    }
    let unpacked = unpacked.map_err(|error| of_unpack(&shown, &error))?;
    seen(tree, unpacked, options)
}

/// The unpacked tree as something to copy from.
fn seen(
    tree: &Path,
    unpacked: Unpacked,
    options: ArchiveOptions<'_>,
) -> Result<Archive, WorkError> {
    let Unpacked {
        index,
        implied,
        warnings,
        ..
    } = unpacked;
    let layer = if options.single_owner {
        ViewLayer::Recipe(Arc::new(Recipe::of_tree(tree.to_owned(), index)))
    } else {
        ViewLayer::Tree(tree.to_owned())
    };
    let view = LayeredView::open([layer]).map_err(|error| super::of_view(&error))?;
    let mut selected =
        select(&view, "/", options.digests).map_err(|error| super::select::of_select(&error))?;
    for item in &mut selected.selection.items {
        let entries = (0..).zip(&item.entries);
        let ways = entries.filter(|(_, entry)| implied.binary_search(&entry.path).is_ok());
        item.ways = ways.map(|(place, _)| place).collect();
    }
    // Where the index is used, copying tells of what cannot be made.
    let warnings = warnings.iter().filter(|_| !options.single_owner);
    Ok(Archive {
        view,
        selected,
        warnings: warnings.map(ToString::to_string).collect(),
    })
}

fn of_unpack(archive: &Path, error: &UnpackError) -> WorkError {
    let hint = match error {
        UnpackError::Tar(_) => Some(
            "the archive is damaged, or was cut off; to copy it as it is, use COPY or \
             ADD --unpack=false"
                .to_owned(),
        ),
        _ => super::of_error(error).hint,
    };
    WorkError {
        // What cannot be written is no fault of the archive.
        input: !matches!(error, UnpackError::Write { source, .. } if super::space_hint(source).is_some()),
        message: format!(
            "cannot unpack {}: {}",
            archive.display(),
            super::chain(error)
        ),
        hint,
    }
}

fn open(root: &Path, item: &SelectedItem) -> io::Result<File> {
    Ok(File::from(Root::open(root)?.open_file(&item.path)?))
}

/// A file that is hashed while it is read.
#[derive(Debug, Clone)]
struct HashedFile {
    file: Arc<File>,
    hasher: Arc<Mutex<blake3::Hasher>>,
}

impl HashedFile {
    fn new(file: File) -> Self {
        Self {
            file: Arc::new(file),
            hasher: Arc::default(),
        }
    }

    /// The digest of the whole file, whatever was read of it so far.
    fn digest(&mut self) -> io::Result<FileDigest> {
        io::copy(self, &mut io::sink())?;
        let hasher = self.hasher.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(hasher.finalize().into())
    }
}

impl Read for HashedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.as_ref().read(buffer)?;
        let mut hasher = self.hasher.lock().unwrap_or_else(PoisonError::into_inner);
        hasher.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use ashlar_model::layer::{LayerPath, Metadata};
    use proptest::prelude::*;

    use super::*;

    /// A context that holds one archive, and a place to unpack it beside things to be left alone.
    struct Lab(tempfile::TempDir);

    impl Lab {
        fn new(archive: &[u8]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir(directory.path().join("context")).unwrap();
            fs::write(directory.path().join("context/a.tar"), archive).unwrap();
            fs::create_dir_all(directory.path().join("place/beside")).unwrap();
            fs::write(directory.path().join("place/file"), "untouched").unwrap();
            Self(directory)
        }

        fn item(digest: Option<FileDigest>) -> SelectedItem {
            SelectedItem {
                name: b"a.tar".to_vec(),
                path: LayerPath::new(b"a.tar").unwrap(),
                entries: vec![Entry {
                    path: LayerPath::ROOT,
                    kind: EntryKind::File { size: 0, digest },
                    metadata: Metadata::default(),
                }],
                ways: Vec::new(),
            }
        }

        fn unpack(&self, digest: Option<FileDigest>) -> Result<Archive, WorkError> {
            let options = ArchiveOptions {
                digests: Digests::Compute,
                single_owner: true,
                meter: &Meter::default(),
            };
            let tree = self.0.path().join("place/tree");
            let context = self.0.path().join("context");
            unpack_archive(&context, &Self::item(digest), &tree, options)
        }

        fn is_archive(&self) -> bool {
            is_archive(&self.0.path().join("context"), &Self::item(None))
        }
    }

    /// A tar of entries whose names and targets nobody has looked at.
    fn tar_of(entries: &[(u8, String, String)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, name, target) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
            header.set_entry_type(tar::EntryType::new(*kind));
            let content: &[u8] = if *kind == b'0' { b"content" } else { b"" };
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_cksum();
            builder.append(&header, content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn file(name: &str) -> (u8, String, String) {
        (b'0', name.to_owned(), String::new())
    }

    #[test]
    fn an_archive_that_changed_since_it_was_selected_is_refused() {
        let archive = tar_of(&[file("f")]);
        let lab = Lab::new(&archive);
        lab.unpack(Some(blake3::hash(&archive).into())).unwrap();
        // Also if what is there now is damaged, or has bytes after its end.
        for now in [&archive[..700], &[&archive[..], b"more"].concat()[..]] {
            let lab = Lab::new(now);
            let error = lab.unpack(Some(blake3::hash(&archive).into()));
            let error = error.map(drop).unwrap_err();
            assert!(
                error.message.ends_with("a.tar changed during the build"),
                "{error:?}"
            );
            assert!(error.input && error.hint.is_some());
        }
    }

    #[test]
    fn directories_that_the_archive_does_not_name_are_marked() {
        let lab = Lab::new(&tar_of(&[
            (b'5', "a/".into(), String::new()),
            file("a/b/c/f"),
        ]));
        let archive = lab.unpack(None).unwrap();
        let item = &archive.selected.selection.items[0];
        let marked = item.ways.iter().map(|place| &item.entries[*place].path);
        let marked: Vec<String> = marked.map(ToString::to_string).collect();
        assert_eq!(marked, ["/", "/a/b", "/a/b/c"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn no_archive_touches_anything_outside(
            entries in prop::collection::vec(
                (
                    prop::sample::select(b"01256".to_vec()),
                    "(\\.\\./|/|\\./){0,2}(a|b|\\.\\.|beside|file|\\.wh\\.a)(/(a|b|\\.\\.|f)){0,3}/?",
                    "(\\.\\./|/){0,3}(a|b|beside|file|\\.\\.)(/(a|b)){0,2}",
                ),
                1..8,
            ),
        ) {
            let lab = Lab::new(&tar_of(&entries));
            drop(lab.unpack(None));
            let place = lab.0.path().join("place");
            prop_assert_eq!(fs::read(place.join("file")).unwrap(), b"untouched");
            prop_assert_eq!(fs::read_dir(place.join("beside")).unwrap().count(), 0);
            prop_assert_eq!(fs::read_dir(&place).unwrap().count(), 3);
            prop_assert_eq!(fs::read_dir(lab.0.path()).unwrap().count(), 2);
        }

        #[test]
        fn no_change_of_an_archive_panics(at: prop::sample::Index, to: u8, length: prop::sample::Index) {
            let mut archive = tar_of(&[file("f"), (b'1', "l".into(), "f".into()), file("d/g")]);
            let at = at.index(archive.len());
            archive[at] = to;
            archive.truncate(length.index(archive.len()) + 1);
            let lab = Lab::new(&archive);
            if lab.is_archive() {
                drop(lab.unpack(None));
            }
        }
    }
}
