use std::ops::Range;

use ashlar_model::digest::FileDigest;
use ashlar_model::layer::{Metadata, Timestamp, Xattr};
use proptest::prelude::*;

use super::*;
use crate::layer::contents::FileBytes;
use crate::layer::unpack::index_only;

/// Files whose bytes are made from their position and size.
struct Made;

fn bytes(position: usize, size: u64) -> Vec<u8> {
    let byte = u8::try_from(position % 251).unwrap();
    vec![byte; usize::try_from(size).unwrap()]
}

impl FileContents for Made {
    fn open(&self, position: usize, entry: &Entry) -> io::Result<FileBytes<'_>> {
        let EntryKind::File { size, .. } = entry.kind else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let made = io::Cursor::new(bytes(position, size));
        Ok(FileBytes::Stream(Box::new(made)))
    }
}

fn entry(path: &[u8], kind: EntryKind) -> Entry {
    Entry {
        path: LayerPath::new(path).unwrap(),
        kind,
        metadata: Metadata::default(),
    }
}

fn write(index: &LayerIndex, options: TarOptions) -> Result<Vec<u8>, TarWriteError> {
    let mut tar = Vec::new();
    let length = write_tar(index, &Made, options, &mut tar)?;
    assert_eq!(length, tar.len() as u64);
    Ok(tar)
}

fn exact() -> TarOptions {
    TarOptions {
        subsecond: true,
        verify: true,
    }
}

/// A name or link target: short and long, ASCII or not.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        8 => b'a'..b'e',
        1 => prop::sample::select(&b" \n\\-\xFF\xC3"[..]),
    ];
    prop_oneof![
        3 => prop::collection::vec(byte.clone(), 1..4),
        1 => prop::collection::vec(byte, 90..255),
    ]
}

fn path() -> impl Strategy<Value = LayerPath> {
    let names = prop::collection::vec(name(), 1..4);
    names.prop_map(|names| LayerPath::new(&names.join(&b'/')).unwrap())
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let id = || prop_oneof![Just(0), 0..70_000_u32, any::<u32>()];
    let seconds = prop_oneof![
        Just(0),
        0..2_000_000_000_i64,
        any::<i32>().prop_map(i64::from),
        any::<i64>()
    ];
    let nanoseconds = prop_oneof![Just(0), 0..1_000_000_000_u32];
    (0..0o10000_u16, id(), id(), seconds, nanoseconds).prop_map(
        |(mode, uid, gid, seconds, nanoseconds)| Metadata {
            mode,
            uid,
            gid,
            mtime: Timestamp {
                // The lowest second has no way to say half of it.
                seconds: seconds.max(-i64::MAX + 1),
                nanoseconds,
            },
            xattrs: Vec::new(),
        },
    )
}

fn xattrs() -> impl Strategy<Value = Vec<Xattr>> {
    let name = prop::sample::select(vec!["user.a", "user.overlay.opaque", "user.z z\n"]);
    let value = prop::collection::vec(any::<u8>(), 0..40);
    let xattr = (name, value).prop_map(|(name, value)| Xattr {
        name: name.into(),
        value,
    });
    prop::collection::vec(xattr, 0..3).prop_map(|mut xattrs| {
        xattrs.sort();
        xattrs.dedup_by(|a, b| a.name == b.name);
        xattrs
    })
}

fn kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        4 => (0..2000_u64).prop_map(|size| EntryKind::File { size, digest: None }),
        1 => Just(EntryKind::File { size: 300_000, digest: None }),
        2 => name().prop_map(EntryKind::Symlink),
        1 => Just(EntryKind::Fifo),
        1 => (0..4096_u32, 0..1_000_000_u32).prop_map(|(a, b)| EntryKind::CharDevice(a, b)),
        1 => Just(EntryKind::BlockDevice(8, 1)),
        1 => Just(EntryKind::Whiteout),
        3 => any::<bool>().prop_map(|opaque| EntryKind::Directory { opaque }),
    ]
}

/// A layer that makes sense: only directories have something below them, no whiteouts in opaque
/// directories, files have their digests.
fn layer() -> impl Strategy<Value = LayerIndex> {
    prop::collection::vec((path(), kind(), metadata(), xattrs()), 0..40).prop_map(|parts| {
        let mut entries: Vec<Entry> = Vec::new();
        for (path, kind, metadata, xattrs) in parts {
            let clashes = |other: &Entry| {
                let above = path.starts_with(&other.path);
                let opaque = other.kind == EntryKind::Directory { opaque: true };
                other.path == path
                    || above && (!other.is_directory() || opaque && kind == EntryKind::Whiteout)
                    || other.path.starts_with(&path)
            };
            if entries.iter().any(clashes) {
                continue;
            }
            let metadata = match &kind {
                EntryKind::Whiteout => Metadata::default(),
                EntryKind::Symlink(_) => Metadata {
                    mode: 0o777,
                    ..metadata
                },
                EntryKind::File { .. } | EntryKind::Directory { .. } => {
                    Metadata { xattrs, ..metadata }
                }
                _ => metadata,
            };
            entries.push(Entry {
                path,
                kind,
                metadata,
            });
        }
        let mut index = LayerIndex::new(entries);
        for (position, entry) in index.entries.iter_mut().enumerate() {
            if let EntryKind::File { size, digest } = &mut entry.kind {
                *digest = Some(FileDigest::from(blake3::hash(&bytes(position, *size))));
            }
        }
        index
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_written_is_read(index in layer()) {
        let tar = write(&index, exact()).unwrap();
        prop_assert_eq!(tar.len() % 512, 0);
        prop_assert_eq!(&index_only(tar.as_slice()).unwrap().index, &index);
        // A pure function.
        prop_assert!(write(&index, exact()).unwrap() == tar);
    }
}

#[test]
fn plain_entries_have_plain_headers() {
    let mut file = entry(
        b"d/f",
        EntryKind::File {
            size: 3,
            digest: None,
        },
    );
    file.metadata = Metadata {
        mode: 0o4755,
        uid: 1000,
        gid: 100,
        mtime: Timestamp {
            seconds: 1_700_000_000,
            nanoseconds: 5,
        },
        xattrs: Vec::new(),
    };
    let index = LayerIndex::new(vec![
        entry(b"d", EntryKind::Directory { opaque: false }),
        entry(b"d/gone", EntryKind::Whiteout),
        file,
    ]);
    let tar = write(&index, TarOptions::default()).unwrap();
    assert_eq!(tar.len(), 4 * 512 + 1024);
    let at =
        |block: usize, field: Range<usize>| tar[block * 512..][field].escape_ascii().to_string();

    assert_eq!(at(0, 0..4), r"d/\x00\x00");
    assert_eq!(at(0, 156..157), "5");
    assert_eq!(at(1, 0..12), r"d/.wh.gone\x00\x00");
    assert_eq!(at(1, 100..108), r"0000000\x00");
    assert_eq!(at(2, 0..4), r"d/f\x00");
    assert_eq!(at(2, 100..124), r"0004755\x000001750\x000000144\x00");
    assert_eq!(at(2, 124..148), r"00000000003\x0014524770400\x00");
    assert_eq!(at(2, 156..157), "0");
    assert_eq!(at(2, 257..265), r"ustar\x0000");
    assert_eq!(
        at(2, 265..345),
        r"\x00".repeat(64) + &r"0000000\x00".repeat(2)
    );
}

#[test]
fn opaque_directories_are_marked_directly_after_themselves() {
    let index = LayerIndex::new(vec![
        entry(b"", EntryKind::Directory { opaque: true }),
        entry(b"d", EntryKind::Directory { opaque: true }),
        entry(
            b"d/f",
            EntryKind::File {
                size: 0,
                digest: None,
            },
        ),
    ]);
    let tar = write(&index, TarOptions::default()).unwrap();
    let name = |block: usize| {
        let name = tar[block * 512..][..100].split(|b| *b == 0).next().unwrap();
        String::from_utf8(name.to_vec()).unwrap()
    };
    let names: Vec<_> = (0..5).map(name).collect();
    assert_eq!(names, ["./", ".wh..wh..opq", "d/", "d/.wh..wh..opq", "d/f"]);
}

#[test]
fn what_no_tar_can_hold_is_refused() {
    let mut strange = entry(b"f", EntryKind::Fifo);
    strange.metadata.xattrs = vec![Xattr {
        name: b"user.a=b".to_vec(),
        value: Vec::new(),
    }];
    for bad in [
        strange,
        entry(b"d/.wh.f", EntryKind::Fifo),
        entry(b".wh.f", EntryKind::Whiteout),
        entry(b"", EntryKind::Whiteout),
        entry(b"l", EntryKind::Symlink(Vec::new())),
        entry(b"l", EntryKind::Symlink(b"a\0b".to_vec())),
        entry(b"c", EntryKind::CharDevice(1 << 21, 0)),
    ] {
        let path = bad.path.to_string();
        let error = write(&LayerIndex::new(vec![bad]), TarOptions::default()).unwrap_err();
        assert!(matches!(error, TarWriteError::Unrepresentable { .. }));
        assert!(error.to_string().contains(&path), "{error}");
    }
}
