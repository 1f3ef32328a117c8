//! Looking for damage: all at once (`fsck`), or slowly in the background (scrub).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ashlar_model::cas::CasDigest;

use super::index::Entry;
use super::keeper::PAGE;
use super::key::{Key, Kind};
use super::large::{LargeFile, LargeRead};
use super::layout::fault;
use super::read::Fetched;
use super::rebuild::each_file;
use super::writer::{Answer, Work};
use super::{DiskStore, Shared, Writer, blocking};
use crate::checked::{Check, check};
use crate::fault::{Fault, in_one_line};

/// A report names no more damaged entries than this; it counts all.
const MOST_NAMED: usize = 1000;

/// The scrub rests so long between two rounds.
const REST: Duration = Duration::from_secs(600);

/// An entry that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What it is: a blob's digest, or the kind of another entry.
    pub what: String,
    /// Whether its bytes are gone, rather than changed.
    pub is_gone: bool,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// How many blobs, results, names and pins were looked at.
    pub entries: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// How many of them are damaged.
    pub damaged: u64,
    /// The first of these.
    pub named: Vec<Damage>,
    /// Large files that nothing names: writes that were broken off.
    pub orphans: u64,
    /// What is wrong with the index's own structure.
    pub index: Option<String>,
}

impl CheckReport {
    /// Whether nothing was wrong.
    pub const fn is_clean(&self) -> bool {
        self.damaged == 0 && self.orphans == 0 && self.index.is_none()
    }
}

impl DiskStore {
    /// Looks at everything. With `repair`, what is damaged is dropped, and files that nothing names
    /// are removed: what is left is sound.
    ///
    /// The store can be used meanwhile, but for a moment in which the index itself is looked at.
    pub async fn fsck(&self, repair: bool) -> Result<CheckReport, Fault> {
        let (shared, writer) = (Arc::clone(&self.shared), self.writer.clone());
        blocking(move || {
            let index = match shared.index.check_integrity() {
                Ok(true) => None,
                Ok(false) => Some("it was inconsistent, and is repaired".to_owned()),
                Err(fault) => Some(in_one_line(&fault)),
            };
            let mut pass = Pass::new(&shared, &writer, None, repair);
            pass.entries()?;
            pass.orphans()?;
            Ok(CheckReport {
                index,
                ..pass.report
            })
        })
        .await
    }
}

/// Looks through the store again and again, at so many bytes a second.
pub(super) fn scrub(shared: &Shared, writer: &Writer, rate: u64) {
    loop {
        let mut pass = Pass::new(shared, writer, Some(rate.max(1)), true);
        let result = pass.entries().and_then(|()| pass.orphans());
        let report = pass.report;
        match result {
            Ok(()) if report.is_clean() => {}
            Ok(()) => tracing::warn!(
                damaged = report.damaged,
                orphans = report.orphans,
                "the scrub dropped what was damaged"
            ),
            Err(fault) => tracing::warn!(error = in_one_line(&fault), "the scrub broke off"),
        }
        if !shared.bell.rest(REST) {
            return;
        }
    }
}

/// One look at everything.
struct Pass<'a> {
    shared: &'a Shared,
    writer: &'a Writer,
    rate: Option<u64>,
    repair: bool,
    report: CheckReport,
    began: Instant,
    /// Bytes read, for the rate.
    read: u64,
    goes_on: bool,
}

impl<'a> Pass<'a> {
    fn new(shared: &'a Shared, writer: &'a Writer, rate: Option<u64>, repair: bool) -> Self {
        Self {
            shared,
            writer,
            rate,
            repair,
            report: CheckReport::default(),
            began: Instant::now(),
            read: 0,
            goes_on: true,
        }
    }

    /// Counts some bytes, and rests if they came too fast.
    fn pace(&mut self, bytes: u64) {
        self.read += bytes;
        if let Some(rate) = self.rate {
            let due = Duration::from_secs_f64(self.read as f64 / rate as f64);
            let early = due.saturating_sub(self.began.elapsed());
            if early > Duration::from_millis(50) && !self.shared.bell.rest(early) {
                self.goes_on = false;
            }
        }
        if self.shared.bell.has_ended() {
            self.goes_on = false;
        }
    }

    fn entries(&mut self) -> Result<(), Fault> {
        for kind in Kind::ALL {
            let shared = self.shared;
            shared.each(kind, PAGE, |page| {
                for (key, entry) in page {
                    if !self.goes_on {
                        return Ok(false);
                    }
                    self.entry(&key, &entry)?;
                }
                Ok(true)
            })?;
        }
        Ok(())
    }

    fn entry(&mut self, key: &Key, entry: &Entry) -> Result<(), Fault> {
        self.report.entries += 1;
        self.report.bytes += entry.length;
        let blob = key.as_blob();
        let is_gone = match self.shared.fetch(key, entry)? {
            Fetched::Bytes(bytes) => {
                if blob.is_none_or(|blob| check(&blob, &bytes).is_ok()) {
                    None
                } else {
                    Some(false)
                }
            }
            Fetched::File(file) => match blob {
                Some(blob) if self.is_sound(&blob, &file)? => None,
                _ => Some(false),
            },
            Fetched::Damaged => Some(false),
            Fetched::Gone => Some(true),
        };
        self.pace(entry.length);
        let Some(is_gone) = is_gone else {
            return Ok(());
        };
        // What was moved or removed meanwhile is not damaged.
        if self.shared.index.read(|index| index.entry(key))? != Some(*entry) {
            return Ok(());
        }
        self.report.damaged += 1;
        if self.report.named.len() < MOST_NAMED {
            self.report.named.push(Damage {
                what: describe(key),
                is_gone,
            });
        }
        if self.repair {
            self.shared.count_damaged();
            self.writer.work(Work::Lost {
                key: key.clone(),
                entry: *entry,
            })?;
        }
        Ok(())
    }

    fn is_sound(&mut self, blob: &CasDigest, file: &LargeFile) -> Result<bool, Fault> {
        let mut check = Check::new(blob);
        for number in 0..file.blocks() {
            let path = self.shared.layout.file(blob);
            match file.block(number).map_err(fault("read", &path))? {
                LargeRead::Bytes(block) => {
                    if check.update(&block).is_err() {
                        return Ok(false);
                    }
                }
                LargeRead::Damaged => return Ok(false),
            }
        }
        Ok(check.finish().is_ok())
    }

    /// Large files that the index does not know.
    fn orphans(&mut self) -> Result<(), Fault> {
        if self.shared.is_rebuilding.load(Ordering::Acquire) || !self.goes_on {
            // Nobody knows yet whose they are.
            return Ok(());
        }
        let shared = self.shared;
        each_file(shared, |blobs| {
            let mut unknown = Vec::new();
            for (blob, _) in blobs {
                let key = Key::blob(&blob);
                if shared.index.read(|index| index.entry(&key))?.is_none() {
                    unknown.push(blob);
                }
            }
            if self.repair && !unknown.is_empty() {
                // A file may have been named between the list and the question.
                if let Answer::Done(removed) =
                    self.writer.work(Work::RemoveOrphans { blobs: unknown })?
                {
                    self.report.orphans += removed as u64;
                }
            } else {
                self.report.orphans += unknown.len() as u64;
            }
            self.pace(0);
            Ok(self.goes_on)
        })?;
        Ok(())
    }
}

fn describe(key: &Key) -> String {
    match (key.as_blob(), key.as_result(), key.pinned()) {
        (Some(blob), _, _) => format!("blob {blob}"),
        (_, Some(result), _) => format!("result of {}", result.action),
        (_, _, Some(pin)) => format!("pin of {}", pin.action),
        _ => "a name".to_owned(),
    }
}
