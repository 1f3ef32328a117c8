//! Caches without a server: one manifest in a registry or in a directory, with the same records
//! inside.
//!
//! ```text
//!   manifest ─▶ index (results; where each blob is)
//!           └─▶ packs (trees, chunks, records: zstd frames, one after the other)
//! ```
//!
//! A build that writes adds packs with what is new and replaces index and manifest at its end; packs
//! that were there before are not sent again. The whole of a pack is fetched when something in it
//! is needed, so chunks of one layer lie together.

mod container;
mod index;
mod store;

use std::sync::Arc;

use ashlar_model::executor::BoxFuture;
use ashlar_store::fault::Fault;

pub use container::{Container, DirectoryContainer};
use index::FUNCTION;
use store::{Portable, PortableStore};

use crate::service::{Connect, Service};

/// Opens a portable cache.
#[derive(Debug)]
pub struct PortableConnect {
    container: Arc<dyn Container>,
}

impl PortableConnect {
    /// The cache in a container.
    pub const fn new(container: Arc<dyn Container>) -> Self {
        Self { container }
    }
}

impl Connect for PortableConnect {
    fn connect(&self) -> BoxFuture<'_, Result<Service, Fault>> {
        Box::pin(async move {
            let portable = Portable::open(Arc::clone(&self.container)).await?;
            let store = Arc::new(PortableStore(Arc::new(portable)));
            Ok(Service {
                function: FUNCTION,
                blobs: store.clone(),
                actions: store.clone(),
                extension: None,
                closing: Some(store),
                doubt: Arc::default(),
            })
        })
    }
}
