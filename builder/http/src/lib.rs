//! How Ashlar speaks HTTP, whoever it speaks to: registries, servers of files.
//!
//! | module | subject |
//! |---|---|
//! | [`environment`] | the environment variables that matter, by value |
//! | [`client`] | a client with all of this |
//! | [`certificates`] | whom to trust |
//! | [`proxy`] | through whom to go |
//! | [`patience`] | how long a silent server is waited for |
//! | [`retry`] | when to try again, and how long to wait before |
//! | [`download`] | the store's side of a download |
//!
//! Nothing here reads the environment or knows what is asked for.
#![forbid(unsafe_code)]

pub mod certificates;
pub mod client;
pub mod download;
pub mod environment;
pub mod patience;
pub mod proxy;
pub mod retry;

pub use certificates::CertificateError;
pub use environment::HttpEnvironment;
pub use patience::ConnectionError;
pub use retry::RetryPolicy;
