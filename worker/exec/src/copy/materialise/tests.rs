use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use ashlar_model::digest::FileDigest;
use ashlar_model::layer::{Entry, Metadata};
use tempfile::TempDir;

use super::super::fixture::{path, recipe, seconds};
use super::super::recipe::ByteSource;
use super::*;

/// Ids that this process may give to files, for ids in a fixture.
fn owned(mut layer: Recipe) -> Recipe {
    let root = rustix::process::geteuid().is_root();
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let entries = layer
        .entries
        .iter_mut()
        .map(|item| &mut item.entry.metadata);
    for metadata in entries.chain([&mut layer.root]).filter(|_| !root) {
        (metadata.uid, metadata.gid) = (uid, gid);
    }
    layer
}

/// A recipe of one file that is copied from `directory`.
fn one_file(directory: &Path, name: &str, size: u64, digest: Option<FileDigest>) -> Recipe {
    let mut layer = owned(recipe(&["f /copy 640 0:0"]));
    layer.roots = vec![directory.to_owned()];
    layer.entries[0].entry.kind = EntryKind::File { size, digest };
    layer.entries[0].source = ByteSource::Changeable {
        root: 0,
        path: path(name),
    };
    layer
}

struct Places {
    directory: TempDir,
}

impl Places {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join("source")).unwrap();
        Self { directory }
    }

    fn source(&self) -> std::path::PathBuf {
        self.directory.path().join("source")
    }

    fn tree(&self) -> std::path::PathBuf {
        self.directory.path().join("tree")
    }
}

#[test]
fn everything_is_made_with_its_metadata() {
    let places = Places::new();
    let mut layer = owned(recipe(&[
        "d /closed 555 1:2",
        "d /closed/deeper 500 3:4",
        "f /closed/deeper/file 6755 5:6 text",
        "h /closed/other /closed/deeper/file",
        "h /zz /closed/deeper/file",
        "l /link closed",
        "p /pipe 620 1:1",
        "w /gone",
        "f /empty 000 7:8",
    ]));
    layer.root.mode = 0o711;
    layer.root.mtime = seconds(77);
    let warnings = materialise(&layer, &places.tree(), &Meter::default()).unwrap();
    assert_eq!(warnings, []);

    for item in &layer.entries {
        let Entry {
            path,
            kind,
            metadata,
        } = &item.entry;
        let found = fs::symlink_metadata(places.tree().join(path.as_path())).unwrap();
        if *kind == EntryKind::Whiteout {
            assert_eq!(found.rdev(), 0);
            assert_eq!(found.mode() & 0o170_000, 0o020_000);
            continue;
        }
        let Metadata {
            mode,
            uid,
            gid,
            mtime,
            xattrs: _,
        } = metadata;
        assert_eq!(found.mode() & 0o7777, u32::from(*mode), "{path}");
        assert_eq!((found.uid(), found.gid()), (*uid, *gid), "{path}");
        assert_eq!(found.mtime(), mtime.seconds, "{path}");
    }
    let root = fs::metadata(places.tree()).unwrap();
    assert_eq!((root.mode() & 0o7777, root.mtime()), (0o711, 77));
    let inode = |name: &str| fs::metadata(places.tree().join(name)).unwrap().ino();
    assert_eq!(inode("zz"), inode("closed/deeper/file"));
    assert_eq!(inode("zz"), inode("closed/other"));
    let text = fs::read_link(places.tree().join("link")).unwrap();
    assert_eq!(text, Path::new("closed"));
    restore(&places.tree());
}

/// Lets the temporary directory be removed by an ordinary user.
fn restore(tree: &Path) {
    for directory in ["", "closed", "closed/deeper"] {
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(tree.join(directory), mode).unwrap();
    }
}

#[test]
fn files_of_every_size_are_copied_whole() {
    let places = Places::new();
    for size in [
        0,
        1,
        4096,
        131_071,
        131_072,
        131_073,
        3_000_000,
        17_000_000_u64,
    ] {
        let content: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        fs::write(places.source().join("file"), &content).unwrap();
        let digest = Some(blake3::hash(&content).into());
        let tree = places.directory.path().join(size.to_string());
        let layer = one_file(&places.source(), "file", size, digest);
        materialise(&layer, &tree, &Meter::default()).unwrap();
        assert!(fs::read(tree.join("copy")).unwrap() == content, "{size}");

        let mut trusted = layer;
        trusted.entries[0].source = ByteSource::Immutable {
            root: 0,
            path: path("file"),
            same_inode: false,
        };
        let tree = places.directory.path().join(format!("trusted-{size}"));
        materialise(&trusted, &tree, &Meter::default()).unwrap();
        assert!(fs::read(tree.join("copy")).unwrap() == content, "{size}");
    }
}

/// What is done to a file, and how.
type Change = (&'static str, fn(&Path, Vec<u8>));

#[test]
fn what_changed_since_it_was_selected_is_an_error() {
    for size in [10, 1_000_000_u64] {
        let content: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let digest = Some(blake3::hash(&content).into());
        let changes: [Change; 5] = [
            ("other bytes", |file, mut bytes| {
                bytes[5] ^= 1;
                fs::write(file, bytes).unwrap();
            }),
            ("longer", |file, mut bytes| {
                bytes.push(0);
                fs::write(file, bytes).unwrap();
            }),
            ("shorter", |file, mut bytes| {
                bytes.pop();
                fs::write(file, bytes).unwrap();
            }),
            ("gone", |_, _| {}),
            ("a link", |file, bytes| {
                fs::write(file.with_extension("x"), bytes).unwrap();
                symlink("file.x", file).unwrap();
            }),
        ];
        for (what, change) in changes {
            let places = Places::new();
            let layer = one_file(&places.source(), "file", size, digest);
            change(&places.source().join("file"), content.clone());
            let error = materialise(&layer, &places.tree(), &Meter::default()).unwrap_err();
            let shown = places.source().join("file");
            let expected = format!("{} changed during the build", shown.display());
            assert_eq!(error.to_string(), expected, "{what}");
            assert!(error.hint().is_some());
        }
    }
}

#[test]
fn files_of_layers_are_linked_when_nothing_differs() {
    let places = Places::new();
    let file = places.source().join("file");
    fs::write(&file, "text").unwrap();
    let mut layer = one_file(&places.source(), "file", 4, None);
    layer.entries[0].source = ByteSource::Immutable {
        root: 0,
        path: path("file"),
        same_inode: true,
    };
    materialise(&layer, &places.tree(), &Meter::default()).unwrap();
    let copy = fs::metadata(places.tree().join("copy")).unwrap();
    assert_eq!(copy.ino(), fs::metadata(&file).unwrap().ino());
}

#[test]
fn many_files_and_directories_are_all_made() {
    let places = Places::new();
    let lines: Vec<String> = (0..3000)
        .map(|n| match n % 3 {
            0 => format!("d /d{n} 755 0:0"),
            1 => format!("f /d{}/f{n} 644 0:0 {n}", n - 1),
            _ => format!("f /f{n} 644 0:0 {n}"),
        })
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let layer = owned(recipe(&lines));
    materialise(&layer, &places.tree(), &Meter::default()).unwrap();
    for item in &layer.entries {
        if let ByteSource::Inline(content) = &item.source {
            let made = fs::read(places.tree().join(item.entry.path.as_path())).unwrap();
            assert_eq!(made, *content);
        }
    }
}

#[test]
fn the_tree_must_be_empty_and_possible() {
    let places = Places::new();
    fs::create_dir(places.tree()).unwrap();
    fs::write(places.tree().join("copy"), "").unwrap();
    fs::write(places.source().join("file"), "text").unwrap();
    let layer = one_file(&places.source(), "file", 4, None);
    let error = materialise(&layer, &places.tree(), &Meter::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot make /copy");
    let error = materialise(&layer, Path::new("/proc/none/tree"), &Meter::default()).unwrap_err();
    assert!(matches!(error, MaterialiseError::Tree { .. }));
}

#[test]
fn owners_that_cannot_be_given_are_explained() {
    if rustix::process::geteuid().is_root() {
        println!("skipped: root can give files to all; run this as an ordinary user");
        return;
    }
    let places = Places::new();
    let layer = recipe(&["f /f 644 12345:1 x"]);
    let error = materialise(&layer, &places.tree(), &Meter::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot give /f to 12345:1");
    assert!(error.hint().unwrap().contains("subordinate"));
}

#[test]
fn recipes_are_read_without_a_tree() {
    use std::io::Read as _;

    use super::super::contents::RecipeContents;
    use crate::layer::FileContents as _;

    let places = Places::new();
    fs::write(places.source().join("file"), "text").unwrap();
    let mut layer = one_file(&places.source(), "file", 4, None);
    let mut more = recipe(&["f /inline 600 0:0 here", "d /zd 755 0:0"]).entries;
    layer.entries.append(&mut more);
    let contents = RecipeContents::open(&layer).unwrap();
    let read = |position: usize| {
        let entry = &layer.index().entries[position];
        let mut text = String::new();
        let mut bytes = contents.open(position, entry)?;
        bytes.read_to_string(&mut text)?;
        io::Result::Ok(text)
    };
    assert_eq!(read(0).unwrap(), "text");
    assert_eq!(read(1).unwrap(), "here");
    read(2).unwrap_err();
}
