//! The trait of stores that keep results under the digests of their actions.

use std::fmt;
use std::sync::Arc;

use ashlar_model::cas::ActionKey;
use ashlar_model::executor::BoxFuture;
use bytes::Bytes;

use crate::fault::{Fault, FaultKind};

/// What happens to a result that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// It is replaced.
    Replace,
    /// It stays: whoever comes second takes it over.
    IfAbsent,
}

/// Keeps results: encoded REAPI `ActionResult`s, which no store but the completeness check looks
/// into, so that nothing that a later version of the API adds is lost.
pub trait ActionCache: Send + Sync + fmt::Debug {
    /// The result under each key, in the order asked for; `None` where there is none. What is
    /// there counts as used.
    fn get<'a>(&'a self, keys: &'a [ActionKey])
    -> BoxFuture<'a, Result<Vec<Option<Bytes>>, Fault>>;

    /// Stores a result. Gives the one that is there afterwards: another than `result` if one was
    /// there and `mode` leaves it.
    fn put<'a>(
        &'a self,
        key: &'a ActionKey,
        result: Bytes,
        mode: PutMode,
    ) -> BoxFuture<'a, Result<Bytes, Fault>>;

    /// Forgets a result. Whether there was one.
    fn remove<'a>(&'a self, key: &'a ActionKey) -> BoxFuture<'a, Result<bool, Fault>>;

    /// Replaces a result if the one that is there is `old` (`None`: if there is none), in one step.
    /// Whether it was so. [`FaultKind::Unsupported`] where others than this store decide.
    fn swap<'a>(
        &'a self,
        key: &'a ActionKey,
        old: Option<&'a Bytes>,
        new: Bytes,
    ) -> BoxFuture<'a, Result<bool, Fault>>;
}

/// What [`ActionCache::swap`] gives where others decide.
pub fn no_swap<'a>() -> BoxFuture<'a, Result<bool, Fault>> {
    Box::pin(std::future::ready(Err(Fault::new(
        FaultKind::Unsupported,
        "this store cannot replace a result only if nobody else has",
    ))))
}

impl<C: ActionCache + ?Sized> ActionCache for Arc<C> {
    fn get<'a>(
        &'a self,
        keys: &'a [ActionKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, Fault>> {
        (**self).get(keys)
    }

    fn put<'a>(
        &'a self,
        key: &'a ActionKey,
        result: Bytes,
        mode: PutMode,
    ) -> BoxFuture<'a, Result<Bytes, Fault>> {
        (**self).put(key, result, mode)
    }

    fn remove<'a>(&'a self, key: &'a ActionKey) -> BoxFuture<'a, Result<bool, Fault>> {
        (**self).remove(key)
    }

    fn swap<'a>(
        &'a self,
        key: &'a ActionKey,
        old: Option<&'a Bytes>,
        new: Bytes,
    ) -> BoxFuture<'a, Result<bool, Fault>> {
        (**self).swap(key, old, new)
    }
}
