//! Compressed input, whose format is found out by looking at the first bytes.
//!
//! | format | layers | archives of ADD |
//! |---|---|---|
//! | plain, gzip (all members), zstd (all frames) | x | x |
//! | xz (all streams), bzip2 (all streams) | | x |

use std::fmt;
use std::io::{self, BufReader, Chain, Cursor, Read};

use ashlar_model::media_type::Compression;
use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

/// Bytes read at a time.
const PIECE: usize = 256 * 1024;

/// Bytes that tell the formats apart.
const LONGEST_MAGIC: u64 = 6;

/// KiB that decoding xz may take: the largest dictionary of xz(1) is 1.5 GiB, that of its usual
/// levels 64 MiB at most.
const XZ_MEMORY: u32 = 1_600_000;

/// First bytes of formats, and their names, that are not read.
const UNSUPPORTED: [(&[u8], &str); 2] = [(b"\x04\x22\x4d\x18", "lz4"), (b"PK\x03\x04", "zip")];

/// The bytes that were looked at, and the rest.
type Input<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    /// As layers may be.
    Layer(Compression),
    Xz,
    Bzip2,
}

/// Decompresses what it reads.
pub struct Decompressor<R: Read> {
    format: Format<R>,
    codec: Codec,
    /// How many more bytes may come, and how many may in all.
    limit: Option<(u64, u64)>,
    /// Whether an error was given: no decoder is asked again after that.
    failed: bool,
}

enum Format<R: Read> {
    Plain(Input<R>),
    Gzip(Box<MultiGzDecoder<Input<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Input<R>>),
    Xz(Box<XzReader<Input<R>>>),
    Bzip2(Box<MultiBzDecoder<Input<R>>>),
}

impl<R: Read> Decompressor<R> {
    /// Looks at the first bytes of a layer.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a compression that layers do not come in.
    pub fn new(input: R) -> io::Result<Self> {
        Self::of_formats(input, |codec| match codec {
            Codec::Layer(_) => None,
            Codec::Xz => Some("xz"),
            Codec::Bzip2 => Some("bzip2"),
        })
    }

    /// Looks at the first bytes of an archive, which may come in more formats.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a compression that is not known here.
    pub fn of_archive(input: R) -> io::Result<Self> {
        Self::of_formats(input, |_| None)
    }

    fn of_formats(
        mut input: R,
        refused: impl Fn(Codec) -> Option<&'static str>,
    ) -> io::Result<Self> {
        let mut first = Vec::new();
        input.by_ref().take(LONGEST_MAGIC).read_to_end(&mut first)?;
        let codec = sniff(&first)?;
        if let Some(name) = refused(codec) {
            return Err(unsupported(name));
        }
        let input = BufReader::with_capacity(PIECE, Cursor::new(first).chain(input));
        let format = match codec {
            Codec::Layer(Compression::Uncompressed) => Format::Plain(input),
            Codec::Layer(Compression::Gzip) => Format::Gzip(Box::new(MultiGzDecoder::new(input))),
            Codec::Layer(Compression::Zstd) => {
                Format::Zstd(zstd::stream::read::Decoder::with_buffer(input)?)
            }
            Codec::Xz => Format::Xz(Box::new(XzReader::new_mem_limit(input, true, XZ_MEMORY))),
            Codec::Bzip2 => Format::Bzip2(Box::new(MultiBzDecoder::new(input))),
        };
        Ok(Self {
            format,
            codec,
            limit: None,
            failed: false,
        })
    }

    /// Fails when more than `bytes` bytes come out: of a layer whose size is known, or of one
    /// that is not trusted to have a sane one.
    #[must_use]
    pub fn with_limit(mut self, bytes: u64) -> Self {
        self.limit = Some((bytes, bytes));
        self
    }

    /// What the input was found to be, if it is a form that layers have.
    pub const fn compression(&self) -> Option<Compression> {
        match self.codec {
            Codec::Layer(compression) => Some(compression),
            Codec::Xz | Codec::Bzip2 => None,
        }
    }

    /// The first bytes that come out: as many as `wanted`, or fewer if there are no more.
    pub fn start(&mut self, wanted: u64) -> io::Result<Vec<u8>> {
        let mut start = Vec::new();
        self.take(wanted).read_to_end(&mut start)?;
        Ok(start)
    }

    /// Whether the input is xz. Its decoder gives nothing of a piece (up to 2 MiB) that is cut
    /// off, where that of xz(1) gives what there is.
    pub fn is_xz(&self) -> bool {
        self.codec == Codec::Xz
    }
}

fn sniff(first: &[u8]) -> io::Result<Codec> {
    if first.starts_with(b"\x1f\x8b") {
        return Ok(Codec::Layer(Compression::Gzip));
    }
    if first.starts_with(b"\xfd7zXZ\0") {
        return Ok(Codec::Xz);
    }
    // With the level, so that a text that begins so is none.
    if matches!(first, [b'B', b'Z', b'h', b'1'..=b'9', ..]) {
        return Ok(Codec::Bzip2);
    }
    let is_skippable = |magic: [u8; 4]| u32::from_le_bytes(magic) & 0xFFFF_FFF0 == 0x184D_2A50;
    if let Some(magic) = first.first_chunk::<4>()
        && (*magic == *b"\x28\xb5\x2f\xfd" || is_skippable(*magic))
    {
        return Ok(Codec::Layer(Compression::Zstd));
    }
    let mut unknown = UNSUPPORTED.iter();
    match unknown.find(|(magic, _)| first.starts_with(magic)) {
        None => Ok(Codec::Layer(Compression::Uncompressed)),
        Some((_, name)) => Err(unsupported(name)),
    }
}

fn unsupported(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!("compressed with {name}; layers are gzip, zstd or plain tar"),
    )
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failed {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let read = match &mut self.format {
            Format::Plain(input) => input.read(buffer),
            Format::Gzip(input) => input.read(buffer),
            Format::Zstd(input) => input.read(buffer),
            Format::Xz(input) => input.read(buffer),
            Format::Bzip2(input) => input.read(buffer),
        };
        self.failed = matches!(&read, Err(error) if error.kind() != io::ErrorKind::Interrupted);
        let count = read?;
        if let Some((left, whole)) = &mut self.limit {
            *left = left.checked_sub(count as u64).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("decompresses to more than the {whole} bytes that it should"),
                )
            })?;
        }
        Ok(count)
    }
}

impl<R: Read> fmt::Debug for Decompressor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor")
            .field("codec", &self.codec)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    /// Gives one byte at a time.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(1);
            self.0.read(&mut buffer[..count])
        }
    }

    fn read(input: impl Read) -> io::Result<(Compression, Vec<u8>)> {
        let mut decompressor = Decompressor::new(input)?;
        let mut bytes = Vec::new();
        decompressor.read_to_end(&mut bytes)?;
        Ok((decompressor.compression().unwrap(), bytes))
    }

    #[test]
    fn formats_are_told_apart() {
        let text = b"some bytes of a layer";
        let skippable = [&b"\x50\x2a\x4d\x18\x02\0\0\0xx"[..], &zstd(text)].concat();
        for (compression, input) in [
            (Compression::Uncompressed, text.to_vec()),
            (Compression::Gzip, gzip(text)),
            (Compression::Zstd, zstd(text)),
            (Compression::Zstd, skippable),
        ] {
            let expected = (compression, text.to_vec());
            assert_eq!(read(input.as_slice()).unwrap(), expected);
            assert_eq!(read(Drip(&input)).unwrap(), expected);
        }
        let empty = (Compression::Uncompressed, Vec::new());
        assert_eq!(read(io::empty()).unwrap(), empty);
    }

    #[test]
    fn members_and_frames_are_joined() {
        for (first, second) in [(gzip(b"one "), gzip(b"two")), (zstd(b"one "), zstd(b"two"))] {
            let (_, bytes) = read([first, second].concat().as_slice()).unwrap();
            assert_eq!(bytes, b"one two");
        }
    }

    #[test]
    fn other_formats_are_named() {
        let error = read(&b"\xfd7zXZ\0..."[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains("xz"), "{error}");
    }

    #[test]
    fn truncated_input_is_an_error() {
        for whole in [gzip(&[7; 5000]), zstd(&[7; 5000])] {
            for length in 7..whole.len() {
                read(&whole[..length]).unwrap_err();
            }
        }
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let options = lzma_rust2::XzOptions::with_preset(1);
        let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read_archive(input: impl Read) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        Decompressor::of_archive(input)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn archives_come_in_more_formats() {
        let text = b"some bytes of an archive".repeat(1000);
        for compress in [gzip, zstd, xz, bzip2] {
            let whole = compress(&text);
            assert_eq!(read_archive(whole.as_slice()).unwrap(), text);
            assert_eq!(read_archive(Drip(&whole)).unwrap(), text);
            let two = [compress(b"one "), compress(b"two")].concat();
            assert_eq!(read_archive(two.as_slice()).unwrap(), b"one two");
        }
        let padded = [xz(b"one "), vec![0; 8], xz(b"two"), vec![0; 4]].concat();
        assert_eq!(read_archive(padded.as_slice()).unwrap(), b"one two");
        assert_eq!(read_archive(&b"BZh is text"[..]).unwrap(), b"BZh is text");
    }

    #[test]
    fn truncated_and_damaged_archives_are_errors() {
        let text: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
        for compress in [gzip, zstd, xz, bzip2] {
            let whole = compress(&text);
            for length in (7..whole.len()).step_by(97) {
                read_archive(&whole[..length]).unwrap_err();
            }
            let mut damaged = whole.clone();
            let middle = damaged.len() / 2;
            damaged[middle] ^= 0x55;
            // Whatever a format notices when: what comes out is never taken for what went in.
            assert_ne!(read_archive(damaged.as_slice()).ok(), Some(text.clone()));
        }
    }

    #[test]
    fn a_dictionary_too_large_for_memory_is_refused() {
        let mut bytes = xz(b"text");
        // The dictionary's size in the block's header (12 bytes of stream header, then size,
        // flags, filter, length of its properties): 40 is 4 GiB less one.
        bytes[16] = 40;
        let checksum = crc32(&bytes[12..20]);
        bytes[20..24].copy_from_slice(&checksum.to_le_bytes());
        let error = read_archive(bytes.as_slice()).unwrap_err();
        assert!(error.to_string().contains("memory"), "{error}");
    }

    /// CRC-32 as xz has it (IEEE 802.3), bit by bit.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
            })
        })
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(kind in 0..4_usize, mut rest: Vec<u8>) {
            let magic: [&[u8]; 4] = [b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh9"];
            let mut bytes = magic[kind].to_vec();
            bytes.append(&mut rest);
            drop(read_archive(bytes.as_slice()));
        }

        #[test]
        fn no_change_panics(kind in 0..4_usize, at: proptest::sample::Index, to: u8) {
            let compress = [gzip, zstd, xz, bzip2][kind];
            let mut bytes = compress(&b"text to compress ".repeat(50));
            let at = at.index(bytes.len());
            bytes[at] = to;
            drop(read_archive(bytes.as_slice()));
        }
    }

    #[test]
    fn bombs_stop_at_the_limit() {
        let zeros = vec![0; 1_000_000];
        for input in [gzip(&zeros), zstd(&zeros), zeros.clone()] {
            let read = |limit| {
                let decompressor = Decompressor::new(input.as_slice()).unwrap();
                io::copy(&mut decompressor.with_limit(limit), &mut io::sink())
            };
            assert_eq!(read(1_000_000).unwrap(), 1_000_000);
            let error = read(999_999).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        }
    }
}
