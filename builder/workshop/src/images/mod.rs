//! Images: between names, registries and the local store.
//!
//! | module | subject |
//! |---|---|
//! | [`blob`] | blobs of layers, as exporters and pushes read them |
//! | [`configurations`] | only their configurations, for those who look at a build |
//! | [`library`] | finds images for FROM and COPY --from, for `run`, `pull` and `push` |
//! | [`register`] | an image that came from elsewhere, as records of the local store |
//! | `fetch` | blobs of image layers, when something needs them |
//! | [`failure`] | errors of registries and stores, as errors of builds |

pub mod blob;
pub mod configurations;
pub mod failure;
mod fetch;
pub mod library;
pub mod register;

pub use configurations::Configurations;
pub use fetch::{Fetch, FetchProgress, nowhere};
pub use library::Library;
