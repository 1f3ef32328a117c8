//! Getting images: manifest and configuration at once, layers when something needs them.

mod error;
mod fetcher;
mod handle;

pub use error::PullError;
pub use fetcher::{ImageFetcher, LayerProgress};
pub use handle::{ImageHandle, ImageSource};
