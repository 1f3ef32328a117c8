//! What else is lost, when something is.
//!
//! What vanishes from a store rarely vanishes alone: an object holds many chunks. So once a layer
//! turned out to be lost, all others of the build that are nowhere but in caches are looked at, to be
//! made anew in one go, and not build after build.

use std::sync::Arc;

use ashlar_model::cas::SharedLayer;
use ashlar_model::digest::LayerId;
use ashlar_model::layer::{LayerOrigin, LayerRecord};
use ashlar_store::fault::FaultKind;
use ashlar_store::home::Home;
use futures::{StreamExt as _, stream};

use crate::breaker::Use;
use crate::cache::{ANSWER, Cache};
use crate::fetch::read_batch;
use crate::tree::{ChunkList, LONGEST_TREE};

/// Layers that are looked at at once.
const AT_ONCE: usize = 8;

/// Those of some layers whose files are nowhere any more. One of which that cannot be told is not
/// among them.
pub async fn lost(home: &Home, caches: &[Arc<Cache>], layers: &[LayerId]) -> Vec<LayerId> {
    let away = layers
        .iter()
        .filter_map(|layer| Some((*layer, copies(home, layer)?)))
        .collect::<Vec<_>>();
    let looked_at = stream::iter(away).map(|(layer, copies)| async move {
        for copy in &copies {
            let cache = caches.iter().find(|cache| cache.name() == copy.cache);
            let cache = cache.filter(|cache| cache.is_usable(Use::Read))?;
            if !is_gone(cache, copy).await? {
                return None;
            }
        }
        Some(layer)
    });
    let lost: Vec<Option<LayerId>> = looked_at.buffer_unordered(AT_ONCE).collect().await;
    lost.into_iter().flatten().collect()
}

/// The caches that have a layer which is not here.
fn copies(home: &Home, layer: &LayerId) -> Option<Vec<SharedLayer>> {
    let record = home.layer(layer).ok()??;
    let LayerOrigin::Shared { copies } = &record.origin else {
        return None;
    };
    let here = LayerRecord {
        origin: LayerOrigin::Step,
        ..record.clone()
    };
    let is_away = home.holds_files_of(&here).is_ok_and(|is_here| !is_here);
    (is_away && !copies.is_empty()).then(|| copies.clone())
}

/// Whether a cache lacks anything of a layer; `None` if it does not tell.
async fn is_gone(cache: &Cache, copy: &SharedLayer) -> Option<bool> {
    let function = copy.trees.first()?.function;
    if copy.trees.iter().any(|tree| tree.size > LONGEST_TREE) {
        return None;
    }
    let trees = match read_batch(cache, &copy.trees).await {
        Ok(trees) => trees,
        Err(fault) if fault.kind == FaultKind::NotFound => return Some(true),
        Err(_) => return None,
    };
    let chunks = ChunkList::read(&trees, function).ok()?;
    let chunks = [chunks.headers, chunks.contents].concat();
    let chunks = chunks.as_slice();
    let asked = cache.ask(Use::Read, ANSWER, |service| async move {
        service.blobs.missing(chunks).await
    });
    Some(!asked.await?.ok()?.is_empty())
}
