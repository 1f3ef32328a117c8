//! What servers share in Redis, or Valkey: results, leases, and the index of blobs.
