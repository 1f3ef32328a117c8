//! Collecting spans, and sending them behind everything else.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::sender::Sender;

/// So long the end of a program may take for spans that were not sent yet.
pub const FLUSH: Duration = Duration::from_secs(2);

/// Receives the warning, once.
pub type Warn = Box<dyn Fn(&str) + Send + Sync>;

/// Whose traces they are, and how many of them.
#[derive(Debug, Clone)]
pub struct TraceSettings {
    /// The collector's address: `http://HOST:PORT` or `https://HOST:PORT`.
    pub address: String,
    /// The program's name.
    pub service: &'static str,
    /// The program's version.
    pub version: &'static str,
    /// Which of several that run the same program; may be empty.
    pub instance: String,
    /// Which part of the traces that begin here is sent, from 0 to 1. Whether a trace that began
    /// elsewhere is sent, was decided there.
    pub ratio: f64,
}

/// Traces cannot be sent there.
#[derive(Debug, thiserror::Error)]
#[error("traces cannot be sent to {address}")]
pub struct TraceError {
    address: String,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Traces that are sent to a collector.
///
/// Nothing waits for the collector, but [`Self::finish`], no longer than [`FLUSH`]. One that is away
/// or slow costs spans.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Begins. Nothing is connected to yet. `warn` is called once, if spans cannot be sent, with a
    /// sentence for the user.
    pub fn start(settings: &TraceSettings, warn: Warn) -> Result<Self, TraceError> {
        let failed = |source| TraceError {
            address: settings.address.clone(),
            source,
        };
        let sender = Sender::start(&settings.address, warn).map_err(failed)?;
        let mut resource = Resource::builder_empty()
            .with_service_name(settings.service)
            .with_attribute(KeyValue::new("service.version", settings.version));
        if !settings.instance.is_empty() {
            let instance = KeyValue::new("service.instance.id", settings.instance.clone());
            resource = resource.with_attribute(instance);
        }
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.ratio)));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(sender)
            .with_sampler(sampler)
            .with_resource(resource.build())
            .build();
        let tracer = provider.tracer(settings.service);
        Ok(Self { provider, tracer })
    }

    /// Takes the spans of our crates from [`tracing`].
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.tracer.clone())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(FilterFn::new(is_ours).with_max_level_hint(LevelFilter::INFO))
    }

    /// Takes the spans of a program that has no log.
    pub fn take_all(&self) {
        // Whoever set something else before wants that.
        let _was_set = tracing_subscriber::registry().with(self.layer()).try_init();
    }

    /// Sends what there is, if that does not take long. Spans that end later are not sent.
    pub fn finish(&self) {
        // Who could not be reached has been told of.
        let _told = self.provider.shutdown_with_timeout(FLUSH);
    }
}

/// Whether it is a span of our crates: their targets are the paths of their modules.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_span()
        && *metadata.level() <= Level::INFO
        && metadata.target().starts_with("ashlar")
}
