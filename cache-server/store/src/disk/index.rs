//! The index: where everything is, in one redb file.
//!
//! ```text
//! entries   key → Entry     one for each blob, result, name and pin
//! packs     number → size and living bytes of each pack
//! meta      text → number   totals, and whether the index knows all that is on disk
//!           and who holds which blobs: see `holders`
//! ```
//!
//! redb keeps readers apart from the one writer: a reader sees one moment. After an I/O error
//! (a full disk) redb refuses everything until the file is opened anew; [`Index::heal`] does that.

use std::fs;
use std::io::ErrorKind;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _, Table, TableDefinition,
    WriteTransaction,
};

use super::holders::{self, Holders};
use super::key::{Key, Kind};
use super::layout::{Layout, fault};
use crate::fault::{Fault, FaultKind};

const ENTRIES: TableDefinition<'static, &[u8], &[u8; Entry::LENGTH]> =
    TableDefinition::new("entries");
const PACKS: TableDefinition<'static, u32, (u64, u64)> = TableDefinition::new("packs");
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");

/// Raised when the index's tables or keys change.
const FORMAT: u64 = 1;

/// redb keeps so much of the file in memory. A gigabyte, its default, would be the whole index.
const CACHE: usize = 32 << 20;

/// Where an entry's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In a record that begins at `offset` of a pack.
    Pack { pack: u32, offset: u64 },
    /// In a file of its own.
    File,
}

/// What the index knows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) place: Place,
    /// Length of the value.
    pub(super) length: u64,
    /// When it was used last, in seconds since 1970, coarsely.
    pub(super) used: u32,
    /// The sequence number of its record.
    pub(super) sequence: u64,
}

impl Entry {
    const LENGTH: usize = 33;

    fn encode(&self) -> [u8; Self::LENGTH] {
        let (kind, pack, offset) = match self.place {
            Place::Pack { pack, offset } => (0, pack, offset),
            Place::File => (1, 0, 0),
        };
        let mut bytes = [0; Self::LENGTH];
        bytes[0] = kind;
        bytes[1..5].copy_from_slice(&pack.to_le_bytes());
        bytes[5..13].copy_from_slice(&offset.to_le_bytes());
        bytes[13..21].copy_from_slice(&self.length.to_le_bytes());
        bytes[21..25].copy_from_slice(&self.used.to_le_bytes());
        bytes[25..33].copy_from_slice(&self.sequence.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; Self::LENGTH]) -> Self {
        let long = |start: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[start..start + 8]);
            u64::from_le_bytes(number)
        };
        let short = |start: usize| {
            let mut number = [0; 4];
            number.copy_from_slice(&bytes[start..start + 4]);
            u32::from_le_bytes(number)
        };
        Self {
            place: if bytes[0] == 0 {
                Place::Pack {
                    pack: short(1),
                    offset: long(5),
                }
            } else {
                Place::File
            },
            length: long(13),
            used: short(21),
            sequence: long(25),
        }
    }
}

/// How much there is of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    pub(super) blobs: u64,
    pub(super) blob_bytes: u64,
    pub(super) results: u64,
    /// Bytes of files of large blobs, their checksums included.
    pub(super) file_bytes: u64,
    /// The highest sequence number given.
    pub(super) sequence: u64,
}

impl Totals {
    const NAMES: [&'static str; 5] = ["blobs", "blob bytes", "results", "file bytes", "sequence"];

    const fn numbers(&self) -> [u64; 5] {
        [
            self.blobs,
            self.blob_bytes,
            self.results,
            self.file_bytes,
            self.sequence,
        ]
    }

    /// Counts an entry that comes (`true`) or goes.
    pub(super) fn count(&mut self, key: &Key, entry: &Entry, comes: bool) {
        let change = |total: &mut u64, by: u64| {
            *total = if comes {
                *total + by
            } else {
                total.saturating_sub(by)
            };
        };
        match key.kind() {
            Some(Kind::Blob) => {
                change(&mut self.blobs, 1);
                change(&mut self.blob_bytes, entry.length);
            }
            Some(Kind::Result) => change(&mut self.results, 1),
            _ => {}
        }
        if entry.place == Place::File {
            change(&mut self.file_bytes, super::large::disk_size(entry.length));
        }
    }
}

/// Size and living bytes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct PackSize {
    pub(super) size: u64,
    pub(super) living: u64,
}

/// The index's file.
#[derive(Debug)]
pub(super) struct Index {
    layout: Layout,
    /// `None` only after it could not be opened again. Held for reading while a transaction runs,
    /// for writing to open it anew.
    database: RwLock<Option<Database>>,
}

/// What was found when the index was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) index: Index,
    /// Whether it knows all that is on disk. If not, it has to be made again from that.
    pub(super) is_complete: bool,
}

fn open_file(layout: &Layout) -> Result<Database, redb::Error> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    let database = builder.create(layout.index())?;
    Ok(database)
}

/// An index without tables gets them; one of another format is an error.
fn check_tables(database: &Database) -> Result<bool, redb::Error> {
    let transaction = write_transaction(database)?;
    let is_complete = {
        transaction.open_table(ENTRIES)?;
        transaction.open_table(PACKS)?;
        holders::make_tables(&transaction)?;
        let mut meta = transaction.open_table(META)?;
        let format = meta.get("format")?.map(|guard| guard.value());
        match format {
            None => drop(meta.insert("format", FORMAT)?),
            Some(FORMAT) => {}
            Some(other) => {
                return Err(redb::Error::Corrupted(format!(
                    "its format is {other}, this version knows {FORMAT}"
                )));
            }
        }
        meta.get("complete")?
            .is_some_and(|guard| guard.value() == 1)
    };
    transaction.commit()?;
    Ok(is_complete)
}

/// Every commit saves what redb needs to open the file at once after a crash.
fn write_transaction(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

impl Index {
    /// Opens the index, or begins a new one if there is none or it is damaged.
    pub(super) fn open(layout: &Layout) -> Result<Opened, Fault> {
        let attempt = || -> Result<(Database, bool), redb::Error> {
            let database = open_file(layout)?;
            let is_complete = check_tables(&database)?;
            Ok((database, is_complete))
        };
        let (database, is_complete) = match attempt() {
            Ok(opened) => opened,
            Err(error) if is_damage(&error) => {
                let path = layout.index();
                fs::rename(&path, layout.damaged_index()).map_err(fault("set aside", &path))?;
                attempt().map_err(|error| index_fault(layout, error))?
            }
            Err(error) => return Err(index_fault(layout, error)),
        };
        Ok(Opened {
            index: Self {
                layout: layout.clone(),
                database: RwLock::new(Some(database)),
            },
            is_complete,
        })
    }

    fn guard(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the index as it is now.
    pub(super) fn read<T>(
        &self,
        body: impl Fn(&Snapshot) -> Result<T, redb::Error>,
    ) -> Result<T, Fault> {
        match self.read_once(&body) {
            Err(error) if needs_opening(&error) => {
                self.heal()?;
                self.read_once(&body)
            }
            other => other,
        }
        .map_err(|error| index_fault(&self.layout, error))
    }

    fn read_once<T>(
        &self,
        body: &impl Fn(&Snapshot) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let guard = self.guard();
        let database = guard.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        let transaction = database.begin_read()?;
        body(&Snapshot { transaction })
    }

    /// Changes the index. Nothing is changed if `body` or the commit fails.
    pub(super) fn change<T>(
        &self,
        body: impl FnOnce(&mut Changes<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let changed = {
            let guard = self.guard();
            let database = guard
                .as_ref()
                .ok_or_else(|| index_fault(&self.layout, redb::Error::DatabaseClosed))?;
            self.change_once(database, body)
        };
        if changed.is_err() {
            // What is still not well afterwards is found out by the next to come.
            let _still_broken = self.heal();
        }
        changed
    }

    fn change_once<T>(
        &self,
        database: &Database,
        body: impl FnOnce(&mut Changes<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let failed = |error: redb::Error| index_fault(&self.layout, error);
        let transaction = write_transaction(database).map_err(failed)?;
        let result = {
            let open = || -> Result<Changes<'_>, redb::Error> {
                Ok(Changes {
                    layout: &self.layout,
                    entries: transaction.open_table(ENTRIES)?,
                    packs: transaction.open_table(PACKS)?,
                    meta: transaction.open_table(META)?,
                    holders: Holders::open(&transaction)?,
                })
            };
            let mut changes = open().map_err(failed)?;
            body(&mut changes)
        };
        match result {
            Ok(value) => {
                transaction.commit().map_err(|e| failed(e.into()))?;
                Ok(value)
            }
            Err(fault) => {
                transaction.abort().map_err(|e| failed(e.into()))?;
                Err(fault)
            }
        }
    }

    /// Opens the file anew if redb has given it up after an I/O error.
    pub(super) fn heal(&self) -> Result<(), Fault> {
        let is_well = |database: &Option<Database>| {
            database
                .as_ref()
                .is_some_and(|database| match database.begin_read() {
                    Ok(transaction) => transaction.open_table(META).is_ok(),
                    Err(_) => false,
                })
        };
        if is_well(&self.guard()) && self.can_write() {
            return Ok(());
        }
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        drop(database.take());
        let opened = open_file(&self.layout).map_err(|e| index_fault(&self.layout, e))?;
        *database = Some(opened);
        Ok(())
    }

    fn can_write(&self) -> bool {
        self.guard()
            .as_ref()
            .is_some_and(|database| match database.begin_write() {
                Ok(transaction) => transaction.abort().is_ok(),
                Err(_) => false,
            })
    }

    /// Looks through the whole file for damage of redb's own structures. Nobody else may use the
    /// index meanwhile.
    pub(super) fn check_integrity(&self) -> Result<bool, Fault> {
        let mut guard = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        match guard.as_mut() {
            Some(database) => database
                .check_integrity()
                .map_err(|e| index_fault(&self.layout, e.into())),
            None => Ok(false),
        }
    }
}

fn needs_opening(error: &redb::Error) -> bool {
    matches!(error, redb::Error::PreviousIo | redb::Error::DatabaseClosed)
}

/// Whether the file is not what it should be, rather than out of reach.
fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::Corrupted(_)
        | redb::Error::UpgradeRequired(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::RepairAborted => true,
        redb::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof
        ),
        _ => false,
    }
}

fn index_fault(layout: &Layout, error: redb::Error) -> Fault {
    match error {
        redb::Error::Io(error) => fault("use the index", &layout.index())(error),
        error => Fault::new(
            FaultKind::Internal,
            format!("cannot use the index {}", layout.index().display()),
        )
        .caused_by(error),
    }
}

/// The index at one moment.
pub(super) struct Snapshot {
    transaction: ReadTransaction,
}

impl Snapshot {
    /// For tables that others look after.
    pub(super) fn with<T>(
        &self,
        body: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        body(&self.transaction)
    }

    pub(super) fn entry(&self, key: &Key) -> Result<Option<Entry>, redb::Error> {
        let table = self.transaction.open_table(ENTRIES)?;
        let entry = table.get(key.as_bytes())?;
        Ok(entry.map(|guard| Entry::decode(guard.value())))
    }

    /// Asks for many keys.
    pub(super) fn entries(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>, redb::Error> {
        let table = self.transaction.open_table(ENTRIES)?;
        let mut entries = Vec::with_capacity(keys.len());
        for key in keys {
            let entry = table.get(key.as_bytes())?;
            entries.push(entry.map(|guard| Entry::decode(guard.value())));
        }
        Ok(entries)
    }

    /// Up to `count` entries whose keys are at least `from` and below `end`.
    pub(super) fn page(
        &self,
        from: &[u8],
        end: &[u8],
        count: usize,
    ) -> Result<Vec<(Key, Entry)>, redb::Error> {
        let table = self.transaction.open_table(ENTRIES)?;
        let mut page = Vec::new();
        for item in table.range(from..end)?.take(count) {
            let (key, entry) = item?;
            if let Some(key) = Key::from_bytes(key.value()) {
                page.push((key, Entry::decode(entry.value())));
            }
        }
        Ok(page)
    }

    pub(super) fn packs(&self) -> Result<Vec<(u32, PackSize)>, redb::Error> {
        let table = self.transaction.open_table(PACKS)?;
        let mut packs = Vec::new();
        for item in table.iter()? {
            let (number, sizes) = item?;
            let (size, living) = sizes.value();
            packs.push((number.value(), PackSize { size, living }));
        }
        Ok(packs)
    }

    pub(super) fn totals(&self) -> Result<Totals, redb::Error> {
        let table = self.transaction.open_table(META)?;
        let mut numbers = [0; 5];
        for (number, name) in numbers.iter_mut().zip(Totals::NAMES) {
            *number = table.get(name)?.map_or(0, |guard| guard.value());
        }
        let [blobs, blob_bytes, results, file_bytes, sequence] = numbers;
        Ok(Totals {
            blobs,
            blob_bytes,
            results,
            file_bytes,
            sequence,
        })
    }
}

/// Changes that become one commit.
pub(super) struct Changes<'a> {
    layout: &'a Layout,
    entries: Table<'a, &'static [u8], &'static [u8; Entry::LENGTH]>,
    packs: Table<'a, u32, (u64, u64)>,
    meta: Table<'a, &'static str, u64>,
    holders: Holders<'a>,
}

/// Turns redb's many errors into one that says which index it is.
fn failed<E: Into<redb::Error>>(layout: &Layout) -> impl Fn(E) -> Fault {
    move |error| index_fault(layout, error.into())
}

impl Changes<'_> {
    pub(super) fn entry(&self, key: &Key) -> Result<Option<Entry>, Fault> {
        let entry = self
            .entries
            .get(key.as_bytes())
            .map_err(failed(self.layout))?;
        Ok(entry.map(|guard| Entry::decode(guard.value())))
    }

    pub(super) fn insert(&mut self, key: &Key, entry: &Entry) -> Result<(), Fault> {
        self.entries
            .insert(key.as_bytes(), &entry.encode())
            .map_err(failed(self.layout))?;
        Ok(())
    }

    /// Changes who holds which blobs.
    pub(super) fn holders<T>(
        &mut self,
        body: impl FnOnce(&mut Holders<'_>) -> Result<T, redb::Error>,
    ) -> Result<T, Fault> {
        body(&mut self.holders).map_err(failed(self.layout))
    }

    pub(super) fn remove(&mut self, key: &Key) -> Result<(), Fault> {
        self.entries
            .remove(key.as_bytes())
            .map_err(failed(self.layout))?;
        Ok(())
    }

    /// Notes how large a pack is; one without a size is forgotten.
    pub(super) fn set_pack(&mut self, number: u32, size: Option<PackSize>) -> Result<(), Fault> {
        let done = match size {
            Some(size) => self.packs.insert(number, (size.size, size.living)),
            None => self.packs.remove(number),
        };
        done.map_err(failed(self.layout))?;
        Ok(())
    }

    pub(super) fn set_totals(&mut self, totals: &Totals) -> Result<(), Fault> {
        for (name, number) in Totals::NAMES.into_iter().zip(totals.numbers()) {
            self.meta
                .insert(name, number)
                .map_err(failed(self.layout))?;
        }
        Ok(())
    }

    /// Notes that the index knows all that is on disk.
    pub(super) fn set_complete(&mut self) -> Result<(), Fault> {
        self.meta
            .insert("complete", 1)
            .map_err(failed(self.layout))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let entry = Entry {
            place: Place::Pack {
                pack: 7,
                offset: 1 << 33,
            },
            length: 99,
            used: 1_800_000_000,
            sequence: u64::MAX - 5,
        };
        assert_eq!(Entry::decode(&entry.encode()), entry);
        let entry = Entry {
            place: Place::File,
            ..entry
        };
        assert_eq!(Entry::decode(&entry.encode()), entry);
    }
}
