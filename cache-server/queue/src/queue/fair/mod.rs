//! Who is next: fair between namespaces, between a namespace's users, and between a user's builds.
//!
//! Each of them has an *account*: the time its work has had on workers, divided by its weight. The
//! one with the least is next, at each level. Who had nothing to do for a while starts where the
//! others are, so idleness is not saved up. Within a build, the most urgent operation is next;
//! each step of priority is worth a fixed time of waiting, so nothing urgent keeps other work away
//! for ever. Between builds of a user, ten steps of priority are worth twice the share.
//!
//! Accounts are kept for each platform (`os` and `arch` that work requires), since those do not
//! contend for the same workers: whoever used much of `linux/arm64` is not behind on `linux/amd64`.
//! Work with the same requirements is a *class*, and has its own order ([`ready`]) with the
//! accounts of its platform.
//!
//! Time is charged as it goes by: a second at the grant, the rest with renewals and at the end. So
//! accounts only grow, and an order by what accounts were is a lower bound of what they are: it is
//! corrected where it is looked at.

mod account;
mod ready;
#[cfg(test)]
mod tests;

pub(super) use account::{Accounts, DEPOSIT, Owner};
pub(super) use ready::{Place, Ready, Urgency};
