//! Listings and bundles that no honest client sends.

use ashlar_model::layer::{Entry, LayerPath, Metadata, Timestamp, Xattr};
use ashlar_model::step::SelectedItem;

use super::super::manifest::{Blob, Manifest, decode_listing, encode_listing};
use super::*;

/// A path as the wire has it: any bytes.
fn path(bytes: &[u8]) -> LayerPath {
    postcard::from_bytes(&postcard::to_stdvec(&bytes.to_vec()).unwrap()).unwrap()
}

fn entry(at: &[u8], kind: EntryKind) -> Entry {
    Entry {
        path: path(at),
        kind,
        metadata: Metadata::default(),
    }
}

fn file(at: &[u8], bytes: &[u8]) -> Entry {
    let kind = EntryKind::File {
        size: bytes.len() as u64,
        digest: Some(blake3::hash(bytes).into()),
    };
    entry(at, kind)
}

const DIRECTORY: EntryKind = EntryKind::Directory { opaque: false };

fn directory(entries: Vec<Entry>) -> Selection {
    let root = entry(b"", DIRECTORY);
    item(std::iter::once(root).chain(entries).collect())
}

fn item(entries: Vec<Entry>) -> Selection {
    Selection {
        items: vec![SelectedItem {
            name: Vec::new(),
            path: LayerPath::ROOT,
            entries,
            ways: Vec::new(),
        }],
    }
}

impl Lab {
    /// Puts a selection and blobs of contents there, unchecked.
    async fn put(&self, selection: &Selection, contents: &[&[u8]]) -> ContextRef {
        let listing = encode_listing(selection).unwrap();
        let mut put = Vec::new();
        for bytes in listing {
            put.push(self.put_blob(bytes).await);
        }
        let mut blobs = Vec::new();
        for bytes in contents {
            blobs.push(self.put_blob(Bytes::copy_from_slice(bytes)).await);
        }
        self.put_manifest(&Manifest::new(put, blobs)).await
    }

    async fn put_manifest(&self, manifest: &(impl Serialize + Sync)) -> ContextRef {
        let bytes = postcard::to_stdvec(manifest).unwrap();
        let digest = CasDigest::of(DigestFunction::Blake3, &bytes);
        self.put_blob(bytes.into()).await;
        ContextRef { manifest: digest }
    }

    async fn put_blob(&self, bytes: Bytes) -> Blob {
        let digest = CasDigest::of(DigestFunction::Blake3, &bytes);
        let written = self.store.write_many(vec![(digest, bytes)]).await;
        written.into_iter().collect::<Result<Vec<()>, _>>().unwrap();
        Blob::of(&digest)
    }

    async fn refuses(&self, selection: &Selection, contents: &[&[u8]]) -> ContextError {
        let reference = self.put(selection, contents).await;
        self.fetch(&reference).await.unwrap_err()
    }
}

#[tokio::test]
async fn the_honest_form_is_taken() {
    let lab = Lab::new();
    let selection = directory(vec![file(b"a", b"aa"), file(b"b", b"b")]);
    for contents in [&[b"aab".as_slice()][..], &[b"aa", b"b"]] {
        let reference = lab.put(&selection, contents).await;
        let (_, there) = lab.fetch(&reference).await.unwrap();
        assert_eq!(files(&there).len(), 2);
    }
}

#[tokio::test]
async fn no_path_leads_out() {
    let lab = Lab::new();
    let outside = lab.directory.path().join("escaped");
    for bad in [
        b"../escaped".as_slice(),
        b"a/../../escaped",
        b"/escaped",
        b"..",
        b"a//b",
        b"a/./b",
        b"a/",
        b"nul\0",
        &[b'x'; 300],
    ] {
        let bad_file = file(bad, b"x");
        let selections = [
            directory(vec![bad_file.clone()]),
            directory(vec![
                file(b"a", b"x"),
                entry(b"b", EntryKind::Hardlink(path(bad))),
            ]),
            Selection {
                items: vec![SelectedItem {
                    name: b"x".to_vec(),
                    path: path(bad),
                    entries: vec![file(b"", b"x")],
                    ways: Vec::new(),
                }],
            },
        ];
        for selection in &selections {
            let error = lab.refuses(selection, &[b"x"]).await;
            assert!(
                matches!(error, ContextError::Malformed(_)),
                "{bad:?}: {error}"
            );
        }
    }
    assert!(!outside.exists());
}

#[tokio::test]
async fn nothing_is_written_through_a_link() {
    let lab = Lab::new();
    let target = lab.directory.path().to_str().unwrap().as_bytes().to_vec();
    let link = entry(b"a", EntryKind::Symlink(target.clone()));
    // Links are in the listing and never on the disk: what is below one is a file below a directory,
    // or contradicts the listing.
    let selection = directory(vec![link, file(b"a/escaped", b"x")]);
    let reference = lab.put(&selection, &[b"x"]).await;
    drop(lab.fetch(&reference).await);
    assert!(!lab.directory.path().join("escaped").exists());

    let listing = list(&lab.store(), &reference, &Limits::default()).await;
    if let Ok(listing) = listing {
        let into = tempfile::tempdir_in(lab.directory.path()).unwrap().keep();
        symlink(lab.directory.path(), into.join("a")).unwrap();
        let fetched = fetch(&lab.store(), &listing, &into, &lab.meter, &[]).await;
        assert!(matches!(fetched, Err(ContextError::Write { .. })));
        assert!(!lab.directory.path().join("escaped").exists());
    }
}

#[tokio::test]
async fn entries_that_cannot_be_are_refused() {
    let lab = Lab::new();
    let with = |change: &dyn Fn(&mut Entry)| {
        let mut one = file(b"a", b"x");
        change(&mut one);
        directory(vec![one])
    };
    let mut ways = directory(vec![file(b"a", b"x")]);
    ways.items[0].ways = vec![1];
    let mut far = directory(vec![file(b"a", b"x")]);
    far.items[0].ways = vec![usize::MAX];
    for (selection, what) in [
        (item(Vec::new()), "nothing"),
        (item(vec![file(b"a", b"x")]), "not itself"),
        (
            item(vec![file(b"", b"x"), file(b"a", b"x")]),
            "below a file",
        ),
        (directory(vec![file(b"b", b"x"), file(b"a", b"x")]), "order"),
        (directory(vec![file(b"a", b"x"), file(b"a", b"x")]), "twice"),
        (
            directory(vec![entry(b"a", EntryKind::Whiteout)]),
            "whiteout",
        ),
        (
            directory(vec![entry(b"a", EntryKind::Directory { opaque: true })]),
            "opaque",
        ),
        (
            directory(vec![entry(b"a", EntryKind::Symlink(Vec::new()))]),
            "no target",
        ),
        (
            directory(vec![
                entry(b"a", EntryKind::Hardlink(path(b"b"))),
                file(b"b", b"x"),
            ]),
            "later",
        ),
        (
            directory(vec![entry(b"a", EntryKind::Hardlink(path(b"")))]),
            "a directory",
        ),
        (
            with(&|e| {
                e.kind = EntryKind::File {
                    size: 1,
                    digest: None,
                }
            }),
            "no digest",
        ),
        (with(&|e| e.metadata.mode = 0o100_644), "mode"),
        (
            with(&|e| {
                e.metadata.mtime = Timestamp {
                    seconds: 0,
                    nanoseconds: 1_000_000_000,
                }
            }),
            "time",
        ),
        (
            with(&|e| {
                e.metadata.xattrs = vec![Xattr {
                    name: Vec::new(),
                    value: Vec::new(),
                }];
            }),
            "attribute",
        ),
        (ways, "way"),
        (far, "far way"),
    ] {
        let error = lab.refuses(&selection, &[b"x"]).await;
        assert!(
            matches!(error, ContextError::Malformed(_)),
            "{what}: {error}"
        );
    }
}

#[tokio::test]
async fn contents_are_what_the_listing_says() {
    let lab = Lab::new();
    let selection = directory(vec![file(b"a", b"aa"), file(b"b", b"b")]);
    for contents in [
        &[b"a".as_slice(), b"ab"][..],
        &[b"aa"],
        &[b"aab", b"c"],
        &[b"a", b"a", b"b", b"b"],
        &[b"aabb"],
        &[],
    ] {
        let error = lab.refuses(&selection, contents).await;
        assert!(
            matches!(error, ContextError::Malformed(_)),
            "{contents:?}: {error}"
        );
    }
    let error = lab.refuses(&selection, &[b"aac"]).await;
    assert!(matches!(error, ContextError::Corrupt { .. }), "{error}");
    let giant = directory(vec![file(b"a", &noise(1, 3_000_000))]);
    let other = noise(2, 3_000_000);
    let (start, end) = other.split_at(1_500_000);
    let error = lab.refuses(&giant, &[start, end]).await;
    assert!(matches!(error, ContextError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn two_files_of_one_path_are_refused() {
    let lab = Lab::new();
    let mut selection = directory(vec![file(b"a", b"x")]);
    let mut other = directory(vec![file(b"a", b"y")]);
    selection.items.append(&mut other.items);
    let error = lab.refuses(&selection, &[b"xy"]).await;
    assert!(matches!(error, ContextError::Malformed(_)), "{error}");
    // The same file by two items is one.
    let mut selection = directory(vec![file(b"a", b"x")]);
    selection.items.push(selection.items[0].clone());
    let reference = lab.put(&selection, &[b"x"]).await;
    lab.fetch(&reference).await.unwrap();
}

#[tokio::test]
async fn manifests_that_are_none_are_refused() {
    let lab = Lab::new();
    let selection = directory(vec![file(b"a", b"x")]);
    let good = lab.put(&selection, &[b"x"]).await;
    let bytes = lab
        .store
        .read_many(&[good.manifest])
        .await
        .pop()
        .unwrap()
        .unwrap();
    for place in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[place] ^= 0x41;
        let digest = CasDigest::of(DigestFunction::Blake3, &changed);
        lab.put_blob(changed.into()).await;
        let refused = lab.fetch(&ContextRef { manifest: digest }).await;
        refused.unwrap_err();
    }
    let longer = [&bytes[..], b"x"].concat();
    let digest = CasDigest::of(DigestFunction::Blake3, &longer);
    lab.put_blob(longer.into()).await;
    lab.fetch(&ContextRef { manifest: digest })
        .await
        .unwrap_err();
    let huge = Blob {
        hash: [0; 32],
        size: u32::MAX,
    };
    let reference = lab
        .put_manifest(&Manifest::new(vec![huge; 100], Vec::new()))
        .await;
    let error = lab.fetch(&reference).await.unwrap_err();
    assert!(matches!(error, ContextError::Malformed(_)), "{error}");
    let large = Blob {
        hash: [0; 32],
        size: 2 << 20,
    };
    let reference = lab
        .put_manifest(&Manifest::new(vec![large; 100], Vec::new()))
        .await;
    let error = lab.fetch(&reference).await.unwrap_err();
    assert!(matches!(error, ContextError::TooLarge(_)), "{error}");
}

proptest! {
    #[test]
    fn no_listing_panics(bytes: Vec<u8>) {
        drop(decode_listing(&bytes));
        drop(Manifest::decode(&bytes));
    }
}
