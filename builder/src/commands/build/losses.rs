//! Layers that turn out to be lost only when an output reads them: a cache has none of them any
//! more, or they were damaged here. The steps that made them run again, and the outputs begin anew.

use ashlar_engine::driver::Built;
use ashlar_engine::event::{BuildEvent, EventSink};
use ashlar_model::digest::LayerId;
use ashlar_store::home::Home;

use super::outputs::Delivered;
use crate::diagnostics::CliError;

/// How often layers that outputs find lost are made again.
const ATTEMPTS: usize = 3;

/// Sends an image to its outputs, and builds it again if layers of it are lost on the way.
pub(super) async fn deliver(
    mut built: Built,
    home: &Home,
    events: &dyn EventSink,
    outputs: impl AsyncFn(&Built) -> Result<Delivered, CliError>,
    again: impl AsyncFn(&[LayerId]) -> Result<Built, CliError>,
) -> (Built, Result<Delivered, CliError>) {
    let mut delivered = outputs(&built).await;
    for _ in 0..ATTEMPTS {
        if delivered.is_ok() {
            break;
        }
        let lost = lost_layers(&built, home);
        if lost.is_empty() {
            break;
        }
        events.emit(BuildEvent::Warning {
            message: "layers were lost: the steps that made them run again".into(),
        });
        built = match again(&lost).await {
            Ok(built) => built,
            Err(error) => return (built, Err(error)),
        };
        delivered = outputs(&built).await;
    }
    (built, delivered)
}

/// The layers of an image that the store does not have any more, and that steps make.
fn lost_layers(built: &Built, home: &Home) -> Vec<LayerId> {
    let is_here = |id: &LayerId| match home.layer(id) {
        Ok(Some(record)) => home.holds_files_of(&record).unwrap_or(true),
        Ok(None) => false,
        // That is another trouble, which the output has told.
        Err(_) => true,
    };
    let of_steps = built
        .layers
        .iter()
        .filter(|layer| layer.origin.is_of_step());
    let ids = of_steps.map(|layer| layer.id);
    ids.filter(|id| !is_here(id)).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use ashlar_model::config::ImageConfig;
    use ashlar_model::digest::BlobDigest;
    use ashlar_model::layer::LayerRecord;
    use ashlar_model::platform::Platform;

    use super::*;

    struct Nobody;

    impl EventSink for Nobody {
        fn emit(&self, _event: BuildEvent) {}
    }

    fn image(layer: LayerRecord) -> Built {
        Built {
            config: ImageConfig::default(),
            layers: vec![layer],
            platform: Platform::new("linux", "amd64", None),
            epoch: None,
            inherited_history: 0,
            vertices: 0,
            prepared: None,
        }
    }

    fn delivered() -> Delivered {
        Delivered {
            image_id: BlobDigest::of(b""),
            manifest: None,
            names: Vec::new(),
            stdout_is_taken: false,
        }
    }

    /// A layer that the store knows, and has if `here`.
    fn layer(home: &Home, here: bool) -> LayerRecord {
        let record = LayerRecord::made_by_step(home.new_layer_id().unwrap());
        home.put_layer(&record).unwrap();
        if here {
            std::fs::create_dir_all(home.tree_path("map", &record.id)).unwrap();
        }
        record
    }

    /// Delivers an image whose layer is here or not; making it again gives one that is, or not.
    /// Tells how it ended and how often it was made again.
    async fn run(is_here: bool, works: bool, heals: bool) -> (bool, usize) {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let first = layer(&home, is_here);
        let made = Cell::new(0);
        let outputs = async |built: &Built| {
            let read = home.holds_files_of(&built.layers[0]).unwrap();
            if works && read {
                Ok(delivered())
            } else {
                Err(CliError::environment("no"))
            }
        };
        let again = async |lost: &[LayerId]| {
            assert_eq!(lost.len(), 1);
            made.set(made.get() + 1);
            Ok(image(layer(&home, heals)))
        };
        let (_, delivered) = deliver(image(first), &home, &Nobody, outputs, again).await;
        (delivered.is_ok(), made.get())
    }

    #[tokio::test]
    async fn what_an_output_finds_lost_is_made_again() {
        assert_eq!(run(true, true, true).await, (true, 0));
        assert_eq!(run(false, true, true).await, (true, 1));
    }

    #[tokio::test]
    async fn there_is_an_end_of_it() {
        assert_eq!(run(false, true, false).await, (false, ATTEMPTS));
    }

    #[tokio::test]
    async fn other_failures_are_not_mended_so() {
        assert_eq!(run(true, false, true).await, (false, 0));
    }
}
