//! Who holds which blobs, as tables of the index.
//!
//! ```text
//! holders     blob's key · number of a namespace, 4 bytes big-endian → nothing
//! namespaces  name → number
//! held        number → bytes, name; 0 → the last number that was given, which none gets again
//! ```
//!
//! They are nowhere else: with a lost index nobody holds anything, and whoever has the bytes shows
//! them again. A namespace that holds nothing is not kept.

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableTable as _, Table, TableDefinition, WriteTransaction};

use super::key::Key;

const HOLDERS: TableDefinition<'static, &[u8], ()> = TableDefinition::new("holders");
const NAMESPACES: TableDefinition<'static, &str, u32> = TableDefinition::new("namespaces");
const HELD: TableDefinition<'static, u32, (u64, &str)> = TableDefinition::new("held");

/// Where the last number that was given stands.
const LAST: u32 = 0;

/// Makes the tables.
pub(super) fn make_tables(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    Holders::open(transaction).map(drop)
}

fn row(blob: &Key, namespace: u32) -> Vec<u8> {
    let mut row = Vec::with_capacity(blob.length() + 4);
    row.extend_from_slice(blob.as_bytes());
    row.extend_from_slice(&namespace.to_be_bytes());
    row
}

/// Whether at least one of some namespaces holds each blob.
///
/// What is held by others costs as much time as what is not there at all.
pub(super) fn any_holds(
    transaction: &ReadTransaction,
    namespaces: &[String],
    blobs: &[Key],
) -> Result<Vec<bool>, redb::Error> {
    let names = transaction.open_table(NAMESPACES)?;
    let mut numbers = Vec::with_capacity(namespaces.len());
    for name in namespaces {
        numbers.extend(names.get(name.as_str())?.map(|guard| guard.value()));
    }
    let holders = transaction.open_table(HOLDERS)?;
    let mut held = Vec::with_capacity(blobs.len());
    for blob in blobs {
        let mut is_held = false;
        for number in &numbers {
            if holders.get(row(blob, *number).as_slice())?.is_some() {
                is_held = true;
                break;
            }
        }
        held.push(is_held);
    }
    Ok(held)
}

/// The bytes that a namespace holds.
pub(super) fn bytes_of(transaction: &ReadTransaction, name: &str) -> Result<u64, redb::Error> {
    let Some(number) = transaction.open_table(NAMESPACES)?.get(name)? else {
        return Ok(0);
    };
    let held = transaction.open_table(HELD)?.get(number.value())?;
    Ok(held.map_or(0, |guard| guard.value().0))
}

/// All namespaces that hold anything, with their bytes.
pub(super) fn all(transaction: &ReadTransaction) -> Result<Vec<(String, u64)>, redb::Error> {
    let mut all = Vec::new();
    for item in transaction.open_table(HELD)?.iter()? {
        let (number, held) = item?;
        if number.value() != LAST {
            let (bytes, name) = held.value();
            all.push((name.to_owned(), bytes));
        }
    }
    Ok(all)
}

/// The tables, to be changed.
pub(super) struct Holders<'a> {
    holders: Table<'a, &'static [u8], ()>,
    namespaces: Table<'a, &'static str, u32>,
    held: Table<'a, u32, (u64, &'static str)>,
    /// Namespaces whose sums have changed: bytes that came and bytes that went.
    changed: BTreeMap<u32, (u64, u64)>,
}

impl<'a> Holders<'a> {
    pub(super) fn open(transaction: &'a WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            holders: transaction.open_table(HOLDERS)?,
            namespaces: transaction.open_table(NAMESPACES)?,
            held: transaction.open_table(HELD)?,
            changed: BTreeMap::new(),
        })
    }

    /// The number of a namespace, which gets one if it has none.
    pub(super) fn number(&mut self, name: &str) -> Result<u32, redb::Error> {
        if let Some(number) = self.namespaces.get(name)? {
            return Ok(number.value());
        }
        let last = self.held.get(LAST)?.map_or(0, |guard| guard.value().0);
        let number = u32::try_from(last + 1).map_err(|_| {
            redb::Error::Corrupted("there are no more numbers for namespaces".to_owned())
        })?;
        self.held.insert(LAST, (number.into(), ""))?;
        self.namespaces.insert(name, number)?;
        self.held.insert(number, (0, name))?;
        self.changed.entry(number).or_default();
        Ok(number)
    }

    /// Notes that a namespace holds a blob of so many bytes.
    pub(super) fn note(&mut self, number: u32, blob: &Key, bytes: u64) -> Result<(), redb::Error> {
        let before = self.holders.insert(row(blob, number).as_slice(), ())?;
        if before.is_none() {
            self.changed.entry(number).or_default().0 += bytes;
        }
        Ok(())
    }

    /// Notes that nobody holds a blob any more.
    pub(super) fn release(&mut self, blob: &Key, bytes: u64) -> Result<(), redb::Error> {
        let (first, last) = (row(blob, 0), row(blob, u32::MAX));
        let mut rows = Vec::new();
        for item in self.holders.range(first.as_slice()..=last.as_slice())? {
            rows.push(item?.0.value().to_vec());
        }
        for row in rows {
            self.holders.remove(row.as_slice())?;
            if let Some(number) = row.last_chunk::<4>() {
                let number = u32::from_be_bytes(*number);
                self.changed.entry(number).or_default().1 += bytes;
            }
        }
        Ok(())
    }

    /// Puts the sums right.
    pub(super) fn settle(&mut self) -> Result<(), redb::Error> {
        for (number, (came, went)) in std::mem::take(&mut self.changed) {
            let Some(held) = self.held.get(number)? else {
                continue;
            };
            let (bytes, name) = held.value();
            let (bytes, name) = ((bytes + came).saturating_sub(went), name.to_owned());
            drop(held);
            if bytes == 0 {
                self.held.remove(number)?;
                self.namespaces.remove(name.as_str())?;
            } else {
                self.held.insert(number, (bytes, name.as_str()))?;
            }
        }
        Ok(())
    }
}
