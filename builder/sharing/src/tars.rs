//! The local executor as the source of layers that are sent.

use std::io::Read;

use ashlar_exec::executor::LocalExecutor;
use ashlar_model::digest::LayerId;
use ashlar_model::executor::{BoxFuture, PackRequest, StepError, StepExecutor as _};
use ashlar_model::layer::LayerRecord;
use ashlar_model::mount::CacheMount;

use crate::sharing::MountTars;
use crate::upload::LayerTars;

impl LayerTars for LocalExecutor {
    fn describe<'a>(
        &'a self,
        layer: LayerId,
        below: Vec<LayerId>,
    ) -> BoxFuture<'a, Result<LayerRecord, StepError>> {
        let wanted = PackRequest {
            diff_id: true,
            blobs: Vec::new(),
        };
        self.pack(layer, below, wanted)
    }

    fn open<'a>(
        &'a self,
        layer: LayerId,
        below: Vec<LayerId>,
    ) -> BoxFuture<'a, Result<Box<dyn Read + Send>, StepError>> {
        Box::pin(async move {
            let tar = self.layer_tar(&layer, &below).await?;
            Ok(Box::new(tar) as Box<dyn Read + Send>)
        })
    }
}

impl MountTars for LocalExecutor {
    fn open<'a>(&'a self, mount: &'a CacheMount) -> BoxFuture<'a, Option<Box<dyn Read + Send>>> {
        Box::pin(async move {
            // A mount that cannot be read now is saved another time.
            let tar = self.save_cache(mount).await.ok()??;
            Some(Box::new(tar) as Box<dyn Read + Send>)
        })
    }
}
