//! Who may do what where.
//!
//! Requests carry `authorization: Bearer TOKEN`, or come over a connection with a certificate of
//! the client, or show nothing. What that lets them do is said by files of tokens, one for writing
//! and one for reading, or by rules.
//!
//! | module | subject |
//! |---|---|
//! | [`gate`] | the gate before the services |
//! | [`access`] | who a request comes from |
//! | [`caller`] | what that one may do |
//! | [`rules`], [`pattern`] | rules, and what they catch |
//! | [`tokens`] | files of tokens |
//! | [`jwt`], [`jwks`], [`issuer`], [`key_url`] | tokens that others sign, and their keys |
//! | [`certificates`] | certificates of clients |
//! | [`load`] | all of it from settings |

pub mod access;
pub mod caller;
pub mod certificates;
pub mod gate;
pub mod issuer;
pub mod jwks;
pub mod jwt;
pub mod key_url;
pub mod load;
pub mod pattern;
pub mod rules;
pub mod tokens;

#[cfg(test)]
mod tests;

pub use access::{Access, Policy, Shown, Writers};
pub use caller::{Caller, Grant, Port, Right, Rights};
pub use gate::Gate;
pub use tokens::{TokenFileError, Tokens};
