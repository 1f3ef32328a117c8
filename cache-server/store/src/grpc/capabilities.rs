//! What a server says of itself, as far as it matters here.

use ashlar_model::cas::DigestFunction;
use ashlar_proto::convert::function_to_wire;
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::compressor::Value as Compressor;

/// Messages with blobs have no more bytes of them, whatever the server says: most have gRPC's own
/// limit of 4 MiB for a message, and not all know.
const MOST_IN_BATCH: u64 = (4 << 20) - (256 << 10);

/// What was agreed upon with a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcCapabilities {
    /// The hash functions it knows, of those that are known here; the one to use first.
    pub functions: Vec<DigestFunction>,
    /// How many bytes of blobs, with what is said of them, may be in one message.
    pub batch_bytes: u64,
    /// Streams may be compressed with zstd.
    pub zstd_streams: bool,
    /// Blobs that are written in batches may be compressed with zstd.
    pub zstd_batches: bool,
    /// Results may be stored.
    pub updates: bool,
    /// The largest blob it takes; `None` for any.
    pub largest_blob: Option<u64>,
}

impl GrpcCapabilities {
    /// Reads a server's answer.
    pub fn read(answer: &reapi::ServerCapabilities) -> Self {
        let cache = answer.cache_capabilities.clone().unwrap_or_default();
        let offers = |function: DigestFunction| {
            let value = i32::from(function_to_wire(function));
            cache.digest_functions.contains(&value)
        };
        let mut functions: Vec<_> = [DigestFunction::Blake3, DigestFunction::Sha256]
            .into_iter()
            .filter(|function| offers(*function))
            .collect();
        if cache.digest_functions.is_empty() {
            // Servers from before functions could be chosen.
            functions.push(DigestFunction::Sha256);
        }
        let zstd = i32::from(Compressor::Zstd);
        // 0 means no limit but that of gRPC.
        let batch = u64::try_from(cache.max_batch_total_size_bytes).unwrap_or(0);
        Self {
            functions,
            batch_bytes: if batch == 0 {
                MOST_IN_BATCH
            } else {
                batch.min(MOST_IN_BATCH)
            },
            zstd_streams: cache.supported_compressors.contains(&zstd),
            zstd_batches: cache.supported_batch_update_compressors.contains(&zstd),
            updates: cache
                .action_cache_update_capabilities
                .is_some_and(|updates| updates.update_enabled),
            largest_blob: u64::try_from(cache.max_cas_blob_size_bytes)
                .ok()
                .filter(|size| *size > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cache: reapi::CacheCapabilities) -> GrpcCapabilities {
        GrpcCapabilities::read(&reapi::ServerCapabilities {
            cache_capabilities: Some(cache),
            ..Default::default()
        })
    }

    #[test]
    fn blake3_is_taken_where_it_is_offered() {
        let offered = |functions: &[DigestFunction]| {
            read(reapi::CacheCapabilities {
                digest_functions: functions
                    .iter()
                    .map(|function| function_to_wire(*function).into())
                    .chain([3])
                    .collect(),
                ..Default::default()
            })
            .functions
        };
        let (sha256, blake3) = (DigestFunction::Sha256, DigestFunction::Blake3);
        assert_eq!(offered(&[sha256, blake3]), [blake3, sha256]);
        assert_eq!(offered(&[sha256]), [sha256]);
        assert_eq!(offered(&[]), []);
        assert_eq!(read(Default::default()).functions, [sha256]);
    }

    #[test]
    fn batches_fit_into_messages() {
        for (said, taken) in [
            (0, MOST_IN_BATCH),
            (65_536, 65_536),
            (1 << 30, MOST_IN_BATCH),
            (-1, MOST_IN_BATCH),
        ] {
            let read = read(reapi::CacheCapabilities {
                max_batch_total_size_bytes: said,
                ..Default::default()
            });
            assert_eq!(read.batch_bytes, taken);
        }
    }
}
