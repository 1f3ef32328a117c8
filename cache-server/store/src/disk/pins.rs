//! What is pinned: results that are kept until some time, and all that they name.

use std::collections::HashSet;

use ashlar_model::cas::{ActionKey, CasDigest};
use ashlar_proto::action_result::{directory_children, references, tree_files};
use bytes::Bytes;

use super::keeper::PAGE;
use super::key::{Key, Kind};
use super::read::Found;
use super::{Shared, Writer};
use crate::clock;
use crate::fault::Fault;

/// All that is pinned at one moment. Half a hash stands for a key: two that are equal by chance
/// would only keep something for too long.
#[derive(Debug)]
pub(super) struct Pinned {
    keys: HashSet<[u8; 16]>,
    /// The number of changes of pins that are seen in here.
    changes: u64,
}

fn short(key: &Key) -> [u8; 16] {
    let mut half = [0; 16];
    match key.as_blob() {
        Some(blob) => half.copy_from_slice(&blob.hash[..16]),
        None => half.copy_from_slice(&blake3::hash(key.as_bytes()).as_bytes()[..16]),
    }
    half
}

/// When a pin ends, in seconds since 1970.
fn end(value: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(value.try_into().ok()?))
}

impl Pinned {
    pub(super) fn collect(shared: &Shared, writer: &Writer) -> Result<Self, Fault> {
        let mut pinned = Self {
            keys: HashSet::new(),
            changes: shared.pin_changes(),
        };
        let now = u64::from(clock::seconds(&shared.clock));
        let read = |key: &Key| -> Result<Option<Bytes>, Fault> {
            Ok(match shared.find_unused(writer, key)? {
                Found::Bytes(bytes) => Some(bytes),
                Found::File(file) => match key.as_blob() {
                    Some(blob) => super::read::whole(shared, writer, &blob, &file).ok(),
                    None => None,
                },
                Found::Absent => None,
            })
        };
        shared.each(Kind::Pin, PAGE, |page| {
            for (pin, _) in page {
                let until = read(&pin)?.as_deref().and_then(end);
                if until.is_some_and(|until| until > now)
                    && let Some(action) = pin.pinned()
                {
                    pinned.keys.insert(short(&pin));
                    pinned.add_result(&action, &read)?;
                }
            }
            Ok(true)
        })?;
        Ok(pinned)
    }

    /// Collects anew if pins were changed meanwhile.
    pub(super) fn refresh(&mut self, shared: &Shared, writer: &Writer) -> Result<(), Fault> {
        if self.changes != shared.pin_changes() {
            *self = Self::collect(shared, writer)?;
        }
        Ok(())
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        !self.keys.is_empty() && self.keys.contains(&short(key))
    }

    /// Notes a blob; whether it is new.
    fn add(&mut self, blob: &CasDigest) -> bool {
        self.keys.insert(short(&Key::blob(blob)))
    }

    fn add_result(
        &mut self,
        action: &ActionKey,
        read: &impl Fn(&Key) -> Result<Option<Bytes>, Fault>,
    ) -> Result<(), Fault> {
        let key = Key::result(action);
        self.keys.insert(short(&key));
        self.add(&action.action);
        let Some(result) = read(&key)? else {
            return Ok(());
        };
        // What cannot be read names nothing.
        let named = references(&result, action.action.function).unwrap_or_default();
        for blob in &named.blobs {
            self.add(blob);
        }
        for tree in &named.trees {
            if self.add(tree)
                && let Some(bytes) = read(&Key::blob(tree))?
            {
                for file in tree_files(&bytes, tree.function).unwrap_or_default() {
                    self.add(&file);
                }
            }
        }
        let mut directories = named.directories;
        while let Some(directory) = directories.pop() {
            if self.add(&directory)
                && let Some(bytes) = read(&Key::blob(&directory))?
            {
                let children = directory_children(&bytes, directory.function).unwrap_or_default();
                for file in children.files {
                    self.add(&file);
                }
                directories.extend(children.directories);
            }
        }
        Ok(())
    }
}
