//! The registry client: OCI distribution specification 1.1 and Docker Registry HTTP API V2.
//!
//! | module | subject |
//! |---|---|
//! | [`settings`] | what the caller decides |
//! | `client` | [`RegistryClient`] and its connections, made when first used |
//! | `endpoint`, `certificates` | where a registry is, whom to trust |
//! | `challenge`, `auth`, `credentials` | logins and tokens |
//! | `logins` | logins that somebody hands over |
//! | `call`, `exchange`, `answer` | one request: what it says, how it is sent and sent again, what comes back |
//! | `manifest`, `blob`, `push` with `upload_body` | the operations |
//!
//! # Invariants
//!
//! - Nothing is kept whose digest is wrong: manifests are checked before they are looked at, blobs
//!   while they stream into the store.
//! - At most `connections_per_host` requests to one registry run at once. A request holds its
//!   permit until its answer is read or dropped; whoever waits for a lock or a token holds none.
//! - Logins go to the registry, to its token server, and nowhere else: not to hosts that it
//!   redirects to, not over plain HTTP if the registry itself speaks HTTPS.
//! - Secrets are in no error and in no `Debug` output.

mod answer;
mod auth;
mod blob;
mod call;
mod certificates;
mod challenge;
mod client;
mod credentials;
mod endpoint;
mod error;
mod exchange;
mod logins;
mod manifest;
mod push;
pub mod settings;
mod upload_body;

use std::sync::Arc;

pub use ashlar_http::{CertificateError, ConnectionError, RetryPolicy};
pub use blob::FetchedBlob;
pub use client::RegistryClient;
pub use error::RegistryError;
pub use logins::{Logins, login_text};
pub use manifest::FetchedManifest;
pub use push::PushedBlob;
pub use settings::{RegistryEnvironment, RegistrySettings};

/// Told how many bytes of a blob have been transferred, as it goes. The number starts above 0 if a
/// download goes on where an earlier one stopped, and falls if one has to start again.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;
