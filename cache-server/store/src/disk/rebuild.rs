//! Taking stock when a store is opened, and making a lost index again.
//!
//! An index says of itself whether it knows all that is on disk. One that does is the truth: what
//! it does not know was never accepted, or is gone. One that does not (a new one in place of one
//! that was lost or torn) is filled in the background, pack by pack, then from the large files.
//! Meanwhile the store is used: what is not found again yet is absent, what is written is written.
//!
//! A pack that was read has its size in the index; a rebuild that was broken off goes on with the
//! others. What was evicted may come back, which does no harm; what was removed does not, for
//! that is noted in the packs.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;

use ashlar_model::cas::{CasDigest, DigestFunction};

use super::key::{Key, Kind};
use super::layout::{Layout, fault};
use super::record::{Head, Says};
use super::scan::{Scanned, Scanner};
use super::writer::{OpenPack, Work};
use super::{Shared, Writer};
use crate::checked::check;
use crate::fault::{Fault, in_one_line};

/// So many records are handed to the index in one go.
const PORTION: usize = 4096;

/// What was found when the store was opened.
#[derive(Debug)]
pub(super) struct Stock {
    pub(super) open_pack: OpenPack,
    /// Packs that the index does not know.
    pub(super) unknown_packs: Vec<u32>,
    /// Whether the index knows all there is.
    pub(super) is_complete: bool,
}

/// Compares the list of packs with the index.
pub(super) fn take_stock(shared: &Shared, is_complete: bool) -> Result<Stock, Fault> {
    let (known, totals) = shared
        .index
        .read(|index| Ok((index.packs()?, index.totals()?)))?;
    let on_disk = shared.sizes.with(|sizes| {
        sizes.packs = known.into_iter().collect();
        sizes.totals = totals;
        sizes.on_disk()
    });
    shared.room.set_on_disk(on_disk);
    let is_known = |number: &u32| {
        let size = shared.sizes.with(|sizes| sizes.packs.get(number).copied());
        size.is_some_and(|size| size.size > 0)
    };

    let there = list_packs(&shared.layout.packs())?;
    let mut unknown_packs: Vec<u32> = there
        .iter()
        .filter(|number| !is_known(number))
        .copied()
        .collect();
    let last_known = shared
        .sizes
        .with(|sizes| sizes.packs.iter().next_back().map(|(n, size)| (*n, *size)));
    if is_complete {
        // Written, but never committed; or dropped, but still there.
        for number in unknown_packs.drain(..) {
            let path = shared.layout.pack(number);
            fs::remove_file(&path).map_err(fault("remove", &path))?;
        }
        let open_pack = match last_known {
            Some((number, size)) if size.size < shared.settings.pack_size => {
                cut(&shared.layout.pack(number), size.size)?;
                OpenPack {
                    number,
                    file: None,
                    size: size.size,
                }
            }
            Some((number, _)) => new_pack(number + 1),
            None => new_pack(1),
        };
        return Ok(Stock {
            open_pack,
            unknown_packs,
            is_complete,
        });
    }
    let last = there
        .iter()
        .copied()
        .chain(last_known.map(|(n, _)| n))
        .max();
    let is_new = last.is_none() && is_empty(&shared.layout.files())?;
    if is_new {
        shared.index.change(|changes| {
            changes.set_complete()?;
            Ok(())
        })?;
    }
    Ok(Stock {
        open_pack: new_pack(last.unwrap_or(0) + 1),
        unknown_packs,
        is_complete: is_new,
    })
}

const fn new_pack(number: u32) -> OpenPack {
    OpenPack {
        number,
        file: None,
        size: 0,
    }
}

/// Cuts off what was written but not committed.
fn cut(path: &Path, size: u64) -> Result<(), Fault> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > size => {
            let file = fs::File::options().write(true).open(path);
            file.and_then(|file| file.set_len(size))
                .map_err(fault("cut", path))
        }
        // A pack that is gone or too short has damaged records, which is found when they are read.
        _ => Ok(()),
    }
}

fn list_packs(directory: &Path) -> Result<Vec<u32>, Fault> {
    let mut numbers = Vec::new();
    for item in fs::read_dir(directory).map_err(fault("list", directory))? {
        let item = item.map_err(fault("list", directory))?;
        numbers.extend(item.file_name().to_str().and_then(Layout::pack_number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn is_empty(directory: &Path) -> Result<bool, Fault> {
    let mut items = fs::read_dir(directory).map_err(fault("list", directory))?;
    Ok(items.next().is_none())
}

/// Fills the index from packs and files.
pub(super) fn run(shared: &Shared, writer: &Writer, unknown_packs: &[u32]) {
    tracing::warn!(
        packs = unknown_packs.len(),
        "the index is lost: it is made again from packs and files"
    );
    match fill(shared, writer, unknown_packs) {
        Ok(true) => {
            shared.is_rebuilding.store(false, Ordering::Release);
            tracing::info!("the index is whole again");
        }
        // The next opening goes on.
        Ok(false) => {}
        Err(fault) => {
            tracing::error!(
                error = in_one_line(&fault),
                "the index cannot be made again"
            );
        }
    }
}

/// Whether it came to the end.
fn fill(shared: &Shared, writer: &Writer, unknown_packs: &[u32]) -> Result<bool, Fault> {
    // Keys that were removed, and by which record: one that is older and found later does not
    // bring them back.
    let mut removed: HashMap<Key, u64> = HashMap::new();
    for number in unknown_packs {
        if !adopt_pack(shared, writer, *number, &mut removed)? {
            return Ok(false);
        }
    }
    let blobs = each_file(shared, |blobs| {
        writer.work(Work::AdoptFiles { blobs })?;
        Ok(!shared.bell.has_ended())
    })?;
    if !blobs {
        return Ok(false);
    }
    writer.work(Work::Complete)?;
    Ok(true)
}

fn adopt_pack(
    shared: &Shared,
    writer: &Writer,
    pack: u32,
    removed: &mut HashMap<Key, u64>,
) -> Result<bool, Fault> {
    let path = shared.layout.pack(pack);
    let Some(file) = shared.packs.file(pack).map_err(fault("open", &path))? else {
        return Ok(true);
    };
    let metadata = file.metadata().map_err(fault("look at", &path))?;
    let used = u32::try_from(metadata.mtime()).unwrap_or(0);
    let mut scanner = Scanner::new(file, metadata.len());
    let mut records = Vec::new();
    while let Some(record) = scanner.next().map_err(fault("read", &path))? {
        if shared.bell.has_ended() {
            return Ok(false);
        }
        if !is_trustworthy(&record) {
            continue;
        }
        let head = record.head;
        let is_removed = removed.get(&head.key).copied();
        match head.says {
            Says::Removed => {
                let last = is_removed.map_or(head.sequence, |last| last.max(head.sequence));
                removed.insert(head.key.clone(), last);
            }
            Says::Value if is_removed.is_some_and(|last| last > head.sequence) => continue,
            Says::Value => {}
        }
        records.push((record.offset, head));
        if records.len() >= PORTION {
            // Without a size the pack does not count as read.
            adopt(writer, pack, 0, std::mem::take(&mut records), used)?;
        }
    }
    adopt(writer, pack, metadata.len(), records, used)?;
    Ok(true)
}

fn adopt(
    writer: &Writer,
    pack: u32,
    size: u64,
    records: Vec<(u64, Head)>,
    used: u32,
) -> Result<(), Fault> {
    writer.work(Work::AdoptPack {
        pack,
        size,
        records,
        used,
    })?;
    Ok(())
}

/// Behind damage, what looks like a record may be a part of a blob that somebody made up. A blob
/// speaks for itself; nothing else does.
fn is_trustworthy(record: &Scanned) -> bool {
    if !record.is_intact || !record.after_gap {
        return record.is_intact;
    }
    let (Some(Kind::Blob), Some(blob)) = (record.head.key.kind(), record.head.key.as_blob()) else {
        return false;
    };
    let value = &record.bytes[super::record::HEAD + record.head.key.length()..];
    check(&blob, value).is_ok()
}

/// Goes through the large files on disk, some at a time with the times of their last change, until
/// `body` says `false`. Whether it came to the end.
pub(super) fn each_file(
    shared: &Shared,
    mut body: impl FnMut(Vec<(CasDigest, u32)>) -> Result<bool, Fault>,
) -> Result<bool, Fault> {
    for function in [DigestFunction::Sha256, DigestFunction::Blake3] {
        let top = shared.layout.files().join(function.name());
        for first in list_directories(&top)? {
            for second in list_directories(&first)? {
                let mut blobs = Vec::new();
                for item in fs::read_dir(&second).map_err(fault("list", &second))? {
                    let item = item.map_err(fault("list", &second))?;
                    let name = item.file_name();
                    let blob = name
                        .to_str()
                        .and_then(|name| Layout::blob_of(function, name));
                    if let (Some(blob), Ok(metadata)) = (blob, item.metadata()) {
                        blobs.push((blob, u32::try_from(metadata.mtime()).unwrap_or(0)));
                    }
                }
                if !blobs.is_empty() && !body(blobs)? {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

fn list_directories(directory: &Path) -> Result<Vec<std::path::PathBuf>, Fault> {
    let items = match fs::read_dir(directory) {
        Ok(items) => items,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fault("list", directory)(error)),
    };
    let mut found = Vec::new();
    for item in items {
        let item = item.map_err(fault("list", directory))?;
        if item.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(item.path());
        }
    }
    Ok(found)
}
