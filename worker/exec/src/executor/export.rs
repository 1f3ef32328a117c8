//! A finished filesystem as a tar stream.

use std::path::PathBuf;

use ashlar_model::digest::LayerId;
use ashlar_model::executor::StepError;

use super::LocalExecutor;
use super::request::{self, Request};

impl LocalExecutor {
    /// Writes the merged filesystem of a stack as one tar to an existing file or fifo.
    pub async fn export(&self, layers: &[LayerId], output: PathBuf) -> Result<(), StepError> {
        let helper = self.helper().await?;
        let trees = self.trees(&helper, layers).await?;
        let pairs = layers.iter().copied().zip(trees.iter().cloned()).collect();
        let layers = self.described(layers, trees, |_| true)?;
        let home = self.home().root().to_owned();
        let request = Request::Export {
            home,
            layers,
            output,
        };
        match request::call(&helper, &request).await?.done() {
            Ok(warnings) => {
                self.warn(&warnings);
                Ok(())
            }
            Err(error) => Err(self.blame_trees(&helper, pairs, error).await),
        }
    }
}
