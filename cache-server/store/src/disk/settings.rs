//! What can be set about a store on disk.

use std::time::Duration;

/// How a store on disk works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSettings {
    /// What packs and files may take on disk; `None` for all that the disk has. The index comes on
    /// top, with 100 to 200 bytes for each entry.
    pub limit: Option<u64>,
    /// In percent of the limit: when the store is fuller than this, it is cleaned.
    pub high_watermark: u8,
    /// In percent of the limit: so full it is afterwards.
    pub low_watermark: u8,
    /// Blobs and results that were not used for so long are removed, however much room there is.
    pub unused_for: Option<Duration>,
    /// Bytes a second at which the store is looked through for damage in the background; `None`
    /// not to look.
    pub scrub: Option<u64>,
    /// Blobs up to this size are in packs, larger ones in files of their own.
    pub packed: u64,
    /// A pack that has reached this size is ended.
    pub pack_size: u64,
    /// A use is noted only if the last one was noted so long ago: reads seldom write.
    pub coarseness: Duration,
}

impl Default for DiskSettings {
    fn default() -> Self {
        Self {
            limit: None,
            high_watermark: 95,
            low_watermark: 85,
            unused_for: None,
            scrub: None,
            // A file costs two syncs, a directory entry and an inode; a megabyte in a pack costs a
            // copy when the pack is compacted.
            packed: 1 << 20,
            pack_size: 64 << 20,
            coarseness: Duration::from_secs(5 * 60),
        }
    }
}

impl DiskSettings {
    /// Settings of a store with a limit. In a small store packs are small, so that most of the room
    /// is there to be used.
    pub fn with_limit(limit: u64) -> Self {
        let settings = Self::default();
        let pack_size = settings.pack_size.min(limit / 16).max(64 << 10);
        Self {
            limit: Some(limit),
            packed: settings.packed.min(pack_size / 4),
            pack_size,
            ..settings
        }
    }
}
