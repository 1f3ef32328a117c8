//! Reading pack files, of which so many are kept open.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::layout::Layout;

/// So many packs are kept open: 16 GB of them, with packs of 64 MB.
const MOST_OPEN: usize = 256;

/// The packs of a store, as readers see them.
#[derive(Debug)]
pub(super) struct Packs {
    layout: Layout,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    files: HashMap<u32, (Arc<File>, u64)>,
    uses: u64,
}

/// What became of a read.
#[derive(Debug)]
pub(super) enum PackRead {
    Bytes(Bytes),
    /// The pack ends before.
    Short,
    /// There is no such pack: what was in it is elsewhere now, or nowhere.
    Gone,
}

impl Packs {
    pub(super) fn new(layout: &Layout) -> Self {
        Self {
            layout: layout.clone(),
            open: Mutex::default(),
        }
    }

    /// A pack's file; `None` if there is none.
    pub(super) fn file(&self, pack: u32) -> io::Result<Option<Arc<File>>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.uses += 1;
        let uses = open.uses;
        if let Some((file, used)) = open.files.get_mut(&pack) {
            *used = uses;
            return Ok(Some(Arc::clone(file)));
        }
        let file = match File::open(self.layout.pack(pack)) {
            Ok(file) => Arc::new(file),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if open.files.len() >= MOST_OPEN {
            let oldest = open.files.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(pack, _)| *pack) {
                open.files.remove(&oldest);
            }
        }
        open.files.insert(pack, (Arc::clone(&file), uses));
        Ok(Some(file))
    }

    /// Closes a pack that is gone. Whoever reads it still has its bytes.
    pub(super) fn forget(&self, pack: u32) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.files.remove(&pack);
    }

    /// Reads a part of a pack.
    pub(super) fn read(&self, pack: u32, offset: u64, length: u64) -> io::Result<PackRead> {
        let Some(file) = self.file(pack)? else {
            return Ok(PackRead::Gone);
        };
        let Ok(length) = usize::try_from(length) else {
            return Ok(PackRead::Short);
        };
        let mut bytes = vec![0; length];
        match file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(PackRead::Bytes(bytes.into())),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(PackRead::Short),
            Err(error) => Err(error),
        }
    }
}
