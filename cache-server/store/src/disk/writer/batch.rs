//! A batch: some tasks, done in one commit.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, IoSlice, Write as _};
use std::path::{Path, PathBuf};

use ashlar_model::cas::CasDigest;
use bytes::Bytes;

use super::super::index::{Changes, Entry, PackSize, Place};
use super::super::key::Key;
use super::super::layout::{fault, sync_directory};
use super::super::record::{self, Head, Says};
use super::super::{Shared, large};
use super::{Answer, Condition, Living, Made, OpenPack, Work};
use crate::clock;
use crate::fault::Fault;

/// Tasks on their way into the index.
pub(super) struct Batch<'a, 'c> {
    shared: &'a Shared,
    changes: &'a mut Changes<'c>,
    open_pack: &'a mut OpenPack,
    made: &'a mut Made,
    /// What is to be appended to the open pack.
    pending: Vec<Bytes>,
    pending_bytes: u64,
    /// Directories with new names.
    named_in: BTreeSet<PathBuf>,
    now: u32,
}

impl<'a, 'c> Batch<'a, 'c> {
    pub(super) fn new(
        shared: &'a Shared,
        changes: &'a mut Changes<'c>,
        open_pack: &'a mut OpenPack,
        made: &'a mut Made,
    ) -> Self {
        made.totals = shared.sizes.with(|sizes| sizes.totals);
        Self {
            shared,
            changes,
            open_pack,
            made,
            pending: Vec::new(),
            pending_bytes: 0,
            named_in: BTreeSet::new(),
            now: clock::seconds(&shared.clock),
        }
    }

    /// Notes what was used lately.
    pub(super) fn touch(&mut self) -> Result<(), Fault> {
        for key in self.shared.touches.take() {
            if let Some(mut entry) = self.changes.entry(&key)? {
                entry.used = self.now.max(entry.used);
                self.changes.insert(&key, &entry)?;
            }
        }
        Ok(())
    }

    pub(super) fn perform(&mut self, work: &Work) -> Result<Answer, Fault> {
        match work {
            Work::Put {
                key,
                value,
                condition,
            } => self.put(key, value, *condition),
            Work::File { blob, finished } => self.put_file(blob, finished.path()),
            Work::Remove { key } => self.remove_named(key),
            Work::Lost { key, entry } => self.lose(key, entry),
            Work::Evict { victims } => self.evict(victims),
            Work::Move { pack, records } => self.move_records(*pack, records),
            Work::DropPack { pack } => self.drop_pack(*pack),
            Work::AdoptPack {
                pack,
                size,
                records,
                used,
            } => self.adopt_pack(*pack, *size, records, *used),
            Work::AdoptFiles { blobs } => self.adopt_files(blobs),
            Work::RemoveOrphans { blobs } => self.remove_orphans(blobs),
            Work::Note { namespace, blobs } => self.note(namespace, blobs),
            Work::End => Ok(Answer::Done(0)),
            Work::Complete => {
                self.changes.set_complete()?;
                Ok(Answer::Done(0))
            }
        }
    }

    /// A number that is higher than all before it, also than those of an index that was lost: it
    /// has the time in it.
    fn next_sequence(&mut self) -> u64 {
        let time = u64::from(self.now).saturating_mul(1_000_000);
        let next = time.max(self.made.totals.sequence + 1);
        self.made.totals.sequence = next;
        next
    }

    fn put(&mut self, key: &Key, value: &Bytes, condition: Condition) -> Result<Answer, Fault> {
        let there = self.changes.entry(key)?;
        match (condition, there) {
            (Condition::IfAbsent, Some(mut entry)) => {
                entry.used = self.now.max(entry.used);
                self.changes.insert(key, &entry)?;
                return Ok(Answer::There(entry));
            }
            (Condition::IfSequence(sequence), Some(entry)) if entry.sequence != sequence => {
                return Ok(Answer::There(entry));
            }
            (Condition::IfSequence(sequence), None) if sequence != 0 => return Ok(Answer::Absent),
            _ => {}
        }
        let sequence = self.next_sequence();
        let head = record::encode_head(Says::Value, key, value, sequence)
            .ok_or_else(|| Fault::invalid("the name is too long to be stored"))?;
        let place = self.append([Bytes::from(head), value.clone()])?;
        self.take(
            key,
            there,
            &Entry {
                place,
                length: value.len() as u64,
                used: self.now,
                sequence,
            },
        )?;
        Ok(Answer::Stored(sequence))
    }

    /// Replaces what a key had before.
    fn take(&mut self, key: &Key, before: Option<Entry>, entry: &Entry) -> Result<(), Fault> {
        if let Some(before) = before {
            self.retire(key, &before)?;
        }
        self.changes.insert(key, entry)?;
        self.made.totals.count(key, entry, true);
        if let Place::Pack { pack, .. } = entry.place {
            self.change_pack(pack, |size| {
                size.living += record::length(key.as_bytes().len(), entry.length);
            });
        }
        Ok(())
    }

    /// Takes an entry out of all sums; the index is left to the caller.
    fn retire(&mut self, key: &Key, entry: &Entry) -> Result<(), Fault> {
        self.made.totals.count(key, entry, false);
        match entry.place {
            Place::Pack { pack, .. } => self.change_pack(pack, |size| {
                let length = record::length(key.as_bytes().len(), entry.length);
                size.living = size.living.saturating_sub(length);
            }),
            Place::File => {
                if let Some(blob) = key.as_blob() {
                    self.made.unnamed.push(self.shared.layout.file(&blob));
                }
            }
        }
        Ok(())
    }

    fn forget(&mut self, key: &Key, entry: &Entry) -> Result<(), Fault> {
        self.retire(key, entry)?;
        self.changes.remove(key)?;
        if let Some(blob) = key.as_blob() {
            self.changes
                .holders(|holders| holders.release(key, blob.size))?;
        }
        self.made.removed += 1;
        Ok(())
    }

    fn pack_size(&self, pack: u32) -> PackSize {
        match self.made.packs.get(&pack) {
            Some(size) => size.unwrap_or_default(),
            None => self
                .shared
                .sizes
                .with(|sizes| sizes.packs.get(&pack).copied())
                .unwrap_or_default(),
        }
    }

    fn change_pack(&mut self, pack: u32, change: impl FnOnce(&mut PackSize)) {
        let mut size = self.pack_size(pack);
        change(&mut size);
        self.made.packs.insert(pack, Some(size));
    }

    /// Appends a record to the open pack, in memory for now.
    fn append(&mut self, parts: [Bytes; 2]) -> Result<Place, Fault> {
        if self.open_pack.size + self.pending_bytes >= self.shared.settings.pack_size {
            self.flush()?;
            self.open_pack.number += 1;
            self.open_pack.file = None;
            self.open_pack.size = 0;
        }
        let place = Place::Pack {
            pack: self.open_pack.number,
            offset: self.open_pack.size + self.pending_bytes,
        };
        for part in parts {
            self.pending_bytes += part.len() as u64;
            self.pending.push(part);
        }
        Ok(place)
    }

    /// Writes what was appended, and makes it last.
    fn flush(&mut self) -> Result<(), Fault> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let path = self.shared.layout.pack(self.open_pack.number);
        let file = match &mut self.open_pack.file {
            Some(file) => file,
            none => {
                let file = open_pack(&path, self.open_pack.size).map_err(fault("open", &path))?;
                sync_directory(&self.shared.layout.packs()).map_err(fault("sync", &path))?;
                none.insert(file)
            }
        };
        let pending = std::mem::take(&mut self.pending);
        write_all(file, &pending)
            .and_then(|()| file.sync_data())
            .map_err(fault("write", &path))?;
        self.open_pack.size += std::mem::take(&mut self.pending_bytes);
        let (number, written) = (self.open_pack.number, self.open_pack.size);
        self.change_pack(number, |size| size.size = written);
        Ok(())
    }

    /// Names a large file.
    fn put_file(&mut self, blob: &CasDigest, temporary: &Path) -> Result<Answer, Fault> {
        let key = Key::blob(blob);
        let there = self.changes.entry(&key)?;
        if let Some(entry) = there {
            return Ok(Answer::There(entry));
        }
        let path = self.shared.layout.file(blob);
        if let Some(directory) = path.parent() {
            self.make_directory(directory)
                .map_err(fault("make", directory))?;
            self.named_in.insert(directory.to_owned());
        }
        fs::rename(temporary, &path).map_err(fault("name", &path))?;
        // The same blob, removed earlier in this batch, has its place again.
        self.made.unnamed.retain(|unnamed| *unnamed != path);
        self.made.named.push((temporary.to_owned(), path));
        let sequence = self.next_sequence();
        self.take(
            &key,
            None,
            &Entry {
                place: Place::File,
                length: blob.size,
                used: self.now,
                sequence,
            },
        )?;
        Ok(Answer::Stored(sequence))
    }

    /// Makes the directories above a file, and notes that their names have to be synced.
    fn make_directory(&mut self, directory: &Path) -> io::Result<()> {
        if directory.is_dir() {
            return Ok(());
        }
        if let Some(parent) = directory.parent() {
            self.make_directory(parent)?;
            self.named_in.insert(parent.to_owned());
        }
        match fs::create_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    /// Removes a result, a name or a pin, and notes that it is gone: if the index is lost, an
    /// older record must not bring it back.
    fn remove_named(&mut self, key: &Key) -> Result<Answer, Fault> {
        let Some(entry) = self.changes.entry(key)? else {
            return Ok(Answer::Absent);
        };
        let sequence = self.next_sequence();
        let head = record::encode_head(Says::Removed, key, b"", sequence)
            .ok_or_else(|| Fault::invalid("the name is too long to be stored"))?;
        self.append([Bytes::from(head), Bytes::new()])?;
        self.forget(key, &entry)?;
        Ok(Answer::Done(1))
    }

    fn lose(&mut self, key: &Key, entry: &Entry) -> Result<Answer, Fault> {
        match self.changes.entry(key)? {
            Some(there) if there.place == entry.place && there.sequence == entry.sequence => {
                self.forget(key, &there)?;
                Ok(Answer::Done(1))
            }
            _ => Ok(Answer::Done(0)),
        }
    }

    fn evict(&mut self, victims: &[(Key, Entry)]) -> Result<Answer, Fault> {
        let mut evicted = 0;
        for (key, entry) in victims {
            // Uses that were remembered have just been noted: whoever was told that a blob is
            // there finds it.
            if self.changes.entry(key)? == Some(*entry) {
                self.forget(key, entry)?;
                evicted += 1;
            }
        }
        self.made.evicted += evicted as u64;
        Ok(Answer::Done(evicted))
    }

    fn move_records(&mut self, pack: u32, records: &[Living]) -> Result<Answer, Fault> {
        let mut moved = 0;
        for record in records {
            let key = &record.head.key;
            if record.head.says == Says::Removed {
                self.append([record.bytes.clone(), Bytes::new()])?;
                continue;
            }
            let place = Place::Pack {
                pack,
                offset: record.offset,
            };
            match self.changes.entry(key)? {
                Some(entry) if entry.place == place => {
                    let place = self.append([record.bytes.clone(), Bytes::new()])?;
                    self.take(key, Some(entry), &Entry { place, ..entry })?;
                    moved += 1;
                }
                _ => {}
            }
        }
        Ok(Answer::Done(moved))
    }

    fn drop_pack(&mut self, pack: u32) -> Result<Answer, Fault> {
        if pack == self.open_pack.number || self.pack_size(pack).living > 0 {
            return Ok(Answer::Done(0));
        }
        self.made.packs.insert(pack, None);
        Ok(Answer::Done(1))
    }

    fn adopt_pack(
        &mut self,
        pack: u32,
        size: u64,
        records: &[(u64, Head)],
        used: u32,
    ) -> Result<Answer, Fault> {
        self.change_pack(pack, |pack| pack.size = size);
        let mut adopted = 0;
        for (offset, head) in records {
            let sequence = &mut self.made.totals.sequence;
            *sequence = (*sequence).max(head.sequence);
            let there = self.changes.entry(&head.key)?;
            if there.is_some_and(|there| there.sequence >= head.sequence) {
                continue;
            }
            match (head.says, there) {
                (Says::Value, there) => {
                    let place = Place::Pack {
                        pack,
                        offset: *offset,
                    };
                    let entry = Entry {
                        place,
                        length: u64::from(head.value_length),
                        used,
                        sequence: head.sequence,
                    };
                    self.take(&head.key, there, &entry)?;
                    adopted += 1;
                }
                (Says::Removed, Some(there)) => self.forget(&head.key, &there)?,
                (Says::Removed, None) => {}
            }
        }
        Ok(Answer::Done(adopted))
    }

    fn adopt_files(&mut self, blobs: &[(CasDigest, u32)]) -> Result<Answer, Fault> {
        let mut adopted = 0;
        for (blob, used) in blobs {
            let key = Key::blob(blob);
            let path = self.shared.layout.file(blob);
            let is_whole = fs::metadata(&path)
                .is_ok_and(|metadata| metadata.len() == large::disk_size(blob.size));
            if is_whole && self.changes.entry(&key)?.is_none() {
                let sequence = self.next_sequence();
                let entry = Entry {
                    place: Place::File,
                    length: blob.size,
                    used: *used,
                    sequence,
                };
                self.take(&key, None, &entry)?;
                adopted += 1;
            }
        }
        Ok(Answer::Done(adopted))
    }

    /// Large files that nothing names. Files get their names in this thread alone: what the index
    /// does not know now, nobody is about to tell it.
    fn remove_orphans(&mut self, blobs: &[CasDigest]) -> Result<Answer, Fault> {
        let mut removed = 0;
        for blob in blobs {
            let entry = self.changes.entry(&Key::blob(blob))?;
            if entry.is_none_or(|entry| entry.place != Place::File) {
                self.made.unnamed.push(self.shared.layout.file(blob));
                removed += 1;
            }
        }
        Ok(Answer::Done(removed))
    }

    /// Notes who holds blobs that are there; those that went meanwhile are passed over.
    fn note(&mut self, namespace: &str, blobs: &[Key]) -> Result<Answer, Fault> {
        let number = self.changes.holders(|holders| holders.number(namespace))?;
        let mut noted = 0;
        for key in blobs {
            if let Some(blob) = key.as_blob()
                && self.changes.entry(key)?.is_some()
            {
                self.changes
                    .holders(|holders| holders.note(number, key, blob.size))?;
                noted += 1;
            }
        }
        Ok(Answer::Done(noted))
    }

    /// Makes all bytes last, and tells the index the sums.
    pub(super) fn settle(&mut self) -> Result<(), Fault> {
        self.flush()?;
        for directory in &self.named_in {
            sync_directory(directory).map_err(fault("sync", directory))?;
        }
        for (number, size) in &self.made.packs {
            self.changes.set_pack(*number, *size)?;
        }
        #[expect(
            clippy::redundant_closure_for_method_calls,
            reason = "the method itself is not general enough in its lifetimes"
        )]
        self.changes.holders(|holders| holders.settle())?;
        self.changes.set_totals(&self.made.totals)
    }
}

/// Opens a pack to append behind its first `size` bytes.
fn open_pack(path: &Path, size: u64) -> io::Result<File> {
    let file = File::options()
        .create(true)
        .append(true)
        .read(true)
        .open(path)?;
    file.set_len(size)?;
    Ok(file)
}

/// Writes many pieces with as few calls as can be.
fn write_all(file: &mut File, pieces: &[Bytes]) -> io::Result<()> {
    /// Linux takes no more in one call (`IOV_MAX`).
    const MOST: usize = 1024;
    for pieces in pieces.chunks(MOST) {
        let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match file.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
