use std::collections::VecDeque;
use std::fs;
use std::io::Write as _;

use ashlar_model::cas::DigestFunction;
use ashlar_model::digest::DiffId;
use ashlar_model::layer::{
    Entry, EntryKind, LayerIndex, LayerPath, LayerRecord, Metadata, Timestamp,
};
use ashlar_store::home::Home;
use proptest::prelude::*;

use super::cut::Sizes;
use super::frames::MAGIC;
use super::*;
use crate::layer::contents::{FileBytes, FileContents};
use crate::layer::tar_write::{TarOptions, write_tar};

/// All chunks of a split layer, in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Chunks {
    headers: VecDeque<Bytes>,
    contents: VecDeque<Bytes>,
}

impl Chunks {
    fn part(&mut self, part: Part) -> &mut VecDeque<Bytes> {
        match part {
            Part::Headers => &mut self.headers,
            Part::Contents => &mut self.contents,
        }
    }

    fn headers(&self) -> Vec<u8> {
        self.headers.iter().flatten().copied().collect()
    }

    fn contents(&self) -> Vec<u8> {
        self.contents.iter().flatten().copied().collect()
    }
}

impl ChunkSource for Chunks {
    fn next(&mut self, part: Part) -> io::Result<Option<Bytes>> {
        Ok(self.part(part).pop_front())
    }
}

/// Gives a few bytes at a time.
struct Slow<'a>(&'a [u8]);

impl io::Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(self.0.len()).min(777);
        let (now, later) = self.0.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.0 = later;
        Ok(count)
    }
}

fn split_bytes(tar: impl io::Read + Send) -> Chunks {
    let mut chunks = Chunks::default();
    let split = split(tar, DigestFunction::Blake3, |chunk| {
        assert_eq!(
            chunk.digest,
            CasDigest::of(DigestFunction::Blake3, &chunk.bytes)
        );
        assert!(chunk.bytes.len() <= Sizes::of(chunk.part).max);
        chunks.part(chunk.part).push_back(chunk.bytes);
        Ok::<_, ()>(())
    });
    let split = split.unwrap();
    assert_eq!(split.headers, chunks.headers().len() as u64);
    assert_eq!(split.contents, chunks.contents().len() as u64);
    assert_eq!(
        split.chunks,
        (chunks.headers.len() + chunks.contents.len()) as u64
    );
    chunks
}

/// Splits bytes and puts them together again.
#[track_caller]
fn there_and_back(tar: &[u8]) -> Chunks {
    let chunks = split_bytes(tar);
    assert_eq!(
        split_bytes(Slow(tar)),
        chunks,
        "how bytes come makes no difference"
    );
    let mut back = Vec::new();
    assemble(&mut chunks.clone(), Some(tar.len() as u64), &mut back).unwrap();
    assert!(back == tar, "{} bytes, {}", back.len(), tar.len());
    chunks
}

/// A header with its checksum, content, and zeros up to the next block.
fn entry(name: &str, flag: u8, size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_entry_type(tar::EntryType::new(flag));
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(name, b'0', content.len() as u64, content)
}

#[test]
fn contents_stand_apart_from_headers() {
    let tar = [
        file("a", b"first"),
        entry("d/", b'5', 0, b""),
        file("d/b", &[b'x'; 1024]),
        file("d/empty", b""),
        vec![0; 1024],
    ]
    .concat();
    let chunks = there_and_back(&tar);
    assert_eq!(chunks.contents(), [&b"first"[..], &[b'x'; 1024]].concat());
    let expected = [
        MAGIC,
        // Five bytes and padding: 2 * 5 + 1.
        &[0x80, 4],
        &tar[..512],
        &[11],
        &[0x80, 4],
        &tar[1024..1536],
        &[0],
        // The padding of no bytes.
        &[0x80, 4],
        &tar[1536..2048],
        &[0x81, 0x10],
        &[0x80, 4],
        &tar[3072..3584],
        &[0],
        &[0x80, 8],
        &[0; 1024],
        &[0],
    ]
    .concat();
    assert_eq!(chunks.headers(), expected);
}

#[test]
fn nothing_is_a_layer_too() {
    let chunks = there_and_back(b"");
    assert_eq!(chunks.headers, [MAGIC]);
    assert_eq!(chunks.contents, [""; 0]);
}

#[test]
fn odd_tars_come_back() {
    let large = vec![7; 3_000_000];
    let whole = [
        file("a", b"x"),
        file("large", &large),
        file("b", &[1; 511]),
        vec![0; 1024],
    ]
    .concat();
    assert_eq!(there_and_back(&whole).contents().len(), 3_000_512);
    // Cut anywhere.
    for end in [
        1, 100, 511, 512, 513, 600, 1023, 1024, 2000, 2_000_000, 3_002_048, 3_002_049,
    ] {
        there_and_back(&whole[..end]);
    }
    // Bytes where zeros belong.
    let mut padded = whole.clone();
    padded[1000] = 1;
    assert_eq!(there_and_back(&padded).contents().len(), 3_000_512);
    // Something after the end, and no end.
    there_and_back(&[&whole[..], b"more"].concat());
    there_and_back(&[&whole[..], &whole[..]].concat());
    there_and_back(&whole[..whole.len() - 1024]);
    // No tar at all.
    let contents = there_and_back(&large).contents();
    assert_eq!(contents, b"");
}

#[test]
fn sizes_in_records_count() {
    let records = b"13 size=1200\n";
    let tar = [
        entry("x", b'x', 13, records),
        entry("big", b'0', 0, &[5; 1200]),
        file("next", b"n"),
        vec![0; 1024],
    ]
    .concat();
    let chunks = there_and_back(&tar);
    assert_eq!(chunks.contents(), [&[5; 1200][..], b"n"].concat());
    // Malformed ones end what is understood.
    let tar = [
        entry("x", b'x', 13, b"99 size=1200\n"),
        file("next", b"n"),
        vec![0; 1024],
    ]
    .concat();
    assert_eq!(there_and_back(&tar).contents(), b"");
    // Sizes beyond everything.
    for size in ["18446744073709551615", "9223372036854775807"] {
        let record = format!(" size={size}\n");
        let record = format!("{}{record}", record.len() + 2);
        let tar = [
            entry("x", b'x', record.len() as u64, record.as_bytes()),
            file("a", b"b"),
        ]
        .concat();
        there_and_back(&tar);
    }
}

#[test]
fn long_names_and_sparse_files_come_back() {
    let mut name = b"n/".repeat(50_000);
    name.push(0);
    let mut sparse = entry("sparse", b'S', 700, b"");
    sparse[482] = 1;
    let mut header = tar::Header::from_byte_slice(&sparse[..512]).clone();
    header.set_cksum();
    let mut more = [0; 1024];
    more[504] = 1;
    let tar = [
        entry("././@LongLink", b'L', name.len() as u64, &name),
        file("n", b"long"),
        entry("global", b'g', 9, b"9 size=3\n"),
        header.as_bytes().to_vec(),
        more.to_vec(),
        [3; 700].to_vec(),
        [0; 324].to_vec(),
        file("last", b"l"),
        vec![0; 1024],
    ]
    .concat();
    let chunks = there_and_back(&tar);
    let expected = [&b"long"[..], &[3; 700], b"l"].concat();
    assert_eq!(chunks.contents(), expected);
}

#[test]
fn sizes_in_base_256_count() {
    let mut bytes = file("a", b"abc");
    bytes[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
    let mut header = tar::Header::from_byte_slice(&bytes[..512]).clone();
    header.set_cksum();
    bytes[..512].copy_from_slice(header.as_bytes());
    assert_eq!(there_and_back(&bytes).contents(), b"abc");
}

#[test]
fn files_written_anew_share_their_contents() {
    let tar = |time: u64, change: Option<u64>| {
        let mut builder = tar::Builder::new(Vec::new());
        for number in 0..200_u64 {
            let seed = if change == Some(number) {
                number + 1000
            } else {
                number
            };
            let mut reader = blake3::Hasher::new()
                .update(&seed.to_le_bytes())
                .finalize_xof();
            let mut content = vec![0; 20_000 + 37 * usize::try_from(number).unwrap()];
            reader.fill(&mut content);
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mtime(time);
            builder
                .append_data(&mut header, format!("f{number:04}"), &content[..])
                .unwrap();
        }
        builder.into_inner().unwrap()
    };
    let (one, two) = (
        split_bytes(&tar(1, None)[..]),
        split_bytes(&tar(2, Some(100))[..]),
    );
    assert!(one.contents.len() > 20, "{}", one.contents.len());
    let new = two.contents.iter().filter(|c| !one.contents.contains(c));
    assert!(new.count() <= 3);
}

/// The tar of a layer of Ashlar's own; what has no content is a directory.
fn canonical_tar(entries: &[(&str, Option<&[u8]>)]) -> Vec<u8> {
    struct Given<'a>(&'a [(&'a str, Option<&'a [u8]>)]);
    impl FileContents for Given<'_> {
        fn open(&self, position: usize, _: &Entry) -> io::Result<FileBytes<'_>> {
            Ok(FileBytes::Memory(self.0[position].1.unwrap()))
        }
    }
    let entry = |(path, content): &(&str, Option<&[u8]>)| Entry {
        path: LayerPath::new(path.as_bytes()).unwrap(),
        kind: match content {
            Some(content) => EntryKind::File {
                size: content.len() as u64,
                digest: None,
            },
            None => EntryKind::Directory { opaque: false },
        },
        metadata: Metadata {
            mode: if content.is_some() { 0o644 } else { 0o755 },
            mtime: Timestamp {
                seconds: 1_700_000_000,
                nanoseconds: 0,
            },
            ..Metadata::default()
        },
    };
    let index = LayerIndex::new(entries.iter().map(entry).collect());
    let mut tar = Vec::new();
    write_tar(&index, &Given(entries), TarOptions::default(), &mut tar).unwrap();
    tar
}

/// What a machine with another version of this program must agree with. `docs/formats.md` has the
/// same numbers.
#[test]
fn golden_vectors() {
    let mut large = vec![0; 1_000_000];
    blake3::Hasher::new()
        .update(b"ashlar golden vector")
        .finalize_xof()
        .fill(&mut large);
    let tar = canonical_tar(&[
        ("directory", None),
        ("directory/large", Some(&large)),
        ("small", Some(b"hello")),
    ]);
    assert_eq!(
        DiffId::of(&tar).to_string(),
        "sha256:6a279e64693d0d8e6634b0900468d9fb73dbf4b63a9a4255de6aef4bde97415a"
    );
    let chunks = there_and_back(&tar);
    let listed = |chunks: &VecDeque<Bytes>| -> Vec<String> {
        let digest = |chunk: &Bytes| CasDigest::of(DigestFunction::Blake3, chunk).to_string();
        chunks.iter().map(digest).collect()
    };
    assert_eq!(
        listed(&chunks.headers),
        ["blake3:1a3f44ffe368308190aa9f916514562b8eda5faba7f32ed5bae313db8ce6f216/2595"]
    );
    assert_eq!(
        listed(&chunks.contents),
        [
            "blake3:f660d1d3008ec610ebdd06ff8041fe03782f14e26612cd28a3c4626f076fff93/154334",
            "blake3:24f0eb254da8fcf73760a1f45bffd80b08a2b4ca48393e559e2e0f2bceeb325c/154154",
            "blake3:90a40eff8ae0e8c12b19116950cae86ac395a4259bc915874a654e2e48a0d118/183136",
            "blake3:72c064d42105edc642c85efd757d73b405629dacd473b30887f60f601439e41a/190318",
            "blake3:23dfd67a6a8db5e8dd2a526513896a325baa33488c7e30ea93ce86b5ac4dd5b7/142745",
            "blake3:3d40eac6fd9fc74118dadaa5f92ff31b959c03d31a6194640f27b01d5acac654/147476",
            "blake3:17d084bec5d355bcb58cd5a7228bf95d0d2e0b2debc342b78755d8506f31ddcf/27842"
        ]
    );
}

#[test]
fn damaged_chunks_are_refused() {
    let tar = [file("a", &[1; 5000]), file("b", b"b"), vec![0; 1024]].concat();
    let whole = split_bytes(&tar[..]);
    let size = tar.len() as u64;
    let refused = |chunks: &Chunks, size: u64| {
        let mut back = Vec::new();
        let error = assemble(&mut chunks.clone(), Some(size), &mut back).unwrap_err();
        assert!(matches!(error, AssembleError::Malformed(_)), "{error}");
        assert!(back.len() <= tar.len());
    };
    refused(&whole, size - 1);
    refused(&whole, size + 1);
    refused(&Chunks::default(), size);
    let headers = whole.headers();
    for end in 0..headers.len() {
        let mut cut = whole.clone();
        cut.headers = [Bytes::copy_from_slice(&headers[..end])].into();
        refused(&cut, size);
    }
    let mut more = whole.clone();
    more.contents.push_back(Bytes::from_static(b"x"));
    refused(&more, size);
    let mut fewer = whole.clone();
    fewer.contents.clear();
    refused(&fewer, size);
    let mut other = whole.clone();
    other.headers[0] = Bytes::from([b"ashlar split layer 2\n", &headers[21..]].concat());
    refused(&other, size);
    // Chunks of no bytes are no end.
    let mut empty = whole;
    empty.contents.push_front(Bytes::new());
    assemble(&mut empty.clone(), Some(size), &mut Vec::new()).unwrap();
    assemble(&mut empty, None, &mut Vec::new()).unwrap();
}

#[test]
fn a_sink_that_fails_ends_it() {
    let tar = [file("a", &vec![1; 20_000_000]), vec![0; 1024]].concat();
    let mut taken = 0;
    let error = split(&tar[..], DigestFunction::Sha256, |_| {
        taken += 1;
        if taken == 3 { Err("full") } else { Ok(()) }
    });
    assert!(matches!(error, Err(SplitError::Sink("full"))));
}

#[test]
fn a_tar_that_cannot_be_read_is_an_error() {
    struct Broken;
    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }
    let tar = file("a", &[1; 5000]);
    let tar = io::Read::chain(&tar[..2000], Broken);
    let split = split(tar, DigestFunction::Sha256, |_| Ok::<_, ()>(()));
    assert!(matches!(split, Err(SplitError::Read(_))), "{split:?}");
}

fn record(tar: &[u8]) -> LayerRecord {
    let read = crate::layer::index_only(tar).unwrap();
    let content = read.index.content_digest();
    LayerRecord::of_shared(read.diff_id, read.tar_size, content, Vec::new())
}

#[test]
fn a_received_layer_has_its_tar_and_its_index() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    for content in [&b"small"[..], &vec![9; 2_000_000]] {
        let tar = [file("a", content), vec![0; 1024]].concat();
        let layer = record(&tar);
        home.put_layer(&layer).unwrap();
        receive(&home, &layer, &mut split_bytes(&tar[..]), None).unwrap();
        assert!(home.holds_tar_of(&layer));
        assert_eq!(fs::read(home.tar_path(&layer.id)).unwrap(), tar);
        let index = home.layer_index(&layer.id).unwrap().unwrap();
        assert_eq!(Some(index.content_digest()), layer.content);
    }
    let scratch = fs::read_dir(directory.path().join("tmp")).unwrap();
    assert_eq!(scratch.count(), 0);
}

#[test]
fn what_is_not_the_layer_never_gets_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    let tar = [file("a", b"right"), vec![0; 1024]].concat();
    let layer = record(&tar);
    let check = |layer: &LayerRecord, mut chunks: Chunks| {
        home.put_layer(layer).unwrap();
        let error = receive(&home, layer, &mut chunks, None).unwrap_err();
        assert!(!home.tar_path(&layer.id).exists());
        assert_eq!(home.layer_index(&layer.id).unwrap(), None);
        let scratch = fs::read_dir(directory.path().join("tmp")).unwrap();
        assert_eq!(scratch.count(), 0);
        error
    };
    let other = [file("a", b"wrong"), vec![0; 1024]].concat();
    let error = check(&layer, split_bytes(&other[..]));
    assert!(
        matches!(error, ReceiveError::Wrong(WrongLayer::DiffId { .. })),
        "{error:?}"
    );
    let error = check(&layer, split_bytes(&[1; 2048][..]));
    assert!(
        matches!(error, ReceiveError::Wrong(WrongLayer::Tar(_))),
        "{error:?}"
    );
    let error = check(&layer, Chunks::default());
    assert!(
        matches!(error, ReceiveError::Wrong(WrongLayer::Chunks(_))),
        "{error:?}"
    );
    let mut lying = layer.clone();
    lying.content = Some(record(&other).content.unwrap());
    let error = check(&lying, split_bytes(&tar[..]));
    assert!(
        matches!(error, ReceiveError::Wrong(WrongLayer::Content { .. })),
        "{error:?}"
    );
    let unknown = LayerRecord::made_by_step(home.new_layer_id().unwrap());
    let error = check(&unknown, split_bytes(&tar[..]));
    assert!(
        matches!(error, ReceiveError::Wrong(WrongLayer::Unknown)),
        "{error:?}"
    );

    struct Gone;
    impl ChunkSource for Gone {
        fn next(&mut self, _: Part) -> io::Result<Option<Bytes>> {
            Err(io::Error::other("gone"))
        }
    }
    let error = receive(&home, &layer, &mut Gone, None).unwrap_err();
    assert!(matches!(error, ReceiveError::Source(_)), "{error:?}");
}

/// A tar of random entries, some of them odd.
fn any_tar() -> impl Strategy<Value = Vec<u8>> {
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..1500),
        (any::<u8>(), 0..700_000_usize).prop_map(|(byte, length)| vec![byte; length]),
    ];
    let flag = prop::sample::select(b"0000\x00123456 7xgLKSDZ".to_vec());
    let name = "[a-z./]{1,40}[a-z]";
    let entry = (name, flag, content, prop::option::of(0..5000_u64)).prop_map(
        |(name, flag, content, size)| {
            let size = size.unwrap_or(content.len() as u64);
            entry(
                name.trim_start_matches('/').replace("..", "x").as_str(),
                flag,
                size,
                &content,
            )
        },
    );
    let records =
        prop::collection::vec(("(size|path|mtime|x)", "[0-9]{0,5}"), 0..4).prop_map(|records| {
            let mut text = Vec::new();
            for (key, value) in records {
                let length = key.len() + value.len() + 4;
                let digits = if length > 9 { 1 } else { 0 };
                writeln!(text, "{} {key}={value}", length + digits).unwrap();
            }
            entry_of_records(&text)
        });
    let part = prop_oneof![4 => entry, 1 => records];
    (prop::collection::vec(part, 0..8), prop::bool::ANY).prop_map(|(entries, ends)| {
        let mut tar = entries.concat();
        if ends {
            tar.extend_from_slice(&[0; 1024]);
        }
        tar
    })
}

fn entry_of_records(text: &[u8]) -> Vec<u8> {
    entry("records", b'x', text.len() as u64, text)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        there_and_back(&bytes);
    }

    #[test]
    fn any_tar_comes_back(
        mut tar in any_tar(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        end in prop::option::of(any::<prop::sample::Index>()),
    ) {
        for (place, byte) in damage {
            if !tar.is_empty() {
                let place = place.index(tar.len());
                tar[place] = byte;
            }
        }
        let end = end.map_or(tar.len(), |end| end.index(tar.len() + 1));
        there_and_back(&tar[..end]);
    }

    /// Tars of other programs, and of this one, with names and records of all lengths: contents are
    /// found in all of them.
    #[test]
    fn contents_of_whole_tars_are_those_of_their_files(
        files in prop::collection::vec(("[a-z]{1,90}(/[a-z]{1,90}){0,3}", 0..3000_usize), 0..8),
        others_first in any::<bool>(),
    ) {
        // No file may be below another, or have its name.
        let files: Vec<(String, Vec<u8>)> = files
            .into_iter()
            .enumerate()
            .map(|(number, (name, size))| (format!("{number}/{name}"), vec![b"abcdefgh"[number]; size]))
            .collect();
        let contents: Vec<u8> = files.iter().flat_map(|(_, content)| content.clone()).collect();
        let foreign = {
            let mut builder = tar::Builder::new(Vec::new());
            for (name, content) in &files {
                let mut header = tar::Header::new_gnu();
                header.set_size(content.len() as u64);
                header.set_mode(0o600);
                if others_first {
                    builder.append_pax_extensions([("comment", &content[..])]).unwrap();
                }
                builder.append_data(&mut header, name, &content[..]).unwrap();
            }
            builder.into_inner().unwrap()
        };
        prop_assert_eq!(there_and_back(&foreign).contents(), contents.clone());
        let given: Vec<(&str, Option<&[u8]>)> = files
            .iter()
            .map(|(name, content)| (name.as_str(), Some(content.as_slice())))
            .collect();
        prop_assert_eq!(there_and_back(&canonical_tar(&given)).contents(), contents);
    }

    #[test]
    fn no_chunks_panic(
        headers in prop::collection::vec(any::<u8>(), 0..300),
        contents in prop::collection::vec(any::<u8>(), 0..300),
        size in 0..1000_u64,
    ) {
        let mut out = Vec::new();
        let headers = [MAGIC, &headers].concat();
        let mut chunks = Chunks {
            headers: [Bytes::from(headers)].into(),
            contents: [Bytes::from(contents)].into(),
        };
        let assembled = assemble(&mut chunks, Some(size), &mut out);
        prop_assert!(out.len() as u64 <= size);
        prop_assert_eq!(assembled.is_ok() && out.len() as u64 != size, false);
    }
}
