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
//! A grant is charged at once what work usually takes: if time were charged as it goes by only,
//! whoever has had a little less would get every slot that comes free until its work has run for a
//! while, and then none for as long. What takes longer is charged as it goes by, with renewals; what
//! took less is given back at the end.
//!
//! An order keeps accounts as they were when it last looked. Where they have grown, that is a lower
//! bound, and corrected where it matters: among the first ones. Where something was given back, the
//! order of that class is told.

mod account;
mod ready;
#[cfg(test)]
mod tests;

pub(super) use account::{Accounts, Owner};
pub(super) use ready::{Place, Ready, Urgency};
