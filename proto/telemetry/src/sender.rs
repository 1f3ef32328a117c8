//! Sends spans from a thread of its own.
//!
//! The thread has its own small runtime: it goes on while the program's runtime is busy, shut down
//! or of one thread only. Spans wait in a queue of limited length; what does not fit is dropped.

use std::pin::pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter as _, SpanProcessor};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

use crate::traces::Warn;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Spans that wait; a span takes about 500 bytes.
const QUEUE: usize = 8192;

/// Spans of one message: below the 4 MB that collectors take.
const BATCH: usize = 512;

/// So long spans wait for others.
const EVERY: Duration = Duration::from_secs(1);

/// So long sending a message may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The thread ends so long before nobody waits for it any more.
const MARGIN: Duration = Duration::from_millis(100);

/// Takes spans that have ended, and sends them.
#[derive(Debug)]
pub(crate) struct Sender {
    queue: mpsc::Sender<SpanData>,
    shared: Arc<Shared>,
    /// Says that all was sent that will be.
    ended: Mutex<Receiver<()>>,
}

/// What the thread is told.
#[derive(Debug, Default)]
struct Shared {
    stop: Notify,
    /// When the last message must have been sent, once the end has begun.
    deadline: Mutex<Option<Instant>>,
    resource: Mutex<Option<Resource>>,
}

impl Shared {
    fn deadline(&self) -> Option<Instant> {
        *locked(&self.deadline)
    }
}

impl Sender {
    /// Starts the thread.
    pub(crate) fn start(address: &str, warn: Warn) -> Result<Self, BoxError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let exporter = {
            let _within = runtime.enter();
            let exporter = SpanExporter::builder()
                .with_tonic()
                .with_endpoint(address)
                .with_timeout(LIMIT)
                .with_retry_policy(RetryPolicy::recommended().with_max_retries(1));
            if address.starts_with("https://") {
                let tls = ClientTlsConfig::new().with_native_roots();
                exporter.with_tls_config(tls).build()?
            } else {
                exporter.build()?
            }
        };
        let (queue, spans) = mpsc::channel(QUEUE);
        let (end, ended) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let thread = Thread {
            exporter,
            spans,
            shared: shared.clone(),
            warning: Some((warn, address.to_owned())),
            end,
            stopping: false,
        };
        thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || thread.run(&runtime))?;
        Ok(Self {
            queue,
            shared,
            ended: Mutex::new(ended),
        })
    }
}

impl SpanProcessor for Sender {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            // A full queue is no reason to wait.
            let _dropped = self.queue.try_send(span);
        }
    }

    /// Spans are sent within a second by themselves.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, limit: Duration) -> OTelSdkResult {
        *locked(&self.shared.deadline) = Some(Instant::now() + limit.saturating_sub(MARGIN));
        self.shared.stop.notify_one();
        let ended = locked(&self.ended).recv_timeout(limit);
        ended.map_err(|_| OTelSdkError::Timeout(limit))
    }

    fn set_resource(&mut self, resource: &Resource) {
        *locked(&self.shared.resource) = Some(resource.clone());
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the thread works with.
struct Thread {
    exporter: SpanExporter,
    spans: mpsc::Receiver<SpanData>,
    shared: Arc<Shared>,
    /// The warning that was not given yet, and the address that it names.
    warning: Option<(Warn, String)>,
    end: SyncSender<()>,
    /// Whether the end has begun.
    stopping: bool,
}

impl Thread {
    fn run(mut self, runtime: &Runtime) {
        runtime.block_on(async {
            let shared = self.shared.clone();
            let mut batch = Vec::with_capacity(BATCH);
            while !self.stopping {
                let gathered = tokio::select! {
                    gathered = gather(&mut self.spans, &mut batch) => gathered,
                    () = shared.stop.notified() => break,
                };
                self.send(std::mem::take(&mut batch)).await;
                if !gathered {
                    break;
                }
            }
            self.stopping = true;
            loop {
                while batch.len() < BATCH
                    && let Ok(span) = self.spans.try_recv()
                {
                    batch.push(span);
                }
                if batch.is_empty() || !self.send(std::mem::take(&mut batch)).await {
                    break;
                }
            }
        });
        // Nobody may be waiting.
        let _unheard = self.end.try_send(());
    }

    /// Whether the collector took it.
    async fn send(&mut self, batch: Vec<SpanData>) -> bool {
        if batch.is_empty() {
            return true;
        }
        if let Some(resource) = locked(&self.shared.resource).take() {
            self.exporter.set_resource(&resource);
        }
        let usual = Instant::now() + LIMIT;
        let limit = if self.stopping {
            self.shared.deadline().unwrap_or(usual)
        } else {
            usual
        };
        let mut export = pin!(self.exporter.export(batch));
        let sent = tokio::select! {
            sent = timeout_at(limit, &mut export) => sent,
            () = self.shared.stop.notified(), if !self.stopping => {
                self.stopping = true;
                timeout_at(self.shared.deadline().unwrap_or(usual), &mut export).await
            }
        };
        let why = match sent {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        if let Some((warn, address)) = self.warning.take() {
            warn(&format!(
                "traces cannot be sent to {address}, and are lost: {why}"
            ));
        }
        false
    }
}

/// Waits for spans, and for others to go with them. Whether more can come.
async fn gather(spans: &mut mpsc::Receiver<SpanData>, batch: &mut Vec<SpanData>) -> bool {
    if batch.is_empty() && spans.recv_many(batch, 1).await == 0 {
        return false;
    }
    let fill = async {
        while batch.len() < BATCH {
            if spans.recv_many(batch, BATCH - batch.len()).await == 0 {
                return false;
            }
        }
        true
    };
    timeout(EVERY, fill).await.unwrap_or(true)
}
