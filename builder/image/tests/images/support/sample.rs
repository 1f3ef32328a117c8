//! Synthetic images.

use std::io::Write as _;
use std::path::Path;

use ashlar_image::blob_source::LayerBlob;
use ashlar_image::config::{DateTime, HistoryEntry, ImageConfig};
use ashlar_image::export::ExportImage;
use ashlar_image::manifest::{ManifestFormat, describe};
use ashlar_model::digest::DiffId;
use ashlar_model::media_type::Compression;
use ashlar_model::platform::Platform;
use ashlar_model::reference::Reference;
use flate2::write::GzEncoder;

/// Bytes that no compressor shortens and no two seeds share.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A tar with one directory and one file in it.
pub(crate) fn layer_tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(0);
    builder
        .append_data(&mut header, "data/", std::io::empty())
        .unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o640);
    header.set_size(content.len() as u64);
    builder
        .append_data(&mut header, format!("data/{name}"), content)
        .unwrap();
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layer in a file below `directory`.
pub(crate) fn layer(
    directory: &Path,
    format: ManifestFormat,
    (name, content): (&str, &[u8]),
) -> (LayerBlob, DiffId) {
    let tar = layer_tar(name, content);
    let blob = gzip(&tar);
    let descriptor = describe(format.layer_media_type(Compression::Gzip), &blob);
    let path = directory.join(descriptor.digest.to_hex());
    std::fs::write(&path, blob).unwrap();
    (LayerBlob::in_file(descriptor, path), DiffId::of(&tar))
}

/// An image with the given files, one layer each.
pub(crate) fn image(
    directory: &Path,
    format: ManifestFormat,
    files: &[(&str, &[u8])],
    names: &[&str],
) -> ExportImage {
    let mut config = ImageConfig::new(&Platform::host());
    config.created = Some(DateTime::new(1_700_000_000, 0));
    config.config.env = vec!["PATH=/bin".into()];
    config.config.cmd = Some(vec!["/bin/true".into()]);
    let mut layers = Vec::new();
    for file in files {
        let (blob, diff_id) = layer(directory, format, *file);
        config.rootfs.diff_ids.push(diff_id);
        config.history.push(HistoryEntry {
            created: config.created,
            created_by: format!("COPY {} /data", file.0),
            ..HistoryEntry::default()
        });
        layers.push(blob);
    }
    let names: Vec<Reference> = names.iter().map(|name| name.parse().unwrap()).collect();
    ExportImage::new(format, &config, layers, names)
}
