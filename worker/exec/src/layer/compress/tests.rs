use std::io::Read as _;

use super::*;

fn form(compression: Compression, level: i32) -> BlobForm {
    BlobForm { compression, level }
}

/// Text-like bytes that compress about as text does.
fn text(length: usize) -> Vec<u8> {
    let words = [
        "layer ",
        "of ",
        "cut ",
        "stone ",
        "laid ",
        "in ",
        "courses\n",
    ];
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let word = usize::try_from(state >> 60).unwrap() % words.len();
        bytes.extend_from_slice(words[word].as_bytes());
        bytes.extend_from_slice((state >> 44).to_string().as_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn compress(form: BlobForm, threads: usize, pieces: usize, bytes: &[u8]) -> Vec<u8> {
    let mut writer = CompressedWriter::new(Vec::new(), form, threads).unwrap();
    for piece in bytes.chunks(pieces) {
        writer.write_all(piece).unwrap();
        writer.flush().unwrap();
    }
    writer.finish().unwrap()
}

fn decompress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match compression {
        Compression::Uncompressed => out.extend_from_slice(bytes),
        Compression::Gzip => {
            flate2::read::MultiGzDecoder::new(bytes)
                .read_to_end(&mut out)
                .unwrap();
        }
        Compression::Zstd => out = zstd::decode_all(bytes).unwrap(),
    }
    out
}

const ALL: [Compression; 3] = [
    Compression::Uncompressed,
    Compression::Gzip,
    Compression::Zstd,
];

#[test]
fn what_was_compressed_comes_back() {
    for compression in ALL {
        for length in [0, 1, 1024 * 1024, 1024 * 1024 + 1, 3_500_000] {
            let bytes = text(length);
            let form = form(compression, default_level(compression));
            let compressed = compress(form, 2, 70_000, &bytes);
            assert!(
                decompress(compression, &compressed) == bytes,
                "{form:?} {length}"
            );
        }
    }
}

#[test]
fn threads_and_piece_sizes_do_not_change_the_result() {
    // More than two of zstd's jobs at level 3, which are 8 MiB each.
    let bytes = text(20_000_000);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let form = form(compression, default_level(compression));
        let expected = compress(form, 1, 1024 * 1024, &bytes);
        assert!(expected.len() < bytes.len() / 2);
        for (threads, pieces) in [(2, 1024 * 1024), (4, 99_991), (16, bytes.len())] {
            let other = compress(form, threads, pieces, &bytes);
            assert!(other == expected, "{form:?} {threads} {pieces}");
        }
        let mut writer = CompressedWriter::new(Vec::new(), form, 3).unwrap();
        for piece in bytes.chunks(1024 * 1024) {
            writer.write_shared(&Bytes::from(piece.to_vec())).unwrap();
        }
        assert!(writer.finish().unwrap() == expected, "{form:?} shared");
    }
}

#[test]
fn levels_that_a_format_has_not_are_refused() {
    for bad in [
        form(Compression::Gzip, 13),
        form(Compression::Gzip, -1),
        form(Compression::Zstd, 23),
    ] {
        let error = CompressedWriter::new(Vec::new(), bad, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(
            error.to_string().contains(&bad.level.to_string()),
            "{error}"
        );
    }
    for level in [1, 9, 12] {
        let bytes = text(100_000);
        let compressed = compress(form(Compression::Gzip, level), 1, 1000, &bytes);
        assert!(decompress(Compression::Gzip, &compressed) == bytes);
    }
}

/// Refuses everything.
struct Full;

impl Write for Full {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn errors_of_the_output_are_passed_on() {
    for compression in ALL {
        let form = form(compression, default_level(compression));
        let mut writer = CompressedWriter::new(Full, form, 2).unwrap();
        let error = writer
            .write_all(&text(9_000_000))
            .and_then(|()| writer.finish().map(drop))
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{compression:?}");
    }
}
