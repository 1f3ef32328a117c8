//! A layer's tar with no time after a given one: what `rewrite-timestamp` of an output asks for.
//!
//! Nothing else of the tar changes, so that two builds of the same files at different times give
//! the same bytes. Times are in the header of each entry, and in a PAX record `mtime` before it if
//! they do not fit there.

use std::io::{self, Read, Write};
use std::path::Path;

use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::{BlobDigest, DiffId};
use ashlar_model::executor::BlobForm;
use ashlar_store::home::Home;
use sha2::{Digest as _, Sha256};

use super::compress::{CompressedWriter, HashingWriter};
use super::decompress::Decompressor;

const BLOCK: usize = 512;
/// Fields of a header, as POSIX has them: `pax` Interchange Format.
const SIZE: std::ops::Range<usize> = 124..136;
const MTIME: std::ops::Range<usize> = 136..148;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const KIND: usize = 156;
/// More of them for one entry are no records but an attack.
const MAX_RECORDS: u64 = 1024 * 1024;

/// A layer after its times were bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retimed {
    /// Digest of its tar.
    pub diff_id: DiffId,
    /// Its blob, which the store has.
    pub blob: Descriptor,
}

/// Makes a blob of a layer from one that is there, with no time after `latest` (seconds since
/// 1970).
///
/// # Errors
///
/// If the blob cannot be read or is no tar, or the new one cannot be written.
pub fn retimed(home: &Home, blob: &Path, latest: i64, form: BlobForm) -> io::Result<Retimed> {
    let mut tar = Decompressor::new(std::fs::File::open(blob)?)?;
    let scratch = home.scratch().map_err(io::Error::other)?;
    let path = scratch.path().join("blob");
    let file = io::BufWriter::new(std::fs::File::create_new(&path)?);
    let threads = super::PackOptions::default().threads;
    let compressed = CompressedWriter::new(HashingWriter::new(file), form, threads)?;
    let mut out = Hashed {
        writer: compressed,
        hasher: Sha256::new(),
    };
    bound_times(&mut tar, latest, &mut out)?;
    let diff_id = DiffId::from_bytes(out.hasher.finalize().into());
    let (mut file, digest, size) = out.writer.finish()?.finish();
    file.flush()?;
    let digest: BlobDigest = digest;
    home.blobs()
        .adopt(&path, &digest)
        .map_err(io::Error::other)?;
    // Empty now; if not, it is swept later.
    let _ignored = std::fs::remove_dir(scratch.path());
    let media_type = form.compression.oci_media_type();
    Ok(Retimed {
        diff_id,
        blob: Descriptor::new(media_type, digest, size),
    })
}

/// Hashes what it passes on.
struct Hashed<W> {
    writer: W,
    hasher: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.writer.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or(bytes));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Copies a tar, entry by entry.
fn bound_times(tar: &mut impl Read, latest: i64, out: &mut impl Write) -> io::Result<()> {
    let mut header = [0; BLOCK];
    let mut late_record = false;
    loop {
        if !read_block(tar, &mut header)? {
            return Ok(());
        }
        if header.iter().all(|byte| *byte == 0) {
            // The end: this block, another one, and padding.
            out.write_all(&header)?;
            return io::copy(tar, out).map(drop);
        }
        let size = number(&header[SIZE]).and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or_else(|| bad("an entry's size is no number"))?;
        let kind = header[KIND];
        if kind == b'x' {
            let records = read_records(tar, size)?;
            let kept = without_late_time(&records, latest)?;
            late_record = kept.len() != records.len();
            if !kept.is_empty() {
                write_octal(&mut header[SIZE], kept.len() as u64);
                write_entry(&mut header, &kept, out)?;
            }
            continue;
        }
        if kind != b'g' {
            let time = number(&header[MTIME]).ok_or_else(|| bad("an entry's time is no number"))?;
            if late_record || time > latest {
                write_time(&mut header[MTIME], latest);
                write_checksum(&mut header);
            }
            late_record = false;
        }
        out.write_all(&header)?;
        let padded = size.div_ceil(BLOCK as u64) * BLOCK as u64;
        let copied = io::copy(&mut tar.take(padded), out)?;
        if copied != padded {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads a block; `false` at the end.
fn read_block(tar: &mut impl Read, block: &mut [u8; BLOCK]) -> io::Result<bool> {
    let mut filled = 0;
    while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match tar.read(rest) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn read_records(tar: &mut impl Read, size: u64) -> io::Result<Vec<u8>> {
    if size > MAX_RECORDS {
        return Err(bad("an entry has too many records"));
    }
    let mut body = Vec::new();
    tar.take(size.div_ceil(BLOCK as u64) * BLOCK as u64)
        .read_to_end(&mut body)?;
    let length = usize::try_from(size).unwrap_or(usize::MAX);
    if body.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    body.truncate(length);
    Ok(body)
}

/// PAX records (`LENGTH NAME=VALUE\n`) without a time after `latest`.
fn without_late_time(records: &[u8], latest: i64) -> io::Result<Vec<u8>> {
    let mut kept = Vec::with_capacity(records.len());
    let mut rest = records;
    while !rest.is_empty() {
        let broken = || bad("an entry's records are broken");
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let length = std::str::from_utf8(&rest[..digits])
            .ok()
            .and_then(|digits| digits.parse::<usize>().ok())
            .filter(|length| *length > digits)
            .ok_or_else(broken)?;
        let (record, following) = rest.split_at_checked(length).ok_or_else(broken)?;
        let time = record
            .get(digits..)
            .and_then(|text| text.strip_prefix(b" mtime="));
        let seconds = time
            .and_then(|text| std::str::from_utf8(text).ok())
            .and_then(|text| text.trim_end().parse::<f64>().ok());
        #[expect(
            clippy::cast_precision_loss,
            reason = "times of files are far below 2^53"
        )]
        let late = seconds.is_some_and(|seconds| seconds > latest as f64);
        if !late {
            kept.extend_from_slice(record);
        }
        rest = following;
    }
    Ok(kept)
}

/// A number of a header: octal digits, or binary behind a bit that says so.
fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (index, byte) in field.iter().enumerate() {
            let byte = if index == 0 && !negative {
                byte & 0x7f
            } else {
                *byte
            };
            value = (value << 8) | i128::from(byte);
        }
        return i64::try_from(value).ok();
    }
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_matches(['\0', ' ']);
    if digits.is_empty() {
        return Some(0);
    }
    i64::from_str_radix(digits, 8).ok()
}

fn write_octal(field: &mut [u8], number: u64) {
    let digits = field.len().saturating_sub(1);
    let text = format!("{number:0digits$o}\0");
    field.copy_from_slice(text.get(..field.len()).unwrap_or_default().as_bytes());
}

fn write_time(field: &mut [u8], seconds: i64) {
    match u64::try_from(seconds) {
        Ok(seconds) if seconds < 1 << 33 => write_octal(field, seconds),
        _ => {
            field.fill(if seconds < 0 { 0xff } else { 0 });
            let bytes = seconds.to_be_bytes();
            let start = field.len() - bytes.len();
            field[start..].copy_from_slice(&bytes);
            field[0] |= 0x80;
        }
    }
}

fn write_checksum(header: &mut [u8; BLOCK]) {
    header[CHECKSUM].fill(b' ');
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    header[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Writes a header with its checksum, a body and what pads it.
fn write_entry(header: &mut [u8; BLOCK], body: &[u8], out: &mut impl Write) -> io::Result<()> {
    write_checksum(header);
    out.write_all(header)?;
    out.write_all(body)?;
    let padding = body.len().next_multiple_of(BLOCK) - body.len();
    out.write_all(&[0; BLOCK][..padding])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(builder: &mut tar::Builder<Vec<u8>>, name: &str, time: u64, body: &[u8]) {
        let mut header = tar::Header::new_ustar();
        header.set_size(body.len() as u64);
        header.set_mtime(time);
        header.set_mode(0o640);
        builder.append_data(&mut header, name, body).unwrap();
    }

    fn times(tar: &[u8]) -> Vec<(String, u64, Vec<u8>)> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut body = Vec::new();
            entry.read_to_end(&mut body).unwrap();
            let path = entry.path().unwrap().display().to_string();
            (path, entry.header().mtime().unwrap(), body)
        });
        entries.collect()
    }

    fn bounded(tar: &[u8], latest: i64) -> Vec<u8> {
        let mut out = Vec::new();
        bound_times(&mut &tar[..], latest, &mut out).unwrap();
        out
    }

    #[test]
    fn later_times_are_bounded_and_all_else_stays() {
        let mut builder = tar::Builder::new(Vec::new());
        entry(&mut builder, "early", 5, b"one");
        entry(&mut builder, "late", 50, &[7; 1000]);
        entry(&mut builder, &"long/".repeat(60), 50, b"");
        let tar = builder.into_inner().unwrap();
        let out = bounded(&tar, 9);
        let found = times(&out);
        assert_eq!(found[0], ("early".to_owned(), 5, b"one".to_vec()));
        assert_eq!(found[1], ("late".to_owned(), 9, vec![7; 1000]));
        assert_eq!(found[2].1, 9);
        assert_eq!(out.len(), tar.len());
        assert_eq!(
            bounded(&tar, 50),
            tar,
            "nothing to be done, nothing changed"
        );
        assert_eq!(bounded(&out, 9), out);
    }

    #[test]
    fn records_of_late_times_are_dropped() {
        let mut builder = tar::Builder::new(Vec::new());
        let records = [("mtime", &b"8589934593.25"[..]), ("comment", &b"kept"[..])];
        builder.append_pax_extensions(records).unwrap();
        entry(&mut builder, "a", 0, b"a");
        builder
            .append_pax_extensions([("mtime", &b"99"[..])])
            .unwrap();
        entry(&mut builder, "b", 0, b"b");
        builder
            .append_pax_extensions([("mtime", &b"-3"[..])])
            .unwrap();
        entry(&mut builder, "c", 0, b"c");
        let out = bounded(&builder.into_inner().unwrap(), 9);
        let mut archive = tar::Archive::new(&out[..]);
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut names = Vec::new();
            if let Some(records) = entry.pax_extensions().unwrap() {
                names.extend(records.map(|record| record.unwrap().key().unwrap().to_owned()));
            }
            seen.push((names.join(" "), entry.header().mtime().unwrap()));
        }
        let expected = [("comment", 9), ("", 9), ("mtime", 0)];
        assert_eq!(seen, expected.map(|(names, time)| (names.to_owned(), time)));
    }

    #[test]
    fn numbers_are_octal_or_binary() {
        for seconds in [
            0,
            1,
            1_700_000_000,
            (1 << 33) - 1,
            1 << 33,
            i64::MAX,
            -1,
            i64::MIN,
        ] {
            let mut field = [0; 12];
            write_time(&mut field, seconds);
            assert_eq!(number(&field), Some(seconds));
        }
        assert_eq!(number(b"nonsense\0"), None);
    }

    #[test]
    fn what_is_no_tar_is_an_error() {
        for bytes in [&[1; 512][..], &[1; 100]] {
            bound_times(&mut &bytes[..], 9, &mut Vec::new()).unwrap_err();
        }
        let mut builder = tar::Builder::new(Vec::new());
        entry(&mut builder, "a", 1, &[1; 2000]);
        let tar = builder.into_inner().unwrap();
        bound_times(&mut &tar[..1000], 9, &mut Vec::new()).unwrap_err();
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(0_u8..=255, 0..2000)) {
            let _either_way = bound_times(&mut &bytes[..], 9, &mut Vec::new());
        }
    }
}
