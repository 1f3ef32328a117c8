use std::io;
use std::sync::Mutex;

use ashlar_model::layer::{Entry, EntryKind, LayerPath, Metadata};
use ashlar_model::media_type::Compression;

use super::*;
use crate::layer::contents::FileBytes;
use crate::layer::decompress::Decompressor;
use crate::layer::tar_write::TarWriteError;

/// Files of one byte each, repeated.
struct Repeated;

impl FileContents for Repeated {
    fn open(&self, _position: usize, entry: &Entry) -> io::Result<FileBytes<'_>> {
        let EntryKind::File { size, .. } = entry.kind else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let byte = entry.path.as_bytes()[0];
        let bytes = io::Read::take(io::repeat(byte), size);
        Ok(FileBytes::Stream(Box::new(bytes)))
    }
}

fn index(sizes: &[u64]) -> LayerIndex {
    let entry = |(number, size): (usize, &u64)| Entry {
        path: LayerPath::new(format!("{number:04}").as_bytes()).unwrap(),
        kind: EntryKind::File {
            size: *size,
            digest: None,
        },
        metadata: Metadata::default(),
    };
    LayerIndex::new(sizes.iter().enumerate().map(entry).collect())
}

fn blob(compression: Compression) -> PackTarget {
    PackTarget::Blob(BlobForm {
        compression,
        level: 1,
    })
}

/// A writer whose bytes can be looked at afterwards.
#[derive(Default)]
struct Shared(Mutex<Vec<u8>>);

impl Write for &Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn everything_is_made_of_the_same_bytes() {
    for sizes in [&[][..], &[5], &[100; 300], &[3_000_000, 10, 2_500_000]] {
        let targets = [
            PackTarget::Tar,
            blob(Compression::Gzip),
            blob(Compression::Zstd),
            blob(Compression::Uncompressed),
        ];
        let written: Vec<Shared> = targets.iter().map(|_| Shared::default()).collect();
        let outputs = targets
            .iter()
            .zip(&written)
            .map(|(target, out)| PackOutput::new(*target, out))
            .collect();
        let packed = pack(&index(sizes), &Repeated, outputs, PackOptions::default()).unwrap();
        let tar = written[0].0.lock().unwrap().clone();
        assert_eq!(packed.diff_id, DiffId::of(&tar));
        assert_eq!(packed.tar_size, tar.len() as u64);
        assert_eq!(packed.blobs.len(), 3);
        for (blob, out) in packed.blobs.iter().zip(&written[1..]) {
            let bytes = out.0.lock().unwrap().clone();
            assert_eq!(blob.digest, BlobDigest::of(&bytes));
            assert_eq!(blob.size, bytes.len() as u64);
            let mut plain = Vec::new();
            let mut decompressor = Decompressor::new(bytes.as_slice()).unwrap();
            io::copy(&mut decompressor, &mut plain).unwrap();
            assert_eq!(decompressor.compression(), Some(blob.form.compression));
            assert!(plain == tar, "{:?}", blob.form);
        }
        // Asking for less, or for other things, changes nothing.
        let alone = pack(&index(sizes), &Repeated, Vec::new(), PackOptions::default()).unwrap();
        assert_eq!(alone.diff_id, packed.diff_id);
    }
}

/// Refuses everything after some bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_named_and_ends_the_packing() {
    for sizes in [&[5][..], &[30_000_000]] {
        for target in [PackTarget::Tar, blob(Compression::Uncompressed)] {
            let output = PackOutput::new(target, Full(600));
            let result = pack(
                &index(sizes),
                &Repeated,
                vec![output],
                PackOptions::default(),
            );
            match result.unwrap_err() {
                PackError::Write { output, source } => {
                    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
                    assert!(output.contains("of the layer"), "{output}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Says that it has more bytes than it gives.
struct Short;

impl FileContents for Short {
    fn open(&self, _position: usize, _entry: &Entry) -> io::Result<FileBytes<'_>> {
        Ok(FileBytes::Memory(b"abc"))
    }
}

#[test]
fn changed_files_are_named_and_end_the_packing() {
    for sizes in [&[3, 3, 4][..], &[9_000_000]] {
        let output = PackOutput::new(blob(Compression::Gzip), io::sink());
        let error = pack(&index(sizes), &Short, vec![output], PackOptions::default());
        assert!(matches!(
            error,
            Err(PackError::Tar(TarWriteError::Changed { .. }))
        ));
    }
}
