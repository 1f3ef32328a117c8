//! Compacting packs: what still lives in a pack is copied to the open one, and the pack goes.
//!
//! Records move as they are, with their sequence numbers. Notes of removals are carried along as
//! long as an older pack exists in which there may be a record that they concern.

use std::collections::HashSet;

use super::index::{Entry, Place};
use super::keeper::PAGE;
use super::key::{Key, Kind};
use super::layout::fault;
use super::read::Fetched;
use super::record::Says;
use super::scan::Scanner;
use super::writer::{Living, Work};
use super::{Shared, Writer};
use crate::fault::Fault;

/// So many bytes are copied in one go.
const PORTION: usize = 4 << 20;

/// A pack of which more than half is dead is not worth its place.
const fn is_mostly_dead(size: u64, living: u64) -> bool {
    living * 2 < size
}

/// Where there is too little room, a pack is compacted if so much of it is dead. Less is not worth
/// the copy; and notes of removals, which count as dead, are carried from pack to pack.
const fn is_worth_it(size: u64, living: u64) -> bool {
    size.saturating_sub(living) * 16 > size
}

/// Compacts packs that are mostly dead, and others until packs and files take no more than `goal`.
/// Those that free most go first.
pub(super) fn packs(shared: &Shared, writer: &Writer, goal: u64) -> Result<(), Fault> {
    let mut tried = HashSet::new();
    // The last pack is the one that is written; those that are begun from here on are not looked at,
    // or this might never end.
    let last = shared
        .sizes
        .with(|sizes| sizes.packs.keys().next_back().copied());
    let Some(last) = last else {
        return Ok(());
    };
    while !shared.bell.has_ended() {
        let chosen = shared.sizes.with(|sizes| {
            let is_too_much = sizes.on_disk() > goal;
            let worth = sizes.packs.range(..last).filter(|(number, size)| {
                let is_closed = size.size > 0;
                let frees = is_too_much && is_worth_it(size.size, size.living);
                let is_worth = is_mostly_dead(size.size, size.living) || frees;
                is_closed && is_worth && !tried.contains(*number)
            });
            worth
                .max_by_key(|(_, size)| size.size.saturating_sub(size.living))
                .map(|(number, size)| (*number, size.size))
        });
        let Some((number, size)) = chosen else {
            break;
        };
        tried.insert(number);
        compact(shared, writer, number, size)?;
    }
    Ok(())
}

/// Moves what lives in a pack, and drops it.
pub(super) fn compact(shared: &Shared, writer: &Writer, pack: u32, size: u64) -> Result<(), Fault> {
    let path = shared.layout.pack(pack);
    let is_oldest = shared
        .sizes
        .with(|sizes| sizes.packs.keys().next().copied())
        == Some(pack);
    if let Some(file) = shared.packs.file(pack).map_err(fault("open", &path))? {
        let mut scanner = Scanner::new(file, size);
        let mut records = Vec::new();
        let mut bytes = 0;
        while let Some(record) = scanner.next().map_err(fault("read", &path))? {
            let is_wanted = match record.head.says {
                Says::Removed => !is_oldest && !record.after_gap,
                Says::Value => {
                    let place = Place::Pack {
                        pack,
                        offset: record.offset,
                    };
                    let entry = shared.index.read(|index| index.entry(&record.head.key))?;
                    entry.is_some_and(|entry| entry.place == place)
                }
            };
            if is_wanted && record.is_intact {
                bytes += record.bytes.len();
                records.push(Living {
                    offset: record.offset,
                    head: record.head,
                    bytes: record.bytes,
                });
            }
            if bytes >= PORTION {
                let records = std::mem::take(&mut records);
                writer.work(Work::Move { pack, records })?;
                bytes = 0;
            }
            if shared.bell.has_ended() {
                return Ok(());
            }
        }
        writer.work(Work::Move { pack, records })?;
    }
    let living = |shared: &Shared| {
        let size = shared.sizes.with(|sizes| sizes.packs.get(&pack).copied());
        size.map_or(0, |size| size.living)
    };
    if living(shared) > 0 {
        // The index has entries for which there is no sound record.
        drop_lost(shared, writer, pack)?;
    }
    writer.work(Work::DropPack { pack })?;
    Ok(())
}

/// Forgets the entries that are still in a pack after all sound records have left it.
fn drop_lost(shared: &Shared, writer: &Writer, pack: u32) -> Result<(), Fault> {
    for kind in Kind::ALL {
        shared.each(kind, PAGE, |page| {
            for (key, entry) in page {
                let is_here =
                    matches!(entry.place, Place::Pack { pack: there, .. } if there == pack);
                if is_here && !is_sound(shared, &key, &entry)? {
                    writer.work(Work::Lost { key, entry })?;
                    shared.count_damaged();
                }
            }
            Ok(true)
        })?;
    }
    Ok(())
}

fn is_sound(shared: &Shared, key: &Key, entry: &Entry) -> Result<bool, Fault> {
    Ok(matches!(shared.fetch(key, entry)?, Fetched::Bytes(_)))
}
