use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};

use ashlar_model::layer::EntryKind;
use tar::{EntryType, Header};

use super::*;

/// Puts a foreign tar together.
struct Foreign(Vec<u8>);

impl Foreign {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn entry(self, kind: EntryType, path: &str, link: &str, bytes: &[u8]) -> Self {
        self.owned(kind, path, link, bytes, (0, 0))
    }

    fn owned(
        mut self,
        kind: EntryType,
        path: &str,
        link: &str,
        bytes: &[u8],
        (uid, gid): (u64, u64),
    ) -> Self {
        let mut header = Header::new_ustar();
        let raw = header.as_old_mut();
        raw.name[..path.len()].copy_from_slice(path.as_bytes());
        raw.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o640);
        // As root, files must be ours for the owner not to matter.
        let own = (rustix::process::geteuid(), rustix::process::getegid());
        header.set_uid(uid + u64::from(own.0.as_raw()));
        header.set_gid(gid + u64::from(own.1.as_raw()));
        header.set_mtime(1_000_000_000);
        header.set_size(bytes.len() as u64);
        if kind == EntryType::Char {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(bytes);
        let padded = self.0.len().next_multiple_of(512);
        self.0.resize(padded, 0);
        self
    }

    fn file(self, path: &str, bytes: &str) -> Self {
        self.entry(EntryType::Regular, path, "", bytes.as_bytes())
    }

    fn directory(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, "", b"")
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, b"")
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, target, b"")
    }

    fn bytes(&self) -> Vec<u8> {
        [self.0.as_slice(), &[0; 1024]].concat()
    }

    /// Unpacks, and checks that the way without writing says the same.
    fn unpack(&self) -> (tempfile::TempDir, Result<Unpacked, UnpackError>) {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let unpacked = unpack(self.bytes().as_slice(), &tree, UnpackOptions::default());
        let indexed = index_only(self.bytes().as_slice());
        match (&unpacked, &indexed) {
            (Ok(unpacked), Ok(indexed)) => {
                assert_eq!(unpacked.index, indexed.index);
                assert_eq!(unpacked.diff_id, indexed.diff_id);
                assert_eq!(unpacked.diff_id, DiffId::of(&self.bytes()));
                assert_eq!(unpacked.tar_size, self.bytes().len() as u64);
            }
            (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
            (one, other) => panic!("{one:?}\n{other:?}"),
        }
        (directory, unpacked)
    }

    fn listed(&self) -> Vec<String> {
        let (_directory, unpacked) = self.unpack();
        list(&unpacked.unwrap())
    }

    fn error(&self) -> UnpackError {
        self.unpack().1.unwrap_err()
    }
}

fn list(unpacked: &Unpacked) -> Vec<String> {
    let show = |entry: &ashlar_model::layer::Entry| {
        let kind = match &entry.kind {
            EntryKind::File { size, digest } => {
                assert!(digest.is_some(), "{}", entry.path);
                format!("file {size}")
            }
            EntryKind::Directory { opaque: false } => "directory".to_owned(),
            EntryKind::Directory { opaque: true } => "opaque".to_owned(),
            EntryKind::Symlink(target) => format!("-> {}", target.escape_ascii()),
            EntryKind::Hardlink(target) => format!("= {target}"),
            EntryKind::CharDevice(major, minor) => format!("char {major}:{minor}"),
            EntryKind::BlockDevice(major, minor) => format!("block {major}:{minor}"),
            EntryKind::Fifo => "fifo".to_owned(),
            EntryKind::Whiteout => "whiteout".to_owned(),
        };
        format!("{} {kind}", entry.path)
    };
    unpacked.index.entries.iter().map(show).collect()
}

#[test]
fn a_tree_is_made_as_the_tar_says() {
    let (directory, unpacked) = Foreign::new()
        .directory("./")
        .directory("./a/")
        .file("a/b", "hello")
        .link("a/0", "a/b")
        .symlink("a/s", "/etc/passwd")
        .entry(EntryType::Fifo, "a/p", "", b"")
        .unpack();
    let unpacked = unpacked.unwrap();
    assert_eq!(
        list(&unpacked),
        [
            "/ directory",
            "/a directory",
            "/a/0 file 5",
            "/a/b = /a/0",
            "/a/p fifo",
            "/a/s -> /etc/passwd",
        ]
    );
    assert_eq!(unpacked.implied, []);
    let tree = directory.path().join("tree");
    assert_eq!(fs::read(tree.join("a/b")).unwrap(), b"hello");
    let (zero, b) = (tree.join("a/0"), tree.join("a/b"));
    let (zero, b) = (zero.metadata().unwrap(), b.metadata().unwrap());
    assert_eq!((zero.ino(), zero.nlink()), (b.ino(), 2));
    assert_eq!((b.mode() & 0o7777, b.mtime()), (0o640, 1_000_000_000));
    assert!(tree.join("a/p").metadata().unwrap().file_type().is_fifo());
    for path in [&tree, &tree.join("a")] {
        let metadata = path.metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
        assert_eq!(metadata.mtime(), 1_000_000_000);
    }
}

#[test]
fn whiteouts_hide_lower_layers_only_wherever_they_stand() {
    let (directory, unpacked) = Foreign::new()
        .file("etc/.wh.gone", "")
        .file("new/one", "1")
        .file("new/.wh..wh..opq", "")
        .file("new/.wh.useless", "")
        .file("again/x", "x")
        .file(".wh.again", "")
        .file("file", "f")
        .file(".wh.file", "")
        .file(".wh..wh.plnk", "")
        .unpack();
    let unpacked = unpacked.unwrap();
    assert_eq!(
        list(&unpacked),
        [
            "/again opaque",
            "/again/x file 1",
            "/etc/gone whiteout",
            "/file file 1",
            "/new opaque",
            "/new/one file 1",
        ]
    );
    let implied: Vec<_> = unpacked.implied.iter().map(LayerPath::to_string).collect();
    assert_eq!(implied, ["/", "/again", "/etc", "/new"]);
    let root = crate::layer::tree::Root::open(&directory.path().join("tree")).unwrap();
    let open = |path: &str| {
        let path = LayerPath::new(path.as_bytes()).unwrap();
        root.open_directory(&path).unwrap()
    };
    use crate::layer::tree::inode::Inode;
    use crate::layer::tree::whiteout::is_opaque;
    use std::os::fd::AsFd as _;
    assert!(is_opaque(open("new").as_fd()).unwrap());
    assert!(is_opaque(open("again").as_fd()).unwrap());
    assert!(!is_opaque(open("etc").as_fd()).unwrap());
    let gone = Inode::at(open("etc").as_fd(), b"gone").unwrap();
    assert!(gone.is_whiteout());
    assert_eq!(Inode::of(open("etc").as_fd()).unwrap().mode, 0o755);
}

#[test]
fn the_last_of_several_entries_wins() {
    let many = Foreign::new()
        .file("a", "first")
        .link("b", "a")
        .file("a", "second")
        .directory("d")
        .file("d/x", "x")
        .symlink("d/y/z", "t")
        .file("d", "now a file")
        .file("f", "now a directory")
        .directory("f")
        .file("f/g", "g")
        .symlink("s", "a")
        .file("s", "no link");
    let (directory, unpacked) = many.unpack();
    assert_eq!(
        list(&unpacked.unwrap()),
        [
            "/a file 6",
            "/b file 5",
            "/d file 10",
            "/f directory",
            "/f/g file 1",
            "/s file 7",
        ]
    );
    let read = |path: &str| fs::read_to_string(directory.path().join("tree").join(path)).unwrap();
    assert_eq!(read("a"), "second");
    assert_eq!(read("b"), "first");
    assert_eq!(read("s"), "no link");
}

#[test]
fn links_on_the_way_are_followed_within_the_root() {
    let foreign = Foreign::new()
        .directory("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("out", "/../../../../../../../tmp")
        .symlink("up", "../..")
        .file("lib/inside", "1")
        .file("out/inside", "2")
        .file("up/inside", "3")
        .link("linked", "lib/inside");
    let (directory, unpacked) = foreign.unpack();
    assert_eq!(
        list(&unpacked.unwrap()),
        [
            "/inside file 1",
            "/lib -> usr/lib",
            "/linked file 1",
            "/out -> /../../../../../../../tmp",
            "/tmp/inside file 1",
            "/up -> ../..",
            "/usr/lib directory",
            "/usr/lib/inside = /linked",
        ]
    );
    let tree = directory.path().join("tree");
    assert_eq!(fs::read(tree.join("usr/lib/inside")).unwrap(), b"1");
    assert_eq!(fs::read(tree.join("tmp/inside")).unwrap(), b"2");
    assert!(!Path::new("/tmp/inside").exists());
    // Nothing but the tree was made.
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn names_that_escape_or_make_no_sense_are_refused() {
    assert!(matches!(
        Foreign::new().file("../x", "").error(),
        UnpackError::Path(_)
    ));
    assert!(matches!(
        Foreign::new().file("a/../../x", "").error(),
        UnpackError::Path(_)
    ));
    assert!(matches!(
        Foreign::new().link("a", "../../etc/passwd").error(),
        UnpackError::Path(_)
    ));
    for whiteout in [".wh.", ".wh..", ".wh...", "a/.wh.b/c", ".wh.a/.wh.b"] {
        let error = Foreign::new().file(whiteout, "").error();
        assert!(matches!(error, UnpackError::Whiteout { .. }), "{whiteout}");
    }
    for root in ["", "/", "./", "."] {
        let error = Foreign::new().file(root, "x").error();
        assert!(matches!(error, UnpackError::Root), "{root}");
    }
    assert!(matches!(
        Foreign::new().file("a", "").file("a/b", "").error(),
        UnpackError::NotADirectory { .. }
    ));
    assert!(matches!(
        Foreign::new()
            .symlink("a", "b")
            .symlink("b", "a")
            .file("a/x", "")
            .error(),
        UnpackError::LinkLoop { .. }
    ));
    // An absolute name is one from the root.
    assert_eq!(
        Foreign::new().file("/abs/x", "").listed(),
        ["/abs/x file 0"]
    );
}

#[test]
fn hard_links_stay_in_the_layer() {
    for (path, target) in [
        ("a", "missing"),
        ("a", "/etc/passwd"),
        ("a", "a"),
        ("a", "d"),
    ] {
        let error = Foreign::new().directory("d").link(path, target).error();
        assert!(matches!(error, UnpackError::LinkTarget { .. }), "{target}");
    }
    // To the link itself, not to what it points to.
    let linked = Foreign::new()
        .symlink("s", "/etc/passwd")
        .link("t", "/s")
        .listed();
    assert_eq!(linked, ["/s -> /etc/passwd", "/t -> /etc/passwd"]);
}

#[test]
fn the_first_name_in_order_is_the_file_whatever_the_tar_says() {
    let foreign = Foreign::new().file("z", "z").link("m", "z").link("a", "m");
    assert_eq!(foreign.listed(), ["/a file 1", "/m = /a", "/z = /a"]);
}

#[test]
fn a_truncated_tar_is_an_error_wherever_it_ends() {
    let whole = Foreign::new().file("a", "hello").bytes();
    for length in 1..1024 {
        let result = index_only(&whole[..length]);
        assert_eq!(result.is_ok(), length == 0, "{length}");
    }
    // The zeros at the end may be missing.
    for length in [1024, 1536, 2048] {
        index_only(&whole[..length]).unwrap();
    }
}

#[test]
fn owners_are_refused_or_kept_in_the_index_with_one_id() {
    let bytes = Foreign::new()
        .file("mine", "")
        .owned(EntryType::Regular, "other", "", b"", (33, 44))
        .owned(EntryType::Regular, "third", "", b"", (33, 44))
        .bytes();
    let try_with = |owners| {
        let directory = tempfile::tempdir().unwrap();
        unpack(
            bytes.as_slice(),
            directory.path(),
            UnpackOptions {
                owners,
                ..UnpackOptions::default()
            },
        )
    };
    let own = rustix::process::geteuid().as_raw();
    match try_with(OwnerPolicy::Refuse).unwrap_err() {
        UnpackError::OtherOwner { path, uid, .. } => {
            assert_eq!((path.to_string(), uid), ("/other".to_owned(), own + 33));
        }
        other => panic!("{other}"),
    }
    let kept = try_with(OwnerPolicy::IndexOnly).unwrap();
    let owners: Vec<u32> = kept.index.entries.iter().map(|e| e.metadata.uid).collect();
    assert_eq!(owners, [own, own + 33, own + 33]);
    assert!(
        matches!(kept.warnings.as_slice(), [Warning::OwnersNotApplied { path, count: 2, .. }]
            if path.to_string() == "/other")
    );
}

#[test]
fn a_tree_must_be_empty() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("x"), "").unwrap();
    let error = unpack(&[0; 1024][..], directory.path(), UnpackOptions::default());
    assert!(matches!(error, Err(UnpackError::NotEmpty { .. })));
}

#[test]
fn an_empty_tar_is_an_empty_layer() {
    for bytes in [&[][..], &[0; 512], &[0; 1024], &[0; 10240]] {
        let unpacked = index_only(bytes).unwrap();
        assert_eq!(unpacked.index, LayerIndex::default());
        assert_eq!(unpacked.diff_id, DiffId::of(bytes));
    }
}
