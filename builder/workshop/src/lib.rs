//! What a build works with on a machine, whoever asked for it: a command of the user, or a farm.
//!
//! | module | subject |
//! |---|---|
//! | [`workshop`] | store, registry client, executor and shared caches, set out together |
//! | [`images`] | images between names, registries and the store |
//! | [`sources`] | files from elsewhere: between the engine and those who fetch |
//! | [`servers`] | connections to cache servers, and the tokens for them |
//! | [`proof`] | keys that sign results, and whom a build trusts |
//! | [`error`] | what goes wrong with any of it, and whose affair that is |
//! | [`variables`] | the environment, as it was given to us |
//! | [`remover`] | removes from the store what belongs to subordinate ids |
//!
//! It knows no command line, no settings and no terminal: whoever uses it says what it needs.
#![forbid(unsafe_code)]

pub mod error;
pub mod images;
pub mod proof;
pub mod remover;
pub mod servers;
pub mod sources;
pub mod variables;
pub mod workshop;

pub use error::WorkshopError;
pub use variables::Variables;
pub use workshop::{WarningSink, Workshop};
