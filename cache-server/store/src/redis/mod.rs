//! What servers share in Redis, or Valkey: results, leases, and the index of blobs.
//!
//! | module | subject |
//! |---|---|
//! | [`settings`] | how Redis is reached |
//! | `address` | one server, a Unix socket, Sentinels, a cluster |
//! | [`keys`] | the names of everything, and the slots they are in |
//! | [`results`] | results, and pins |
//! | [`leases`] | leases, and results that are made under them |
//! | [`queue`] | which server has the farm's queue, and what is to outlive it |
//! | [`index`] | where blobs lie, and who holds them |
//! | [`connection`] | requests with retries, redirections and replicas |
//! | `topology`, `node` | which server has what; the connections to it |
//! | `remedy`, `wait` | what can be done about an error, and when |
//! | `request`, `answer` | commands, scripts, and what comes back |
//! | `recent` | what was done lately and need not be done again |

mod address;
mod answer;
pub mod connection;
pub mod index;
pub mod keys;
pub mod leases;
mod node;
pub mod queue;
mod recent;
mod remedy;
mod request;
pub mod results;
pub mod settings;
mod topology;
mod wait;

pub use connection::Redis;
pub use index::RedisIndex;
pub use leases::RedisLeases;
pub use results::RedisResults;
pub use settings::RedisSettings;
