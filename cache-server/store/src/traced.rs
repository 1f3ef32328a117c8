//! What a store is asked, as spans of the request that asks.
//!
//! Without anybody who traces, calls go through as they are.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ashlar_model::cas::{ActionKey, CasDigest};
use ashlar_model::executor::BoxFuture;
use bytes::Bytes;
use futures::Stream;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::action_cache::{ActionCache, PutMode};
use crate::blob_store::{BlobStore, ByteRange, ByteStream};
use crate::fault::Fault;

/// A store whose work is traced.
#[derive(Debug)]
pub struct Traced<S> {
    inner: S,
    name: &'static str,
}

impl<S> Traced<S> {
    /// Traces a store under a name, such as `disk`.
    pub const fn new(name: &'static str, inner: S) -> Self {
        Self { inner, name }
    }

    fn span(&self, operation: &'static str, count: usize) -> Span {
        tracing::info_span!(
            "store",
            otel.name = format_args!("{} {operation}", self.name),
            otel.status_code = Empty,
            store = self.name,
            operation,
            count = number(count as u64),
            bytes = Empty,
            missing = Empty,
        )
    }
}

/// Does some work within a span, and notes whether it failed.
async fn within<T>(
    span: Span,
    work: impl Future<Output = Result<T, Fault>>,
    note: impl FnOnce(&Span, &T),
) -> Result<T, Fault> {
    let done = work.instrument(span.clone()).await;
    match &done {
        Ok(done) => note(&span, done),
        Err(fault) if fault.kind.is_answer() => {}
        Err(_) => {
            span.record("otel.status_code", "ERROR");
        }
    }
    done
}

/// A number as collectors know numbers.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn no_note<T>(_span: &Span, _done: &T) {}

/// A stream within a span, which ends with it.
struct Within {
    bytes: ByteStream,
    span: Span,
    passed: u64,
}

impl Stream for Within {
    type Item = Result<Bytes, Fault>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Fault>>> {
        let this = &mut *self;
        let next = ready!(
            this.span
                .in_scope(|| this.bytes.as_mut().poll_next(context))
        );
        if let Some(Ok(bytes)) = &next {
            this.passed += bytes.len() as u64;
        }
        Poll::Ready(next)
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        self.span.record("bytes", number(self.passed));
    }
}

impl<S: BlobStore> BlobStore for Traced<S> {
    fn missing<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        let span = self.span("missing", blobs.len());
        let work = self.inner.missing(blobs);
        if span.is_disabled() {
            return work;
        }
        Box::pin(within(span, work, |span, missing| {
            span.record("missing", number(missing.len() as u64));
        }))
    }

    fn look<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        let span = self.span("look", blobs.len());
        let work = self.inner.look(blobs);
        if span.is_disabled() {
            return work;
        }
        Box::pin(within(span, work, |span, missing| {
            span.record("missing", number(missing.len() as u64));
        }))
    }

    fn read<'a>(
        &'a self,
        blob: &'a CasDigest,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
        let span = self.span("read", 1);
        let work = self.inner.read(blob, range);
        if span.is_disabled() {
            return work;
        }
        Box::pin(async move {
            let bytes = within(span.clone(), work, no_note).await?;
            let passed = 0;
            Ok(Box::pin(Within {
                bytes,
                span,
                passed,
            }) as ByteStream)
        })
    }

    fn write<'a>(
        &'a self,
        blob: &'a CasDigest,
        bytes: ByteStream,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        let span = self.span("write", 1);
        let work = self.inner.write(blob, bytes);
        if span.is_disabled() {
            return work;
        }
        span.record("bytes", number(blob.size));
        Box::pin(within(span, work, no_note))
    }

    fn read_many<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Vec<Result<Bytes, Fault>>> {
        let span = self.span("read", blobs.len());
        let work = self.inner.read_many(blobs);
        if span.is_disabled() {
            return work;
        }
        Box::pin(async move {
            let read = work.instrument(span.clone()).await;
            let bytes: usize = read.iter().flatten().map(Bytes::len).sum();
            span.record("bytes", number(bytes as u64));
            read
        })
    }

    fn write_many<'a>(
        &'a self,
        blobs: Vec<(CasDigest, Bytes)>,
    ) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        let span = self.span("write", blobs.len());
        if span.is_disabled() {
            return self.inner.write_many(blobs);
        }
        let bytes: usize = blobs.iter().map(|(_, bytes)| bytes.len()).sum();
        span.record("bytes", number(bytes as u64));
        Box::pin(self.inner.write_many(blobs).instrument(span))
    }
}

impl<S: ActionCache> ActionCache for Traced<S> {
    fn get<'a>(
        &'a self,
        keys: &'a [ActionKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, Fault>> {
        let span = self.span("get", keys.len());
        let work = self.inner.get(keys);
        if span.is_disabled() {
            return work;
        }
        Box::pin(within(span, work, |span, found| {
            let missing = found.iter().filter(|found| found.is_none()).count();
            span.record("missing", number(missing as u64));
        }))
    }

    fn put<'a>(
        &'a self,
        key: &'a ActionKey,
        result: Bytes,
        mode: PutMode,
    ) -> BoxFuture<'a, Result<Bytes, Fault>> {
        let span = self.span("put", 1);
        let work = self.inner.put(key, result, mode);
        if span.is_disabled() {
            return work;
        }
        Box::pin(within(span, work, no_note))
    }

    fn remove<'a>(&'a self, key: &'a ActionKey) -> BoxFuture<'a, Result<bool, Fault>> {
        let span = self.span("remove", 1);
        let work = self.inner.remove(key);
        if span.is_disabled() {
            return work;
        }
        Box::pin(within(span, work, no_note))
    }

    fn swap<'a>(
        &'a self,
        key: &'a ActionKey,
        old: Option<&'a Bytes>,
        new: Bytes,
    ) -> BoxFuture<'a, Result<bool, Fault>> {
        let span = self.span("swap", 1);
        let work = self.inner.swap(key, old, new);
        if span.is_disabled() {
            return work;
        }
        Box::pin(within(span, work, no_note))
    }
}

/// Traces a store, for whoever shares it.
pub fn traced<S>(name: &'static str, inner: &Arc<S>) -> Arc<Traced<Arc<S>>> {
    Arc::new(Traced::new(name, inner.clone()))
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::conformance;
    use crate::memory::MemoryStore;

    /// With somebody who takes spans, so that they are made.
    fn fresh() -> (
        tracing::subscriber::DefaultGuard,
        Arc<Traced<Arc<MemoryStore>>>,
    ) {
        let subscriber = tracing_subscriber::registry()
            .with(tracing_subscriber::fmt::layer().with_writer(std::io::sink));
        let guard = tracing::subscriber::set_default(subscriber);
        (
            guard,
            traced("memory", &Arc::new(MemoryStore::new(1 << 30))),
        )
    }

    conformance::blob_store_tests!(together blobs_with_spans, std::future::ready(fresh()));
    conformance::action_cache_tests!(together results_with_spans, std::future::ready(fresh()));

    fn plain() -> ((), Arc<Traced<Arc<MemoryStore>>>) {
        ((), traced("memory", &Arc::new(MemoryStore::new(1 << 30))))
    }

    conformance::blob_store_tests!(together blobs, std::future::ready(plain()));
    conformance::exact_action_cache_tests!(together results, std::future::ready(plain()));
}
