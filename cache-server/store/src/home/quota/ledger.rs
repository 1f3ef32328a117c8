//! The ledger: one number that all processes share, the bytes that were admitted.
//!
//! ```text
//! offset  length
//!      0      16  "ashlar ledger 1\n"
//!     16       8  bytes admitted, little-endian
//!     24       8  counts: how often the bytes were counted anew, little-endian
//!     32       8  1 if processes write that ask for no admission, else 0
//!     40      16  the start of the machine that this holds for
//!     56      32  BLAKE3 of what stands before
//! ```
//!
//! It is read and written by whoever holds its `flock`. Whatever is wrong with it (missing, torn,
//! from before the machine started, when other files may have reached the disk and this one not)
//! makes it unknown: then the store is counted anew.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::super::StoreError;

const MAGIC: &[u8; 16] = b"ashlar ledger 1\n";
const CHECKED: usize = 56;
const LENGTH: usize = CHECKED + 32;

/// What the ledger says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) struct Account {
    /// Bytes admitted: never less than all files take.
    pub(in super::super) used: u64,
    /// How often the bytes were counted anew. What was admitted before the last time is not to be
    /// given back: it is not known as what it was counted.
    pub(in super::super) counts: u64,
    /// Whether there are processes that write without being admitted, for they began before there
    /// was a quota.
    pub(in super::super) unasked: bool,
}

/// The ledger, locked.
#[derive(Debug)]
pub(in super::super) struct Ledger {
    file: File,
    path: PathBuf,
    boot: [u8; 16],
}

impl Ledger {
    /// Where the ledger of a store lies.
    pub(super) fn path(root: &Path) -> PathBuf {
        root.join("quota/ledger")
    }

    /// Locks the ledger of a store, making it if there is none. Blocks the thread.
    pub(in super::super) fn lock(root: &Path) -> Result<Self, StoreError> {
        let path = Self::path(root);
        let error = |e: io::Error| StoreError::io("lock", &path, e);
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(error)?;
            loop {
                match flock(&file, FlockOperation::LockExclusive) {
                    Ok(()) => break,
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(error(errno.into())),
                }
            }
            // Somebody may have deleted it, and somebody else have made another.
            let ours = file.metadata().map_err(error)?;
            match fs::metadata(&path) {
                Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {
                    let boot = boot();
                    return Ok(Self { file, path, boot });
                }
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(error(e)),
            }
        }
    }

    /// What it says; `None` if it cannot be believed.
    pub(in super::super) fn read(&self) -> Result<Option<Account>, StoreError> {
        let mut bytes = [0; LENGTH];
        match self.file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Ok(decode(&bytes, &self.boot)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(StoreError::io("read", &self.path, error)),
        }
    }

    /// Changes what it says.
    pub(in super::super) fn write(&self, account: &Account) -> Result<(), StoreError> {
        self.file
            .write_all_at(&encode(account, &self.boot), 0)
            .map_err(|e| StoreError::io("write", &self.path, e))
    }
}

/// Which start of the machine this is. Where the kernel does not tell, all starts are one.
fn boot() -> [u8; 16] {
    let id = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let mut boot = [0; 16];
    boot.copy_from_slice(&blake3::hash(&id).as_bytes()[..16]);
    boot
}

fn encode(account: &Account, boot: &[u8; 16]) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..16].copy_from_slice(MAGIC);
    bytes[16..24].copy_from_slice(&account.used.to_le_bytes());
    bytes[24..32].copy_from_slice(&account.counts.to_le_bytes());
    bytes[32] = u8::from(account.unasked);
    bytes[40..CHECKED].copy_from_slice(boot);
    let checksum = blake3::hash(&bytes[..CHECKED]);
    bytes[CHECKED..].copy_from_slice(checksum.as_bytes());
    bytes
}

fn decode(bytes: &[u8; LENGTH], boot: &[u8; 16]) -> Option<Account> {
    let (checked, checksum) = bytes.split_at_checked(CHECKED)?;
    let number = |at: usize| Some(u64::from_le_bytes(*checked.get(at..)?.first_chunk()?));
    let whole = checked.starts_with(MAGIC)
        && checked.ends_with(boot)
        && blake3::hash(checked).as_bytes() == checksum;
    if !whole {
        return None;
    }
    Some(Account {
        used: number(16)?,
        counts: number(24)?,
        unasked: number(32)? != 0,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn store() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("quota")).unwrap();
        directory
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(used: u64, counts: u64, unasked: bool, boot: [u8; 16]) {
            let account = Account { used, counts, unasked };
            prop_assert_eq!(decode(&encode(&account, &boot), &boot), Some(account));
            let mut later = boot;
            later[3] ^= 1;
            prop_assert_eq!(decode(&encode(&account, &boot), &later), None);
        }

        #[test]
        fn any_damage_is_noticed(used: u64, place in 0..LENGTH, bit in 0..8_u8) {
            let account = Account { used, ..Account::default() };
            let mut bytes = encode(&account, &[7; 16]);
            bytes[place] ^= 1_u8 << bit;
            prop_assert_eq!(decode(&bytes, &[7; 16]), None);
        }
    }

    #[test]
    fn a_ledger_that_is_new_short_or_garbage_is_unknown() {
        let store = store();
        assert_eq!(Ledger::lock(store.path()).unwrap().read().unwrap(), None);
        for garbage in [&b"x"[..], &[0; 200]] {
            fs::write(Ledger::path(store.path()), garbage).unwrap();
            assert_eq!(Ledger::lock(store.path()).unwrap().read().unwrap(), None);
        }
        let account = Account {
            used: 5,
            ..Account::default()
        };
        Ledger::lock(store.path()).unwrap().write(&account).unwrap();
        let ledger = Ledger::lock(store.path()).unwrap();
        assert_eq!(ledger.read().unwrap(), Some(account));
    }

    #[test]
    fn one_at_a_time_changes_it_also_when_it_is_deleted() {
        let store = store();
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (store, inside) = (&store, &inside);
                scope.spawn(move || {
                    for round in 0..50 {
                        let ledger = Ledger::lock(store.path()).unwrap();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        let mut account = ledger.read().unwrap().unwrap_or_default();
                        account.used += 1;
                        ledger.write(&account).unwrap();
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        if (thread, round % 10) == (0, 5) {
                            // Deleted by its holder: nobody works with the old one any more.
                            fs::remove_file(Ledger::path(store.path())).unwrap();
                        }
                    }
                });
            }
        });
    }
}
